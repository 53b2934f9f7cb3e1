"""Measuring a skill on a model: prompts formatted, answers generated or scored, every example judged.

A refused example is wrong for every judge. Examples longer than the context are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.errors import JudgeError, PromptTooLong, TooFewExamples
from analysis.intervening.interventions import Intervention
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH
from analysis.running.prompts import encode_prompt, encode_text
from analysis.skills.answering import NEW_TOKENS, answer_prompts
from analysis.skills.items import SkillItem
from analysis.skills.judges import judge_output
from analysis.skills.likelihoods import score_continuations
from analysis.skills.unit_tests import UnitTests

METHOD_VERSION = "1"


@dataclass(frozen=True)
class Form:
    """How an example becomes a prompt; the chat template, if any, is applied around it.

    shots: answered examples before it. prefix: a text before everything.
    """

    shots: tuple[SkillItem, ...] = ()
    prefix: str = ""

    def prompt(self, item: SkillItem) -> str:
        """The prompt text of an example."""
        shown = "".join(f"{shot.prompt}{add_space(shot.prompt, shot.answer)}\n\n" for shot in self.shots)
        return f"{self.prefix}{shown}{item.prompt}"


@dataclass(frozen=True)
class MeasureOptions:
    """How examples are measured. tests: permission to run code; per_token: mean log p decides a choice."""

    form: Form = field(default_factory=Form)
    max_new_tokens: int = NEW_TOKENS
    batch_size: int = BATCH
    tests: UnitTests | None = None
    per_token: bool = False


@dataclass(frozen=True)
class ItemVerdict:
    """One judged example. text: the answer, "" if likelihoods decide. log_probability (nats) over `tokens`
    for perplexity, else 0 over 0 tokens. right is False if refused, and for perplexity.
    """

    right: bool
    abstained: bool
    text: str = ""
    log_probability: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class MeasuredItems:
    """Examples with their verdicts, in order; too_long counts those left out."""

    items: tuple[SkillItem, ...]
    verdicts: tuple[ItemVerdict, ...]
    too_long: int

    def __post_init__(self) -> None:
        if len(self.items) != len(self.verdicts):
            raise ValueError(f"{len(self.items)} examples, {len(self.verdicts)} verdicts")


def add_space(prompt: str, answer: str) -> str:
    """An answer as continuation of a prompt: after a space, unless the prompt ends with one."""
    return answer if prompt[-1:].isspace() or answer[:1].isspace() else f" {answer}"


def select_fitting(
    loaded: LoadedModel, items: Sequence[SkillItem], form: Form | None = None
) -> tuple[list[SkillItem], list[list[int]], int]:
    """The examples that fit into the context, their prompts' token ids, and how many do not fit.

    Raises TooFewExamples if none fits.
    """
    form = form or Form()
    kept, ids, too_long = [], [], 0
    for item in items:
        try:
            if item.judge == "perplexity" and not item.answer:
                found = _clip(loaded, form.prompt(item))
            else:
                found = encode_prompt(loaded, form.prompt(item))
        except PromptTooLong:
            too_long += 1
            continue
        kept.append(item)
        ids.append(found)
    if items and not kept:
        raise TooFewExamples(
            f"all {len(items)} examples are longer than the model's context of {loaded.anatomy.context} "
            "tokens; use shorter ones, or another model"
        )
    return kept, ids, too_long


def measure_items(
    loaded: LoadedModel,
    items: Sequence[SkillItem],
    interventions: Sequence[Intervention] = (),
    ways: MeasureOptions | None = None,
    pulse: Pulse = lambda done, total: None,
) -> MeasuredItems:
    """Judge every example under interventions. Raises JudgeError for tests that were not allowed.

    The batch size does not change the accuracy, except by rounding if two tokens are almost equally likely.
    """
    ways = ways or MeasureOptions()
    if any(item.judge == "tests" for item in items):
        if ways.tests is None:
            raise JudgeError(
                "these examples are judged by running the model's code, which is off; allow it with --tests"
            )
        ways.tests.container()
    kept, ids, too_long = select_fitting(loaded, items, ways.form)
    verdicts: dict[int, ItemVerdict] = {}
    for judge in (_judge_generated, _judge_choices, _judge_scores):
        mine = [i for i, item in enumerate(kept) if _judge_of(item) is judge]
        if mine:
            done = len(verdicts)
            asked = _JudgeGroup(
                loaded,
                [kept[i] for i in mine],
                [ids[i] for i in mine],
                interventions,
                ways,
                lambda some, total, done=done: pulse(done + some, len(kept)),  # type: ignore[misc]
            )
            found = judge(asked)
            verdicts.update(zip(mine, found, strict=True))
    return MeasuredItems(tuple(kept), tuple(verdicts[i] for i in range(len(kept))), too_long)


@dataclass(frozen=True)
class _JudgeGroup:
    """Examples with one type of judge, with their prompts' token ids."""

    loaded: LoadedModel
    items: Sequence[SkillItem]
    ids: Sequence[Sequence[int]]
    interventions: Sequence[Intervention]
    ways: MeasureOptions
    pulse: Pulse


