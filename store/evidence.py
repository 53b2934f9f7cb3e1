"""Reading of evidence documents for exports; missing or odd fields are tolerated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.conversations import Turns, read_conversation
from store.documents import clean_text
from store.findings import Finding
from store.odd_fields import read_field, read_list, read_map, read_number, read_turns
from store.pruning_evidence import PrunedSet, read_pruned_sets
from store.unlearning_evidence import MethodVerdict, read_method_verdicts
from store.word_evidence import WordEvidence, read_word_evidence

# Control characters and the bidirectional overrides, which would reorder the text around them.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class TokenChances:
    """A token of the answer position and its probability in either text, in [0, 1]; None: unknown."""

    token: str
    base: float | None
    changed: float | None


@dataclass(frozen=True)
class DecodedTokens:
    """The tokens at one end ("top", "bottom") of a neuron's site: (token, logit, probability) each."""

    site: str
    end: str
    tokens: tuple[tuple[str, float | None, float | None], ...]


@dataclass(frozen=True)
class EvidenceView:
    """The readable part of an evidence document; "", None and () for missing parts.

    turns: those before the prompt, each beginning a line with its role. said: of levers and sweeps.
    conversation: all before the answer where a chat template was used; opening: the prompt and the beginning
    of the answer, or in a conversation that beginning alone. methods: verdicts on methods of unlearning.
    """

    run_key: str
    seed: int | None
    prompt: str
    system: str
    turns: str
    clamps: tuple[str, ...]
    base_text: str
    changed_text: str
    word: str
    word_base: float | None
    word_changed: float | None
    answer: tuple[TokenChances, ...]
    address: str
    sites: tuple[DecodedTokens, ...]
    weights: str
    said: WordEvidence
    conversation: Turns
    opening: str
    pruned_sets: tuple[PrunedSet, ...]
    methods: tuple[MethodVerdict, ...] = ()

    @property
    def tells(self) -> bool:
        """Whether there is text or a table to show; otherwise exports show the document itself."""
        texts = self.base_text or self.changed_text
        return bool(texts or self.answer or self.sites or self.said.verdict or self.pruned_sets)


def read_evidence(evidence: Mapping[str, Any]) -> EvidenceView:
    """The readable part of `evidence`, whatever it holds; never raises."""
    seed, word = evidence.get("seed"), read_map(evidence.get("word"))
    prompt, prefix = read_field(evidence.get("prompt")), read_field(evidence.get("answer_prefix"))
    conversation = read_conversation(evidence)
    return EvidenceView(
        run_key=read_field(evidence.get("run")),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        prompt=prompt + prefix,
        system=read_field(evidence.get("system")),
        turns=read_turns(evidence.get("turns")),
        clamps=tuple(read_field(clamp) for clamp in read_list(evidence.get("clamps"))),
        base_text=read_field(read_map(evidence.get("base")).get("text")),
        changed_text=read_field(read_map(evidence.get("changed")).get("text")),
        word=read_field(word.get("word")),
        word_base=read_number(word.get("base")),
        word_changed=read_number(word.get("changed")),
        answer=_answer(read_map(evidence.get("answer"))),
        address=read_field(evidence.get("address")),
        sites=_sites(read_map(evidence.get("sites"))),
        weights=read_field(evidence.get("weights")),
        said=read_word_evidence(evidence),
        conversation=conversation,
        opening=prefix if conversation else prompt + prefix,
        pruned_sets=read_pruned_sets(evidence),
        methods=read_method_verdicts(evidence),
    )


def list_facts(finding: Finding, shown: EvidenceView) -> dict[str, str]:
    """The rows of the table at the top of a report of `finding`, without unknown ones."""
    chances = f"{format_digits(shown.word_base)} → {format_digits(shown.word_changed)}"
    table = {
        "Model": f"{finding.model_name} {finding.model_fingerprint[:16]}",
        "Weights": shown.weights,
        "Kind": finding.kind,
        "Tags": ", ".join(finding.tags),
        "Neuron": shown.address,
        "System prompt": shown.system,
        "Earlier turns": shown.turns,
        "Clamps": " ".join(shown.clamps),
        "Word": f"{make_token_visible(shown.word)}: {chances}" if shown.word else shown.said.word,
        "Seed": "" if shown.seed is None else str(shown.seed),
        "Run": shown.run_key,
        "Kept": finding.created_at,
        "Id": finding.id,
    }
    return {name: fact for name, fact in table.items() if fact}


def make_visible(text: str) -> str:
    """`text` with control characters and direction overrides spelled out, as `<U+202E>`."""
    return _UNSEEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", clean_text(text))


def make_token_visible(token: str) -> str:
    """A token on one line: leading spaces as ␣, newlines as ⏎, tabs as ⇥, and no invisible characters."""
    bare = token.lstrip(" ")
    shown = "␣" * (len(token) - len(bare)) + bare
    return make_visible(shown.replace("\n", "⏎").replace("\t", "⇥"))


def format_digits(value: float | None, digits: int = 4) -> str:
    """`value` with a number of significant digits; a dash for None."""
    return "–" if value is None else f"{value:.{digits}g}"


def format_cell(value: object) -> str:
    """A text of evidence, or a number with four digits; a dash for None."""
    return value if isinstance(value, str) else format_digits(read_number(value))


def _answer(answer: Mapping[str, Any]) -> tuple[TokenChances, ...]:
    base, changed = _chances(answer.get("base")), _chances(answer.get("changed"))
    nothing = ("", None)
    return tuple(
        TokenChances(token, base.get(key, nothing)[1], changed.get(key, nothing)[1])
        for key, (token, _) in (base | changed).items()
    )


def _chances(rows: object) -> dict[str, tuple[str, float | None]]:
    """Token id (or the token, if it has none) → (token, probability); distinct ids may print alike."""
    found = {}
    for row in map(read_map, read_list(rows)):
        token = read_field(row.get("token"))
        found[str(row.get("token_id", token))] = (token, read_number(row.get("probability")))
    return found


def _sites(sites: Mapping[str, Any]) -> tuple[DecodedTokens, ...]:
    return tuple(
        DecodedTokens(str(site), end, tuple(map(_read_decoded, read_list(read_map(ends).get(end)))))
        for site, ends in sites.items()
        for end in ("top", "bottom")
        if read_list(read_map(ends).get(end))
    )


def _read_decoded(row: object) -> tuple[str, float | None, float | None]:
    token = read_map(row)
    return (
        read_field(token.get("token")),
        read_number(token.get("logit")),
        read_number(token.get("probability")),
    )
