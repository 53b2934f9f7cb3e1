"""Random neurons that are given a lever's search: from its blocks, never itself, the same every time."""

from __future__ import annotations

import pytest

from analysis.anatomy.addresses import BlockAddress, NeuronAddress, parse_address
from analysis.intervening.clamps import Scope
from analysis.levers.bench import WordBench, WordPrompt
from analysis.levers.controls import CONTROLS, ValueControls, draw_neurons, draw_shortlist
from analysis.levers.grids import COARSE, FULL, hold
from analysis.levers.readings import Clamps
from analysis.levers.sets import FACTORS
from analysis.opening.models import LoadedModel
from tests.analysis.levers.bench_made import PretendBench
from tests.analysis.levers.rows_made import IDS, OTHER, fresh, made

L0, L1 = BlockAddress(0), BlockAddress(1)


def named(*texts: str) -> list[NeuronAddress]:
    found = [parse_address(text) for text in texts]
    assert all(isinstance(one, NeuronAddress) for one in found)
    return found  # type: ignore[return-value]


def hold_all(*texts: str) -> Clamps:
    return tuple(hold(one, 2.0) for one in named(*texts))


def test_neurons_are_drawn_by_seed_and_block_without_those_that_are_left_out() -> None:
    loaded = made("llama")
    without = named("L0.N3", "L0.N4")
    one = draw_neurons(loaded, L0, 20, 5, without)
    assert one == draw_neurons(loaded, L0, 20, 5, without)
    assert len(set(one)) == 20
    assert {neuron.block for neuron in one} == {L0}
    assert one != draw_neurons(loaded, L0, 20, 6, without)
    assert [n.neuron for n in one] != [n.neuron for n in draw_neurons(loaded, L1, 20, 5, without)]
    everything = draw_neurons(loaded, L0, 1000, 5, without)
    assert len(everything) == loaded.anatomy.blocks[0].d_ff - 2
    assert not set(without) & set(everything)
    assert everything[:20] == one


def test_neurons_that_write_nothing_are_not_drawn() -> None:
    loaded = fresh("llama")
    loaded.model.model.layers[0].mlp.down_proj.weight[:, 5:] = 0
    assert sorted(one.neuron for one in draw_neurons(loaded, L0, 20, 0)) == [0, 1, 2, 3, 4]


def real_bench(loaded: LoadedModel) -> WordBench:
    return WordBench(loaded, [WordPrompt(ids[:12], ((5,),)) for ids in (IDS, OTHER)], Scope("last"))


def test_controls_of_one_neuron_are_held_where_they_raise_the_word_most_on_the_selection_prompts() -> None:
    loaded = made("llama")
    bench = real_bench(loaded)
    left_out = named("L1.N7", "L1.N8", "L1.N9")
    matched = ValueControls(bench, 3, left_out).match(hold_all("L1.N7"))
    assert matched == ValueControls(bench, 3, left_out).match(hold_all("L1.N7"))
    assert len(matched) == len(set(matched)) == CONTROLS
    assert all(len(clamps) == 1 for clamps in matched)
    assert {clamps[0].address.block for clamps in matched} == {L1}
    assert not {clamps[0].address for clamps in matched} & set(left_out)
    assert matched != ValueControls(bench, 4, left_out).match(hold_all("L1.N7"))
    every = [(hold(clamps[0].address, value),) for clamps in matched for value in FULL]
    odds = bench.read(every).log_odds.view(CONTROLS, len(FULL))
    exact = 0
    for clamps, row in zip(matched, odds, strict=True):
        assert clamps[0].value in FULL
        chosen = row[FULL.index(clamps[0].value or 0.0)]
        assert chosen >= max(row[FULL.index(value)] for value in COARSE) - 1e-5
        exact += bool(chosen >= row.max() - 1e-5)
    assert exact >= 0.3 * CONTROLS


def test_a_set_is_matched_in_its_blocks_with_values_of_its_own() -> None:
    loaded = made("llama")

    def log_odds(row: Clamps) -> float:
        values = [one.value or 0.0 for one in row]
        return -abs(values[0] - 2.0) if len(row) == 1 else -sum(abs(value - 1.0) for value in values)

    made_bench = PretendBench(log_odds, loaded)
    lever = hold_all("L1.N7", "L0.N7", "L1.N9")
    matched = ValueControls(made_bench.bench, 0, named("L1.N7", "L0.N7", "L1.N9")).match(lever, 6)
    assert len(matched) == 6
    for clamps in matched:
        assert [clamp.address.block for clamp in clamps] == [L1, L0, L1]
        assert len({clamp.address for clamp in clamps}) == 3
    used = [clamp.address for clamps in matched for clamp in clamps]
    assert len(set(used)) == len(used)
    values = {round(clamp.value or 0.0, 6) for clamps in matched for clamp in clamps}
    assert values == {1.0}  # half of what suits each best alone, refined
    tried = [row for row in made_bench.rows if len(row) == 3]
    assert len(tried) >= 6 * len(FACTORS) ** 3


def test_controls_of_a_set_and_of_one_of_its_neurons_share_a_search() -> None:
    made_bench = PretendBench(lambda row: float(row[0].address.neuron), made("llama"))
    controls = ValueControls(made_bench.bench, 0)
    pairs = controls.match(hold_all("L1.N7", "L1.N9"), 5)
    rows = len(made_bench.rows)
    single = controls.match(hold_all("L1.N7"), 5)
    assert len(made_bench.rows) == rows
    assert [clamps[0].address for clamps in single] == [clamps[0].address for clamps in pairs]


@pytest.mark.parametrize(("names", "count"), [(["L0.N0"], 14), (["L0.N0", "L0.N1"], 7), (["L0.N0"] * 3, 4)])
def test_a_block_with_fewer_neurons_than_controls_gives_what_it_has(names: list[str], count: int) -> None:
    loaded = fresh("llama")
    loaded.model.model.layers[0].mlp.down_proj.weight[:, 16:] = 0
    made_bench = PretendBench(lambda row: float(row[0].address.neuron), loaded)
    matched = ValueControls(made_bench.bench, 0, named("L0.N0", "L0.N1")).match(hold_all(*names))
    assert len(matched) == count
    assert all(len({clamp.address for clamp in clamps}) == len(names) for clamps in matched)


def test_a_block_with_no_other_neuron_has_no_control() -> None:
    loaded = fresh("llama")
    loaded.model.model.layers[0].mlp.down_proj.weight[:, 2:] = 0
    made_bench = PretendBench(lambda row: 0.0, loaded)
    controls = ValueControls(made_bench.bench, 0, named("L0.N0", "L0.N1"))
    assert controls.match(hold_all("L0.N0")) == []
    assert controls.match(hold_all("L0.N0", "L1.N1")) == []


def test_a_random_shortlist_has_as_many_neurons_of_each_block_and_none_of_the_shortlist() -> None:
    loaded = made("llama")
    like = named("L0.N1", "L0.N2", "L2.N3", "L0.N9")
    drawn = draw_shortlist(loaded, like, 7)
    assert sorted(one.block for one in drawn) == sorted(one.block for one in like)
    assert not set(drawn) & set(like)
    assert drawn == draw_shortlist(loaded, like, 7)
    assert drawn != draw_shortlist(loaded, like, 8)
