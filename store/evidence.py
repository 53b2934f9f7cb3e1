"""Reading of evidence documents for exports; missing or odd fields are tolerated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.documents import clean_text
from store.findings import Finding

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

    turns: those before the prompt, each beginning a line with its role.
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

    @property
    def tells(self) -> bool:
        """Whether there is text or a table to show; otherwise exports show the document itself."""
        return bool(self.base_text or self.changed_text or self.answer or self.sites)


def read_evidence(evidence: Mapping[str, Any]) -> EvidenceView:
    """The readable part of `evidence`, whatever it holds; never raises."""
    seed, word = evidence.get("seed"), _map(evidence.get("word"))
    return EvidenceView(
        run_key=_text(evidence.get("run")),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        prompt=_text(evidence.get("prompt")) + _text(evidence.get("answer_prefix")),
        system=_text(evidence.get("system")),
        turns=_turns(evidence.get("turns")),
        clamps=tuple(_text(clamp) for clamp in _list(evidence.get("clamps"))),
        base_text=_text(_map(evidence.get("base")).get("text")),
        changed_text=_text(_map(evidence.get("changed")).get("text")),
        word=_text(word.get("word")),
        word_base=_number(word.get("base")),
        word_changed=_number(word.get("changed")),
        answer=_answer(_map(evidence.get("answer"))),
        address=_text(evidence.get("address")),
        sites=_sites(_map(evidence.get("sites"))),
        weights=_text(evidence.get("weights")),
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
        "Word": f"{make_token_visible(shown.word)}: {chances}" if shown.word else "",
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
    for row in map(_map, _list(rows)):
        token = _text(row.get("token"))
        found[str(row.get("token_id", token))] = (token, _number(row.get("probability")))
    return found


def _turns(turns: object) -> str:
    pairs = [[_text(part) for part in _list(turn)] for turn in _list(turns)]
    return "\n".join(f"{pair[0]}: {pair[1]}" for pair in pairs if len(pair) == 2)


def _sites(sites: Mapping[str, Any]) -> tuple[DecodedTokens, ...]:
    return tuple(
        DecodedTokens(str(site), end, tuple(map(_read_decoded, _list(_map(ends).get(end)))))
        for site, ends in sites.items()
        for end in ("top", "bottom")
        if _list(_map(ends).get(end))
    )


def _read_decoded(row: object) -> tuple[str, float | None, float | None]:
    token = _map(row)
    return _text(token.get("token")), _number(token.get("logit")), _number(token.get("probability"))


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    return clean_text(value) if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
