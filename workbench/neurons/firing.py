"""Where neurons fire: along the reference text, several at once, and along any text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import ClampSite
from analysis.neurons.activations import neuron_firing, neuron_firings
from analysis.opening.models import LoadedModel
from analysis.running.prompts import decode_tokens, encode_text, reference_windows


@dataclass(frozen=True)
class FiringText:
    """One neuron along one text. values[site] (T,) with NaN for tokens not routed to its expert."""

    tokens: tuple[str, ...]
    values: dict[ClampSite, np.ndarray[Any, Any]]


class ReferenceReading:
    """Several neurons along the reference text, window by window, so that a page can be left in between.

    firings[address]: of the windows read so far, in order. Raises AddressOutOfRange.
    """

    def __init__(self, loaded: LoadedModel, addresses: Sequence[NeuronAddress]) -> None:
        for address in addresses:
            loaded.anatomy.block(address)
        self.windows = reference_windows(loaded)
        self.firings: dict[NeuronAddress, list[FiringText]] = {address: [] for address in addresses}

    @property
    def done(self) -> int:
        """How many windows are read."""
        return len(next(iter(self.firings.values())))

    @property
    def finished(self) -> bool:
        """Whether all windows are read."""
        return self.done == len(self.windows)

    def read_next(self, loaded: LoadedModel) -> None:
        """Read one more window, in one pass for all neurons."""
        ids = self.windows[self.done]
        tokens = tuple(decode_tokens(loaded, ids))
        for address, firing in neuron_firings(loaded, list(self.firings), ids).items():
            values = {site: value.numpy() for site, value in firing.values.items()}
            self.firings[address].append(FiringText(tokens, values))


def try_text(loaded: LoadedModel, address: NeuronAddress, text: str) -> FiringText:
    """A neuron's activations along a typed text. Raises EmptyPrompt, PromptTooLong."""
    return measure_firing(loaded, address, encode_text(loaded, text))


def measure_firing(loaded: LoadedModel, address: NeuronAddress, ids: Sequence[int]) -> FiringText:
    """A neuron's activations along a sequence of token ids."""
    firing = neuron_firing(loaded, address, ids)
    values = {site: value.numpy() for site, value in firing.values.items()}
    return FiringText(tuple(decode_tokens(loaded, ids)), values)
