"""One pass finds what every expert writes most: planted super experts, and nothing where none was planted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import ExpertError
from analysis.opening.models import LoadedModel
from analysis.super_experts.criterion import Criterion
from analysis.super_experts.merging import merge_batches
from analysis.super_experts.profile import BatchProfile, BlockRow, ExpertProfile
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.verdict import find_super_experts
from tests.analysis.conftest import loaded_from, lock_is_free
from tests.analysis.moe import (
    FAMILIES,
    Peak,
    eager_peaks,
    linear_peaks,
    moe,
    plant,
    released_maxima,
    windows,
)
from tests.contract.builder import build
from tests.contract.edits import IDS, edited, seen_at, writer
from tests.contract.routes import routed_tokens, written_for

ONE = [BlockAddress(1, False, 2)]
TWO = [BlockAddress(1, False, 2), BlockAddress(2, False, 1)]
ROW, COLUMN = 5, 11


def profiled(loaded: LoadedModel, ids: list[list[int]]) -> ExpertProfile:
    return merge_batches(loaded, [profile_batch(loaded, ids)])


def by_address(profile: ExpertProfile) -> dict[str, BlockRow]:
    return {str(row.block.address): row for row in profile.blocks}


RULES = {"forms": Criterion(), "percentile": Criterion(rule="percentile", percentile=85.0)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("planted", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_planted_super_experts_are_found(
    family: str, planted: list[BlockAddress], rule: str
) -> None:
    loaded, ids = moe(family), windows()
    for at, address in enumerate(planted):
        plant(loaded, address, ROW + at, COLUMN + at)
    verdict = find_super_experts(profiled(loaded, ids), RULES[rule])
    assert verdict.threshold.rule == rule
    assert {row.block.address for row in verdict.supers} == set(planted)
    eager = eager_peaks(loaded, ids)
    for row in verdict.supers:
        size, token, dimension, neuron, count = eager[str(row.block.address)]
        window, position = divmod(token, len(ids[0]))
        assert row.max_abs == pytest.approx(size, rel=1e-5)
        assert row.place is not None
        assert (row.place.window, row.place.position) == (window, position)
        assert row.place.token_id == ids[window][position]
        assert (row.row, row.column, row.count) == (dimension, neuron, count)
        at = planted.index(row.block.address)
        assert (row.row, row.column) == (ROW + at, COLUMN + at)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_found_where_nothing_was_planted_and_it_says_why(family: str) -> None:
    verdict = find_super_experts(profiled(moe(family), windows()))
    assert verdict.supers == ()
    assert verdict.threshold.layers == ()
    assert any("No layer forms massive activations: the largest |h| is" in r for r in verdict.remarks)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_expert_is_as_an_independent_loop_has_it(family: str) -> None:
    loaded, ids = moe(family, seed=3), windows(2, 20)
    rows = by_address(profiled(loaded, ids))
    eager = eager_peaks(loaded, ids)
    routed = {name: row for name, row in rows.items() if row.block.routed}
    assert {name for name, row in routed.items() if row.count} == set(eager)
    check(rows, eager, length=20)


def check(rows: dict[str, BlockRow], expected: dict[str, Peak], *, length: int) -> None:
    for name, (size, token, dimension, neuron, count) in expected.items():
        row = rows[name]
        assert row.max_abs == pytest.approx(size, rel=1e-4)
        assert row.place is not None
        assert row.place.window * length + row.place.position == token
        assert (row.row, row.column, row.count) == (dimension, neuron, count)


@pytest.mark.parametrize(
    ("family", "others"), [("deepseek_v2", "L0 L1.S0 L2.S0"), ("qwen2_moe", "L0.S0 L1.S0 L2.S0")]
)
def test_shared_experts_and_dense_layers_are_in_the_table(family: str, others: str) -> None:
    loaded, ids = moe(family, seed=3), windows(2, 20)
    profile, expected = profiled(loaded, ids), linear_peaks(loaded, ids)
    assert set(expected) == set(others.split())
    check(by_address(profile), expected, length=20)
    assert {str(row.block.address) for row in profile.dense} == {name for name in expected if "." not in name}
    assert {str(row.block.address) for row in profile.experts} >= {name for name in expected if "." in name}


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "olmoe", "gpt_oss"])
def test_the_one_token_of_each_window_is_that_of_the_released_code(family: str) -> None:
    loaded, ids = moe(family, seed=3), windows(3, 20)
    released = released_maxima(loaded, ids)
    rows = {name: row for name, row in by_address(profiled(loaded, ids)).items() if row.block.routed}
    assert set(released) == set(rows)
    for name, row in rows.items():
        assert row.first_routed == pytest.approx(released[name], rel=1e-4, abs=1e-6)
    assert any(row.first_routed < row.max_abs for row in rows.values())


@pytest.mark.parametrize("planted", [[], ONE])
def test_the_released_set_is_that_of_the_released_code(planted: list[BlockAddress]) -> None:
    loaded, ids = moe("qwen3_moe", seed=3), windows(3, 20)
    for address in planted:
        plant(loaded, address, ROW, COLUMN)
    maxima = {n: a for n, a in released_maxima(loaded, ids).items() if n < "L2"}  # 75 % of 3 layers: 2
    least = np.percentile(list(maxima.values()), 99.5), max(maxima.values()) // 10
    expected = {name for name, a in maxima.items() if a > least[0] and a > least[1]}
    verdict = find_super_experts(profiled(loaded, ids), Criterion(as_released=True))
    assert {str(row.block.address) for row in verdict.supers} == expected != set()
    assert verdict.threshold.percentile_value == pytest.approx(least[0], rel=1e-4)
    assert verdict.threshold.ratio_value == least[1]


def test_the_first_choice_comes_before_an_earlier_token_of_second_choice() -> None:
    """The two orders differ in a window of a few tokens, or this test compares nothing."""
    loaded, ids = moe("mixtral", seed=3), windows(3, 20)
    in_order = {}
    for name, row in by_address(profiled(loaded, ids)).items():
        firsts = []
        for one in ids:
            length = next((n for n in range(1, 21) if name in eager_peaks(loaded, [one[:n]])), None)
            firsts.append(0.0 if length is None else eager_peaks(loaded, [one[:length]])[name][0])
        in_order[name] = (row.first_routed, max(firsts))
    assert any(ours != pytest.approx(other, rel=1e-3) for ours, other in in_order.values())


@pytest.mark.parametrize("entry", ["llama4", "dbrx", "inkling_text", "nemotron_h", "aria_text"])
def test_experts_of_other_layouts_are_read_too(entry: str) -> None:
    """What an expert writes is what its module's output lacks without it, over the routing weight."""
    loaded = loaded_from(build(entry))
    rows = by_address(profiled(loaded, IDS.tolist()))
    for block in [b for b in loaded.anatomy.blocks if b.fused][:6]:
        plain = seen_at(loaded.model, writer(block))
        without = seen_at(edited(loaded.model, emptied(block)), writer(block))
        weights = routed_tokens(block, plain)
        row = rows[str(block.address)]
        assert row.count == len(weights)
        if weights:
            written = {
                token: (written_for(block, plain, token) - written_for(block, without, token)) / weight
                for token, weight in weights.items()
            }
            token = max(written, key=lambda one: float(written[one].abs().max()))
            assert row.max_abs == pytest.approx(float(written[token].abs().max()), rel=1e-3)
            assert row.row == int(written[token].abs().argmax())
            assert row.place is not None
            assert row.place.window * IDS.shape[1] + row.place.position == token


