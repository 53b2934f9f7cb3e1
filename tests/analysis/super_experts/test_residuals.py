"""The residual after each layer: its size, and whether the layer's own FFN made it massive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.opening.models import LoadedModel
from analysis.super_experts.criterion import Criterion
from analysis.super_experts.merging import merge_batches
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.residual_layers import residual_layers
from analysis.super_experts.verdict import explain_none, find_super_experts
from tests.analysis.conftest import loaded_from, tiny_model
from tests.analysis.moe import moe, plant, windows
from tests.contract.builder import build

PLANTED = BlockAddress(1, False, 2)
ROW, COLUMN = 5, 11


def profiled(loaded: LoadedModel, ids: list[list[int]]) -> ExpertProfile:
    return merge_batches(loaded, [profile_batch(loaded, ids)])


def seen(loaded: LoadedModel, ids: list[list[int]]) -> list[Any]:
    """What `output_hidden_states` gives after each layer but the last, whose states are normed there."""
    with torch.no_grad():
        states = loaded.model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states
    return list(states[1:-1])


@pytest.mark.parametrize("family", ["mixtral", "gemma2", "gpt2"])
def test_maxima_and_medians_are_those_of_the_hidden_states(family: str) -> None:
    loaded, ids = loaded_from(tiny_model(family)), windows(3, 15)
    profile = profiled(loaded, ids)
    for row, states in zip(profile.layers, seen(loaded, ids), strict=False):
        sizes = states.abs()
        for peak, part in ((row.first, sizes[:, :1]), (row.others, sizes[:, 1:])):
            assert peak is not None
            assert peak.max_abs == pytest.approx(float(part.max()), rel=1e-4)
            medians = [float(one.flatten().median()) for one in part]
            assert peak.median == pytest.approx(float(np.median(medians)), rel=1e-4)
            at = (peak.place.window, peak.place.position, peak.dimension)
            assert float(sizes[at]) == pytest.approx(peak.max_abs, rel=1e-4)
            assert peak.place.token_id == ids[peak.place.window][peak.place.position]


def test_the_last_layer_is_read_before_the_final_norm() -> None:
    loaded, ids = loaded_from(tiny_model("llama")), windows(1, 10)
    last = profiled(loaded, ids).layers[-1]
    normed = loaded.model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states[-1]
    assert last.others is not None
    assert last.others.max_abs != pytest.approx(float(normed[:, 1:].abs().max()), rel=1e-2)


def test_only_the_layer_whose_ffn_supplies_it_forms_a_massive_activation() -> None:
    loaded, ids = moe("mixtral"), windows()
    plant(loaded, PLANTED, ROW, COLUMN)
    layers = profiled(loaded, ids).layers
    assert [row.formed is not None for row in layers] == [False, True, False]
    formed = layers[1].formed
    assert formed is not None
    assert formed.dimension == ROW
    assert 0.5 <= formed.supplied <= 1.5
    assert layers[2].others is not None
    assert layers[2].others.max_abs > 100  # carried on, not formed


def test_attention_that_makes_the_residual_massive_is_not_the_ffn() -> None:
    loaded, ids = loaded_from(tiny_model("llama")), windows()
    loaded.parameters["model.layers.0.self_attn.o_proj.weight"][ROW] *= 1e5
    first = profiled(loaded, ids).layers[0]
    assert first.others is not None
    assert first.others.max_abs > 1000 * first.others.median
    assert first.formed is None


def test_a_massive_activation_beside_a_larger_old_one_is_seen() -> None:
    """The largest |h| of a layer may be an old one; what the layer itself forms counts all the same."""
    loaded, ids = moe("mixtral"), windows()
    for layer, factor in ((0, 100.0), (2, 1.0)):
        for expert in range(4):
            plant(loaded, BlockAddress(layer, False, expert), ROW + layer, COLUMN)
            block = loaded.anatomy.blocks[loaded.anatomy.index(BlockAddress(layer, False, expert))]
            block.down.vectors(loaded.parameters)[COLUMN, ROW + layer] *= factor
    layers = profiled(loaded, ids).layers
    assert layers[2].others is not None
    assert layers[2].others.dimension == ROW
    assert layers[2].formed is not None
    assert layers[2].formed.dimension == ROW + 2


def test_scaled_ffn_outputs_are_read_as_the_residual_gets_them() -> None:
    loaded, ids = loaded_from(build("granite")), windows()
    block = loaded.anatomy.blocks[1]
    block.down.vectors(loaded.parameters)[COLUMN, ROW] = 3e4
    formed = profiled(loaded, ids).layers[1].formed
    assert formed is not None
    assert formed.supplied == pytest.approx(1.0, abs=0.02)  # the residual multiplier 0.7 is in it


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["mixtral", "granite", "deepseek_v2", "granitemoeshared"])
def test_the_ffns_part_is_told_also_where_a_massive_residual_hides_it(
    family: str, dtype: torch.dtype
) -> None:
    loaded = loaded_from(build(family).to(dtype))
    sound = residual_layers(loaded)
    early = [block for block in loaded.anatomy.blocks if block.address.layer == 0]
    for block in early:
        block.down.vectors(loaded.parameters)[COLUMN, ROW] = 1e6
    massive = residual_layers(loaded_from(loaded.model))
    assert [one.writer and one.writer.modules for one in massive] == [
        one.writer and one.writer.modules for one in sound
    ]
    for one, other in zip(massive, sound, strict=True):
        assert one.writer is not None
        assert other.writer is not None
        assert one.writer.factor == pytest.approx(other.writer.factor, rel=0.02)


def test_a_coarse_residual_does_not_make_another_module_pass_for_the_ffn() -> None:
    """In bfloat16 a residual far larger than what a layer adds is rounded by as much as that."""
    loaded = loaded_from(build("mixtral").to(torch.bfloat16))
    loaded.parameters["model.embed_tokens.weight"].mul_(100.0)
    for layer in residual_layers(loaded):
        assert layer.writer is None or layer.writer.modules == (f"{layer.module}.mlp",)
    assert residual_layers(loaded)[0].writer is not None


def test_layers_whose_ffn_cannot_be_told_are_not_in_l_and_it_says_so() -> None:
    profile = profiled(loaded_from(build("bert")), windows())
    assert not any(row.readable for row in profile.layers)
    (unknown,) = [r for r in find_super_experts(profile).remarks if "contribution to the residual" in r]
    assert "choose the rule percentile and the layers first75 or all" in unknown
    assert unknown in explain_none(find_super_experts(profile, Criterion(layers="all")))
    verdict = find_super_experts(profile, Criterion(rule="percentile"))
    assert verdict.threshold.layers == ()
    assert verdict.supers == ()
    (told,) = [
        remark for remark in verdict.remarks if "the FFN's contribution to the residual is unknown" in remark
    ]
    assert "unknown for L0, L1, L2, so L excludes them" in told
    assert "choose the layers first75 or all" in told
    assert not any("No layer forms massive activations" in remark for remark in verdict.remarks)
    everywhere = find_super_experts(profile, Criterion(rule="percentile", layers="all"))
    assert everywhere.threshold.layers == (0, 1, 2)
    assert not any("is unknown" in remark for remark in everywhere.remarks)
