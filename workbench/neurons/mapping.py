"""The map of a whole model: every site decoded; what is missing, the jobs that make it, and their time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from analysis.anatomy.anatomy import Site
from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.opening.models import LoadedModel
from store import Store
from workbench.durations import is_alike
from workbench.kinds import Order
from workbench.neurons.browsing import list_decoded_runs, read_decoding_state
from workbench.neurons.decoding import DecodeQuestion, blocks_with, find_product, order_decoding
from workbench.records import read_odd_record

PROBE_PRODUCTS = 4e9
"""Multiplications of a probe at most: some tenths of a second on one core."""
PROBE_TIMES, PROBE_SECONDS = 4, 0.4
"""How often a probe is repeated at most, and the time after which it is not."""


@dataclass(frozen=True)
class MapPlan:
    """The sites whose neurons are not all decoded, in order, and how many neurons are missing at them."""

    sites: tuple[Site, ...]
    neurons: int


def plan_map(loaded: LoadedModel, store: Store) -> MapPlan:
    """What is missing of the map of every site, without a norm; computes nothing."""
    states = {site: read_decoding_state(loaded, store, site, "none") for site in loaded.anatomy.sites}
    missing = {site: found for site, found in states.items() if not found.finished}
    left = [found.neurons * (found.blocks - found.blocks_done) // found.blocks for found in missing.values()]
    return MapPlan(tuple(missing), sum(left))


def order_map(loaded: LoadedModel, store: Store, plan: MapPlan) -> list[Order]:
    """The jobs that decode what is missing, what neurons write first."""
    sites = sorted(plan.sites, key=lambda site: site != "down")
    return [order_decoding(loaded, store, site=site, norm="none") for site in sites]


def find_seconds_per_neuron(loaded: LoadedModel, store: Store) -> float | None:
    """Seconds a neuron took in this model's stored maps on this device and dtype; None without one."""
    seconds, neurons = 0.0, 0.0
    for run in list_decoded_runs(loaded, store):
        site = read_odd_record(DecodeQuestion, run.parameters).site
        if is_alike(loaded, run) and run.stored_units and site in loaded.anatomy.sites:
            sizes = [block.d_ff for block in blocks_with(loaded, site)]
            seconds, neurons = seconds + run.seconds, neurons + sum(sizes) * run.stored_units / run.units
    return seconds / neurons if seconds and neurons else None


def expect_decoding(loaded: LoadedModel, store: Store, neurons: int) -> float | None:
    """Seconds of decoding so many neurons, by stored maps or a few decoded now; None for weights
    elsewhere that were never timed.
    """
    rate = find_seconds_per_neuron(loaded, store)
    if rate is None and (loaded.streamed is not None or loaded.at_hub is not None):
        return None
    return neurons * (measure_seconds_per_neuron(loaded, store) if rate is None else rate)


def measure_seconds_per_neuron(loaded: LoadedModel, store: Store) -> float:
    """Seconds a neuron takes (> 0), at the best of a few probes; many at once are quicker."""
    block = loaded.anatomy.blocks[-1]
    head = loaded.head
    count = int(PROBE_PRODUCTS // (head.tokens * loaded.anatomy.d_model))
    with torch.inference_mode():
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, "down")
        vectors = vectors[: max(16, min(count, block.d_ff))]
        product = find_product(loaded, store, "down", "none")
        taken = []
        for _ in range(PROBE_TIMES):
            started = time.perf_counter()
            decode_vectors(vectors, head, product=product)
            taken.append(time.perf_counter() - started)
            if sum(taken) > PROBE_SECONDS:
                break
    return min(taken) / len(vectors)
