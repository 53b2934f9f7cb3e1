"""Clamps of many batch rows share hooks; those of one row act one after the other, in the recipe's order."""

from __future__ import annotations

import random

import torch

from analysis.intervening import hooks
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.intervening.interventions import intervene
from analysis.intervening.residual_units import find_writers
from analysis.intervening.steps import ClampPlan
from analysis.opening.models import LoadedModel

IDS = torch.tensor([[1, 5, 9, 4, 40, 11], [3, 8, 2, 60, 7, 11], [1, 6, 6, 7, 20, 21]])
POSITIONS = torch.arange(6).expand(3, -1)
Planned = list[tuple[Clamp, list[int] | None]]


def clamp(text: str) -> Clamp:
    return parse_clamp(text).resolve(largest=1, mean=0)


def rounds_of(loaded: LoadedModel, rows: list[list[int] | None]) -> list[list[int]]:
    block = loaded.anatomy.blocks[0]
    plans = [ClampPlan(clamp("L0.N1:set:1"), block, at, own) for at, own in enumerate(rows)]
    return [[plan.index for plan in together] for together in hooks._in_rounds(plans)]


def test_clamps_of_different_rows_act_together_and_those_of_one_row_in_turn(llama: LoadedModel) -> None:
    assert rounds_of(llama, [[0], [1], [2], [0]]) == [[0, 1, 2], [3]]
    assert rounds_of(llama, [[0], [0], [1], [0, 1], [2]]) == [[0, 2, 4], [1], [3]]
    assert rounds_of(llama, [[0], None, [0], [1]]) == [[0], [1], [2, 3]]
    assert rounds_of(llama, [None, None, [1]]) == [[0], [1], [2]]
    assert rounds_of(llama, []) == []


def run(loaded: LoadedModel, planned: Planned) -> tuple[torch.Tensor, list[int]]:
    changes, rows = [change for change, _ in planned], [own for _, own in planned]
    everyone = [list(range(3)) if own is None else own for own in rows]
    with intervene(loaded, changes, positions=POSITIONS, prompt_length=6, rows=everyone) as reach:
        return loaded.model(IDS).logits, reach.acted


def test_each_row_of_a_batch_equals_its_own_clamps_alone(llama: LoadedModel) -> None:
    """Any mixture of sites, modes, units and rows, in a random order."""
    dice = random.Random(5)
    texts = ["set:3", "add:-2", "scale:-1.5", "up:set:2", "gate:add:1", "add:1r", "set:-0.5r", "ablate"]
    for _ in range(6):
        planned: Planned = [
            (
                clamp(f"L{dice.randrange(2)}.N{dice.randrange(2)}:{dice.choice(texts)}"),
                sorted(dice.sample(range(3), size)),
            )
            for size in (1, 1, 2, 1, 3, 1, 2, 1)
        ]
        together, acted = run(llama, planned)
        assert acted == [6 * len(own or ()) for _, own in planned]
        for row in range(3):
            alone, _ = run(llama, [(change, [row]) for change, own in planned if own is None or row in own])
            torch.testing.assert_close(together[row], alone[row], rtol=1e-5, atol=1e-5)


def test_neurons_that_write_something_are_told_from_those_that_do_not(llama: LoadedModel) -> None:
    llama.model.model.layers[1].mlp.down_proj.weight.data[:, [3, 50]] = 0
    writes = find_writers(llama, llama.anatomy.blocks[1])
    assert writes.dtype == torch.bool
    assert torch.where(~writes)[0].tolist() == [3, 50]
    assert find_writers(llama, llama.anatomy.blocks[0]).all()


def test_no_neuron_writes_where_the_residual_is_not_found(llama: LoadedModel, monkeypatch: object) -> None:
    monkeypatch.setattr(  # type: ignore[attr-defined]
        "analysis.intervening.residual_units.find_residual_places", lambda trace, blocks: {}
    )
    assert not find_writers(llama, llama.anatomy.blocks[0]).any()
