"""Forgetting from end to end on a model in which two skills' keys are apart by construction."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.errors import SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.skills.answering import answer_prompts
from analysis.skills.items import SkillItem
from analysis.skills.metrics import Change, measure_change
from analysis.skills.tasks import measure_items
from analysis.skills.unrelated import read_unrelated_queries
from analysis.unlearning.edits.neuron_shares import (
    CostKind,
    FrontierPoint,
    KeptCost,
    choose_candidate,
    explain_none,
    measure_cost,
    measure_moments,
)
from analysis.unlearning.evaluating import measure_baseline
from analysis.unlearning.guards.guard_fits import fit_guard, shuffle_probes
from analysis.unlearning.guards.key_checks import read_checked_keys
from analysis.unlearning.guards.key_guards import KeyGuard
from analysis.unlearning.guards.operating import ALPHAS
from analysis.unlearning.scenes import Scene
from tests.analysis.unlearning.evaluations_made import PLAN, WAYS, answered, run, scene  # noqa: F401 - fixtures


def test_a_guard_forgets_one_skill_and_keeps_the_other(llama: LoadedModel, scene: Scene) -> None:
    found, _ = run(llama, scene, "ksd")
    forget, retain = found.skills
    assert (forget.skill, forget.role, retain.skill, retain.role) == ("one", "forget", "two", "retain")
    assert forget.change.before == retain.change.before == 1.0
    assert forget.change.relative_drop is not None
    assert forget.change.relative_drop > 0.8
    assert retain.change.relative_drop == pytest.approx(0, abs=0.1)
    assert forget.change.abstained == pytest.approx(forget.change.relative_drop)
    assert found.over_refusal == retain.change.abstained
    assert forget.unseen is not None
    assert forget.seen is not None
    assert forget.unseen.n + forget.seen.n == forget.change.n == len(scene.forget.test)
    assert retain.divergence.js < 0.05 < forget.divergence.js
    assert retain.divergence.kl_median == 0.0
    assert len({point["margin"] for point in found.sweep}) > 20
    assert {tuple(point["layers"]) for point in found.sweep} == {(0,), (1,), (0, 1)}
    assert found.parameters["rivals"] == ["two", "unrelated text"]
    assert [r.form for r in found.robustness] == [
        "paraphrase",
        "few_shot",
        "harmless_prefix",
        "instruction_before",
    ]
    assert found.robustness[0].change == forget.unseen


def test_the_control_is_a_box_of_shuffled_skills_given_the_same_search(
    llama: LoadedModel, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = shuffle_probes(scene, 0)
    for split in scene.splits:
        assert len(mixed[split.skill]) == len(split.probe)
        assert {item.group.split("-")[0] for item in mixed[split.skill]} == {"one", "two"}
    assert {i for dealt in mixed.values() for i in dealt} == {i for s in scene.splits for i in s.probe}
    swapped = {"one": scene.retain[0].probe, "two": scene.forget.probe}  # drops that are not the guard's own
    monkeypatch.setattr("analysis.unlearning.guarding.shuffle_probes", lambda scene, seed: swapped)
    found, base = run(llama, scene, "ksd", robustness=False)
    control = fit_guard(llama, scene, layers=(0, 1), probes=swapped).guard
    for name, split, skill in zip(("one", "two"), scene.splits, found.skills, strict=True):
        after = measure_items(llama, split.test, [control], WAYS)
        assert found.control[name] == measure_change(base.test[name], after).relative_drop
        assert found.control[name] != skill.change.relative_drop


def test_as_released_no_query_is_refused_for_another(llama: LoadedModel, scene: Scene) -> None:
    """Over-refusal and drops are those of queries asked one by one, in batches of any size."""
    how: dict[str, Any] = {"layers": "last", "rivals": False, "check_at": "each_step", "as_released": True}
    how |= {"robustness": False, "controls": False}
    one, many = (run(llama, scene, "ksd", **how, ways=replace(WAYS, batch_size=n))[0] for n in (1, 32))
    guard = one.interventions
    asked = [[llama.tokenizer.encode(item.prompt)] for item in scene.retain[0].test]
    alone = [answer_prompts(llama, ids, guard, max_new_tokens=2)[0].abstained for ids in asked]
    assert one.over_refusal == many.over_refusal == sum(alone) / len(alone)
    assert one.skills[0].change == many.skills[0].change
    assert one.skills[0].change.abstained > sum(alone) / len(alone)


@pytest.mark.parametrize("rivals", [False, True])
def test_the_curve_on_the_test_is_what_the_guard_did(llama: LoadedModel, scene: Scene, rivals: bool) -> None:
    found, _ = run(llama, scene, "ksd", robustness=False, controls=False, rivals=rivals)
    index = ALPHAS.index(found.parameters["alpha"])
    for skill in found.skills:
        assert found.curve[skill.skill][index] == pytest.approx(skill.change.abstained)
    pieces = [ids for _, ids in read_unrelated_queries(llama, 100)]
    refused = [a.abstained for a in answer_prompts(llama, pieces, found.interventions, max_new_tokens=1)]
    assert found.parameters["unrelated"] == {"refused": sum(refused) / len(refused), "n": len(pieces)}
    assert found.curve["unrelated text"][index] == sum(refused) / len(refused)


def test_alpha_is_chosen_without_looking_at_the_test(llama: LoadedModel, scene: Scene) -> None:
    blind = Scene(replace(scene.forget, test=()), tuple(replace(split, test=()) for split in scene.retain))
    assert fit_guard(llama, blind).guard.alpha == fit_guard(llama, scene).guard.alpha


@pytest.mark.parametrize("choice", ["last", "best", "all", (0,)])
def test_layers_are_those_that_were_asked_for(llama: LoadedModel, scene: Scene, choice: Any) -> None:
    fit = fit_guard(llama, scene, layers=choice)
    layers = tuple(box.layer for box in fit.guard.boxes)
    possible: dict[Any, list[tuple[int, ...]]] = {"last": [(1,)], "best": [(0,), (1,)], "all": [(0, 1)]}
    expected = possible.get(choice, [(0,)])
    assert layers in expected
    assert fit.chosen.layers == layers
    assert fit.guard.alpha == fit.chosen.chosen.alpha


@pytest.mark.parametrize("method", ["na", "sp"])
def test_shares_are_set_on_validation_and_told(llama: LoadedModel, scene: Scene, method: Any) -> None:
    found, _ = run(llama, scene, method, robustness=False)
    assert [point["q"] for point in found.sweep] == [1.0, 20.0]
    assert found.parameters["q"] == 1.0
    best = next(p for p in found.sweep if p["q"] == found.parameters["q"])
    assert best["forget_drop"] == found.parameters["validation"]["forget_drop"]
    assert best["eligible"]
    assert set(found.control) == {"one", "two"}
    again = measure_items(llama, scene.forget.test, found.interventions, WAYS)
    rights = sum(v.right for v in again.verdicts) / len(again.items)
    assert found.skills[0].change.after == rights


def point(q: float, forget: float | None, *costs: float | None, by: CostKind = "drop") -> FrontierPoint:
    return FrontierPoint(q, forget, tuple(KeptCost(f"kept{i}", by, c) for i, c in enumerate(costs)))


def test_only_eligible_shares_are_chosen_and_of_them_the_one_that_forgets_most() -> None:
    assert choose_candidate([point(1, 0.2, 0.0), point(2, 0.5, 0.1), point(3, 0.9, 0.5)]) == 1
    assert choose_candidate([point(1, 0.0, 0.0), point(2, 0.9, 0.11)]) == 0
    assert choose_candidate([point(1, 0.0, 0.0), point(2, 0.9, 0.10000000000000009)]) == 1
    assert choose_candidate([point(1, 0.2, 0.0), point(2, 0.9, 0.0, None)]) == 0
    assert choose_candidate([point(1, None, 0.0), point(2, -0.1, 0.0)]) == 1
    assert choose_candidate([point(1, 0.3, 0.0), point(2, 0.3, 0.0)]) == 0
    none = [point(2, 0.9, 0.2), point(1, 0.9, 0.05, None)]
    assert choose_candidate(none) is None
    assert explain_none(none, 112) == (
        "no share of neurons is eligible; already at 1 %: what it costs kept1 is unknown"
    )
    assert explain_none([point(2, 0.9, 0.2), point(0.5, 0.9, 0.15)], 1000) == (
        "no share of neurons is eligible; already at 0.5 %: it costs kept0 0.15 (relative drop), above 0.1; "
        "shares smaller than 0.5 % can be tried"
    )
    assert explain_none([point(0.5, 0.9, 0.15)], 112).endswith("above 0.1")  # it is one neuron


def test_a_share_says_what_it_costs_and_why_it_is_not_eligible() -> None:
    told = point(3, 0.9, 0.25, 0.05, by="kl").document()
    assert (told["eligible"], told["worst_retain_drop"]) == (False, None)
    assert told["why"] == "it costs kept0 0.25 (median KL of next tokens, nats), above 0.1"
    assert told["costs"][1] == {"skill": "kept1", "by": "kl", "cost": 0.05}
    fine = point(3, 0.9, 0.1, -0.2).document()
    assert (fine["eligible"], fine["why"], fine["worst_retain_drop"]) == (True, "", 0.1)


def test_a_kept_skill_costs_what_its_judge_can_tell() -> None:
    blank = Change(9, 0.0, 0.5, 0.4, None, None, 0.2, None, None, 0.0, None)
    assert measure_cost("a", blank, None) == KeptCost("a", "drop", 0.2)
    assert measure_cost("a", replace(blank, relative_drop=None), 0.03) == KeptCost("a", "kl", 0.03)
    scored = replace(blank, before=None, after=None, relative_drop=None, perplexity_ratio=1.25)
    assert measure_cost("a", scored, None) == KeptCost("a", "perplexity", 1 - 1 / 1.25)
    assert measure_cost("a", replace(scored, perplexity_ratio=None), None).cost is None


def test_a_kept_skill_that_the_model_cannot_do_counts_by_its_next_tokens(
    llama: LoadedModel, scene: Scene
) -> None:
    """Before, its undefined drop left every share as if it cost nothing."""
    split = scene.retain[0]
    wrong = [tuple(replace(i, answer="never") for i in part) for part in (split.validation, split.test)]
    hard = Scene(scene.forget, (replace(split, validation=wrong[0], test=wrong[1]),))
    found, _ = run(llama, hard, "sp", robustness=False, controls=False, shares=(1.0, 60.0))
    costs = [point["costs"][0] for point in found.sweep]
    assert [cost["by"] for cost in costs] == ["kl", "kl"]
    for told, one in zip(found.sweep, costs, strict=True):
        assert told["eligible"] == (one["cost"] <= 0.1)
    assert costs[0]["cost"] < costs[1]["cost"]
    assert not found.sweep[1]["eligible"]


@pytest.mark.parametrize("method", ["na", "sp"])
def test_the_usual_shares_that_are_a_neuron_of_a_small_model_are_tried(
    llama: LoadedModel, scene: Scene, method: Any
) -> None:
    found, _ = run(llama, scene, method, robustness=False, controls=False, shares=(0.05, 0.5, 6.0))
    assert [point["q"] for point in found.sweep] == [0.5, 6.0]
    with pytest.raises(SkillError, match=r"q 0\.05 % of 112 neurons selects none; choose a larger share"):
        run(llama, scene, method, robustness=False, controls=False, shares=(0.05,))


@pytest.mark.parametrize("method", ["na", "sp"])
def test_where_no_share_is_eligible_nothing_is_changed_and_that_is_the_result(
    llama: LoadedModel, scene: Scene, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.unlearning.edits.neuron_shares.MOST_COST", -2.0)
    found, base = run(llama, scene, method)
    assert found.interventions == ()
    assert found.parameters["q"] is None
    assert found.parameters["why"].startswith("no share of neurons is eligible; already at 1 %: it costs two")
    assert [point["eligible"] for point in found.sweep] == [False, False]
    assert (found.control, found.robustness, found.curve) == ({}, (), {})
    assert found.over_refusal == 0
    for skill in found.skills:
        assert skill.change == measure_change(base.test[skill.skill], base.test[skill.skill])
        assert (skill.divergence.kl_median, skill.divergence.js) == (0.0, 0.0)


def test_what_is_forgotten_cannot_be_kept(scene: Scene) -> None:
    copied = replace(scene.forget, skill="copy")
    with pytest.raises(SkillError, match=r"prompts of one, .* are in copy too"):
        Scene(scene.forget, (copied,))
    with pytest.raises(SkillError, match="two skills have the same name"):
        Scene(scene.forget, (scene.forget,))


def test_too_little_of_a_skill_is_told(llama: LoadedModel, scene: Scene) -> None:
    few = Scene(replace(scene.forget, probe=scene.forget.probe[:1]), scene.retain)
    with pytest.raises(TooFewExamples, match="1 probes: a box needs at least 30"):
        fit_guard(llama, few)
    with pytest.raises(TooFewExamples, match="give at least one to retain"):
        measure_moments(llama, Scene(scene.forget, ()))


def test_a_kept_skill_with_too_few_probes_is_no_rival(llama: LoadedModel, scene: Scene) -> None:
    few = Scene(scene.forget, (replace(scene.retain[0], probe=scene.retain[0].probe[:29]),))
    alone, both = (fit_guard(llama, own).guard for own in (few, scene))
    assert (tuple(rival.skill for rival in alone.rivals), [rival.skill for rival in both.rivals]) == (
        ("unrelated text",),
        ["two", "unrelated text"],
    )
    assert both.rivals[0].boxes[0].n == len(scene.retain[0].probe)
    assert fit_guard(llama, scene, rivals=False).guard.rivals == ()


def test_a_guard_of_each_step_is_set_on_what_each_step_sees(llama: LoadedModel, scene: Scene) -> None:
    """What its curve says of validation is what it does there."""
    for rivals in (False, True):
        fit = fit_guard(llama, scene, layers="all", rivals=rivals, check_at="each_step", max_new_tokens=2)
        for split, share in (
            (scene.forget, fit.chosen.chosen.forget),
            (scene.retain[0], fit.chosen.chosen.worst_retain),
        ):
            ids = [llama.tokenizer.encode(item.prompt) for item in split.validation]
            found = answer_prompts(llama, ids, [fit.guard], max_new_tokens=2)
            assert sum(a.abstained for a in found) / len(found) == pytest.approx(share)
    prefill = fit_guard(llama, scene, layers="all", rivals=False)
    each = fit_guard(llama, scene, layers="all", rivals=False, check_at="each_step", max_new_tokens=2)
    assert prefill.chosen.curve != each.chosen.curve


def test_a_guard_of_each_step_is_set_on_answers_that_end_where_the_skills_do(
    llama: LoadedModel, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = scene.forget.validation[0]
    [free] = answer_prompts(llama, [llama.tokenizer.encode(item.prompt)], max_new_tokens=6)
    stops = replace(item, stop=(free.text[:1],))
    cut = Scene(replace(scene.forget, validation=(stops,)), ())
    fed: list[tuple[int, int]] = []

    def checked(loaded: LoadedModel, sequences: Any, lengths: Any, *rest: Any, **named: Any) -> Any:
        fed.extend(zip(map(len, sequences), lengths, strict=True))
        return read_checked_keys(loaded, sequences, lengths, *rest, **named)

    monkeypatch.setattr("analysis.unlearning.guards.key_fits.read_checked_keys", checked)
    fit_guard(llama, cut, check_at="each_step", max_new_tokens=6)
    assert len(free.token_ids) == 6
    assert fed == [(fed[0][1], fed[0][1])]  # the first token ends it, and no step comes after


def test_a_skill_that_leaves_nothing_to_test_is_refused(llama: LoadedModel, scene: Scene) -> None:
    bare = Scene(scene.forget, (replace(scene.retain[0], test=(), unseen=()),))
    with pytest.raises(TooFewExamples, match="two has no test example"):
        measure_baseline(llama, bare, PLAN)


def test_a_guard_can_be_fitted_with_nothing_to_keep(llama: LoadedModel, scene: Scene) -> None:
    found, _ = run(llama, Scene(scene.forget, ()), "ksd")
    assert found.over_refusal is None
    mine = [point for point in found.sweep if point["layers"] == found.parameters["layers"]]
    most = max(point["forget"] for point in mine)
    assert found.parameters["alpha"] == min(point["alpha"] for point in mine if point["forget"] == most)
    assert found.control == {}
    assert isinstance(found.interventions[0], KeyGuard)


def test_examples_longer_than_the_context_are_left_out_and_counted(llama: LoadedModel, scene: Scene) -> None:
    long = SkillItem(" w10" * 80, "x", group="long")
    longer = Scene(
        replace(scene.forget, test=(*scene.forget.test, long), unseen=(*scene.forget.unseen, False)),
        scene.retain,
    )
    found, base = run(llama, longer, "ksd", robustness=False, controls=False)
    assert base.test["one"].too_long == 1
    assert found.skills[0].change.n == len(scene.forget.test)
