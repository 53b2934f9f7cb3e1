"""A skill measured on a model: prompts formatted, answers generated or scored, every example judged.

An example that a guard refuses is wrong for every judge. One that does not fit into the context is left out
and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.errors import JudgeError, PromptTooLong, TooFewExamples
from analysis.intervening.interventions import Intervention
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH
from analysis.running.prompts import prompt_ids, text_ids
from analysis.skills.answering import NEW_TOKENS, answers
from analysis.skills.items import SkillItem
from analysis.skills.judges import judged
from analysis.skills.likelihoods import likelihoods
from analysis.skills.unit_tests import UnitTests

METHOD_VERSION = "1"


@dataclass(frozen=True)
class Form:
    """How an example becomes a prompt; the model's chat template, where it has one, comes around all of it.

    shots: answered examples shown before it. prefix: a text before everything.
    """

    shots: tuple[SkillItem, ...] = ()
    prefix: str = ""

    def prompt(self, item: SkillItem) -> str:
        """The text that is asked."""
        shown = "".join(f"{shot.prompt}{with_space(shot.prompt, shot.answer)}\n\n" for shot in self.shots)
        return f"{self.prefix}{shown}{item.prompt}"


@dataclass(frozen=True)
class Ways:
    """How examples are measured. tests: permission to run code; per_token: mean log p decides a choice."""

    form: Form = field(default_factory=Form)
    max_new_tokens: int = NEW_TOKENS
    batch_size: int = BATCH
    tests: UnitTests | None = None
    per_token: bool = False


@dataclass(frozen=True)
class Verdict:
    """One example. text: what was answered, "" where likelihoods decide. log_probability (nats) over `tokens`
    for perplexity, else 0 over 0 tokens. right is False for what was refused, and for perplexity."""

    right: bool
    abstained: bool
    text: str = ""
    log_probability: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class Measured:
    """Examples with their verdicts, in order; too_long were left out."""

    items: tuple[SkillItem, ...]
    verdicts: tuple[Verdict, ...]
    too_long: int

    def __post_init__(self) -> None:
        if len(self.items) != len(self.verdicts):
            raise ValueError(f"{len(self.items)} examples, {len(self.verdicts)} verdicts")


def with_space(prompt: str, answer: str) -> str:
    """An answer as it continues a prompt: after a space, unless the prompt ends with one."""
    return answer if prompt[-1:].isspace() or answer[:1].isspace() else f" {answer}"


def fitting(
    loaded: LoadedModel, items: Sequence[SkillItem], form: Form | None = None
) -> tuple[list[SkillItem], list[list[int]], int]:
    """The examples that fit into the context, their prompts' token ids, and how many do not fit.

    Raises TooFewExamples where none fits.
    """
    form = form or Form()
    kept, ids, too_long = [], [], 0
    for item in items:
        try:
            if item.judge == "perplexity" and not item.answer:
                found = _clipped(loaded, form.prompt(item))
            else:
                found = prompt_ids(loaded, form.prompt(item))
        except PromptTooLong:
            too_long += 1
            continue
        kept.append(item)
        ids.append(found)
    if items and not kept:
        raise TooFewExamples(
            f"all {len(items)} examples are longer than the model's context of {loaded.anatomy.context} "
            "tokens; give shorter ones, or another model"
        )
    return kept, ids, too_long


def measure(
    loaded: LoadedModel,
    items: Sequence[SkillItem],
    interventions: Sequence[Intervention] = (),
    ways: Ways | None = None,
    pulse: Pulse = lambda done, total: None,
) -> Measured:
    """Every example's verdict under interventions. Raises JudgeError for tests that nobody allowed.

    The same accuracy whatever the batch size, but for rounding where two tokens are all but equally likely.
    """
    ways = ways or Ways()
    if any(item.judge == "tests" for item in items):
        if ways.tests is None:
            raise JudgeError(
                "these examples are judged by running the model's code, which is off; allow it with --tests"
            )
        ways.tests.container()
    kept, ids, too_long = fitting(loaded, items, ways.form)
    verdicts: dict[int, Verdict] = {}
    for judge in (_generated, _chosen, _scored):
        mine = [i for i, item in enumerate(kept) if _judge_of(item) is judge]
        if mine:
            done = len(verdicts)
            asked = _Asked(
                loaded,
                [kept[i] for i in mine],
                [ids[i] for i in mine],
                interventions,
                ways,
                lambda some, total, done=done: pulse(done + some, len(kept)),  # type: ignore[misc]
            )
            found = judge(asked)
            verdicts.update(zip(mine, found, strict=True))
    return Measured(tuple(kept), tuple(verdicts[i] for i in range(len(kept))), too_long)


@dataclass(frozen=True)
class _Asked:
    """Examples that one sort of judge decides, with the token ids of their prompts."""

    loaded: LoadedModel
    items: Sequence[SkillItem]
    ids: Sequence[Sequence[int]]
    interventions: Sequence[Intervention]
    ways: Ways
    pulse: Pulse


def _judge_of(item: SkillItem) -> object:
    return {"choice": _chosen, "perplexity": _scored}.get(item.judge, _generated)


def _generated(asked: _Asked) -> list[Verdict]:
    ways = asked.ways
    found = answers(
        asked.loaded,
        asked.ids,
        asked.interventions,
        stops=[item.stop for item in asked.items],
        max_new_tokens=ways.max_new_tokens,
        batch_size=ways.batch_size,
        pulse=asked.pulse,
    )
    return [
        Verdict(not answer.abstained and _is_right(item, answer.text, ways), answer.abstained, answer.text)
        for item, answer in zip(asked.items, found, strict=True)
    ]


def _is_right(item: SkillItem, text: str, ways: Ways) -> bool:
    if item.judge == "tests":
        return ways.tests is not None and ways.tests.passes(item, text)
    return judged(item, text)


def _chosen(asked: _Asked) -> list[Verdict]:
    """The likeliest choice by summed log p, or by its mean per token."""
    items, per_token = asked.items, asked.ways.per_token
    prompts = [own for item, own in zip(items, asked.ids, strict=True) for _ in item.choices]
    texts = [with_space(item.prompt, choice) for item in items for choice in item.choices]
    found = likelihoods(
        asked.loaded,
        prompts,
        [_plain_ids(asked.loaded, text) for text in texts],
        asked.interventions,
        batch_size=asked.ways.batch_size,
        pulse=lambda some, total: asked.pulse(some * len(items) // total, len(items)),
    )
    verdicts, start = [], 0
    for item in items:
        own = found[start : start + len(item.choices)]
        start += len(own)
        scores = [one.log_probability / (one.count if per_token else 1) for one in own]
        abstained = any(one.abstained for one in own)
        right = not abstained and scores.index(max(scores)) == item.chosen
        verdicts.append(Verdict(right, abstained))
    return verdicts


def _scored(asked: _Asked) -> list[Verdict]:
    """The likelihood of the answer, or of the prompt itself from its second token on."""
    loaded = asked.loaded
    prompts, continuations, lengths = [], [], []
    for item, own in zip(asked.items, asked.ids, strict=True):
        answer = _plain_ids(loaded, with_space(item.prompt, item.answer)) if item.answer else []
        room = loaded.anatomy.context - len(own)
        prompts.append(own if answer else own[:1])
        continuations.append(answer[:room] if answer else own[1:])
        lengths.append(len(own))
    found = likelihoods(
        loaded,
        prompts,
        continuations,
        asked.interventions,
        asked=lengths,
        batch_size=asked.ways.batch_size,
        pulse=asked.pulse,
    )
    return [Verdict(False, one.abstained, "", one.log_probability, one.count) for one in found]


def _plain_ids(loaded: LoadedModel, text: str) -> list[int]:
    ids = loaded.tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise TooFewExamples(f"the tokenizer reads {text[:40]!r} as no token at all; leave this example out")
    return [int(i) for i in ids]


def _clipped(loaded: LoadedModel, text: str) -> list[int]:
    """The first tokens of a text, as many as the context holds. PromptTooLong for fewer than two."""
    longest = loaded.anatomy.context
    ids = [int(i) for i in loaded.tokenizer.encode(text)][:longest]
    if len(ids) < 2:
        raise PromptTooLong("a text of one token has no perplexity")
    return ids if len(ids) == longest else text_ids(loaded, text)
