"""Profiles against the stored activations they stream over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analysis.anatomy.addresses import parse_address
from analysis.anatomy.anatomy import Block
from analysis.intervening.interventions import Observe, intervene
from analysis.neurons.activations import neuron_firing, neuron_firings, profile_blocks
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.prompts import encode_text, reference_passages, reference_windows
from tests.analysis.conftest import FAMILIES

TinyModel = Callable[[str], LoadedModel]
WINDOWS = [[1, 5, 9, 4, 40, 11], [1, 30, 31], [1, 12, 13, 14, 15]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_profile_equals_statistics_over_all_stored_values(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    stored: dict[tuple[str, str], list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def see(block: Block, site: str, values: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
        stored.setdefault((str(block.address), site), []).append((values.double(), at))

    for window in WINDOWS:
        positions = torch.arange(len(window))[None]
        with intervene(loaded, [Observe(loaded.anatomy.blocks, see)], positions=positions):
            loaded.model(torch.tensor([window]))
    for block, profile in zip(loaded.anatomy.blocks, profile_blocks(loaded, WINDOWS), strict=True):
        for row, site in enumerate(("key", "up", "gate") if block.gated else ("key", "up")):
            seen = stored[str(block.address), site]
            values, at = torch.cat([v for v, _ in seen]), torch.cat([p for _, p in seen])
            later, first = values[at > 0], values[at == 0]
            assert profile.count == len(later)
            torch.testing.assert_close(
                profile.largest[row].double(), later.abs().amax(0), rtol=1e-5, atol=1e-7
            )
            torch.testing.assert_close(profile.mean[row].double(), later.mean(0), rtol=1e-5, atol=1e-6)
            deviation = later.std(0, unbiased=False)
            torch.testing.assert_close(profile.deviation[row].double(), deviation, rtol=1e-3, atol=1e-5)
            if len(first):
                torch.testing.assert_close(
                    profile.first_largest[row].double(), first.abs().amax(0), rtol=1e-5, atol=1e-7
                )


def test_position_zero_does_not_count_towards_the_unit_of_a_clamp(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    loaded.model.model.embed_tokens.weight[1] *= 50
    loaded.model.model.layers[1].post_attention_layernorm.weight.mul_(1)
    profile = profile_blocks(loaded, [[1, 5, 9]])[0]
    alone = profile_blocks(loaded, [[1, 5, 9], [1]])[0]
    assert torch.equal(profile.largest, alone.largest)
    assert profile.count == alone.count == 2


def test_an_expert_that_saw_nothing_has_no_mean(tiny: TinyModel) -> None:
    loaded = tiny("mixtral")
    loaded.model.model.layers[0].mlp.gate.weight[3] = 0
    loaded.model.model.layers[0].mlp.gate.weight[:3] *= 100
    profiles = profile_blocks(loaded, [[1, 5]])
    unseen = [p for b, p in zip(loaded.anatomy.blocks, profiles, strict=True) if p.count == 0]
    assert unseen
    assert all(p.mean.isnan().all() and not p.largest.any() for p in unseen)


def test_a_neurons_firing_is_what_a_plain_hook_reads(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    seen: list[torch.Tensor] = []
    down = loaded.model.model.layers[1].mlp.down_proj
    handle = down.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    loaded.model(torch.tensor([WINDOWS[0]]))
    handle.remove()
    firing = neuron_firing(loaded, parse_address("L1.N7"), WINDOWS[0])
    assert torch.equal(firing.values["key"], seen[0][0, :, 7])
    assert set(firing.values) == {"key", "up", "gate"}


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_several_neurons_fire_in_one_pass_as_each_does_alone(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    blocks = [str(block.address) for block in loaded.anatomy.blocks]
    addresses = [
        parse_address(f"{block}.N{number}") for block in (blocks[0], blocks[-1]) for number in (3, 7)
    ]
    alone = {address: neuron_firing(loaded, address, WINDOWS[0]) for address in addresses}
    passes: list[object] = []
    handle = loaded.model.register_forward_hook(lambda *args: passes.append(None))
    together = neuron_firings(loaded, addresses, WINDOWS[0])
    handle.remove()
    assert len(passes) == 1
    assert list(together) == addresses
    for address, firing in together.items():
        assert set(firing.values) == set(alone[address].values)
        for site, values in firing.values.items():
            assert torch.equal(values.nan_to_num(9e9), alone[address].values[site].nan_to_num(9e9))


def test_an_experts_firing_is_blank_where_it_was_not_routed(tiny: TinyModel) -> None:
    loaded = tiny("mixtral")
    values = [neuron_firing(loaded, parse_address(f"L1.E{e}.N7"), WINDOWS[0]).values["key"] for e in range(4)]
    assert (~torch.stack(values).isnan()).sum(0).tolist() == [2] * len(WINDOWS[0])


def test_the_reference_text_reads_as_windows_within_the_context(stories: Path) -> None:
    loaded = load_model(ModelRef(str(stories)))
    windows = reference_windows(loaded)
    assert len(windows) >= len(reference_passages()) >= 8
    assert max(map(len, windows)) <= 256
    assert sum(map(len, windows)) > 1000
    assert encode_text(loaded, reference_passages()[0])[: len(windows[0])] == windows[0]
