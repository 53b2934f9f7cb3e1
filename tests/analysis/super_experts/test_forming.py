"""Which blocks form a massive activation: told from what they add, checked by taking each away."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.tracing import layer_of
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel
from analysis.super_experts.controls import list_super_parts, make_pruning
from analysis.super_experts.merging import merge_batches
from analysis.super_experts.profile import BlockFormation, ExpertProfile
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.verdict import find_super_experts
from tests.analysis.conftest import loaded_from
from tests.analysis.moe import FAMILIES, moe, plant, windows
from tests.contract.builder import build

ROW, COLUMN = 5, 11
OTHERS = ("qwen2_moe", "granitemoeshared", "llama4", "dbrx", "aria_text", "exaone_moe")
"""Shared experts with and without gates, residual multipliers, weights before the expert."""


def profiled(loaded: LoadedModel, ids: list[list[int]]) -> ExpertProfile:
    return merge_batches(loaded, [profile_batch(loaded, ids)])


def formations(profile: ExpertProfile) -> dict[str, BlockFormation]:
    return {str(row.block.address): row.formation for row in profile.blocks if row.formation is not None}


def residual_after(loaded: LoadedModel, ids: list[list[int]], layer: int, without: Any = None) -> Tensor:
    """The residual after a layer, with or without one block."""
    name = loaded.anatomy.blocks[loaded.anatomy.index(BlockAddress(layer, False, 0))].module
    module = loaded.model.get_submodule(layer_of(name))
    seen: list[Tensor] = []
    handle = module.register_forward_hook(
        lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    fed = torch.tensor(ids)
    positions = torch.arange(fed.shape[1]).expand(len(fed), -1)
    changes = [] if without is None else make_pruning([without])
    try:
        with torch.no_grad(), intervene(loaded, changes, positions=positions):
            loaded.model(input_ids=fed, use_cache=False)
    finally:
        handle.remove()
    return seen[0]


CASES = [(family, False) for family in (*FAMILIES, *OTHERS)] + [
    (family, True) for family in ("deepseek_v2", *OTHERS) if family != "dbrx"
]


@pytest.mark.parametrize(("family", "shared"), CASES)
def test_what_a_block_adds_is_what_the_residual_lacks_without_it(family: str, shared: bool) -> None:
    loaded, ids = moe(family), windows(2, 12)
    mine = [b.address for b in loaded.anatomy.blocks if b.address.layer == 1]
    address = next(a for a in mine if a.shared == shared and a.expert in (0, 2))
    plant(loaded, address, ROW, COLUMN)
    found = formations(profiled(loaded, ids))
    assert [name for name, own in found.items() if own.formed] == [str(address)]
    own = found[str(address)]
    assert own.place is not None
    assert (own.dimension, own.column) == (ROW, COLUMN)
    at = own.place.window, own.place.position, ROW
    whole, less = (residual_after(loaded, ids, 1, without) for without in (None, address))
    assert own.added == pytest.approx(float(whole[at] - less[at]), rel=2e-3)


def test_a_bfloat16_model_is_read_as_well() -> None:
    loaded = loaded_from(build("qwen2_moe").to(torch.bfloat16))
    plant(loaded, BlockAddress(1, False, 2), ROW, COLUMN)
    found = formations(profiled(loaded, windows()))
    assert [name for name, own in found.items() if own.formed] == ["L1.E2"]


def split(loaded: LoadedModel, first: float) -> None:
    """Give all experts of layer 1 the same planted vectors, so that each adds its routing weight's part."""
    parameters = loaded.parameters
    blocks = [block for block in loaded.anatomy.blocks if block.address.layer == 1]
    for block in blocks:
        for view in (block.up, block.gate, block.down):
            assert view is not None
            view.vectors(parameters)[COLUMN] = blocks[0].view("up").vectors(parameters)[COLUMN]
        block.down.vectors(parameters)[COLUMN] = 0.0
        block.down.vectors(parameters)[COLUMN, ROW] = first


def test_what_two_experts_form_together_is_neithers_and_both_are_named() -> None:
    """With three experts a token of about equal weight none reaches half."""
    loaded = loaded_from(build("mixtral"))
    loaded.model.model.layers[1].mlp.gate.top_k = 3
    loaded.parameters["model.layers.1.mlp.gate.weight"].mul_(1e-3)
    split(loaded, 3e4)
    profile = profiled(loaded, windows())
    found = formations(profile)
    assert not any(own.formed for own in found.values())
    joint = [name for name, own in found.items() if own.jointly]
    assert len(joint) >= 2
    assert {name[:2] for name in joint} == {"L1"}
    one = formations(profiled(loaded, windows(1, 1)))  # one token, one massive value
    shares = sorted((own.share for name, own in one.items() if name[:2] == "L1"), reverse=True)
    assert sorted((own.share for own in one.values() if own.jointly), reverse=True) == shares[:2]
    assert shares[2] > 0
    assert all(0.3 < found[name].share < 0.5 for name in joint)
    verdict = find_super_experts(profile)
    assert verdict.supers == ()
    assert {miss.rule for miss in verdict.near_misses if str(miss.row.block.address) in joint} == {"half"}


