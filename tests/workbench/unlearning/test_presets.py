"""The quick preset, and how long a question takes: counted in passes, priced at measured rates."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.skills.unrelated import COUNT
from analysis.unlearning.concerns import list_concerns
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES
from tests.workbench.held_model_made import HeldModel
from tests.workbench.unlearning.unlearned_made import loaded, question  # noqa: F401 - fixtures
from workbench.durations import measure_answer_rates
from workbench.expected import format_minutes
from workbench.unlearning.presets import QUICK_SHARES, make_quick, plan_time
from workbench.unlearning.progress import ExampleCost, count_examples, estimate_seconds, list_passes
from workbench.unlearning.questions import UnlearningQuestion


def test_a_quick_question_has_one_method_no_controls_and_as_few_examples_as_a_box_allows(
    question: UnlearningQuestion,
) -> None:
    quick = make_quick(replace(question, shares=(0.5, 1.5, 3.0, 6.0, 12.0, 24.0)))
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
    costs = dict.fromkeys(("one", "two"), ExampleCost(2.0, 3.0))
    test = sum(len(split.test) for split in scene.splits)
    validation = sum(len(split.validation) for split in scene.splits)
    probes = sum(len(split.probe) for split in scene.splits)
    answered = (validation + test) + len(plan.shares) * validation + test
    read = probes + 2 * test + 2 * COUNT
    assert estimate_seconds(scene, plan, ["sp"], costs) == pytest.approx(5.0 * answered + 2.0 * read)
    planned = plan_time(loaded, asked)
    assert planned is not None
    assert 0 < planned.seconds < math.inf


def test_every_choice_that_adds_work_adds_to_the_count(question: UnlearningQuestion) -> None:
    def count(**changes: object) -> int:
        asked = replace(question, methods=("ksd",), measure="box", robustness=False, controls=False)
        asked = replace(asked, **changes)  # type: ignore[arg-type]
        return count_examples(asked.scene(), asked.plan, asked.methods)

    plain = count()
    assert count(controls=True) > plain
    assert count(robustness=True) > plain
    assert count(check="each_step") > plain
    assert count(wrap=True) > plain
    assert count(methods=("ksd", "sp")) > plain
    assert count(retain=(), near=question.retain) > count(retain=())
    assert count(retain=(), unlisted=question.retain) > count(retain=())


def test_a_guard_at_prefill_does_not_write_answers_again(question: UnlearningQuestion) -> None:
    def answered(check: str) -> int:
        asked = replace(question, measure="box", check=check)  # type: ignore[arg-type]
        passes = list_passes(asked.scene(), asked.plan, ["ksd"])
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
    assert rates.rows == 30
    assert 0 < rates.read < rates.step
    short = measure_answer_rates(loaded, prompts, [[]] * 3, 2)
    assert short is not None
    assert max(short.lengths) <= 2


def test_answers_that_would_take_long_count_as_the_longest_allowed(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.durations.ANSWER_SECONDS", 0.0)
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
