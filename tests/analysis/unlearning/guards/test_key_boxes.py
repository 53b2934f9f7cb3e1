"""Boxes by their definition."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.errors import SkillError, TooFewExamples
from analysis.unlearning.guards.key_boxes import FLOOR
from analysis.unlearning.guards.operating import measure_abstention
from tests.analysis.unlearning.guards.boxes_made import box_of, random_keys


def test_the_box_is_that_of_its_definition() -> None:
    keys = random_keys()
    box = box_of(keys)
    mean, sigma = keys.double().mean(0), keys.double().std(0)
    out = (keys.double() - mean).abs() / sigma
    assert torch.allclose(box.mean.double(), mean, atol=1e-6)
    assert torch.allclose(box.sigma.double(), sigma, atol=1e-6)
    assert box.k == pytest.approx(float(out.max()), rel=1e-5)
    assert torch.allclose(box.own_k.double(), out.amax(0), rtol=1e-5)
    assert box.n == 50
    assert box.k <= (box.n - 1) / math.sqrt(box.n)


def test_every_probe_is_inside_at_alpha_1_and_one_is_not_just_below() -> None:
    box = box_of(random_keys())
    assert measure_abstention(box.depths(random_keys()), [1.0, 0.999]) == [1.0, 49 / 50]


def test_a_neuron_that_never_moved_has_the_floor_for_a_deviation() -> None:
    keys = random_keys()
    keys[:, 2] = 0.5
    box = box_of(keys)
    assert float(box.sigma[2]) == pytest.approx(FLOOR * float(keys.double().std(0).median()), rel=1e-4)
    moved = keys[:1].clone()
    moved[0, 2] += 1.0
    assert float(box.depths(moved)) > 1


def test_too_few_or_equal_probes_are_refused() -> None:
    with pytest.raises(TooFewExamples, match="29 probes: a box needs at least 30"):
        box_of(random_keys(29))
    with pytest.raises(TooFewExamples, match="1 probes"):
        box_of(random_keys(1))
    with pytest.raises(SkillError, match="the same key for all 40 probes"):
        box_of(torch.ones(40, 6))


def test_the_deciding_neurons_are_those_furthest_out() -> None:
    box = box_of(random_keys())
    key = box.mean.clone()
    key[3] += 5 * box.k * box.sigma[3]
    neuron, out = box.deciding(key)[0]
    assert (neuron, round(out, 3)) == (3, 5.0)
    assert float(box.depths(key)) == pytest.approx(5, rel=1e-4)
