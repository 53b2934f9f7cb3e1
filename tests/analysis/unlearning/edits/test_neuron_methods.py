"""Neuron Adjust and selective pruning by their formulas; a planted skill neuron is found, nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import SkillError
from analysis.intervening.hooks import site_columns, site_module
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel
from analysis.running.batches import example_number
from analysis.running.probing import Moments, Place, probe
from analysis.unlearning.edits.counter_draws import draw_uniform
from analysis.unlearning.edits.neuron_adjust import fit_neuron_adjust, gate_site
from analysis.unlearning.edits.selective_prune import (
    SHARES,
    SelectivePrune,
    draw_prune,
    find_usable_shares,
    fit_selective_prune,
)
from tests.analysis.unlearning.edits.neuron_methods_made import NEURONS, PROMPTS, adjusting, outputs


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_neuron_adjust_is_the_papers_formula(tiny_of: Callable[[str], LoadedModel], family: str) -> None:
    loaded = tiny_of(family)
    change = adjusting(loaded)
    block, own = loaded.anatomy.blocks[1], change.blocks[0]
    module = loaded.model.get_submodule(site_module(block, gate_site(block)))
    changed_positions = 0

    def by_hand(m: nn.Module, args: object, output: Tensor) -> Tensor:
        nonlocal changed_positions
        output = output.clone()
        values = output.reshape(-1, output.shape[-1])[:, site_columns(block, gate_site(block))]
        for position in range(len(values)):
            for i, neuron in enumerate(NEURONS.tolist()):
                x = values[position, neuron].double()
                normal = torch.distributions.Normal
                log_f = normal(own.forget_mean[i].double(), own.forget_sigma[i].double()).log_prob(x)
                log_r = normal(own.retain_mean[i].double(), own.retain_sigma[i].double()).log_prob(x)
                draw = draw_uniform(0, example_number(ids), position, 1 * 2_000_003, neuron)
                if log_f >= log_r and draw < torch.sigmoid(log_f - log_r):
                    z = (x - own.forget_mean[i]) / own.forget_sigma[i]
                    values[position, neuron] = own.retain_mean[i] - own.retain_sigma[i] * z
                    changed_positions += 1
        return output

    found = outputs(loaded, [change], 1)
    handle = module.register_forward_hook(by_hand)
    for index, ids in enumerate(PROMPTS):
        with torch.inference_mode():
            expected = loaded.model(torch.tensor([ids])).logits[0, -1]
        assert torch.allclose(found[index], expected, atol=1e-4)
    handle.remove()
    places = sum(len(ids) for ids in PROMPTS) * len(NEURONS)
    assert 0.1 * places < changed_positions < 0.9 * places


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_draws_do_not_depend_on_batching(tiny_of: Callable[[str], LoadedModel], family: str) -> None:
    loaded = tiny_of(family)
    change = adjusting(loaded)
    assert torch.allclose(outputs(loaded, [change], 1), outputs(loaded, [change], 32), atol=1e-4)
    assert not torch.allclose(outputs(loaded, []), outputs(loaded, [change]), atol=1e-4)
    assert not torch.allclose(outputs(loaded, [adjusting(loaded, 1)]), outputs(loaded, [change]), atol=1e-4)


def test_draws_are_uniform_and_each_counter_counts() -> None:
    draws = draw_uniform(0, torch.arange(100)[:, None], torch.arange(100))
    assert 0 <= float(draws.min()) < 1e-3
    assert 1 - 1e-3 < float(draws.max()) < 1
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(draws.var()) == pytest.approx(1 / 12, abs=0.005)
    assert len(draws.unique()) == draws.numel()
    assert draw_uniform(1, 2) != draw_uniform(2, 1) != draw_uniform(1, 3)
    assert (
        float(
            torch.corrcoef(
                torch.stack([draw_uniform(7, torch.arange(9999)), draw_uniform(8, torch.arange(9999))])
            )[0, 1]
        )
        < 0.05
    )


def planted(
    loaded: LoadedModel, layer: int, neuron: int
) -> tuple[dict[Place, Moments], dict[Place, Moments]]:
    """Moments in which one neuron alone fires for the skill to forget."""
    torch.manual_seed(0)
    found: list[dict[Place, Moments]] = []
    for forget in (True, False):
        made: dict[Place, Moments] = {}
        for block in loaded.anatomy.blocks:
            for site in ("key", gate_site(block)):
                mean = torch.zeros(block.d_ff, dtype=torch.float64)
                deviation = torch.ones(block.d_ff, dtype=torch.float64)
                if forget and block.address == BlockAddress(layer):
                    mean[neuron] = 4.0
                made[block.address, site] = Moments(100, mean, deviation, mean.abs() + 0.1, mean, mean)
        found.append(made)
    return found[0], found[1]


def test_the_planted_neuron_is_selected_first(llama: LoadedModel) -> None:
    forget, retain = planted(llama, 1, 17)
    one = 100 / llama.anatomy.neurons
    adjust = fit_neuron_adjust(llama, forget, retain, one)
    assert [(b.address, b.neurons.tolist()) for b in adjust.blocks] == [(BlockAddress(1), [17])]
    assert float(adjust.blocks[0].forget_mean) == 4.0
    prune = fit_selective_prune(llama, forget, retain, one)
    assert [(a, n.tolist()) for a, n in prune.blocks] == [(BlockAddress(1), [17])]


def test_a_floored_neuron_is_never_selected(llama: LoadedModel) -> None:
    forget, retain = planted(llama, 1, 17)
    forget[BlockAddress(1), "gate"].deviation[17] = 0.0
    adjust = fit_neuron_adjust(llama, forget, retain, 100.0)
    assert adjust.count == llama.anatomy.neurons - 1
    assert 17 not in next(b for b in adjust.blocks if b.address == BlockAddress(1)).neurons


def test_q_is_a_share_of_the_whole_model(llama: LoadedModel) -> None:
    moments = probe(llama, PROMPTS, {"key": llama.anatomy.blocks, "gate": llama.anatomy.blocks})
    other = probe(llama, PROMPTS[:3], {"key": llama.anatomy.blocks, "gate": llama.anatomy.blocks})
    for q, count in ((1.0, 1), (25.0, 28), (100.0, 112)):
        assert fit_selective_prune(llama, moments, other, q).count == count
        assert draw_prune(llama, q, 0).count == count
    for q in (0.0, -1.0, 101.0, 0.1):
        with pytest.raises(SkillError, match="choose a"):
            fit_selective_prune(llama, moments, other, q)


def test_of_the_usual_shares_only_those_of_a_neuron_are_tried_and_others_stay() -> None:
    assert find_usable_shares(SHARES, 46_080) == SHARES
    assert find_usable_shares(SHARES, 112) == (0.5, 1.5, 3.0, 6.0, 12.0, 24.0)
    assert find_usable_shares((0.07, 0.1, 3.0), 112) == (0.07, 3.0)
    assert find_usable_shares((0.05, 0.1), 112) == (0.05, 0.1)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "qwen2_moe"])
def test_pruning_equals_zeroed_columns(tiny_of: Callable[[str], LoadedModel], family: str) -> None:
    loaded = tiny_of(family)
    prune = draw_prune(loaded, 20.0, 0)
    found = outputs(loaded, [prune])
    for address, neurons in prune.blocks:
        block = loaded.anatomy.blocks[loaded.anatomy.index(address)]
        block.down.vectors(loaded.parameters)[neurons] = 0
    assert torch.allclose(found, outputs(loaded, []), atol=1e-4)


def test_neurons_of_another_model_are_refused(llama: LoadedModel) -> None:
    with pytest.raises(SkillError, match="block L1 has neurons N0–N55"):
        outputs(llama, [SelectivePrune(((BlockAddress(1), torch.tensor([56])),), 1.0)])


def test_rows_that_are_not_named_stay_bit_for_bit(llama: LoadedModel) -> None:
    ids = torch.tensor([PROMPTS[0]] * 2)
    positions = torch.arange(ids.shape[1]).expand(2, -1)
    with torch.inference_mode():
        plain = llama.model(ids).logits
        for change in (adjusting(llama), draw_prune(llama, 20.0, 0)):
            with intervene(llama, [change], positions=positions, rows=[[1]]):
                logits = llama.model(ids).logits
            assert torch.equal(logits[0], plain[0])
            assert not torch.equal(logits[1], plain[1])
