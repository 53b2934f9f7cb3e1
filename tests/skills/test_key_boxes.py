"""Boxes by their definition, and the guard behind the one door."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.addresses import BlockAddress
from analysis.batches import batches, forward
from analysis.clamps import parse_clamp
from analysis.errors import SkillError, TooFewExamples
from analysis.models import LoadedModel
from analysis.probing import Moments, Tally, last_keys
from analysis.skills.answering import answers
from analysis.unlearning.key_boxes import FLOOR, KeyBox, KeyGuard, fit_box, joint_depths
from analysis.unlearning.operating import OperatingPoint, abstention, chosen_point, operating_curve
from analysis.unlearning.selective_prune import SelectivePrune

PROMPTS = [[1, *range(10 + 3 * n, 14 + 3 * n + n % 3)] for n in range(12)]


def moments(keys: Tensor) -> Moments:
    tally = Tally(keys.shape[1])
    tally.add(keys)
    return tally.moments()


def box_of(keys: Tensor, layer: int = 0) -> KeyBox:
    return fit_box(layer, moments(keys))


def random_keys(n: int = 50, m: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed))


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
    assert abstention(box.depths(random_keys()), [1.0, 0.999]) == [1.0, 49 / 50]


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


def guard_around(
    loaded: LoadedModel,
    chosen: list[int],
    layers: tuple[int, ...] = (1,),
    prompts: Sequence[Sequence[int]] = PROMPTS,
    **how: Any,
) -> KeyGuard:
    """A guard whose boxes hold the last keys of some of the prompts and, by construction, no other's."""
    keys = last_keys(loaded, prompts, loaded.anatomy.blocks)
    boxes = []
    for layer in layers:
        own = keys[BlockAddress(layer)][chosen]
        width = (own - own.mean(0)).abs().amax(0) + 1e-3
        boxes.append(KeyBox(layer, own.mean(0), width, 1.0, 30, torch.ones_like(width)))
    return KeyGuard(tuple(boxes), 1.0, **how)


@pytest.mark.parametrize("layers", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("size", [1, 5, 32])
def test_the_guard_refuses_the_rows_inside_and_leaves_the_others_bit_for_bit(
    llama: LoadedModel, size: int, layers: tuple[int, ...]
) -> None:
    guard = guard_around(llama, [2, 7], layers)
    base = answers(llama, PROMPTS, max_new_tokens=4, batch_size=size)
    found = answers(llama, PROMPTS, [guard], max_new_tokens=4, batch_size=size)
    assert [i for i, answer in enumerate(found) if answer.abstained] == [2, 7]
    for i, (one, other) in enumerate(zip(base, found, strict=True)):
        assert other.text == ("" if i in (2, 7) else one.text)
    for batch in batches(llama, PROMPTS, size=size):
        plain, _ = forward(llama, batch)
        guarded, reach = forward(llama, batch, [guard])
        assert torch.equal(plain, guarded)
        assert [batch.indices[row] for row in reach.abstained] == [i for i in batch.indices if i in (2, 7)]


def test_a_query_has_to_lie_in_every_box(llama: LoadedModel) -> None:
    one, other = guard_around(llama, [2, 7], (0,)), guard_around(llama, [7, 9], (1,))
    both = KeyGuard((one.boxes[0], other.boxes[0]), 1.0)
    found = answers(llama, PROMPTS, [both], max_new_tokens=2)
    assert [i for i, answer in enumerate(found) if answer.abstained] == [7]
    keys = last_keys(llama, PROMPTS, llama.anatomy.blocks)
    assert [i for i, d in enumerate(joint_depths(both.boxes, keys)) if d <= 1] == [7]


def test_at_each_step_a_guard_also_sees_what_is_generated(llama: LoadedModel) -> None:
    (free,) = answers(llama, [PROMPTS[0]], max_new_tokens=4)
    block = llama.anatomy.blocks[1]
    later = last_keys(llama, [[*PROMPTS[0], *free.token_ids[:2]]], [block])[block.address]
    box = KeyBox(1, later[0], torch.full_like(later[0], 1e-3), 1.0, 30, torch.ones_like(later[0]))
    for check, refused in (("prefill", False), ("each_step", True)):
        guard = KeyGuard((box,), 1.0, check)  # type: ignore[arg-type]
        (found,) = answers(llama, [PROMPTS[0]], [guard], max_new_tokens=4)
        assert found.abstained is refused


def test_as_released_one_row_makes_its_whole_batch_abstain(llama: LoadedModel) -> None:
    guard = guard_around(llama, [2], as_released=True)
    assert all(a.abstained for a in answers(llama, PROMPTS, [guard], max_new_tokens=2))
    alone = answers(llama, PROMPTS, [guard], max_new_tokens=2, batch_size=1)
    assert [a.abstained for a in alone] == [i == 2 for i in range(len(PROMPTS))]


def test_a_guard_reads_what_a_clamp_before_it_changed(llama: LoadedModel) -> None:
    guard = guard_around(llama, [2])
    away = parse_clamp("L1.N3:key:add:50").resolved(largest=1, mean=0)
    pruned = SelectivePrune(((BlockAddress(1), torch.arange(56)),), 50.0)
    orders: list[tuple[list[Any], bool]] = [
        *(([away, guard], False), ([guard, away], True)),
        *(([pruned, guard], False), ([guard, pruned], True)),
    ]
    for order, refused in orders:
        (found,) = answers(llama, [PROMPTS[2]], order, max_new_tokens=1)
        assert found.abstained is refused


def test_a_guard_of_another_model_or_layer_is_refused(
    llama: LoadedModel, tiny_of: Callable[[str], LoadedModel]
) -> None:
    guard = guard_around(llama, [2])
    wide = KeyBox(1, torch.zeros(7), torch.ones(7), 1.0, 30, torch.ones(7))
    with pytest.raises(SkillError, match="7 dimensions, the model's keys there 56"):
        answers(llama, PROMPTS, [KeyGuard((wide,), 1.0)])
    with pytest.raises(SkillError, match="layer 9 has no dense FFN block"):
        answers(llama, PROMPTS, [KeyGuard((KeyBox(9, wide.mean, wide.sigma, 1.0, 30, wide.own_k),), 1.0)])
    with pytest.raises(SkillError, match=r"layer 1 has no dense FFN block.*this one has none"):
        answers(tiny_of("mixtral"), PROMPTS, [guard])
    for alpha in (0.0, math.nan, -1.0):
        with pytest.raises(SkillError, match="choose a number above 0"):
            KeyGuard(guard.boxes, alpha)


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
    assert chosen_point(curve).alpha == 1.5
    assert chosen_point(curve, most_retain=0.3).alpha == 2.5
    bad = [OperatingPoint(1.0, 0.3, 0.4), OperatingPoint(2.0, 0.9, 0.5)]
    assert chosen_point(bad).alpha == 2.0


def test_the_curve_takes_the_worst_skill_at_each_alpha() -> None:
    retain = {"a": torch.tensor([0.5, 5.0]), "b": torch.tensor([2.0, 2.0, 2.0, 5.0])}
    curve = operating_curve(torch.tensor([0.9, 1.1]), retain, [1.0, 2.0])
    assert [(p.forget, p.worst_retain) for p in curve] == [(0.5, 0.5), (1.0, 0.75)]
    with pytest.raises(TooFewExamples, match="no validation example"):
        operating_curve(torch.tensor([]), retain)