def emptied(block: Block) -> Callable[[dict[str, Tensor]], None]:
    """The edit after which an expert writes 0."""

    def edit(parameters: dict[str, Tensor]) -> None:
        block.down.vectors(parameters).zero_()
        bias = block.down.biases(parameters)
        if bias is not None:
            bias.zero_()

    return edit


def test_profiling_changes_nothing_and_leaves_nothing_behind() -> None:
    loaded, ids = moe("qwen2_moe"), torch.tensor(windows(2, 12))
    before = loaded.model.get_experts_implementation()
    with torch.no_grad():
        plain = loaded.model(input_ids=ids, use_cache=False).logits
        profile_batch(loaded, ids.tolist())
        assert torch.equal(loaded.model(input_ids=ids, use_cache=False).logits, plain)
    assert loaded.model.get_experts_implementation() == before
    assert not any(module._forward_hooks for module in loaded.model.modules())
    assert lock_is_free(loaded)


def test_how_the_text_is_batched_changes_no_result() -> None:
    loaded, ids = moe("olmoe"), windows(4, 16)
    plant(loaded, ONE[0], ROW, COLUMN)
    whole = merge_batches(loaded, [profile_batch(loaded, ids)])
    parts = merge_batches(loaded, [profile_batch(loaded, ids[:1]), profile_batch(loaded, ids[1:])])
    assert parts.tokens == whole.tokens == 64
    for one, other in zip(whole.blocks, parts.blocks, strict=True):
        assert one.max_abs == pytest.approx(other.max_abs, rel=1e-4)
        assert (one.place, one.row, one.column, one.count) == (
            other.place,
            other.row,
            other.column,
            other.count,
        )
    for layer, same in zip(whole.layers, parts.layers, strict=True):
        assert layer.formed == same.formed or layer.formed is not None
        assert (layer.first and layer.first.place) == (same.first and same.first.place)


