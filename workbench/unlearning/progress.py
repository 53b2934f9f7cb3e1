"""Work of unlearning: its passes over examples, as one monotonic count, and as time at a model's rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil
from statistics import fmean

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH
from analysis.running.prompts import encode_open_end
from analysis.skills.forms import select_fitting
from analysis.skills.items import SkillItem
from analysis.skills.splits import Split
from analysis.skills.unrelated import COUNT
from analysis.skills.unrelated import NAME as PROSE
from analysis.unlearning.edits.selective_prune import find_usable_shares
from analysis.unlearning.evaluating import ENOUGH_TO_LIMIT
from analysis.unlearning.methods import find_method
from analysis.unlearning.over_refusal import MOST_ASKED, MOST_IN_FORM, thin_out
from analysis.unlearning.passes import SHOTS_LONGER, ExamplePass
from analysis.unlearning.records import UnlearningMethod
from analysis.unlearning.results import FitSettings
from analysis.unlearning.robustness import count_forms
from analysis.unlearning.scenes import Scene
from analysis.unlearning.token_limits import LONGEST, foresee_limits
from workbench.durations import AnswerRates, measure_answer_rates

FEWEST_SAMPLED = 4
"""Examples of each set by which a model is timed, at least; all skills' together fill a batch."""


def list_passes(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, methods: Sequence[str]
) -> Iterator[ExamplePass]:
    """Every pass for these methods, including those of the unchanged model."""
    plan = replace(plan, shares=find_usable_shares(plan.shares, loaded.anatomy.neurons))
    records = [find_method(name) for name in methods]
    for split in scene.splits:
        yield ExamplePass(split.skill, _count_validation(split, plan, methods), answered=True)
        yield ExamplePass(split.skill, len(split.test), answered=True)
    if plan.mmlu is not None:
        yield ExamplePass(plan.mmlu.name, len(plan.mmlu.items), answered=True)
    for record in records:
        yield from _list_method_passes(scene, plan, record, count_forms(loaded))


def _count_validation(split: Split, plan: FitSettings, methods: Sequence[str]) -> int:
    """How many of validation the unchanged model answers."""
    reads = all(find_method(name).only_reads(plan) for name in methods)
    return min(len(split.validation), ENOUGH_TO_LIMIT if reads else len(split.validation))


def _list_method_passes(
    scene: Scene, plan: FitSettings, record: UnlearningMethod, forms: int
) -> Iterator[ExamplePass]:
    again = not record.only_reads(plan)  # else it answers as the unchanged model does
    test = [ExamplePass(split.skill, len(split.test), answered=again) for split in scene.splits]
    yield from record.list_fits(scene, plan)
    yield from test
    for split in scene.splits:
        yield ExamplePass(split.skill, 2 * len(split.test), counted=False)
    if plan.controls and scene.retain:
        yield from record.list_fits(scene, plan) if record.refits else ()
        yield from test
    if plan.robustness:
        yield from _list_form_passes(scene.forget, plan, forms, again)
    yield from _list_asked(scene, plan, record, forms)
    if plan.mmlu is not None:
        yield ExamplePass(plan.mmlu.name, len(plan.mmlu.items), answered=again)


def _list_form_passes(forget: Split, plan: FitSettings, forms: int, again: bool) -> Iterator[ExamplePass]:
    """Every other form of the forget skill, unchanged and changed."""
    other = sum(len(skill.items) for skill in plan.other_languages)
    for answered in (True, again):
        for _ in range(forms):
            yield ExamplePass(forget.skill, len(forget.test), answered, SHOTS_LONGER)
        yield ExamplePass(forget.skill, other, answered)