def test_what_a_later_layer_carries_on_or_takes_away_is_not_formed_there() -> None:
    loaded = moe("mixtral")
    plant(loaded, BlockAddress(1, False, 2), ROW, COLUMN)
    profile = profiled(loaded, windows())
    assert [row.massive > 0 for row in profile.layers] == [False, True, True]
    assert [row.formed is not None for row in profile.layers] == [False, True, False]
    assert [n for n, own in formations(profile).items() if own.share > 0.01] == ["L1.E2"]


def test_a_convolution_behind_the_experts_makes_their_parts_unknown_not_guessed() -> None:
    loaded = moe("inkling_text")
    plant(loaded, BlockAddress(1, False, 2), ROW, COLUMN)
    profile = profiled(loaded, windows())
    found = formations(profile)
    assert not any(own.formed or own.jointly for own in found.values())
    assert found["L1.E2"].unknown == 3
    assert any("is unknown" in remark for remark in find_super_experts(profile).remarks)


def test_a_dense_block_is_super_by_the_neuron_that_forms_it() -> None:
    loaded = loaded_from(build("llama"))
    loaded.anatomy.blocks[1].down.vectors(loaded.parameters)[COLUMN, ROW] = 3e4
    verdict = find_super_experts(profiled(loaded, windows()))
    assert [str(part) for part in list_super_parts(verdict.supers)] == [f"L1.N{COLUMN}"]


def test_shares_of_windows_and_first_tokens_add_up_over_batches() -> None:
    loaded, ids = moe("olmoe"), windows(4, 16)
    plant(loaded, BlockAddress(1, False, 2), ROW, COLUMN)
    whole = merge_batches(loaded, [profile_batch(loaded, ids)])
    parts = merge_batches(loaded, [profile_batch(loaded, [one]) for one in ids])
    assert (whole.windows, whole.length, whole.begins) == (4, 16, 1)
    assert (parts.windows, parts.length, parts.begins) == (4, 16, 1)
    for one, other in zip(whole.blocks, parts.blocks, strict=True):
        assert one.sink == other.sink
        assert one.formation is not None
        assert other.formation is not None
        assert (one.formation.formed, one.formation.place) == (other.formation.formed, other.formation.place)
    starts = merge_batches(loaded, [profile_batch(loaded, [one[:1] for one in ids])])
    for row, alone in zip(whole.blocks, starts.blocks, strict=True):
        assert row.sink == alone.count  # of the first tokens alone
    for layer in range(3):
        mine = [row for row in whole.blocks if row.block.address.layer == layer]
        assert sum(row.sink for row in mine) == 4 * loaded.model.config.num_experts_per_tok


def test_dense_blocks_are_judged_as_the_two_inequalities_say() -> None:
    """Two layers write into one dimension: the second finds part of it there."""
    loaded, ids = loaded_from(build("llama")), windows(3, 16)
    for layer, weight in ((0, 3e4), (1, 2e4)):
        loaded.anatomy.blocks[layer].down.vectors(loaded.parameters)[COLUMN, ROW] = weight
    found = formations(profiled(loaded, ids))
    expected = {f"L{layer}": judged(loaded, ids, layer) for layer in range(3)}
    for name, (formed, share, apart) in expected.items():
        assert found[name].formed == formed
        assert found[name].share == pytest.approx(share, rel=1e-3, abs=1e-6)
        assert found[name].apart == pytest.approx(apart, rel=1e-3)
    assert expected["L0"][0] == 3
    assert expected["L1"][2] > 0  # or nothing was compared


def judged(loaded: LoadedModel, ids: list[list[int]], layer: int) -> tuple[int, float, float]:
    """(windows a block forms something in, its largest share, its largest part below half), by entry."""
    module = loaded.model.get_submodule(f"model.layers.{layer}")
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda m, args: seen.update(before=args[0])),
        module.register_forward_hook(lambda m, args, output: seen.update(after=output)),
        module.mlp.register_forward_hook(lambda m, args, output: seen.update(ffn=output)),
    ]
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor(ids), use_cache=False)
    for handle in handles:
        handle.remove()
    formed, share, apart = set[int](), 0.0, 0.0
    for window in range(len(ids)):
        least = max(100.0, 1000 * float(seen["after"][window].abs().median()))
        for at in (seen["after"][window].abs() > least).nonzero().tolist():
            h, before, u = (float(seen[name][window][tuple(at)]) for name in ("after", "before", "ffn"))
            s = 1 if h > 0 else -1
            grown, part = s * (h - before), s * u / abs(h)
            if grown > 0 and part >= 0.5:
                share = max(share, s * u / grown)
                formed |= {window} if s * u >= grown / 2 else set()
            elif grown > 0 and part >= 0.25 and s * u >= grown / 2:
                apart = max(apart, part)
    return len(formed), share, apart
