"""What validation chooses: α of a box, the margin to rivals, the layers."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.running.probing import last_keys
from analysis.unlearning.guards.key_checks import read_checked_keys
from analysis.unlearning.guards.operating import (
    MARGINS,
    ROOM,
    Checks,
    OperatingPoint,
    choose_point,
    make_single_checks,
    measure_separation,
    trace_operating_curve,
)
from tests.analysis.unlearning.guards.guards_made import PROMPTS


def alone(*depths: float) -> Checks:
    """Queries with one check and one layer each, no rival."""
    return make_single_checks(torch.tensor(depths))


def against(*pairs: tuple[float, float]) -> Checks:
    """Queries with one check and one layer each: depth in the guard's box, and in a rival's."""
    return Checks(torch.tensor(pairs).reshape(-1, 1, 2), torch.arange(len(pairs)), len(pairs))


def test_the_chosen_alpha_forgets_most_under_the_bound() -> None:
    curve = [
        OperatingPoint(alpha, forget, retain)
        for alpha, forget, retain in (
            (0.5, 0.2, 0.0),
            (1.0, 0.9, 0.02),
            (1.5, 0.9, 0.03),
            (2.0, 0.9, 0.05),
            (2.5, 1.0, 0.2),
        )
    ]
    assert choose_point(curve).alpha == 1.5
    assert choose_point(curve, most_retain=0.3).alpha == 2.5
    bad = [OperatingPoint(1.0, 0.3, 0.4), OperatingPoint(2.0, 0.9, 0.5)]
    assert choose_point(bad).alpha == 2.0


def test_the_curve_takes_the_worst_skill_at_each_alpha() -> None:
    retain = {"a": alone(0.5, 5.0), "b": alone(2.0, 2.0, 2.0, 5.0)}
    curve = trace_operating_curve(alone(0.9, 1.1), retain, [1.0, 2.0])
    assert [(p.forget, p.worst_retain) for p in curve] == [(0.5, 0.5), (1.0, 0.75)]
    with pytest.raises(TooFewExamples, match="no validation example"):
        trace_operating_curve(alone(), retain)


def test_with_rivals_the_margin_is_chosen_and_alpha_leaves_room() -> None:
    forget = against(*[(1.0, 2.0)] * 19, (1.2, 0.4))
    kept = {"a": against(*[(1.0, 0.5)] * 19, (1.0, 0.95)), "b": against()}
    curve = trace_operating_curve(forget, kept)
    assert {p.margin for p in curve} == {round(1.05**i, 4) for i in range(-14, 51)}
    chosen = choose_point(curve)
    assert chosen.forget == pytest.approx(0.95)
    assert 0.5 <= (chosen.margin or 0) < 2.0
    assert chosen.worst_retain <= 0.05
    assert chosen.alpha == ROOM
    wide = next(p for p in curve if (p.margin or 0) > 3)
    assert (wide.forget, wide.worst_retain) == (1.0, 1.0)
    assert wide.alpha == 1.55


def test_several_checks_of_a_query_count_once_and_the_nearest_decides() -> None:
    checks = Checks(torch.tensor([3.0, 1.0, 2.0])[:, None, None], torch.tensor([0, 0, 1]), 2)
    assert checks.least().tolist() == [1.0, 2.0]
    pairs = torch.tensor([[4.0, 1.0], [3.0, 6.0], [2.0, 1.0]])[:, None]
    rivals = Checks(pairs, torch.tensor([0, 0, 1]), 2)
    assert rivals.least(1.0).tolist() == [3.0, math.inf]
    assert rivals.nearness().tolist() == [0.5, 2.0]


def test_layers_are_joined_by_the_largest_alone_and_by_the_geometric_mean_against_rivals() -> None:
    two = Checks(torch.tensor([[[1.0], [4.0]]]), torch.tensor([0]), 1)
    assert two.least().tolist() == [4.0]
    assert two.layers([0]).least().tolist() == [1.0]
    both = Checks(torch.tensor([[[1.0, 9.0], [4.0, 1.0]]]), torch.tensor([0]), 1)
    assert both.least(1.0).tolist() == pytest.approx([2.0])
    assert both.least(0.6).tolist() == [math.inf]


def test_separation_is_that_of_the_skill_least_apart() -> None:
    forget = alone(1.0, 2.0)
    assert measure_separation(forget, {"far": alone(3.0, 4.0), "near": alone(1.5, 2.0)}) == 0.625
    assert measure_separation(forget, {}) == 1.0


@pytest.mark.parametrize("size", [1, 5, 32])
def test_the_keys_of_each_step_are_those_of_the_text_so_far(llama: LoadedModel, size: int) -> None:
    blocks = llama.anatomy.blocks
    fed = [[*ids, *range(20, 20 + i % 4)] for i, ids in enumerate(PROMPTS)]
    query, keys = read_checked_keys(llama, fed, [len(ids) for ids in PROMPTS], blocks, batch_size=size)
    cut = [ids[:end] for ids, own in zip(fed, PROMPTS, strict=True) for end in range(len(own), len(ids) + 1)]
    assert query.tolist() == [i for i in range(len(fed)) for _ in range(i % 4 + 1)]
    for block, expected in last_keys(llama, cut, blocks, batch_size=1).items():
        assert torch.allclose(keys[block], expected, atol=1e-5)


def test_with_nothing_to_keep_the_smallest_alpha_that_refuses_most_is_chosen() -> None:
    curve = trace_operating_curve(alone(0.9, 1.1), {}, [0.5, 1.0, 2.0, 5.0, 10.0])
    assert choose_point(curve, bounded=False).alpha == 2.0
    assert choose_point(curve).alpha == 5.0


def test_a_rival_that_is_nearer_at_every_margin_leaves_a_point_that_refuses_nothing() -> None:
    forget, kept = against((50.0, 1.0), (60.0, 1.0)), {"a": against((1.0, 1.0))}
    [point] = trace_operating_curve(forget, kept)
    assert choose_point([point]) == point
    assert (point.forget, point.worst_retain, point.margin) == (0.0, 1.0, MARGINS[-1])
