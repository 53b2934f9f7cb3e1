"""Linear guards: the fit against scikit-learn's ridge regression, what they refuse, and what they are
told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from analysis.errors import SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import answer_prompts
from analysis.skills.general import list_general_questions
from analysis.skills.splits import split_skill
from analysis.skills.unrelated import read_unrelated_probes
from analysis.unlearning.guards.key_fits import encode_probes
from analysis.unlearning.guards.linear_fits import RIDGE, fit_linear_guard, score_queries
from analysis.unlearning.guards.linear_guards import LinearGuard, collect_linear_keys
from analysis.unlearning.guards.wrapping import BEFORE, BEHIND, list_wrappers
from analysis.unlearning.measuring import find_refused
from analysis.unlearning.robustness import AFTER, PREFIX
from analysis.unlearning.robustness import BEFORE as TESTED_BEFORE
from analysis.unlearning.scenes import Scene, encode_queries
from tests.analysis.skills_made import make_skill
from tests.analysis.unlearning.evaluations_made import answered, scene
from tests.analysis.unlearning.guards.guards_made import PROMPTS
from workbench.saving.saving import read_changes

__all__ = ["scene"]


def random_guard(loaded: LoadedModel, threshold: float, key: Any = "both") -> LinearGuard:
    places = 2 if key == "both" else 1
    weights = torch.randn(
        places, 2, loaded.anatomy.blocks[0].d_ff, generator=torch.Generator().manual_seed(3)
    )
    return LinearGuard((0, 1), weights, 0.5, threshold, 30, key)


@pytest.mark.parametrize("key", ["last", "user_mean", "both"])
@pytest.mark.parametrize("size", [1, 5, 32])
def test_it_refuses_the_prompts_whose_score_is_high(llama: LoadedModel, key: Any, size: int) -> None:
    keys = collect_linear_keys(llama, PROMPTS, (0, 1), key)
    weights = random_guard(llama, 0.0, key).weights
    scores = (keys.double() * weights.double()).sum((1, 2, 3)) + 0.5
    threshold = float(scores.sort().values[5:7].mean())
    found = answer_prompts(
        llama, PROMPTS, [random_guard(llama, threshold, key)], max_new_tokens=3, batch_size=size
    )
    base = answer_prompts(llama, PROMPTS, max_new_tokens=3, batch_size=size)
    wanted = [score >= threshold for score in scores.tolist()]
    assert [answer.abstained for answer in found] == wanted
    assert 0 < sum(wanted) < len(wanted)
    for out, one, other in zip(wanted, base, found, strict=True):
        assert other.text == ("" if out else one.text)


def test_the_weights_are_those_of_a_ridge_regression(llama: LoadedModel, scene: Scene) -> None:
    """The primal problem by scikit-learn: standardised keys, weights by set, an intercept that is
    penalised.
    """
    fit = fit_linear_guard(llama, scene, key="last", wrap=False, layers=(0, 1))
    sets = [encode_queries(llama, split.probe) for split in scene.splits]
    keys = [collect_linear_keys(llama, ids, (0, 1), "last").flatten(1).double().numpy() for ids in sets]
    general = encode_queries(llama, list_general_questions())
    for ids in (general, read_unrelated_probes(llama)):
        keys.append(collect_linear_keys(llama, ids, (0, 1), "last").flatten(1).double().numpy())
    every = np.concatenate(keys)
    z = (every - every.mean(0)) / every.std(0, ddof=1)
    wide = np.concatenate([z / np.sqrt(z.shape[1]), np.ones((len(z), 1))], 1)
    sizes = [len(own) for own in keys]
    third = 1 / 3
    parts = (1, third, third, third)
    weight = np.concatenate([np.full(n, part / n) for n, part in zip(sizes, parts, strict=True)])
    wanted = np.concatenate([np.ones(sizes[0]), -np.ones(sum(sizes[1:]))])
    ridge = Ridge(alpha=RIDGE, fit_intercept=False, tol=1e-12, solver="cholesky")
    ridge.fit(wide, wanted, sample_weight=weight * len(wide) / 2)
    own = score_queries(llama, sets[0], fit.guard).numpy()
    np.testing.assert_allclose(own, wide[: sizes[0]] @ ridge.coef_, atol=2e-3)


@pytest.mark.parametrize("wrap", [False, True])
def test_it_tells_the_skill_from_what_is_kept(llama: LoadedModel, scene: Scene, wrap: bool) -> None:
    fit = fit_linear_guard(llama, scene, wrap=wrap)
    forget, kept = (find_refused(llama, encode_queries(llama, s.test), fit.guard) for s in scene.splits)
    assert float(forget.double().mean()) > 0.9
    assert float(kept.double().mean()) < 0.1
    assert fit.guard.against == ("two", "general questions", "unrelated text")
    blind = Scene(replace(scene.forget, test=()), tuple(replace(split, test=()) for split in scene.retain))
    assert fit_linear_guard(llama, blind, wrap=wrap).guard.threshold == fit.guard.threshold


def test_near_questions_are_told_apart_when_given(llama: LoadedModel, scene: Scene) -> None:
    """A third set of words between the two skills': fitted against it, the guard refuses less of it."""
    near = split_skill(answered(llama, make_skill("near", 40, (24, 40), 6)))
    plain = fit_linear_guard(llama, scene).guard
    told = fit_linear_guard(llama, Scene(scene.forget, scene.retain, (near,))).guard
    assert told.against == ("two", "near", "general questions", "unrelated text")
    asked = encode_queries(llama, near.test)
    without, with_them = (
        float(score_queries(llama, asked, guard).mean() - guard.threshold) for guard in (plain, told)
    )
    assert with_them < without
    refused = find_refused(llama, asked, told).double().mean()
    assert float(refused) < 0.1