def _list_asked(
    scene: Scene, plan: FitSettings, record: UnlearningMethod, forms: int
) -> Iterator[ExamplePass]:
    """What must go on being answered: as asked, under a guard in every other form too, and plain text. A
    guard that checks prompts alone reads each once; any other method is compared with the unchanged model.
    """
    times = 1 if record.only_reads(plan) else 2
    kept = {split.skill: len(split.test) for split in scene.retain}
    sets = {split.skill: len(split.test) for split in scene.near}
    sets |= {skill.name: len(skill.items) for skill in scene.unlisted}
    for name, n in sets.items():
        yield ExamplePass(name, times * min(n, MOST_ASKED))
    for name, n in (kept | sets).items() if record.abstains and plan.robustness else ():
        yield ExamplePass(name, times * forms * min(n, MOST_IN_FORM), longer=SHOTS_LONGER)
    yield ExamplePass(PROSE, times * COUNT)


def count_examples(loaded: LoadedModel, scene: Scene, plan: FitSettings, methods: Sequence[str]) -> int:
    """About how many examples are read or answered for these methods, including the unchanged model."""
    return sum(one.n for one in list_passes(loaded, scene, plan, methods) if one.counted)


@dataclass(frozen=True)
class ExampleCost:
    """What examples of a set cost, in seconds: to read one; to score its choices besides; to write the
    answers of a batch, which is done when its longest is; to write them up to the limit of tokens; and to
    write those of validation again under each higher limit that is tried.
    """

    read: float
    score: float = 0.0
    write: float = 0.0
    ramble: float = 0.0
    again: float = 0.0


@dataclass(frozen=True)
class ExampleCosts:
    """The costs by set; one that is not in it counts as the mean of the others, read. batch: how many
    examples are answered side by side.
    """

    sets: Mapping[str, ExampleCost]
    batch: float

    def price(self, one: ExamplePass) -> float:
        """Seconds of a pass."""
        usual = ExampleCost(fmean(cost.read for cost in self.sets.values()))
        cost = self.sets.get(one.skill, usual)
        write = cost.ramble if one.rambling else cost.write
        answered = one.n * cost.score + self._count_batches(one.n) * write if one.answered else 0.0
        return one.n * cost.read * one.longer + answered

    def price_again(self, skill: str, n: int) -> float:
        """Seconds of n examples of a skill's validation under higher limits on tokens."""
        cost = self.sets.get(skill)
        return 0.0 if cost is None else self._count_batches(n) * cost.again

    def _count_batches(self, n: int) -> int:
        return ceil(n / self.batch)


def measure_example_costs(loaded: LoadedModel, scene: Scene, plan: FitSettings) -> ExampleCosts | None:
    """What the examples of each set cost, by a few that are read and answered; None while the model is at
    work. Raises TooFewExamples if no example fits into the context.
    """
    samples = _sample(loaded, scene, plan)
    own = {split.skill: samples[split.skill] for split in scene.splits}
    asked = _take_turns({name: [one for one in rows if _is_written(one[0])] for name, rows in own.items()})
    longest = max(plan.ways.max_new_tokens, LONGEST)
    if not asked:  # every answer is scored
        asked, longest = _take_turns(own), 1
    if not asked:
        raise TooFewExamples("no example of these skills is short enough for this model's context")
    prompts, stops = [ids for _, (_, ids) in asked], [item.stop for _, (item, _) in asked]
    longest = max(1, min(longest, loaded.anatomy.context - min(map(len, prompts))))
    batch = plan.ways.batch_size
    rates = measure_answer_rates(loaded, prompts, stops, longest, batch)
    if rates is None:
        return None
    lengths: dict[str, list[int]] = {}
    for (name, (item, _)), length in zip(asked, rates.lengths, strict=False):
        if _is_written(item):
            lengths.setdefault(name, []).append(length)
    limits = [
        min(limit, longest) for limit in foresee_limits(list(lengths.values()), plan.ways.max_new_tokens)
    ]
    every = [length for some in lengths.values() for length in some]  # of a set that was not reached
    return ExampleCosts(
        {
            name: _cost(loaded, rows, rates, lengths.get(name, every), limits)
            for name, rows in samples.items()
            if rows
        },
        min(batch, rates.rows),
    )


