"""Measuring a skill on a model: prompts formatted, answers generated or scored, every example judged.

A refused example is wrong for every judge. Examples longer than the context are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.errors import JudgeError
from analysis.intervening.interventions import Intervention
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH
from analysis.running.reasoning import opens_reasoning, split_reasoning
from analysis.skills.answering import NEW_TOKENS, answer_prompts
from analysis.skills.forms import AskedItem, Form, encode_items
from analysis.skills.items import SkillItem
from analysis.skills.judges import judge_output
from analysis.skills.likelihoods import score_continuations
from analysis.skills.unit_tests import UnitTests

METHOD_VERSION = "2"


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
    for perplexity, else 0 over 0 tokens. right is False if refused, and for perplexity. cut_off: the answer
    ended at the limit of tokens.
    """

    right: bool
    abstained: bool
    text: str = ""
    log_probability: float = 0.0
    tokens: int = 0
    cut_off: bool = False


@dataclass(frozen=True)
class MeasuredItems:
    """Examples with their verdicts, in order; too_long counts those left out."""

    items: tuple[SkillItem, ...]
    verdicts: tuple[ItemVerdict, ...]
    too_long: int

    def __post_init__(self) -> None:
        if len(self.items) != len(self.verdicts):
            raise ValueError(f"{len(self.items)} examples, {len(self.verdicts)} verdicts")

    @property
    def cut_off(self) -> float:
        """The share of generated answers that ended at the limit of tokens, in [0, 1]; 0 if there is none."""
        pairs = zip(self.items, self.verdicts, strict=True)
        ends = [verdict.cut_off for item, verdict in pairs if _judge_of(item) is _judge_generated]
        return sum(ends) / len(ends) if ends else 0.0


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
    fed, too_long = encode_items(loaded, items, ways.form)
    verdicts: dict[int, ItemVerdict] = {}
    for judge in (_judge_generated, _judge_choices, _judge_scores):
        mine = [i for i, one in enumerate(fed) if _judge_of(one.item) is judge]
        if mine:
            done = len(verdicts)
            group = _JudgeGroup(
                loaded,
                [fed[i] for i in mine],
                interventions,
                ways,
                lambda some, total, done=done: pulse(done + some, len(fed)),  # type: ignore[misc]
            )
            verdicts.update(zip(mine, judge(group), strict=True))
    kept = tuple(one.item for one in fed)
    return MeasuredItems(kept, tuple(verdicts[i] for i in range(len(kept))), too_long)


@dataclass(frozen=True)
class _JudgeGroup:
    """Examples with one type of judge."""

    loaded: LoadedModel
    asked: Sequence[AskedItem]
    interventions: Sequence[Intervention]
    ways: MeasureOptions
    pulse: Pulse


def _judge_of(item: SkillItem) -> object:
    return {"choice": _judge_choices, "perplexity": _judge_scores}.get(item.judge, _judge_generated)


def _judge_generated(group: _JudgeGroup) -> list[ItemVerdict]:
    """Judges see what follows a reasoning block; of an unfinished one that is nothing."""
    ways = group.ways
    found = answer_prompts(
        group.loaded,
        [one.ids for one in group.asked],
        group.interventions,
        stops=[one.item.stop for one in group.asked],
        max_new_tokens=ways.max_new_tokens,
        batch_size=ways.batch_size,
        pulse=group.pulse,
    )
    verdicts = []
    for one, answer in zip(group.asked, found, strict=True):
        _, text = split_reasoning(answer.text, opens_reasoning(group.loaded, one.ids))
        right = not answer.abstained and _is_right(one.item, text, ways)
        verdicts.append(ItemVerdict(right, answer.abstained, answer.text, cut_off=answer.cut_off))
    return verdicts


def _is_right(item: SkillItem, text: str, ways: MeasureOptions) -> bool:
    if item.judge == "tests":
        return ways.tests is not None and ways.tests.passes(item, text)
    return judge_output(item, text)


def _judge_choices(group: _JudgeGroup) -> list[ItemVerdict]:
    """The most likely choice by summed log p, or by its mean per token."""
    asked, per_token = group.asked, group.ways.per_token
    found = score_continuations(
        group.loaded,
        [one.ids for one in asked for _ in one.scored],
        [ids for one in asked for ids in one.scored],
        group.interventions,
        batch_size=group.ways.batch_size,
        pulse=lambda some, total: group.pulse(some * len(asked) // total, len(asked)),
    )
    verdicts, start = [], 0
    for one in asked:
        own = found[start : start + len(one.scored)]
        start += len(own)
        scores = [each.log_probability / (each.count if per_token else 1) for each in own]
        abstained = any(each.abstained for each in own)
        right = not abstained and scores.index(max(scores)) == one.item.chosen
        verdicts.append(ItemVerdict(right, abstained))
    return verdicts


def _judge_scores(group: _JudgeGroup) -> list[ItemVerdict]:
    """The likelihood of the answer, or of the prompt itself from its second token on."""
    asked = group.asked
    found = score_continuations(
        group.loaded,
        [one.ids if one.scored else one.ids[:1] for one in asked],
        [one.scored[0] if one.scored else one.ids[1:] for one in asked],
        group.interventions,
        asked=[len(one.ids) for one in asked],
        batch_size=group.ways.batch_size,
        pulse=group.pulse,
    )
    return [ItemVerdict(False, one.abstained, "", one.log_probability, one.count) for one in found]
