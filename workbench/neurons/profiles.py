"""Profiles of neurons: the whole model on the reference text, once; one neuron on any text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from analysis.intervening.clamps import CLAMP_SITES, Clamp, ClampSite
from analysis.intervening.interventions import Change, check_changes
from analysis.neurons import activations
from analysis.neurons.activations import BlockProfile, profile_blocks
from analysis.neurons.decoding import NeuronNorm
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.prompts import WINDOW, reference_passages, reference_windows
from store import RunSpec, Store, list_stored_units, read_array, read_unit
from workbench.kinds import Kind
from workbench.neurons.firing import FiringText, ReferenceReading
from workbench.neurons.rows import DecodedNeuron, decode_rows
from workbench.runs import DoneUnit, Progress, UnitResult, run_missing_units, run_spec, time_units

_ARRAYS = ("largest", "first_largest", "mean", "deviation")
BEST_TEXTS = 5
"""Number of passages of the reference text on a neuron's page."""


def profile_spec(loaded: LoadedModel) -> RunSpec:
    """The run that profiles every neuron on the reference text; one unit per block."""
    parameters = {"reference": digest_reference(), "window": WINDOW}
    units = len(loaded.anatomy.blocks)
    return run_spec(loaded, "profile", activations.METHOD_VERSION, parameters, units=units)


def is_profiled(loaded: LoadedModel, store: Store) -> bool:
    """Whether this model has a stored profile on the reference text."""
    spec = profile_spec(loaded)
    return len(list_stored_units(store, spec.key)) == spec.units


def count_reference_tokens(loaded: LoadedModel) -> int:
    """Tokens of the reference text that a profile reads."""
    return sum(map(len, reference_windows(loaded)))


def profile_model(loaded: LoadedModel, store: Store, progress: Progress = lambda done, total: None) -> str:
    """Profile every neuron on the reference text, without a job, or reuse the stored profile; returns the
    run's key.

    progress: in windows of the text.
    """

    def units(missing: Sequence[int]) -> Iterable[DoneUnit]:
        return time_units(_profile_units(loaded, {}, missing, progress))

    return run_missing_units(store, profile_spec(loaded), units).run.key


