"""Guards behind the one door: in all of their boxes, and against the boxes of skills to be kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import SkillError
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel
from analysis.running.batches import make_batches, run_batch
from analysis.running.probing import last_keys
from analysis.skills.answering import answer_prompts
from analysis.unlearning.edits.selective_prune import SelectivePrune
from analysis.unlearning.guards.key_boxes import KeyBox
from analysis.unlearning.guards.key_guards import KeyGuard, KeySet, Rival
from tests.analysis.unlearning.guards.boxes_made import box_of, random_keys
from tests.analysis.unlearning.guards.guards_made import PROMPTS, guard_around, with_rival


@pytest.mark.parametrize("layers", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("size", [1, 5, 32])
def test_the_guard_refuses_the_rows_inside_and_leaves_the_others_bit_for_bit(
    llama: LoadedModel, size: int, layers: tuple[int, ...]
) -> None:
    guard = guard_around(llama, [2, 7], layers)
    base = answer_prompts(llama, PROMPTS, max_new_tokens=4, batch_size=size)
    found = answer_prompts(llama, PROMPTS, [guard], max_new_tokens=4, batch_size=size)
    assert [i for i, answer in enumerate(found) if answer.abstained] == [2, 7]
    for i, (one, other) in enumerate(zip(base, found, strict=True)):
        assert other.text == ("" if i in (2, 7) else one.text)
    for batch in make_batches(llama, PROMPTS, size=size):
        plain, _ = run_batch(llama, batch)
        guarded, reach = run_batch(llama, batch, [guard])
        assert torch.equal(plain, guarded)
        assert [batch.indices[row] for row in reach.abstained] == [i for i in batch.indices if i in (2, 7)]


def test_a_query_has_to_lie_in_every_box(llama: LoadedModel) -> None:
    one, other = guard_around(llama, [2, 7], (0,)), guard_around(llama, [7, 9], (1,))
    both = KeyGuard((one.boxes[0], other.boxes[0]), 1.0)
    found = answer_prompts(llama, PROMPTS, [both], max_new_tokens=2)
    assert [i for i, answer in enumerate(found) if answer.abstained] == [7]
    keys = last_keys(llama, PROMPTS, llama.anatomy.blocks)
    own = [keys[block.address] for block in llama.anatomy.blocks]
    assert [i for i, d in enumerate(both.depths(own)) if d <= 1] == [7]


def test_at_each_step_a_guard_also_sees_what_is_generated(llama: LoadedModel) -> None:
    (free,) = answer_prompts(llama, [PROMPTS[0]], max_new_tokens=4)
    block = llama.anatomy.blocks[1]
    later = last_keys(llama, [[*PROMPTS[0], *free.token_ids[:2]]], [block])[block.address]
    box = KeyBox(1, later[0], torch.full_like(later[0], 1e-3), 1.0, 30, torch.ones_like(later[0]))
    for check, refused in (("prefill", False), ("each_step", True)):
        guard = KeyGuard((box,), 1.0, check)  # type: ignore[arg-type]
        (found,) = answer_prompts(llama, [PROMPTS[0]], [guard], max_new_tokens=4)
        assert found.abstained is refused


@pytest.mark.parametrize("size", [1, 32])
def test_as_released_every_query_is_judged_alone(llama: LoadedModel, size: int) -> None:
    """Some queries inside, some outside, some inside only after a generated token."""
    free = answer_prompts(llama, PROMPTS, max_new_tokens=3)
    later = [[*PROMPTS[i], *free[i].token_ids[:2]] for i in (4, 6)]
    inside = guard_around(llama, [0, 1, 2], prompts=[PROMPTS[2], *later])
    guard = replace(inside, check_at="each_step", as_released=True)
    alone = [answer_prompts(llama, [ids], [guard], max_new_tokens=3)[0] for ids in PROMPTS]
    together = answer_prompts(llama, PROMPTS, [guard], max_new_tokens=3, batch_size=size)
    assert together == alone
    assert [i for i, answer in enumerate(together) if answer.abstained] == [2, 4, 6]


def test_a_guard_reads_what_a_clamp_before_it_changed(llama: LoadedModel) -> None:
    guard = guard_around(llama, [2])
    away = parse_clamp("L1.N3:key:add:50").resolve(largest=1, mean=0)
    pruned = SelectivePrune(((BlockAddress(1), torch.arange(56)),), 50.0)
    orders: list[tuple[list[Any], bool]] = [
        *(([away, guard], False), ([guard, away], True)),
        *(([pruned, guard], False), ([guard, pruned], True)),
    ]
    for order, refused in orders:
        (found,) = answer_prompts(llama, [PROMPTS[2]], order, max_new_tokens=1)
        assert found.abstained is refused


def test_a_guard_of_another_model_or_layer_is_refused(
    llama: LoadedModel, tiny_of: Callable[[str], LoadedModel]
) -> None:
    guard = guard_around(llama, [2])
    wide = KeyBox(1, torch.zeros(7), torch.ones(7), 1.0, 30, torch.ones(7))
    with pytest.raises(SkillError, match="7 dimensions, the model's keys there 56"):
        answer_prompts(llama, PROMPTS, [KeyGuard((wide,), 1.0)])
    with pytest.raises(SkillError, match="layer 9 has no dense FFN block"):
        answer_prompts(
            llama, PROMPTS, [KeyGuard((KeyBox(9, wide.mean, wide.sigma, 1.0, 30, wide.own_k),), 1.0)]
        )
    with pytest.raises(SkillError, match=r"layer 1 has no dense FFN block.*this one has none"):
        answer_prompts(tiny_of("mixtral"), PROMPTS, [guard])
    for alpha in (0.0, math.nan, -1.0):
        with pytest.raises(SkillError, match="choose a number above 0"):
            KeyGuard(guard.boxes, alpha)


def exact_depth(box: KeySet, key: Tensor) -> float:
    """A key's depth by the definition, in NumPy's float64."""
    assert isinstance(box, KeyBox)
    x, mean, sigma = (np.asarray(a, dtype=np.float64) for a in (key, box.mean, box.sigma))
    return float((np.abs(x - mean) / sigma).max() / box.k)


def rival_guard(alpha: float = 1e5, margin: float = 1.0) -> KeyGuard:
    own, *others = (
        tuple(box_of(random_keys(seed=seed + layer) + seed / 2, layer) for layer in (0, 1))
        for seed in (0, 2, 4)
    )
    return KeyGuard(
        own, alpha, rivals=tuple(Rival(f"r{i}", boxes) for i, boxes in enumerate(others)), margin=margin
    )


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_with_rivals_a_query_belongs_to_the_boxes_it_lies_deepest_in(margin: float) -> None:
    guard = rival_guard(margin=margin)
    keys = [random_keys(200, seed=20 + layer) * 2 for layer in (0, 1)]
    found = guard.depths(keys)
    refused = 0
    for query in range(200):
        own, *others = (
            math.exp(
                np.mean([math.log(exact_depth(box, keys[layer][query])) for layer, box in enumerate(boxes)])
            )
            for boxes in (guard.boxes, *(rival.boxes for rival in guard.rivals))
        )
        if own <= margin * min(others):
            refused += 1
            assert float(found[query]) == pytest.approx(own, rel=1e-4)
        else:
            assert math.isinf(found[query])
    assert 20 < refused < 180 or margin != 1.0


def test_a_rival_that_is_nearer_keeps_its_own_query(llama: LoadedModel) -> None:
    """Two boxes hold prompts 2 and 7; a rival tight around 7 takes it away."""
    guard = with_rival(guard_around(llama, [2, 7], (0, 1)), guard_around(llama, [7], (0, 1)))
    refused = [a.abstained for a in answer_prompts(llama, PROMPTS, [guard], max_new_tokens=1)]
    assert [i for i, one in enumerate(refused) if one] == [2]
    far = replace(guard, margin=1e5)
    refused = [a.abstained for a in answer_prompts(llama, PROMPTS, [far], max_new_tokens=1)]
    assert [i for i, one in enumerate(refused) if one] == [2, 7]


def test_alpha_bounds_a_guard_with_rivals_too() -> None:
    keys = [random_keys(100, seed=20 + layer) * 2 for layer in (0, 1)]
    depths = rival_guard().depths(keys)
    middle = float(depths[depths.isfinite()].median())
    inside = int((depths <= middle).sum())
    assert 0 < inside < int(depths.isfinite().sum())


def test_rivals_are_of_the_same_layers_and_the_margin_is_a_number() -> None:
    guard = rival_guard()
    with pytest.raises(SkillError, match="boxes of r0 are not in the guard's layers"):
        KeyGuard(guard.boxes[:1], 1.0, rivals=guard.rivals)
    for margin in (0.0, math.nan, -1.0):
        with pytest.raises(SkillError, match=r"margin .*choose a number above 0"):
            KeyGuard(guard.boxes, 1.0, rivals=guard.rivals, margin=margin)


def test_a_rival_of_another_model_is_refused(llama: LoadedModel) -> None:
    guard = guard_around(llama, [2])
    wide = KeyBox(1, torch.zeros(7), torch.ones(7), 1.0, 30, torch.ones(7))
    with pytest.raises(SkillError, match="7 dimensions, the model's keys there 56"):
        answer_prompts(llama, PROMPTS, [KeyGuard(guard.boxes, 1.0, rivals=(Rival("kept", (wide,)),))])