def _judge_of(item: SkillItem) -> object:
    return {"choice": _judge_choices, "perplexity": _judge_scores}.get(item.judge, _judge_generated)


def _judge_generated(asked: _JudgeGroup) -> list[ItemVerdict]:
    ways = asked.ways
    found = answer_prompts(
        asked.loaded,
        asked.ids,
        asked.interventions,
        stops=[item.stop for item in asked.items],
        max_new_tokens=ways.max_new_tokens,
        batch_size=ways.batch_size,
        pulse=asked.pulse,
    )
    return [
        ItemVerdict(
            not answer.abstained and _is_right(item, answer.text, ways), answer.abstained, answer.text
        )
        for item, answer in zip(asked.items, found, strict=True)
    ]


def _is_right(item: SkillItem, text: str, ways: MeasureOptions) -> bool:
    if item.judge == "tests":
        return ways.tests is not None and ways.tests.passes(item, text)
    return judge_output(item, text)


def _judge_choices(asked: _JudgeGroup) -> list[ItemVerdict]:
    """The most likely choice by summed log p, or by its mean per token."""
    items, per_token = asked.items, asked.ways.per_token
    prompts = [own for item, own in zip(items, asked.ids, strict=True) for _ in item.choices]
    texts = [add_space(item.prompt, choice) for item in items for choice in item.choices]
    found = score_continuations(
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
        verdicts.append(ItemVerdict(right, abstained))
    return verdicts


def _judge_scores(asked: _JudgeGroup) -> list[ItemVerdict]:
    """The likelihood of the answer, or of the prompt itself from its second token on."""
    loaded = asked.loaded
    prompts, continuations, lengths = [], [], []
    for item, own in zip(asked.items, asked.ids, strict=True):
        answer = _plain_ids(loaded, add_space(item.prompt, item.answer)) if item.answer else []
        room = loaded.anatomy.context - len(own)
        prompts.append(own if answer else own[:1])
        continuations.append(answer[:room] if answer else own[1:])
        lengths.append(len(own))
    found = score_continuations(
        loaded,
        prompts,
        continuations,
        asked.interventions,
        asked=lengths,
        batch_size=asked.ways.batch_size,
        pulse=asked.pulse,
    )
    return [ItemVerdict(False, one.abstained, "", one.log_probability, one.count) for one in found]


def _plain_ids(loaded: LoadedModel, text: str) -> list[int]:
    ids = loaded.tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise TooFewExamples(f"the tokenizer encodes {text[:40]!r} to no tokens; leave this example out")
    return [int(i) for i in ids]


def _clip(loaded: LoadedModel, text: str) -> list[int]:
    """The first tokens of a text, up to the context length. PromptTooLong for fewer than two."""
    longest = loaded.anatomy.context
    ids = [int(i) for i in loaded.tokenizer.encode(text)][:longest]
    if len(ids) < 2:
        raise PromptTooLong("a text of one token has no perplexity")
    return ids if len(ids) == longest else encode_text(loaded, text)
