"""Work of unlearning: its passes over examples, as one monotonic count, and as time at a model's rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.forms import select_fitting
from analysis.skills.items import SkillItem
from analysis.skills.splits import Split
from analysis.skills.unrelated import COUNT
from analysis.skills.unrelated import NAME as PROSE
from analysis.unlearning.evaluating import ENOUGH_TO_LIMIT
from analysis.unlearning.methods import find_method
from analysis.unlearning.over_refusal import MOST_ASKED, MOST_IN_FORM
from analysis.unlearning.passes import FORMS, SHOTS_LONGER, ExamplePass
from analysis.unlearning.records import UnlearningMethod
from analysis.unlearning.results import FitSettings
from analysis.unlearning.scenes import Scene
from workbench.durations import AnswerRates, measure_answer_rates

SAMPLED = 4
"""Examples of each skill by which a model is timed."""


def list_passes(scene: Scene, plan: FitSettings, methods: Sequence[str]) -> Iterator[ExamplePass]:
    """Every pass for these methods, including those of the unchanged model."""
    records = [find_method(name) for name in methods]
    reads = all(record.only_reads(plan) for record in records)
    for split in scene.splits:
        most = ENOUGH_TO_LIMIT if reads else len(split.validation)
        yield ExamplePass(split.skill, min(most, len(split.validation)), answered=True)
        yield ExamplePass(split.skill, len(split.test), answered=True)
    if plan.mmlu is not None:
        yield ExamplePass(plan.mmlu.name, len(plan.mmlu.items), answered=True)
    for record in records:
        yield from _list_method_passes(scene, plan, record)


def _list_method_passes(scene: Scene, plan: FitSettings, record: UnlearningMethod) -> Iterator[ExamplePass]:
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
        yield from _list_form_passes(scene.forget, plan, again)
    yield from _list_asked(scene, plan, record)
    if plan.mmlu is not None:
        yield ExamplePass(plan.mmlu.name, len(plan.mmlu.items), answered=again)


def _list_form_passes(forget: Split, plan: FitSettings, again: bool) -> Iterator[ExamplePass]:
    """Every other form of the forget skill, unchanged and changed."""
    other = sum(len(skill.items) for skill in plan.other_languages)
    for answered in (True, again):
        yield ExamplePass(forget.skill, FORMS * len(forget.test), answered, SHOTS_LONGER)
        yield ExamplePass(forget.skill, other, answered)


def _list_asked(scene: Scene, plan: FitSettings, record: UnlearningMethod) -> Iterator[ExamplePass]:
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
        yield ExamplePass(name, times * FORMS * min(n, MOST_IN_FORM), longer=SHOTS_LONGER)
    yield ExamplePass(PROSE, times * COUNT)


def count_examples(scene: Scene, plan: FitSettings, methods: Sequence[str]) -> int:
    """About how many examples are read or answered for these methods, including the unchanged model."""
    return sum(one.n for one in list_passes(scene, plan, methods) if one.counted)


@dataclass(frozen=True)
class ExampleCost:
    """Seconds to read an example, and to write or score its answer besides."""

    read: float
    answer: float


def measure_example_costs(
    loaded: LoadedModel, scene: Scene, plan: FitSettings
) -> Mapping[str, ExampleCost] | None:
    """What an example of each set costs, by a few that are read and answered; None while the model is at
    work. Raises TooFewExamples if no example fits into the context.
    """
    samples = _sample(loaded, scene, plan)
    asked = [(item, ids) for split in scene.splits for item, ids in samples.get(split.skill, ())]
    if not asked:
        raise TooFewExamples("no example of these skills is short enough for this model's context")
    prompts, stops = [ids for _, ids in asked], [item.stop for item, _ in asked]
    rates = measure_answer_rates(loaded, prompts, stops, plan.ways.max_new_tokens)
    if rates is None:
        return None
    steps = {item.prompt: length for (item, _), length in zip(asked, rates.lengths, strict=True)}
    return {name: _cost(rows, rates, steps, plan.ways.batch_size) for name, rows in samples.items() if rows}


def estimate_seconds(
    scene: Scene, plan: FitSettings, methods: Sequence[str], costs: Mapping[str, ExampleCost]
) -> float:
    """Seconds that these methods take. costs: by set; one without counts as the mean of the others, read."""
    usual = ExampleCost(fmean(one.read for one in costs.values()), 0.0)
    return sum(_price(one, costs.get(one.skill, usual)) for one in list_passes(scene, plan, methods))


def _price(one: ExamplePass, cost: ExampleCost) -> float:
    return one.n * (cost.read * one.longer + (cost.answer if one.answered else 0.0))


_Sample = list[tuple[SkillItem, list[int]]]


def _sample(loaded: LoadedModel, scene: Scene, plan: FitSettings) -> dict[str, _Sample]:
    """A few examples of every set that fit into the context, with their prompts' token ids."""
    sets: dict[str, Sequence[SkillItem]] = {
        split.skill: split.test or split.probe for split in (*scene.splits, *scene.near)
    }
    sets |= {skill.name: skill.items for skill in scene.unlisted}
    sets |= {} if plan.mmlu is None else {plan.mmlu.name: plan.mmlu.items}
    found: dict[str, _Sample] = {}
    for name, items in sets.items():
        some = items[:: max(1, len(items) // SAMPLED)][:SAMPLED]
        try:
            kept, ids, _ = select_fitting(loaded, some)
        except TooFewExamples:
            kept, ids = [], []
        found[name] = list(zip(kept, ids, strict=True))
    return found


def _cost(rows: _Sample, rates: AnswerRates, steps: Mapping[str, int], batch: int) -> ExampleCost:
    """Of a set's example. A batch is done when its longest answer is, so the longest sampled one counts."""
    read = fmean(len(ids) for _, ids in rows) * rates.read
    written = [steps[item.prompt] for item, _ in rows if item.prompt in steps and _is_written(item)]
    step = rates.step / min(batch, rates.rows)
    answer = max(written, default=0) * step
    choices = [_count_more_rows(item) for item, _ in rows if item.judge == "choice"]
    return ExampleCost(read, answer + (read * fmean(choices) if choices else 0.0))


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
