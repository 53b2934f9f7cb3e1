"""A model on another device than the CPU, or over two: everything gives the numbers it gives on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import product
from typing import Any

import pytest
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import CLAMP_SITES, Clamp, Scope
from analysis.levers.readings import WordReader
from analysis.neurons.activations import neuron_firing, profile_blocks
from analysis.neurons.decoding import NORMS, decode_vectors, read_block_vectors
from analysis.neurons.word_search import score_word
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.conftest import FAMILIES, loaded_from, tiny_model
from tests.analysis.pretend_devices import placed, pretended
from workbench.neurons.browsing import find_nearest_neurons

IDS = [5, 9, 11, 3, 7]


@pytest.fixture(params=[1, 2], ids=["one device", "two devices"])
def devices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which has no views of pretended tensors
    with pretended():
        yield request.param


def answers(loaded: LoadedModel) -> Iterator[Any]:
    """What pages ask of a model, number by number."""
    blocks = loaded.anatomy.blocks
    for block, norm in product((blocks[0], blocks[-1]), NORMS):
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, "up", norm)
        found = decode_vectors(vectors, loaded.head, 3)
        yield found
        yield score_word(vectors, loaded.head, (4, 6))
    yield from profile_blocks(loaded, [IDS, IDS[::-1]])
    for block in blocks:
        address = NeuronAddress(block.address, 3)
        yield neuron_firing(loaded, address, IDS).values
        yield tuple(cosine for _, cosine in find_nearest_neurons(loaded, address))
        sites = CLAMP_SITES if block.gated else CLAMP_SITES[:2]
        clamps = [Clamp(address, site, "set", 2.0, "raw", raw=2.0) for site in sites]
        reader = WordReader(loaded, IDS, [(4,), (6, 8)], Scope("all"), exact=True)
        yield reader.read([(clamp,) for clamp in clamps]).log_p
        for step in generate_steps(loaded, IDS, clamps, Sampling(max_new_tokens=3)):
            yield step.tokens, step.log_probabilities, step.reach.acted


def numbers(found: Any) -> list[Any]:
    """Its tensors and counts, on the CPU."""
    parts = found if isinstance(found, tuple) else vars(found).values() if is_dataclass(found) else [found]
    return [part.cpu() if isinstance(part, torch.Tensor) else part for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_answers_on_other_devices_as_on_the_cpu(family: str, devices: int) -> None:
    there = loaded_from(placed(tiny_model(family), devices))
    here = loaded_from(tiny_model(family))
    assert there.device.type == "ipu"
    assert there.anatomy == here.anatomy
    for ours, theirs in zip(answers(there), answers(here), strict=True):
        for one, other in zip(numbers(ours), numbers(theirs), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
