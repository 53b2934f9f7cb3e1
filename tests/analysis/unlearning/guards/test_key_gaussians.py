"""Gaussians in place of boxes: by the definition in float64, and as guards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.errors import SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import answer_prompts
from analysis.unlearning.guards.guard_fits import fit_guard
from analysis.unlearning.guards.key_gaussians import Densities, KeyGaussian, fit_gaussian
from analysis.unlearning.guards.key_guards import KeyGuard, Rival
from analysis.unlearning.measuring import find_refused
from analysis.unlearning.scenes import Scene, encode_queries
from tests.analysis.unlearning.evaluations_made import scene
from tests.analysis.unlearning.guards.boxes_made import box_of, moments, random_keys
from workbench.saving.saving import read_changes

__all__ = ["scene"]


def score(one: KeyGaussian, key: np.ndarray) -> float:  # type: ignore[type-arg]
    """METHODS §4: mean of ((x − μ)/σ)² + 2 log σ."""
    mean, sigma = one.mean.double().numpy(), one.sigma.double().numpy()
    return float(np.mean(((key - mean) / sigma) ** 2 + 2 * np.log(sigma)))


def test_depths_compare_as_the_scores_do() -> None:
    sets = [fit_gaussian(0, moments(random_keys(seed=seed) * (1 + seed) + seed)) for seed in range(3)]
    keys = random_keys(40, seed=9) * 2
    found = Densities(sets).depths(keys)
    for row, key in zip(found.tolist(), keys.double().numpy(), strict=True):
        scores = [score(one, key) for one in sets]
        for depth, value in zip(row, scores, strict=True):
            wanted = (value - scores[0]) / 2 + math.log(row[0])
            assert math.log(depth) == pytest.approx(wanted, abs=1e-4)
    probes = random_keys(50, seed=0)
    assert float(Densities(sets[:1]).depths(probes)[:, 0].log().mean()) == pytest.approx(0, abs=0.02)


def test_a_far_key_has_a_finite_depth() -> None:
    one = fit_gaussian(0, moments(random_keys()))
    assert torch.isfinite(Densities([one]).depths(random_keys() * 1e6)).all()


def test_as_a_guard_it_tells_the_skill_from_what_is_kept(llama: LoadedModel, scene: Scene) -> None:
    guard = fit_guard(llama, scene, measure="gauss", key="user_mean").guard
    assert guard.measure == "gauss"
    forget, kept = (find_refused(llama, encode_queries(llama, s.test), guard) for s in scene.splits)
    assert float(forget.double().mean()) > 0.7
    assert float(kept.double().mean()) < 0.1
    asked = encode_queries(llama, scene.forget.test[:9])
    answers = answer_prompts(llama, asked, [guard], max_new_tokens=1, batch_size=4)
    assert [answer.abstained for answer in answers] == forget[:9].tolist()
    (read,) = read_changes(write_recipe_files(llama, [guard], "recipe"))
    assert isinstance(read, KeyGuard)
    assert (read.measure, read.key) == ("gauss", "user_mean")
    assert torch.equal(find_refused(llama, asked, read), forget[:9])


def test_what_is_no_gaussian_is_refused(llama: LoadedModel, scene: Scene) -> None:
    with pytest.raises(TooFewExamples, match="29 probes: a Gaussian needs at least 30"):
        fit_gaussian(0, moments(random_keys(29)))
    with pytest.raises(SkillError, match="the same key for all 40 probes"):
        fit_gaussian(0, moments(torch.ones(40, 6)))
    with pytest.raises(SkillError, match="Gaussians compare the forget skill with others"):
        fit_guard(llama, scene, measure="gauss", rivals=False)
    one, box = fit_gaussian(0, moments(random_keys())), box_of(random_keys())
    with pytest.raises(SkillError, match="boxes or Gaussians, not both"):
        KeyGuard((one,), 1.0, rivals=(Rival("kept", (box,)),))
    with pytest.raises(SkillError, match="choose key last, or prefill"):
        KeyGuard((one,), 1.0, "each_step", key="user_mean")
    with pytest.raises(SkillError, match="takes one key, not both"):
        KeyGuard((one,), 1.0, key="both")
