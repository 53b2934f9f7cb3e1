"""What must go on being answered: each set and form against a guard or change measured by the test itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from analysis.opening.models import LoadedModel
from analysis.skills.answering import answer_prompts
from analysis.skills.forms import select_fitting
from analysis.skills.items import Skill
from analysis.skills.likelihoods import score_next_tokens
from analysis.skills.tasks import measure_items
from analysis.unlearning.edits.selective_prune import SelectivePrune
from analysis.unlearning.guards.guard_fits import fit_guard
from analysis.unlearning.guards.linear_fits import fit_linear_guard
from analysis.unlearning.guards.linear_guards import Guard
from analysis.unlearning.measuring import measure_under
from analysis.unlearning.over_refusal import MOST_ASKED, measure_over_refusal, thin_out
from analysis.unlearning.robustness import list_forms
from analysis.unlearning.scenes import Scene
from tests.analysis.unlearning.evaluations_made import PLAN, WAYS, scene

__all__ = ["scene"]


@pytest.fixture
def wide(scene: Scene) -> Scene:
    """The scene with near questions and an unlisted set, both of the retain skill's words."""
    two = scene.retain[0]
    near = replace(two, skill="near", probe=two.probe[:40], test=two.test[:20], unseen=two.unseen[:20])
    kept = replace(two, probe=two.probe[40:], test=two.test[20:], unseen=two.unseen[20:])
    return Scene(scene.forget, (kept,), (near,), (Skill("other", two.validation),))


@pytest.mark.parametrize("kind", ["linear", "box"])
def test_under_a_guard_every_set_is_asked_in_every_form(llama: LoadedModel, wide: Scene, kind: str) -> None:
    """A wide guard, so that shares are neither 0 nor 1."""
    guard: Guard = (
        replace(fit_linear_guard(llama, wide).guard, threshold=-1.05)
        if kind == "linear"
        else replace(fit_guard(llama, wide, rivals=False).guard, alpha=20.0)
    )
    found = measure_over_refusal(llama, wide, guard, PLAN)
    forms = list_forms(llama, wide.unlisted[0].items)
    assert list(forms) == ["few_shot", "harmless_prefix", "instruction_before"]
    asked = [(one.role, one.skill, one.form) for one in found]
    assert asked[:3] == [("retain", "two", form) for form in forms]
    assert asked[3:7] == [("near", "near", form) for form in ("", *forms)]
    assert asked[7:11] == [("unlisted", "other", form) for form in ("", *forms)]
    assert asked[11:] == [("near", "near", "paraphrase"), ("prose", "unrelated text", "")]
    for one in found[7:11]:
        form = list_forms(llama, wide.unlisted[0].items).get(one.form)
        items = [item for item in wide.unlisted[0].items if form is None or item not in form.shots]
        ids = select_fitting(llama, thin_out(items, 30 if one.form else MOST_ASKED), form)[1]
        answers = answer_prompts(llama, ids, [guard], max_new_tokens=1)
        assert one.n == len(ids)
        assert one.refused == sum(answer.abstained for answer in answers) / len(ids)
        assert one.interval[0] <= one.refused <= one.interval[1]
    assert 0 < sum(one.refused for one in found) < len(found)


def test_a_change_of_neurons_is_measured_by_the_next_token(llama: LoadedModel, wide: Scene) -> None:
    address = llama.anatomy.blocks[1].address
    pruned = SelectivePrune(((address, torch.arange(20)),), 5.0)
    found = measure_over_refusal(llama, wide, pruned, PLAN)
    assert [(one.role, one.form) for one in found] == [
        *(("near", ""), ("unlisted", "")),
        *(("near", "paraphrase"), ("prose", "")),
    ]
    ids = select_fitting(llama, wide.unlisted[0].items[:MOST_ASKED])[1]
    base, changed = (score_next_tokens(llama, ids, how)[0].double() for how in ([], [pruned]))
    kl = (base.exp() * (base - changed)).sum(-1)
    assert found[1].kl_median == pytest.approx(float(kl.median()), rel=1e-3)
    assert found[1].refused == 0


@pytest.mark.parametrize("kind", ["linear", "box", "gauss"])
def test_under_a_guard_nothing_is_answered_twice_and_everything_comes_out_alike(
    llama: LoadedModel, scene: Scene, kind: str
) -> None:
    guard: Guard = (
        fit_linear_guard(llama, scene).guard
        if kind == "linear"
        else fit_guard(llama, scene, measure=kind, key="user_mean").guard  # type: ignore[arg-type]
    )
    for split in scene.splits:
        before = measure_items(llama, split.test, (), WAYS)
        assert measure_under(llama, before, guard, WAYS) == measure_items(llama, split.test, [guard], WAYS)


def test_thinning_is_even() -> None:
    assert thin_out(list(range(10)), 5) == [0, 2, 4, 6, 8]  # type: ignore[arg-type, comparison-overlap]
    assert thin_out(list(range(3)), 5) == [0, 1, 2]  # type: ignore[arg-type, comparison-overlap]