def _profile_units(
    loaded: LoadedModel, parameters: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    """One pass over the reference text yields all blocks at once."""
    if not units:
        return
    profiles = profile_blocks(loaded, reference_windows(loaded), pulse)
    for index in units:
        arrays = {name: getattr(profiles[index], name).numpy() for name in _ARRAYS}
        address = str(loaded.anatomy.blocks[index].address)
        yield index, UnitResult(address, arrays, {"count": profiles[index].count})


PROFILE = Kind(
    name="profile",
    unit="blocks",
    parameters=(),
    title=lambda asked: "Read the reference text",
    spec=lambda loaded, asked: profile_spec(loaded),
    compute=_profile_units,
    together="windows",
)


def digest_reference() -> str:
    """SHA-256 of the reference text: part of the key of everything measured on it."""
    return hashlib.sha256("\0".join(reference_passages()).encode()).hexdigest()


@lru_cache(maxsize=256)
def read_profile(store: Store, run: str, block: int) -> BlockProfile:
    """One block's profile from the store."""
    arrays = {name: torch.from_numpy(read_array(store, run, block, name).copy()) for name in _ARRAYS}
    unit = read_unit(store, run, block)
    return BlockProfile(**arrays, count=int(unit.payload["count"]) if isinstance(unit.payload, dict) else 0)


def needs_profile(change: Change) -> bool:
    """Whether a change's size still has to be measured on the reference text."""
    return isinstance(change, Clamp) and change.needs_profile and change.raw is None


def resolve_clamps(
    loaded: LoadedModel,
    store: Store,
    clamps: Sequence[Change],
    progress: Progress = lambda done, total: None,
) -> list[Change]:
    """Clamps with their raw values; profiles the model on the reference text if one is given in ×max.

    A clamp that already has a raw value keeps it. All changes are checked before anything is measured.
    """
    check_changes(loaded, clamps)
    resolved: list[Change] = []
    for clamp in clamps:
        if not isinstance(clamp, Clamp) or clamp.raw is not None:
            resolved.append(clamp)
            continue
        largest, mean = 0.0, 0.0
        if clamp.needs_profile:
            run = profile_model(loaded, store, progress)
            profile = read_profile(store, run, loaded.anatomy.index(clamp.address.block))
            largest, _, mean = profile.of(clamp.site, clamp.address.neuron)
        resolved.append(clamp.resolve(largest=largest, mean=mean))
    return resolved


@dataclass(frozen=True)
class SiteProfile:
    """One neuron at one site on the reference text: largest |activation|, at position 0, mean, deviation."""

    largest: float
    first_largest: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class NeuronView:
    """Everything a neuron's page shows.

    decoded: per decodable site. profile: per clamp site; None if its expert saw none of the reference
    text. count: positions it processed, of `positions`. texts: where |key| is largest. samples: all its key
    values.
    """

    address: NeuronAddress
    d_ff: int
    gated: bool
    decoded: dict[Site, DecodedNeuron]
    profile: dict[ClampSite, SiteProfile] | None
    count: int
    positions: int
    texts: tuple[FiringText, ...]
    samples: np.ndarray[Any, Any]


def view_neuron(
    loaded: LoadedModel,
    store: Store,
    address: NeuronAddress,
    *,
    norm: NeuronNorm = "none",
    reading: ReferenceReading | None = None,
) -> NeuronView:
    """A neuron's tokens at each site and its activations; profiles the model on the reference text if
    necessary.

    reading: one that this neuron is in; read to its end. A model whose weights stay on disk has no
    activations: no profile, texts, samples.
    """
    block = loaded.anatomy.block(address)
    decoded = decode_neuron(loaded, store, address, norm=norm)
    if loaded.streamed is not None:
        return NeuronView(address, block.d_ff, block.gated, decoded, None, 0, 0, (), np.zeros(0))
    run = profile_model(loaded, store)
    stored = read_profile(store, run, loaded.anatomy.index(block.address))
    reading = ReferenceReading(loaded, [address]) if reading is None else reading
    while not reading.finished:
        reading.read_next(loaded)
    firings = reading.firings[address]
    peak = [np.nan_to_num(np.abs(f.values["key"][1:]), nan=0.0).max(initial=0.0) for f in firings]
    best = np.argsort(peak, kind="stable")[::-1][:BEST_TEXTS]
    return NeuronView(
        address=address,
        d_ff=block.d_ff,
        gated=block.gated,
        decoded=decoded,
        profile=_site_profiles(stored, address.neuron, gated=block.gated) if stored.count else None,
        count=stored.count,
        positions=sum(len(window) - 1 for window in reading.windows),
        texts=tuple(firings[i] for i in best if peak[i] > 0),
        samples=np.concatenate([f.values["key"][1:] for f in firings]),
    )


def decode_neuron(
    loaded: LoadedModel,
    store: Store,
    address: NeuronAddress,
    *,
    norm: NeuronNorm = "none",
) -> dict[Site, DecodedNeuron]:
    """A neuron's decoding at each of its sites: from the stored map where there is one, else of it alone."""
    gated = loaded.anatomy.block(address).gated
    sites = [site for site in loaded.anatomy.sites if gated or site != "gate"]
    return {site: decode_rows(loaded, store, [address], site=site, norm=norm)[0] for site in sites}


def find_neuron_profile(
    loaded: LoadedModel, store: Store, address: NeuronAddress
) -> dict[ClampSite, SiteProfile] | None:
    """A neuron's profile on the reference text; None if its expert saw none of it."""
    block = loaded.anatomy.block(address)
    run = profile_model(loaded, store)
    profile = read_profile(store, run, loaded.anatomy.index(block.address))
    return _site_profiles(profile, address.neuron, gated=block.gated) if profile.count else None


def _site_profiles(profile: BlockProfile, neuron: int, *, gated: bool) -> dict[ClampSite, SiteProfile]:
    sites = CLAMP_SITES if gated else CLAMP_SITES[:2]
    arrays = [getattr(profile, name) for name in _ARRAYS]
    return {
        site: SiteProfile(*(float(array[CLAMP_SITES.index(site), neuron]) for array in arrays))
        for site in sites
    }