def test_batches_are_merged_one_at_a_time_and_let_go() -> None:
    loaded, kept = moe("mixtral"), list[weakref.ref[BatchProfile]]()
    alive: list[int] = []

    def each() -> Iterator[BatchProfile]:
        for ids in windows(5, 12):
            found = profile_batch(loaded, [ids])
            kept.append(weakref.ref(found))
            alive.append(sum(one() is not None for one in kept))
            yield found
            del found

    assert merge_batches(loaded, each()).tokens == 60
    assert max(alive) <= 2  # the one at hand, and the next


def test_the_size_of_a_result_does_not_grow_with_the_text() -> None:
    loaded = moe("mixtral")
    sizes = []
    for length in (8, 40):
        found = profile_batch(loaded, windows(1, length))
        arrays = [*vars(found.blocks).values(), *vars(found.residuals).values()]
        sizes.append(sum(array.nbytes for array in arrays))
    assert sizes[0] == sizes[1]


class TestBadNumbers:
    """NaN and infinity are named, never hidden."""

    def test_nan_that_an_expert_writes_is_named_with_layer_and_token(self) -> None:
        loaded, ids = moe("mixtral"), windows(1, 12)
        first = next(n for n in range(12) if "L0.E1" in eager_peaks(loaded, [ids[0][: n + 1]]))
        block = loaded.anatomy.blocks[1]
        block.up.vectors(loaded.parameters)[7] = torch.nan
        told = rf"block L0\.E1 writes NaN or infinity at token '.*' \(position {first}\) in float32"
        with pytest.raises(ExpertError, match=told):
            profile_batch(loaded, ids)

    def test_a_model_in_a_coarse_type_is_better_opened_in_float32(self) -> None:
        loaded = moe("mixtral")
        loaded.anatomy.blocks[1].up.vectors(loaded.parameters)[7] = torch.nan
        loaded.ref = replace(loaded.ref, dtype="bfloat16")
        with pytest.raises(ExpertError, match=r"in bfloat16, .*; open it in float32, or check for damaged"):
            profile_batch(loaded, windows(1, 24))

    def test_infinity_deep_in_the_model_is_named_where_it_begins(self) -> None:
        loaded, ids = moe("qwen3_moe"), windows(1, 12)
        block = loaded.anatomy.blocks[loaded.anatomy.index(ONE[0])]
        block.down.vectors(loaded.parameters)[COLUMN, ROW] = torch.inf
        with pytest.raises(
            ExpertError,
            match=r"block L1\.E2 writes NaN or infinity at token .*; check for damaged",
        ):
            profile_batch(loaded, ids)

    def test_a_residual_that_attention_breaks_is_named(self) -> None:
        loaded, ids = loaded_from(build("gpt_neox")), windows(1, 12)  # attention beside the FFN
        loaded.parameters["gpt_neox.layers.1.attention.dense.bias"][3] = torch.inf
        with pytest.raises(
            ExpertError, match=r"the residual after layer 1 is NaN or infinity at token '<s>'"
        ):
            profile_batch(loaded, ids)
