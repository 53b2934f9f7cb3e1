"""Layers that are not run give on what was noted of them, for the rows that ask for it."""

from __future__ import annotations

import pytest
import torch

from analysis.intervening.interventions import intervene
from analysis.intervening.layers import NoteLayers, SkipLayers, is_batch_first, list_layers
from analysis.opening.models import LoadedModel
from tests.analysis.conftest import loaded_from
from tests.contract.builder import build

IDS = torch.tensor([[1, 5, 9, 4, 40, 11], [3, 8, 2, 60, 7, 11]])


@pytest.fixture
def loaded() -> LoadedModel:
    return loaded_from(build("llama"))


def positions(rows: int) -> torch.Tensor:
    return torch.arange(6).expand(rows, -1)


def test_the_layers_are_those_of_the_one_stack(loaded: LoadedModel) -> None:
    assert list_layers(loaded) == [f"model.layers.{n}" for n in range(3)]
    assert list_layers(loaded_from(build("gpt2"))) == [f"transformer.h.{n}" for n in range(3)]
    assert list_layers(loaded_from(build("jamba"))) == [f"model.layers.{n}" for n in range(3)]


@pytest.mark.parametrize("skipped", [1, 2, 3])
def test_rows_begin_from_what_the_first_layers_gave(loaded: LoadedModel, skipped: int) -> None:
    names = list_layers(loaded)
    noted = NoteLayers(tuple(names))
    with intervene(loaded, [noted], positions=positions(2)):
        plain = loaded.model(IDS).logits
    assert list(noted.outputs) == names
    assert all(is_batch_first(output, 2, 6) for output in noted.outputs.values())
    ran: list[int] = []
    for number, name in enumerate(names):
        attention = loaded.model.get_submodule(name).self_attn
        attention.register_forward_hook(lambda module, args, output, n=number: ran.append(n))
    rows = torch.tensor([1, 0, 1])
    skip = SkipLayers({name: noted.outputs[name] for name in names[:skipped]}, rows)
    other = torch.full((3, 6), 7)
    with intervene(loaded, [skip], positions=positions(3)):
        logits = loaded.model(other).logits
    torch.testing.assert_close(logits, plain[rows], rtol=1e-5, atol=1e-5)
    assert ran == list(range(skipped, 3))
    assert not any("forward" in vars(module) for module in loaded.model.modules())


def test_a_forward_that_was_replaced_before_comes_back(loaded: LoadedModel) -> None:
    layer = loaded.model.get_submodule("model.layers.0")
    own = layer.forward
    layer.forward = own
    states = torch.zeros(1, 6, loaded.anatomy.d_model)
    skip = SkipLayers({"model.layers.0": states}, torch.zeros(1, dtype=torch.long))
    with intervene(loaded, [skip], positions=positions(1)):
        assert layer.forward is not own
    assert vars(layer)["forward"] is own


def test_the_rest_of_what_a_layer_returned_is_kept(loaded: LoadedModel) -> None:
    states, rest = torch.randn(2, 6, loaded.anatomy.d_model), object()
    rows = torch.tensor([1])
    skip = SkipLayers({"model.layers.0": (states, rest), "model.layers.1": (states + 1, rest)}, rows)
    first, second = (loaded.model.get_submodule(f"model.layers.{n}") for n in (0, 1))
    with intervene(loaded, [skip], positions=positions(1)):
        given = torch.randn(1, 6, loaded.anatomy.d_model)
        assert first.forward(given, attention_mask=None) == (given, rest)
        found, kept = second.forward(given)
    assert torch.equal(found, states[rows] + 1)
    assert kept is rest


def test_states_with_another_axis_first_are_told() -> None:
    assert is_batch_first(torch.zeros(2, 6, 8), 2, 6)
    assert is_batch_first((torch.zeros(2, 6, 8), None), 2, 6)
    for other in (torch.zeros(6, 2, 8), torch.zeros(12, 8), None, (), [torch.zeros(2, 6, 8)]):
        assert not is_batch_first(other, 2, 6)
