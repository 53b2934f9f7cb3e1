"""Decoding shard by shard that is cut off, cancelled, or done by several at once."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from analysis.checkpoints.hub_shards import HubCheckpoint
from analysis.checkpoints.streaming import StreamedParameters
from analysis.errors import ModelError
from analysis.opening.fetching import fetching
from analysis.opening.models import LoadedModel, ModelRef, Shards, load_model
from store import Store, list_stored_units, open_store
from tests.standin_hub import StandinHub
from tests.workbench.neurons.hub_models import (
    NAME,
    Interrupted,
    decoded,
    in_cache,
    remote,
    resharded,
    shards_of,
    stop_after,
    with_any,
)
from tests.workbench.neurons.hub_models import folder as folder
from tests.workbench.neurons.hub_models import store as store
from workbench.jobs.engines import InProcesses
from workbench.jobs.jobs import Jobs
from workbench.kinds import make_order
from workbench.neurons import decoding as neurons
from workbench.neurons.decoding import DECODE, decode_model, decode_spec


@pytest.mark.parametrize("shards", ["keep", "delete"])
def test_a_decoding_that_was_cut_off_goes_on_without_fetching_what_is_done(
    hub: StandinHub, folder: Path, store: Store, tmp_path: Path, shards: Shards
) -> None:
    with pytest.raises(Interrupted):
        decode_model(remote(shards), store, progress=stop_after(3))
    before = hub.fetched()
    hub.log.clear()
    loaded = remote(shards)
    assert len(list_stored_units(store, decode_spec(loaded, "down", "none", 10).key)) == 3
    there = decoded(loaded, store)
    [head] = [shard for shard, keys in shards_of(folder).items() if "lm_head.weight" in keys]
    assert set(hub.fetched()) & set(before) <= {head}
    assert len(hub.fetched()) == len(set(hub.fetched())) < len(shards_of(folder)) - 1
    assert there == decoded(load_model(ModelRef(str(folder))), open_store(tmp_path / "local.db"))
    assert in_cache(hub) == (set() if shards == "delete" else set(before) | set(hub.fetched()))


def test_cancelling_ends_a_shard_that_is_coming(hub: StandinHub, folder: Path, store: Store) -> None:
    def pulse(done: int, total: int) -> None:
        raise Interrupted

    loaded = remote()
    with pytest.raises(Interrupted), fetching(loaded, [], pulse):
        pass
    assert hub.watched is not None
    assert not [path for path in hub.watched.rglob("*") if path.suffix in (".safetensors", ".incomplete")]
    assert decode_model(loaded, store).run.finished


def test_what_is_stored_is_read_without_a_network(hub: StandinHub, folder: Path, store: Store) -> None:
    run = decode_model(remote("delete"), store).run.key
    hub.log.clear()
    hub.models.clear()
    again = decode_model(remote("delete"), store)
    assert (again.run.key, again.cached) == (run, True)
    assert not [what for _, what in hub.log if ".safetensors" in what]


def test_while_one_work_deletes_shards_another_may_not(
    hub: StandinHub, folder: Path, store: Store, tmp_path: Path
) -> None:
    one, other = remote(), remote()
    with pytest.raises(ModelError, match="being fetched and deleted by another job; wait"), held(one):
        decode_model(other, store)
    assert decode_model(other, store).run.finished


@contextmanager
def held(loaded: LoadedModel) -> Iterator[None]:
    """Another thread is in the middle of fetching a model's shards."""
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        with fetching(loaded, []):
            begun.set()
            end.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.slow
def test_a_job_in_several_processes_fetches_for_all_of_them(
    hub: StandinHub, folder: Path, store: Store, tmp_path: Path
) -> None:
    ref = ModelRef(NAME, streamed=True, shards="keep")
    jobs = Jobs(store, InProcesses(2))
    job = jobs.wait(jobs.submit(make_order(DECODE, ref, site="up", norm="none", top_k=10)).id, 240)
    assert job.state == "done", job.failure
    local = load_model(ModelRef(str(folder)))
    assert decoded(local, store) == decoded(local, open_store(tmp_path / "local.db"))
    assert set(hub.fetched()) >= with_any(folder, ".layers.")


@pytest.mark.parametrize("shards", ["keep", "delete"])
def test_a_cancelled_job_is_resumed_in_the_same_process_and_in_another(
    hub: StandinHub, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, shards: Shards
) -> None:
    at_work = threading.Event()

    def slowly(*arguments: Any) -> Any:
        at_work.set()
        time.sleep(0.2)
        return decode_block(*arguments)

    decode_block = neurons._decode_block
    monkeypatch.setattr(neurons, "_decode_block", slowly)
    order = make_order(DECODE, ModelRef(NAME, streamed=True, shards=shards), site="up", norm="none", top_k=10)
    first, second = Jobs(store), Jobs(open_store(store.path))
    job = first.submit(order)
    for jobs in (first, second):
        assert at_work.wait(60)
        jobs.cancel(job.id)
        assert jobs.wait(job.id, 60).state == "cancelled"
        at_work.clear()
        job = (second if jobs is first else first).resume(job.id)
    assert first.wait(job.id, 60).state == "done"
    assert in_cache(hub) == (set() if shards == "delete" else set(hub.fetched()))


def test_what_a_cut_off_work_left_behind_goes_with_the_next(
    hub: StandinHub, folder: Path, store: Store
) -> None:
    with pytest.raises(Interrupted):
        decode_model(remote("delete"), store, progress=stop_after(1))
    left = in_cache(hub)
    assert left == set(hub.fetched())
    decode_model(remote("delete"), store)
    assert in_cache(hub) == set()
    assert all(hub.fetched().count(shard) == 1 for shard in left)


def test_what_lay_there_from_before_and_is_of_no_use_goes_first(
    hub: StandinHub, folder: Path, store: Store
) -> None:
    resharded(folder)
    loaded = remote()
    with pytest.raises(Interrupted):
        decode_model(loaded, store, progress=stop_after(3))
    assert isinstance(loaded.streamed, StreamedParameters)
    assert isinstance(loaded.streamed.checkpoint, HubCheckpoint)
    passing = loaded.streamed.checkpoint.model.passing
    for layer in range(3):
        shutil.copy(folder / f"model-{layer}.safetensors", passing)
    hub.together.clear()
    decode_model(remote(), store)
    assert max(hub.together) == 1
    assert not passing.exists()
