"""Going from model to model for a long time takes no more memory than doing it once."""

import gc
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from analysis.intervening.clamps import parse_clamp
from analysis.opening import leases
from analysis.opening.leases import MOST_LOADED
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from store import Store, open_store
from tests.torture.counts import count
from workbench.generating.clamping import regenerate_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model

MODELS = 4
SWITCHES = count(quick=12, full=50)
MEGABYTE = 1e6
LARGEST_GROWTH = 0.1
REQUEST = GenerationRequest(" my dog", (parse_clamp("L0.N3:key:set:8"),), sampling=Sampling(3))


def in_use() -> float:
    """What this process holds in memory, once what nobody needs is given back, in MB."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / MEGABYTE


def switch(refs: Iterable[ModelRef], store: Store, *, generating: bool) -> None:
    """Open one model after the other, and perhaps have it write."""
    for ref in refs:
        with open_model(ref, store) as loaded:
            if generating:
                assert len(regenerate_pair(loaded, store, REQUEST).changed_ids) == 3
        assert len(leases._entries) <= MOST_LOADED


@pytest.mark.parametrize("generating", [False, True], ids=["opening", "generating"])
def test_many_switches_between_models_take_no_more_memory_than_the_first_ones(
    llama: Callable[..., Path], generating: bool
) -> None:
    large = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 10, "eos_token_id": None}
    folders = [llama(f"model-{seed}", seed=seed, **large) for seed in range(MODELS)]
    size = sum(f.stat().st_size for f in folders[0].glob("*.safetensors")) / MEGABYTE
    refs, store = [ModelRef(str(folder)) for folder in folders], open_store()
    switch(refs, store, generating=generating)
    start = in_use()
    switch((refs[number % MODELS] for number in range(SWITCHES)), store, generating=generating)
    end = in_use()
    print(
        f"\n{SWITCHES} switches among {MODELS} models of {size:.0f} MB, "
        f"{'with' if generating else 'without'} a generation in each: "
        f"{start:.0f} MB at the start, {end:.0f} MB at the end"
    )
    assert SWITCHES * size > 2 * LARGEST_GROWTH * start, "too few switches for a leak to show"
    assert end <= (1 + LARGEST_GROWTH) * start
