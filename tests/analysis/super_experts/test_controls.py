"""Random sets of as many experts, to compare a pruning with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.anatomy.addresses import BlockAddress, NeuronAddress, parse_part
from analysis.super_experts.controls import draw_sets, list_super_parts
from analysis.super_experts.profile import BlockFormation
from tests.analysis.super_experts.profiles_made import made_profile

SIZES = {f"L{layer}.E{expert}": 1.0 for layer in range(3) for expert in range(6)} | {
    "L1.E5": 0.0,
    "L2.S0": 1.0,
}


def drawn_sets(parts: list[str], *, same: bool, spared: Sequence[str] = (), **rest: Any) -> list[set[str]]:
    chosen = [parse_part(part) for part in parts]
    left: Any = [parse_part(part) for part in spared]
    found = draw_sets(made_profile(SIZES), chosen, left, same_layers=same, **rest)
    return [{str(part) for part in one} for one in found]


def test_as_many_experts_and_never_a_pruned_a_super_or_an_unused_one() -> None:
    sets = drawn_sets(["L1.E0", "L2.E3"], same=False, spared=["L0.E0"], draws=200)
    assert len(sets) == 200
    assert all(len(one) == 2 for one in sets)
    assert set().union(*sets) == set(SIZES) - {"L1.E0", "L2.E3", "L0.E0", "L1.E5"}


def test_in_the_same_layers_each_layer_loses_as_many() -> None:
    sets = drawn_sets(["L1.E0", "L1.E1", "L2.E3"], same=True, draws=50)
    assert len(sets) == 50
    for one in sets:
        assert sorted(name.split(".")[0] for name in one) == ["L1", "L1", "L2"]
    assert {"L1.E2", "L1.E3", "L1.E4", "L2.S0"} < set().union(*sets)


def test_the_seed_decides_the_draws() -> None:
    one, same, other = (drawn_sets(["L1.E0"], same=False, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == 20


def test_no_set_takes_all_experts_of_a_layer() -> None:
    sizes = {"L0.E0": 1.0, "L0.E1": 1.0, "L1.E0": 1.0, "L1.E1": 1.0, "L1.E2": 1.0, "L1.E3": 1.0}
    parts = [parse_part("L1.E0"), parse_part("L1.E1")]
    sets = draw_sets(made_profile(sizes), parts, [], draws=100, same_layers=False)
    assert {BlockAddress(0, False, 0), BlockAddress(0, False, 1)} not in [set(one) for one in sets]
    assert len(sets) == 100


def test_too_few_others_give_no_set() -> None:
    assert drawn_sets([f"L0.E{expert}" for expert in range(5)], same=True) == []


def test_columns_of_dense_blocks_are_drawn_among_columns() -> None:
    profile = made_profile({"L0": 1.0, "L1": 1.0})
    parts = [NeuronAddress(BlockAddress(1), 3), NeuronAddress(BlockAddress(1), 4)]
    same = draw_sets(profile, parts, [], draws=30, same_layers=True)
    assert {part.block for one in same for part in one} == {BlockAddress(1)}  # type: ignore[union-attr]
    any_block = draw_sets(profile, parts, [], draws=30, same_layers=False)
    drawn = {part for one in any_block for part in one}
    assert {part.block for part in drawn} == {BlockAddress(0), BlockAddress(1)}  # type: ignore[union-attr]
    assert not drawn & set(parts)


def test_what_is_super_is_an_expert_whole_and_a_dense_block_by_its_column() -> None:
    rows = made_profile({"L1.E2": 1.0, "L2": 1.0}).blocks
    assert list_super_parts(rows) == [BlockAddress(1, False, 2), NeuronAddress(BlockAddress(2), 5)]
    forming = {"L2": BlockFormation(formed=1, share=0.9, column=7)}
    rows = made_profile({"L2": 1.0}, forming=forming).blocks
    assert list_super_parts(rows) == [NeuronAddress(BlockAddress(2), 7)]  # not that of its largest output
