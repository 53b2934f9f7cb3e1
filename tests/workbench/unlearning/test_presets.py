"""The quick preset, and how long a question takes: counted in passes, priced at measured rates."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.running.batches import BATCH
from analysis.skills.tasks import MeasureOptions
from analysis.skills.unrelated import COUNT
from analysis.unlearning.concerns import list_concerns
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES
from analysis.unlearning.passes import ExamplePass
from analysis.unlearning.scenes import Scene
from tests.workbench.held_model_made import HeldModel
from tests.workbench.unlearning.unlearned_made import loaded, question  # noqa: F401 - fixtures
from workbench.durations import AnswerRates, measure_answer_rates
from workbench.expected import format_minutes
from workbench.unlearning import progress
from workbench.unlearning.presets import QUICK_SHARES, make_quick, plan_time
from workbench.unlearning.progress import (
    ExampleCost,
    ExampleCosts,
    count_examples,
    estimate_seconds,
    list_passes,
    measure_example_costs,
)
from workbench.unlearning.questions import UnlearningQuestion


def test_a_quick_question_has_one_method_no_controls_and_as_few_examples_as_a_box_allows(
    question: UnlearningQuestion,
) -> None:
    quick = make_quick(replace(question, shares=SHARES))
    assert (quick.methods, quick.controls, quick.robustness) == (("ksd",), False, True)
    assert quick.shares == QUICK_SHARES
    assert quick.limit in (120, 180, 240, 360)
    assert all(len(split.probe) >= FEWEST_PROBES for split in quick.scene().splits)
    fewer = replace(quick, limit=quick.limit - 60)
    assert not all(len(split.probe) >= FEWEST_PROBES for split in fewer.scene().splits)
    assert make_quick(quick) == quick


def test_what_was_chosen_stays_in_a_quick_question(question: UnlearningQuestion) -> None:
    quick = make_quick(replace(question, methods=("na", "sp"), limit=90, shares=(5.0,)))
    assert (quick.methods, quick.limit, quick.shares) == (("sp",), 90, (5.0,))


def test_more_examples_than_a_quick_answer_needs_are_not_used(question: UnlearningQuestion) -> None:
    least = make_quick(question).limit
    assert make_quick(replace(question, limit=least + 60)).limit == least


def test_what_the_sets_leave_uncertain_is_said_with_the_time(
    loaded: LoadedModel, question: UnlearningQuestion
) -> None:
    planned = plan_time(loaded, question)
    assert planned is not None
    assert planned.concerns == list_concerns(question.scene())


def test_an_estimate_is_the_price_of_its_passes(loaded: LoadedModel, question: UnlearningQuestion) -> None:
    asked = replace(question, methods=("sp",), robustness=False, controls=False)
    scene, plan = asked.scene(), asked.plan
    costs = ExampleCosts(dict.fromkeys(("one", "two"), ExampleCost(2.0, 3.0, 7.0, 13.0, 11.0)), batch=4)
    test = [len(split.test) for split in scene.splits]
    validation = [len(split.validation) for split in scene.splits]
    probes = sum(len(split.probe) for split in scene.splits)
    shares = len(plan.shares)
    answered = sum(validation) * (1 + shares) + 2 * sum(test)
    read = probes + 2 * sum(test) + 2 * COUNT
    batches, tests = (sum(math.ceil(n / 4) for n in part) for part in (validation, test))
    priced = estimate_seconds(loaded, scene, plan, ["sp"], costs)
    under_shares, under_higher_limits = 13.0 * shares * batches, 11.0 * batches
    written = 7.0 * (batches + 2 * tests)
    assert priced == pytest.approx(5.0 * answered + 2.0 * read + written + under_shares + under_higher_limits)
    planned = plan_time(loaded, asked)
    assert planned is not None
    assert 0 < planned.seconds < math.inf


def rate(lengths: Sequence[int]) -> Callable[..., AnswerRates]:
    """Stands for a measurement: .01 s a token, 2 s a step; answers of these lengths in turn."""

    def measured(loaded: LoadedModel, prompts: Sequence[object], *rest: object) -> AnswerRates:
        return AnswerRates(0.01, 2.0, 8, tuple(itertools.islice(itertools.cycle(lengths), len(prompts))))

    return measured


@pytest.mark.parametrize(
    ("lengths", "limit", "steps", "again"),
    [
        ([2, 1], 3, 2, 0),  # every answer ends before its limit, 3
        ([5, 1], 6, 5, 5),  # some of the first skill's go on: the limit is doubled
        ([160, 1], 3, 3, 6 + 12),  # they go on whatever the limit, which stays
    ],
)
def test_the_longest_answer_counts_up_to_the_limit_that_will_be_kept(
    loaded: LoadedModel,
    question: UnlearningQuestion,
    monkeypatch: pytest.MonkeyPatch,
    lengths: list[int],
    limit: int,
    steps: int,
    again: int,
) -> None:
    monkeypatch.setattr(progress, "measure_answer_rates", rate(lengths))
    costs = measure_example_costs(loaded, question.scene(), question.plan)
    assert costs is not None
    assert costs.batch == 8
    one, two = costs.sets["one"], costs.sets["two"]
    assert (one.write, one.again) == (2.0 * steps, 2.0 * again)
    assert (two.write, two.again) == (2.0, 0)
    assert one.ramble == two.ramble == 2.0 * limit
    assert one.read > 0
    assert one.score == 0


def test_a_set_that_was_not_reached_is_taken_for_the_others(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "measure_answer_rates", lambda *given: AnswerRates(0.01, 2.0, 8, (2,)))
    costs = measure_example_costs(loaded, question.scene(), question.plan)
    assert costs is not None
    one, two = costs.sets["one"], costs.sets["two"]
    assert one.write == two.write == 4.0
    assert one.ramble == two.ramble == 6.0


def test_no_answer_is_longer_than_the_context_lets_it(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def measured(
        model: LoadedModel, prompts: Sequence[object], stops: object, longest: int, batch: int
    ) -> Any:
        asked.append(longest)
        return AnswerRates(0.01, 2.0, 8, (longest,) * len(prompts))

    monkeypatch.setattr(progress, "measure_answer_rates", measured)
    plan = replace(question.plan, ways=MeasureOptions(max_new_tokens=4096))
    costs = measure_example_costs(loaded, question.scene(), plan)
    assert costs is not None
    assert 1 < asked[0] < loaded.anatomy.context
    assert costs.sets["one"].write == costs.sets["one"].ramble == 2.0 * asked[0]


def test_one_query_at_a_time_costs_an_answer_of_mean_length(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(
        model: LoadedModel, prompts: Sequence[object], stops: object, longest: int, batch: int
    ) -> Any:
        assert batch == 1
        return AnswerRates(
            0.01, 2.0, batch, tuple(itertools.islice(itertools.cycle((1, 3, 3, 1)), len(prompts)))
        )

    monkeypatch.setattr(progress, "measure_answer_rates", measured)
    plan = replace(question.plan, ways=MeasureOptions(max_new_tokens=3, batch_size=1))
    costs = measure_example_costs(loaded, question.scene(), plan)
    assert costs is not None
    assert costs.batch == 1
    assert costs.sets["one"].write == pytest.approx(4.0, rel=0.2)
    assert costs.price(ExamplePass("one", 5, answered=True)) == pytest.approx(
        5 * (costs.sets["one"].read + costs.sets["one"].write)
    )


def test_text_that_is_scored_behind_a_prompt_is_read_too(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = question.scene()
    kept = scene.retain[0]
    scored = [replace(item, judge="perplexity", answer="abc abc abc", stop=None) for item in kept.test]
    texts = Scene(scene.forget, (replace(kept, test=tuple(scored)),))
    monkeypatch.setattr(progress, "measure_answer_rates", lambda *given: AnswerRates(0.01, 2.0, 8, (2,)))
    costs = measure_example_costs(loaded, texts, question.plan)
    assert costs is not None
    tokens = len(loaded.tokenizer.encode("abc abc abc", add_special_tokens=False))
    assert costs.sets["two"].score == pytest.approx(0.01 * tokens)
    assert costs.sets["two"].write == costs.sets["two"].ramble == 0


def test_the_longest_of_a_batch_is_foreseen_as_that_of_more_waiting_times(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = random.Random(0)
    wide = replace(loaded, anatomy=replace(loaded.anatomy, context=5000))
    scene, plan = question.scene(), replace(question.plan, ways=MeasureOptions(max_new_tokens=4096))
    found, true = [], []
    for _ in range(100):  # ten answers each of two skills; a batch has eight times as many
        drawn = [round(times.expovariate(1 / 50)) + 1 for _ in range(80)]
        rates = AnswerRates(0.01, 1.0, 80, tuple(drawn[:20]))
        monkeypatch.setattr(progress, "measure_answer_rates", lambda *given, rates=rates: rates)
        costs = measure_example_costs(wide, scene, plan)
        assert costs is not None
        found.append(costs.sets["one"].write)
        true.append(max(drawn))
    assert fmean(found) == pytest.approx(fmean(true), rel=0.1)
    assert fmean(true) > 1.6 * fmean(max(times.expovariate(1 / 50) for _ in range(10)) for _ in range(100))


def test_a_batch_of_answers_costs_as_much_as_a_full_one() -> None:
    costs = ExampleCosts({"a": ExampleCost(1.0, write=10.0), "b": ExampleCost(3.0)}, batch=32)
    assert costs.price(ExamplePass("a", 5, answered=True)) == 5 + 10
    assert costs.price(ExamplePass("a", 33, answered=True)) == 33 + 20
    assert costs.price(ExamplePass("a", 33, longer=2.0)) == 66
    assert costs.price(ExamplePass("unknown", 5)) == 5 * 2


def test_every_choice_that_adds_work_adds_to_the_count(
    loaded: LoadedModel, question: UnlearningQuestion
) -> None:
    def count(**changes: object) -> int:
        asked = replace(question, methods=("ksd",), measure="box", robustness=False, controls=False)
        asked = replace(asked, **changes)  # type: ignore[arg-type]
        return count_examples(loaded, asked.scene(), asked.plan, asked.methods)

    plain = count()
    assert count(controls=True) > plain
    assert count(robustness=True) > plain
    assert count(check="each_step") > plain
    assert count(wrap=True) > plain
    assert count(methods=("ksd", "sp")) > plain
    assert count(retain=(), near=question.retain) > count(retain=())
    assert count(retain=(), unlisted=question.retain) > count(retain=())


def test_a_guard_at_prefill_does_not_write_answers_again(
    loaded: LoadedModel, question: UnlearningQuestion
) -> None:
    def answered(check: str) -> int:
        asked = replace(question, measure="box", check=check)  # type: ignore[arg-type]
        passes = list_passes(loaded, asked.scene(), asked.plan, ["ksd"])
        return sum(one.n for one in passes if one.answered)

    scene = question.scene()
    once = sum(min(20, len(split.validation)) + len(split.test) for split in scene.splits)
    assert answered("prefill") == once + 3 * len(scene.forget.test)  # the forms of the unchanged model
    assert answered("each_step") > 2 * once


def test_rates_are_of_the_answers_as_they_are_written(loaded: LoadedModel) -> None:
    prompts = [loaded.tokenizer.encode(text) for text in ("abc", "no.", "xyz=xyz")]
    rates = measure_answer_rates(loaded, prompts, [[]] * 3, 6)
    assert rates is not None
    assert len(rates.lengths) == 3
    assert max(rates.lengths) == 6
    assert rates.rows == BATCH
    assert 0 < rates.read < rates.step
    short = measure_answer_rates(loaded, prompts, [[]] * 3, 2)
    assert short is not None
    assert max(short.lengths) <= 2


def test_what_else_the_machine_does_for_a_while_does_not_count(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    reads, steps = itertools.cycle((50.0, 2.0, 50.0)), itertools.cycle((0.5, 9.0, 0.5))

    def pass_time(module: object, given: object, named: dict[str, torch.Tensor], found: object) -> None:
        nonlocal now
        now += next(steps) if named["input_ids"].shape[1] == 1 else next(reads)

    monkeypatch.setattr("workbench.durations.time", SimpleNamespace(perf_counter=lambda: now))
    for name in ("READ_SECONDS", "TRY_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(f"workbench.durations.{name}", 1000.0)
    prompts = [loaded.tokenizer.encode("abc abc ")] * BATCH
    handle = loaded.model.register_forward_hook(pass_time, with_kwargs=True)
    try:
        rates = measure_answer_rates(loaded, prompts, [[]] * BATCH, 9)
    finally:
        handle.remove()
    assert rates is not None
    assert rates.read == 2.0 / (BATCH * len(prompts[0]))
    assert rates.step == 0.5


def test_answers_that_would_take_long_count_as_the_longest_allowed(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.durations.WRITE_SECONDS", 0.0)
    prompts = [loaded.tokenizer.encode(text) for text in ("abc", "no.")]
    rates = measure_answer_rates(loaded, prompts, [[]] * 2, 400)
    assert rates is not None
    assert max(rates.lengths) == 400


def test_a_model_at_work_is_not_timed(loaded: LoadedModel, question: UnlearningQuestion) -> None:
    with HeldModel(loaded):
        assert plan_time(loaded, question) is None


def test_what_cannot_work_is_refused_before_it_is_timed(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[object] = []
    monkeypatch.setattr(
        "workbench.unlearning.presets.measure_example_costs", lambda *given: timed.append(given)
    )
    with pytest.raises(TooFewExamples, match="needs at least 30"):
        plan_time(loaded, replace(question, limit=20))
    assert timed == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.0, "about 5 seconds"),
        (43.0, "about 45 seconds"),
        (70.0, "about 1 minute"),
        (200.0, "about 3 minutes"),
        (9000.0, "about 2.5 hours"),
    ],
)
def test_a_time_has_no_more_digits_than_an_estimate(seconds: float, text: str) -> None:
    assert format_minutes(seconds) == text
