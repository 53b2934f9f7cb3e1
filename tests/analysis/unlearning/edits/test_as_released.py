"""Neuron Adjust and selective pruning as released, against the released functions written again in NumPy."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.errors import SkillError
from analysis.intervening.hooks import site_module
from analysis.opening.models import LoadedModel
from analysis.recipes.files import digest_change
from analysis.recipes.kinds import read_intervention, write_entry
from analysis.running.batches import example_number
from analysis.running.probing import Moments, Place, probe
from analysis.unlearning.edits.counter_draws import draw_uniform
from analysis.unlearning.edits.neuron_adjust import (
    AdjustedBlock,
    NeuronAdjust,
    fit_neuron_adjust,
    mirror_values,
)
from analysis.unlearning.edits.neuron_shares import (
    ProposeShare,
    draw_adjust,
    draw_prune_control,
    measure_moments,
    propose_adjust,
    propose_prune,
)
from analysis.unlearning.edits.selective_prune import draw_prune, fit_selective_prune, select_neurons
from analysis.unlearning.scenes import Scene
from tests.analysis.unlearning.edits.neuron_methods_made import PROMPTS, adjusting, outputs
from tests.analysis.unlearning.evaluations_made import scene  # noqa: F401 - a fixture

Array = np.ndarray[Any, np.dtype[Any]]
FORGET, RETAIN = PROMPTS[:3], PROMPTS[3:]


def released_selection(difference: Array, q: float) -> Array:
    """Neurons (n,) at or above the value at this place of the sorted differences."""
    return difference >= np.sort(difference)[int(len(difference) * (1 - q / 100))]


def released_log_density(x: Array, mean: Array, std: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return -(((x - mean) / std) ** 2) / 2 - np.log(std) - np.log(np.sqrt(2 * np.pi))


def released_adjust(x: Array, forget: tuple[Array, Array], retain: tuple[Array, Array], draw: float) -> Array:
    """Values (positions, n) after the hook, in float32; one draw for all of them."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratio = released_log_density(x, *forget) - released_log_density(x, *retain)
        moved = (ratio >= 0) & (draw < 1 / (1 + np.exp(-ratio)))
        return np.where(moved, retain[0] - retain[1] * ((x - forget[0]) / forget[1]), x)


