"""The store under stress: a disk that fills up, and many threads and processes at once."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from store import (
    JobOrder,
    Owner,
    RunSpec,
    Store,
    StoreFull,
    ask_job,
    begin_run,
    finish_job,
    get_run,
    keep_finding,
    list_findings,
    list_jobs,
    list_runs,
    list_stored_units,
    open_store,
    put_unit,
    read_array,
    read_arrays,
    report_job,
    take_job,
    update_finding,
)

THREADS = 40
ROUNDS = 10
BLOCK = np.arange(20_000, dtype=np.float64)
"""About 40 pages."""


def intact(store: Store) -> bool:
    return store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def put(store: Store, key: str, idx: int) -> bool:
    arrays = {"x": BLOCK + idx, "y": BLOCK - idx}
    return put_unit(store, key, idx, name=f"{idx}", arrays=arrays, payload={"idx": idx}, seconds=1)


@pytest.mark.parametrize("pages_left", [0, 1, 2, 20, 39, 40, 41, 60, 75])
def test_a_disk_that_fills_up_anywhere_in_a_unit_takes_nothing_back(
    store: Store, make_spec: Callable[..., RunSpec], pages_left: int
) -> None:
    spec = make_spec(units=3)
    begin_run(store, spec, {})
    put(store, spec.key, 0)
    used = store.rows("PRAGMA page_count")[0]["page_count"]
    store.rows(f"PRAGMA max_page_count = {used + pages_left}")
    for _ in range(2):
        with pytest.raises(StoreFull, match=r"is intact: free some space or delete runs.*it resumes"):
            put(store, spec.key, 1)
    assert list_stored_units(store, spec.key) == {0}
    assert (get_run(store, spec.key).seconds, get_run(store, spec.key).finished) == (1, False)
    assert (read_array(store, spec.key, 0, "x") == BLOCK).all()
    assert intact(store)
    store.rows("PRAGMA max_page_count = 1000000")
    assert put(store, spec.key, 1)
    assert put(store, spec.key, 2)
    assert get_run(store, spec.key).finished
    assert [array[0] for array in read_arrays(store, spec.key, "x")] == [0, 1, 2]


def spec_of(worker: int) -> RunSpec:
    same = {"model_fingerprint": "f" * 64, "model_name": "m", "dtype": "float32", "device": "cpu"}
    return RunSpec("decode", "1", **same, parameters={}, seed=worker, units=ROUNDS)


def work(store: Store, worker: int) -> None:
    """One of everything, again and again, each read back at once."""
    spec, me = spec_of(worker), Owner("desk", worker, 1.0)
    begin_run(store, spec, {})
    job, _ = ask_job(store, JobOrder("decode", "a job", f"{worker}", {}, total=ROUNDS, unit="blocks"), me)
    assert take_job(store, job.id, me, replacing=me) is not None
    about = {"kind": "generation", "model_name": "m", "model_fingerprint": "f" * 64}
    for idx in range(ROUNDS):
        assert put_unit(store, spec.key, idx, name="", arrays={"x": np.full(9, worker)}, seconds=1)
        assert read_array(store, spec.key, idx, "x")[8] == worker
        found = keep_finding(store, title=f"by{worker} at{idx}", evidence={"text": f"word{worker}x"}, **about)
        update_finding(store, found.id, note=f"note{worker}x")
        assert len(list_findings(store, search=f"note{worker}x")) == idx + 1
        report_job(store, job.id, me, done=idx + 1, total=ROUNDS, unit="blocks", run_key=spec.key)
        assert list_runs(store, limit=5)
    finish_job(store, job.id, me, "done")


def _work_alone(path: Path, workers: list[int]) -> None:
    with closing(open_store(path)) as store:
        for worker in workers:
            work(store, worker)


def test_many_threads_and_another_process_lose_nothing(store: Store) -> None:
    others = list(range(THREADS, THREADS + 10))
    process = multiprocessing.get_context("spawn").Process(target=_work_alone, args=(store.path, others))
    process.start()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda worker: work(store, worker), range(THREADS)))
    process.join()
    assert process.exitcode == 0
    workers = range(THREADS + len(others))
    for worker in workers:
        run = get_run(store, spec_of(worker).key)
        assert (run.finished, run.stored_units, run.seconds) == (True, ROUNDS, ROUNDS)
        assert len(list_findings(store, search=f"word{worker}x")) == ROUNDS
    jobs = {job.key: (job.state, job.done, job.run_key) for job in list_jobs(store)}
    assert jobs == {f"{worker}": ("done", ROUNDS, spec_of(worker).key) for worker in workers}
    assert len(list_findings(store)) == ROUNDS * len(workers)
    assert intact(store)


def ask(store: Store, thread: int) -> tuple[int, bool]:
    order = JobOrder("decode", "a job", "one key", {}, total=0, unit="blocks")
    job, new = ask_job(store, order, Owner("desk", thread, 1.0))
    return job.id, new


def _ask_from_threads(path: Path, ready: threading.Barrier) -> list[tuple[int, bool]]:
    with closing(open_store(path)) as store, ThreadPoolExecutor(8) as pool:
        ready.wait(60)
        return list(pool.map(lambda thread: ask(store, thread), range(8)))


def test_one_order_from_many_threads_of_two_processes_is_one_job(path: Path) -> None:
    open_store(path).close()
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        ready = manager.Barrier(2)
        asked = pool.starmap(_ask_from_threads, [(path, ready)] * 2, chunksize=1)
    answers = [answer for answers in asked for answer in answers]
    assert len(answers) == 16
    assert len({job_id for job_id, _ in answers}) == 1
    assert [new for _, new in answers].count(True) == 1
