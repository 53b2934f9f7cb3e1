"""One neuron: its tokens at each site, its activations along a text and on the reference text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from analysis.intervening.clamps import CLAMP_SITES, ClampSite
from analysis.opening.models import LoadedModel
from analysis.running.prompts import reference_windows
from store import Store
from workbench.neurons.firing import FiringText, try_text
from workbench.neurons.profiles import (
    SiteProfile,
    decode_neuron,
    find_neuron_profile,
    is_profiled,
    profile_model,
    read_profile,
)
from workbench.neurons.rows import DecodedNeuron
from workbench.records import write_record
from workbench.runs import Progress


@dataclass(frozen=True)
class ReferenceProfile:
    """A neuron on the reference text: by clamp site, and how many of the positions it processed."""

    sites: Mapping[ClampSite, SiteProfile]
    count: int
    positions: int

    def to_document(self) -> dict[str, Any]:
        """As `neuron --json` prints it; null for a site the neuron does not have."""
        sites = {site: write_record(self.sites[site]) if site in self.sites else None for site in CLAMP_SITES}
        return sites | {"count": self.count, "positions": self.positions}


@dataclass(frozen=True, eq=False)
class NeuronAnswer:
    """What is known of a neuron. text: None where none was asked for. read: whether the model has read the
    reference text; profile: None where it has not, or where the neuron's expert saw none of it.
    """

    address: NeuronAddress
    sites: Mapping[Site, DecodedNeuron]
    text: FiringText | None
    read: bool
    profile: ReferenceProfile | None

    def to_document(self) -> dict[str, Any]:
        """As `neuron --json` prints it."""
        return {
            "address": str(self.address),
            "sites": {site: one.to_document() for site, one in self.sites.items()},
            "text": None if self.text is None else _write_text(self.text),
            "profile": None if self.profile is None else self.profile.to_document(),
        }


def answer_neuron(
    loaded: LoadedModel,
    store: Store,
    address: NeuronAddress,
    text: str | None = None,
    *,
    read: bool = False,
    progress: Progress = lambda done, total: None,
) -> NeuronAnswer:
    """Everything about a neuron. read: whether the reference text is read first where it was not yet.

    Raises AddressOutOfRange, TextError.
    """
    fired = None if text is None else try_text(loaded, address, text)
    decoded = decode_neuron(loaded, store, address)
    read = read or is_profiled(loaded, store)
    profile = _read_reference(loaded, store, address, progress) if read else None
    return NeuronAnswer(address, decoded, fired, read, profile)


def _read_reference(
    loaded: LoadedModel, store: Store, address: NeuronAddress, progress: Progress
) -> ReferenceProfile | None:
    run = profile_model(loaded, store, progress)
    sites = find_neuron_profile(loaded, store, address)
    if sites is None:
        return None
    count = read_profile(store, run, loaded.anatomy.index(address.block)).count
    return ReferenceProfile(sites, count, sum(len(window) - 1 for window in reference_windows(loaded)))


def _write_text(fired: FiringText) -> dict[str, Any]:
    """Tokens, and the values of every clamp site; null if the neuron has no gate."""
    values = {
        site: [float(value) for value in fired.values[site]] if site in fired.values else None
        for site in CLAMP_SITES
    }
    return {"tokens": list(fired.tokens)} | values
