"""Levers and their matched controls: a planted lever is found, its controls are fair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import Clamp
from analysis.neurons.effects import (
    GRID,
    draw_controls,
    match_raws,
    measure_answer_probabilities,
    search_controls,
    search_value,
)
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling, generate_steps

TinyModel = Callable[[str], LoadedModel]
PROMPTS = [[1, 5, 9, 4], [1, 40, 11, 12, 13]]
TOKEN = 33


def planted(tiny: TinyModel) -> LoadedModel:
    """L1.N7 writes −token 33's head row: a lever at negative values only."""
    loaded = tiny("llama")
    row = 2 * loaded.parameters[loaded.anatomy.head.parameter][TOKEN]
    loaded.model.model.layers[1].mlp.down_proj.weight[:, 7] = -row
    loaded.model.model.norm.weight.fill_(1.0)
    return loaded


def test_a_row_per_clamp_gives_what_one_clamp_at_a_time_gives(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    address = parse_address("L1.N7")
    clamps = [Clamp(address, "key", "set", raw, raw=raw) for raw in (-5.0, 2.0, 30.0)]
    together = measure_answer_probabilities(loaded, PROMPTS[0], clamps, TOKEN)
    for row, clamp in enumerate(clamps, start=1):
        step = next(iter(generate_steps(loaded, PROMPTS[0], [clamp], Sampling(1))))
        p = step.log_probabilities[:, TOKEN].exp().tolist()
        assert together[[0, row]].tolist() == pytest.approx(p, rel=1e-4, abs=1e-9)


def test_a_planted_lever_is_found_with_its_sign(tiny: TinyModel) -> None:
    loaded = planted(tiny)
    raws = [value * 2.0 for value in GRID]
    lever = search_value(loaded, parse_address("L1.N7"), PROMPTS, TOKEN, values=GRID, raws=raws)
    assert lever.value == -16
    assert lever.raw == -32.0
    assert lever.probability > 0.9


def test_controls_of_a_planted_lever_stay_low_under_the_same_search(tiny: TinyModel) -> None:
    loaded = planted(tiny)
    raws = [value * 2.0 for value in GRID]
    lever = search_value(loaded, parse_address("L1.N7"), PROMPTS, TOKEN, values=GRID, raws=raws)
    controls = search_controls(loaded, lever, PROMPTS, TOKEN, values=GRID, raws=raws, count=10)
    assert len({str(c.address) for c in controls} - {"L1.N7"}) == 10
    assert max(c.probability for c in controls) < lever.probability / 2


def test_a_control_writes_as_much_as_the_neuron_it_is_matched_to(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    block = loaded.anatomy.blocks[1]
    norms = block.down.vectors(loaded.parameters).norm(dim=-1)
    matched = match_raws(loaded, block, 7, 9, [3.0, -8.0])
    torch.testing.assert_close(torch.tensor(matched).abs() * norms[9], torch.tensor([3.0, 8.0]) * norms[7])


def test_controls_are_other_neurons_drawn_by_the_seed(tiny: TinyModel) -> None:
    block = tiny("llama").anatomy.blocks[0]
    drawn = draw_controls(block, 7, 20, seed=1)
    assert len(set(drawn)) == 20
    assert 7 not in drawn
    assert drawn == draw_controls(block, 7, 20, seed=1) != draw_controls(block, 7, 20, seed=2)
    assert len(draw_controls(block, 7, 500, seed=1)) == block.d_ff - 1