def test_wrapped_probes_are_in_other_words_than_the_tests(llama: LoadedModel, scene: Scene) -> None:
    tested = {PREFIX, TESTED_BEFORE, AFTER}
    assert not tested & {*BEFORE, *BEHIND}
    wrapped = encode_probes(llama, scene.forget.probe, wrap=True)
    plain = encode_probes(llama, scene.forget.probe, wrap=False)
    assert wrapped[: len(plain)] == plain
    assert len(plain) < len(wrapped) <= 2 * len(plain)
    shots = list_wrappers(llama, scene.forget.probe)[-1].shots
    assert len({item.group for item in shots}) == len(shots) == 2


def test_a_linear_guard_comes_back_from_its_recipe(llama: LoadedModel) -> None:
    guard = random_guard(llama, 0.25)
    (read,) = read_changes(write_recipe_files(llama, [guard], "recipe"))
    assert isinstance(read, LinearGuard)
    assert torch.equal(read.weights, guard.weights)
    for field in ("layers", "bias", "threshold", "n", "key", "against", "refusal"):
        assert getattr(read, field) == getattr(guard, field)


def test_what_cannot_be_fitted_or_used_is_refused(llama: LoadedModel, scene: Scene) -> None:
    with pytest.raises(TooFewExamples, match="give at least one to retain"):
        fit_linear_guard(llama, Scene(scene.forget, ()))
    few = Scene(replace(scene.forget, probe=scene.forget.probe[:29]), scene.retain)
    with pytest.raises(TooFewExamples, match="29 probes of one: a guard needs at least 30"):
        fit_linear_guard(llama, few)
    with pytest.raises(SkillError, match="layers 'most': choose last, best, all"):
        fit_linear_guard(llama, scene, layers="most")
    with pytest.raises(SkillError, match="layer 7 has no dense FFN block"):
        fit_linear_guard(llama, scene, layers=(7,))
    with pytest.raises(SkillError, match="2 places × 2 layers"):
        LinearGuard((0, 1), torch.zeros(1, 2, 5), 0.0, 0.0, 30)
    with pytest.raises(SkillError, match="must be finite"):
        LinearGuard((0,), torch.full((2, 1, 5), torch.nan), 0.0, 0.0, 30)
    with pytest.raises(SkillError, match=r"5 weights per layer.*belongs to another model"):
        answer_prompts(llama, PROMPTS, [LinearGuard((0,), torch.zeros(2, 1, 5), 0.0, 0.0, 30)])


def test_a_text_behind_the_question_is_only_put_where_a_template_closes_it(
    llama: LoadedModel, scene: Scene
) -> None:
    plain = list_wrappers(llama, scene.forget.probe)
    assert not any(form.suffix for form in plain)
    llama.tokenizer.chat_template = "{{ messages[0]['content'] }} w1"
    assert [form.suffix for form in list_wrappers(llama, scene.forget.probe) if form.suffix] == [*BEHIND]