def released_fit(forget: Array, retain: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """(mean, "std") of values (tokens, n): the forget skill's is its mean, the others' their variance."""
    return (forget.mean(0), forget.mean(0)), (retain.mean(0), retain.var(0))


def read_gates(loaded: LoadedModel, prompts: list[list[int]]) -> Array:
    """(tokens, neurons of the model) values before the activation, one prompt at a time."""
    seen: list[Tensor] = []
    modules = [loaded.model.get_submodule(site_module(b, "gate")) for b in loaded.anatomy.blocks]
    handles = [m.register_forward_hook(lambda m, args, output: seen.append(output[0])) for m in modules]
    with torch.inference_mode():
        for ids in prompts:
            loaded.model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    layers = len(modules)
    return torch.cat([torch.cat(seen[i : i + layers], -1) for i in range(0, len(seen), layers)]).numpy()


def moments_of(loaded: LoadedModel) -> tuple[dict[Place, Moments], dict[Place, Moments]]:
    sites: Any = {"gate": loaded.anatomy.blocks, "key": loaded.anatomy.blocks}
    first, second = (probe(loaded, prompts, sites, where="all") for prompts in (FORGET, RETAIN))
    return first, second


@pytest.mark.parametrize("q", [1.0, 3.0, 12.5])
def test_the_released_fit_and_selection_are_reproduced(llama: LoadedModel, q: float) -> None:
    (f_mean, f_std), (r_mean, r_std) = released_fit(*(read_gates(llama, p) for p in (FORGET, RETAIN)))
    chosen = released_selection(f_mean - r_mean, q)
    found = fit_neuron_adjust(llama, *moments_of(llama), q, as_released=True)
    width = llama.anatomy.blocks[0].d_ff
    places = [llama.anatomy.index(b.address) * width + int(n) for b in found.blocks for n in b.neurons]
    assert places == np.where(chosen)[0].tolist()
    for name, expected in (
        ("forget_mean", f_mean),
        ("forget_sigma", f_std),
        ("retain_mean", r_mean),
        ("retain_sigma", r_std),
    ):
        mine = torch.cat([getattr(block, name) for block in found.blocks])
        assert torch.allclose(mine, torch.from_numpy(expected[chosen]).float(), atol=1e-5)


def made_block(loaded: LoadedModel) -> AdjustedBlock:
    """Neurons of a block with positive, negative and zero means for the forget skill, and a constant one."""
    means = torch.tensor([0.5, -0.4, 0.0, 1.5, 0.9]), torch.tensor([-0.5, 0.1, 0.3, 0.0, 0.2])
    variance = torch.tensor([0.6, 0.2, 0.3, 1.2, 0.0])
    neurons = torch.tensor([2, 5, 7, 11, 13])
    address = loaded.anatomy.blocks[1].address
    return AdjustedBlock(address, neurons, means[0], means[0], means[1], variance)


def by_numpy(block: AdjustedBlock, x: Tensor, draw: float) -> Tensor:
    forget, retain = (
        (mean.numpy(), sigma.numpy())
        for mean, sigma in (
            (block.forget_mean, block.forget_sigma),
            (block.retain_mean, block.retain_sigma),
        )
    )
    return torch.from_numpy(released_adjust(x.numpy(), forget, retain, draw))


def test_the_released_values_are_reproduced_exactly(llama: LoadedModel) -> None:
    block = made_block(llama)
    torch.manual_seed(0)
    x = torch.randn(400, 5)
    moved = torch.zeros(5)
    for draw in (0.0, 0.3, 0.6, 0.9):
        mine = mirror_values(block, x, torch.tensor([[draw]], dtype=torch.float64))
        assert torch.equal(mine, by_numpy(block, x, draw))
        moved += (mine != x).sum(0)
    assert (moved > 0).tolist() == [True, False, False, True, False]  # no σ above 0: never


def test_a_change_as_released_is_the_released_hook(llama: LoadedModel) -> None:
    """One draw for a layer and a forward call; every query of a batch as it is alone."""
    block = made_block(llama)
    change = NeuronAdjust((block,), 1.0, 3, as_released=True)
    gate, down = (
        llama.model.get_submodule(site_module(llama.anatomy.blocks[1], site)) for site in ("gate", "key")
    )
    keys: list[Tensor] = []
    outputs(llama, [])  # a model is tried once before it is used
    reading = down.register_forward_pre_hook(lambda m, args: keys.append(args[0][0].clone()))

    def hook(m: nn.Module, args: object, output: Tensor) -> Tensor:
        draw = float(draw_uniform(3, example_number(ids), len(ids) - 1, 1))
        output = output.clone()
        output[0][:, block.neurons] = by_numpy(block, output[0][:, block.neurons], draw)
        return output

    alone = outputs(llama, [change], 1)
    mine, keys[:] = list(keys), []
    changing = gate.register_forward_hook(hook)
    for ids in sorted(PROMPTS, key=len):
        with torch.inference_mode():
            llama.model(torch.tensor([ids]))
    assert all(torch.equal(one, other) for one, other in zip(mine, keys, strict=True))
    changing.remove()
    reading.remove()
    assert torch.allclose(alone, outputs(llama, [change], 32), atol=1e-4)
    assert not torch.allclose(alone, outputs(llama, []), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_all_positions_and_neurons_of_a_call_share_a_draw(
    tiny_of: Callable[[str], LoadedModel], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, seen = tiny_of(family), []

    def told(*counters: Tensor | int) -> Tensor:
        seen.append([torch.as_tensor(c).shape[1:].numel() for c in counters])
        return draw_uniform(*counters)

    monkeypatch.setattr("analysis.unlearning.edits.neuron_adjust.draw_uniform", told)
    outputs(loaded, [adjusting(loaded, as_released=True)])
    assert seen
    assert all(sizes == [1, 1, 1, 1] for sizes in seen)


def test_only_as_released_may_a_deviation_be_no_width(llama: LoadedModel) -> None:
    block = made_block(llama)
    with pytest.raises(SkillError, match="zero width"):
        NeuronAdjust((block,), 1.0)
    change = NeuronAdjust((block,), 1.0, as_released=True)
    entry, tensors = write_entry(change, 0)
    assert digest_change(read_intervention(0, entry, tensors)) == digest_change(change)  # type: ignore[arg-type]
    with pytest.raises(SkillError, match="not finite"):
        replace(block, forget_sigma=torch.full((5,), torch.nan))


def test_a_constant_neuron_is_selected_as_released(llama: LoadedModel) -> None:
    forget, retain = moments_of(llama)
    first = llama.anatomy.blocks[0].address, "gate"
    mean, spread = retain[first].mean.clone(), retain[first].deviation.clone()  # type: ignore[index]
    mean[4], spread[4] = -100.0, 0.0
    retain[first] = replace(retain[first], mean=mean, deviation=spread)  # type: ignore[index]
    found = fit_neuron_adjust(llama, forget, retain, 1.0, as_released=True)
    assert 4 in found.blocks[0].neurons
    plain = fit_neuron_adjust(llama, forget, retain, 100.0)
    assert 4 not in plain.blocks[0].neurons


def test_selection_is_by_the_value_at_a_place_and_ties_are_all_selected() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 2.0, 0.0, -torch.inf])
    for q, expected in ((10.0, [0]), (34.0, [0, 2, 3]), (50.0, [0, 2, 3]), (100.0, [0, 1, 2, 3, 4])):
        assert torch.where(select_neurons(scores, q, as_released=True))[0].tolist() == expected
    assert select_neurons(scores, 50.0).sum() == 3
    assert select_neurons(scores, 34.0).sum() == 2
    with pytest.raises(SkillError, match="choose a share above 0"):
        select_neurons(scores, 0.0, as_released=True)


def test_pruning_as_released_selects_by_the_threshold(llama: LoadedModel) -> None:
    forget, retain = moments_of(llama)
    scores = torch.cat(
        [
            forget[b.address, "key"].magnitude / (retain[b.address, "key"].magnitude + 1e-8)
            for b in llama.anatomy.blocks
        ]
    )
    for q in (1.0, 3.0, 12.5):
        found = fit_selective_prune(llama, forget, retain, q, as_released=True)
        assert found.count == int(released_selection(scores.numpy(), q).sum())
        assert draw_prune(llama, q, 0, as_released=True).count == found.count
    assert fit_selective_prune(llama, forget, retain, 3.0).count == 3
    assert fit_selective_prune(llama, forget, retain, 3.0, as_released=True).count == 4


@pytest.mark.parametrize(
    ("propose", "draw"), [(propose_adjust, draw_adjust), (propose_prune, draw_prune_control)]
)
def test_position_0_is_in_the_fit_and_the_control_selects_as_many(
    llama: LoadedModel,
    scene: Scene,
    propose: ProposeShare,
    draw: ProposeShare,
) -> None:
    counts = {}
    for released in (False, True):
        moments = measure_moments(llama, scene, as_released=released)
        counts[released] = next(iter(moments.forget.values())).count
        change, control = (
            make(llama, moments, 3.0, seed=0, as_released=released) for make in (propose, draw)
        )
        assert control.count == change.count == (4 if released else 3)
        assert getattr(control, "as_released", released) is released
    assert counts[True] == counts[False] + len(scene.forget.probe)