def estimate_seconds(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, methods: Sequence[str], costs: ExampleCosts
) -> float:
    """Seconds that these methods take."""
    again = sum(
        costs.price_again(split.skill, _count_validation(split, plan, methods)) for split in scene.splits
    )
    return again + sum(costs.price(one) for one in list_passes(loaded, scene, plan, methods))


_Sample = list[tuple[SkillItem, list[int]]]


def _sample(loaded: LoadedModel, scene: Scene, plan: FitSettings) -> dict[str, _Sample]:
    """A few examples of every set that fit into the context, with their prompts' token ids."""
    sets: dict[str, Sequence[SkillItem]] = {
        split.skill: split.test or split.probe for split in (*scene.splits, *scene.near)
    }
    sets |= {skill.name: skill.items for skill in scene.unlisted}
    sets |= {} if plan.mmlu is None else {plan.mmlu.name: plan.mmlu.items}
    count = max(FEWEST_SAMPLED, ceil(BATCH / len(scene.splits)))
    found: dict[str, _Sample] = {}
    for name, items in sets.items():
        try:
            kept, ids, _ = select_fitting(loaded, thin_out(items, count))
        except TooFewExamples:
            kept, ids = [], []
        found[name] = list(zip(kept, ids, strict=True))
    return found


def _take_turns(sets: Mapping[str, _Sample]) -> list[tuple[str, tuple[SkillItem, list[int]]]]:
    """The sets' first examples, their second ones, and so on."""
    named = [[(name, one) for one in rows] for name, rows in sets.items()]
    return [one for row in zip_longest(*named) for one in row if one is not None]


def _cost(
    loaded: LoadedModel,
    rows: _Sample,
    rates: AnswerRates,
    lengths: Sequence[int],
    limits: Sequence[int],
) -> ExampleCost:
    """Of a set. lengths: of the answers that were written; limits: of tokens, see `foresee_limits`."""
    read = fmean(len(ids) for _, ids in rows) * rates.read
    more = [_count_more_rows(item) for item, _ in rows if item.judge == "choice"]
    scored = [
        len(encode_open_end(loaded.tokenizer, item.answer)) for item, _ in rows if item.judge == "perplexity"
    ]
    written = any(_is_written(item) for item, _ in rows)
    longest = _foresee_longest(lengths, rates.rows) if written else 0
    return ExampleCost(
        read,
        (read * fmean(more) if more else 0.0) + (rates.read * fmean(scored) if scored else 0.0),
        rates.step * min(longest, limits[0]),
        rates.step * limits[0] if written else 0.0,
        rates.step * sum(min(longest, limit) for limit in limits[1:] if longest >= limit / 2),
    )


def _foresee_longest(lengths: Sequence[int], rows: float) -> float:
    """The longest of a batch by the lengths of some answers: the longest of n waiting times of mean 1 is
    1 + 1/2 + … + 1/n on average.
    """
    if len(lengths) < 2:
        return max(lengths, default=0)
    seen, whole = (sum(1 / i for i in range(1, n + 1)) for n in (len(lengths), max(1, int(rows))))
    mean = fmean(lengths)
    return mean + (max(lengths) - mean) * (whole - 1) / (seen - 1)


def _count_more_rows(item: SkillItem) -> int:
    """Rows that the choices take beside the first: single letters are scored in one."""
    return 0 if all(len(choice.strip()) == 1 for choice in item.choices) else len(item.choices) - 1


def _is_written(item: SkillItem) -> bool:
    return item.judge not in ("choice", "perplexity")


class PassCounter:
    """A pulse for many passes that reports the total number of finished examples to another pulse."""

    def __init__(self, pulse: Pulse, total: int) -> None:
        self._pulse, self._total = pulse, total
        self._before = self._last = 0

    def __call__(self, done: int, total: int) -> None:
        """See Pulse. A decreasing count marks the next pass."""
        if done < self._last:
            self._before += self._last
        self._last = done
        counted = self._before + done
        self._pulse(counted, max(self._total, counted))
