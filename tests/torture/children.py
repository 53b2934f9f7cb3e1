"""What the child processes of these tests do; they are forked from one that has imported this module."""

import multiprocessing
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging
from typer.testing import CliRunner

from analysis.opening.models import LoadedModel, ModelRef
from analysis.pulse import Pulse
from store import Store, open_store
from workbench.cli.app import app
from workbench.jobs.engines import InThread
from workbench.jobs.jobs import Jobs
from workbench.kinds import Order, make_order
from workbench.neurons.decoding import DECODE
from workbench.runs import DoneUnit


def forked() -> ForkServerContext:
    """Children that begin with everything imported, so that they live a second rather than ten."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class Logged:
    """InThread that writes the number of every unit into a file before it computes it."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine."""
        for index in units:
            os.write(self._log, f"{index}\n".encode())
            yield from InThread().map(loaded, store, order, [index], pulse)


def _begin() -> None:
    """One thread, and no progress bar: its lock would outlive a child that is killed."""
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()


def decode_order(model: Path, site: str = "up", top_k: int = 10) -> Order:
    """Decode a model."""
    return make_order(DECODE, ModelRef(str(model)), site=site, norm="none", top_k=top_k)


def decode(database: Path, model: Path, log: Path) -> None:
    """Ask for the model's decoding, and do it; the exit code says whether it is done."""
    _begin()
    jobs = Jobs(open_store(database), Logged(log))
    job = jobs.wait(jobs.submit(decode_order(model)).id, timeout=300)
    raise SystemExit(0 if job.state == "done" else f"{job}")


def decode_all(database: Path, model: Path, sites: Sequence[str], depths: Sequence[int]) -> list[str]:
    """Decode at every site and depth, in a queue as the app's; the runs' keys."""
    _begin()
    jobs = Jobs(open_store(database))
    asked = [jobs.submit(decode_order(model, site, depth)).id for depth in depths for site in sites]
    ended = [jobs.wait(job, timeout=300) for job in asked]
    assert {job.state for job in ended} == {"done"}, ended
    return [str(job.run_key) for job in ended]


@dataclass(frozen=True)
class Call:
    """A command, its exit code and what it said on either stream."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str


def call_commands(database: Path, model: Path, seed: int, calls: int) -> list[Call]:
    """`runs list`, `jobs list`, `decode`, `find` and `generate --keep`, in a random order."""
    _begin()
    chosen = random.Random(seed)
    return [_call(database, _command(model, chosen, f"{seed}-{number}")) for number in range(calls)]


def _command(model: Path, chosen: random.Random, title: str) -> tuple[str, ...]:
    site, depth = chosen.choice(["up", "gate", "down"]), chosen.choice(["1", "2", "3"])
    generate = ("generate", str(model), "--prompt", " my dog", "--max-new-tokens", "4", "--seed")
    return chosen.choice(
        [
            ("runs", "list"),
            ("jobs", "list"),
            ("decode", str(model), "--site", site, "--top-k", depth),
            ("find", str(model), "dog", "--site", site),
            (*generate, str(chosen.randrange(1000)), "--clamp", "L0.N3:set:4", "--keep", title),
        ]
    )


def _call(database: Path, command: tuple[str, ...]) -> Call:
    result: Any = CliRunner().invoke(app, [*command, "--db", str(database), "--json"])
    broke = "" if result.exception is None else repr(result.exception)
    return Call(command, result.exit_code, result.stdout, result.stderr + broke)
