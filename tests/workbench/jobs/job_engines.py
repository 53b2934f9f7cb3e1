"""Somewhere to ask jobs: a store, a tiny model, and engines that show what they do or stop on the way."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from analysis.opening.models import LoadedModel, ModelRef
from analysis.pulse import Pulse
from store import Owner, Store, open_store
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from tests.patience import SECONDS
from workbench.jobs.engines import InThread
from workbench.kinds import Kind, Order, Stopped, make_order
from workbench.neurons.decoding import DECODE
from workbench.neurons.profiles import PROFILE
from workbench.runs import DoneUnit

LAYERS = 4


@dataclass(frozen=True)
class Desk:
    """A store, and a model to ask it about."""

    store: Store
    model: ModelRef

    def order(self, kind: Kind = DECODE, **changes: Any) -> Order:
        """Decode the model, or whatever the kind does."""
        parameters = {} if kind is PROFILE else {"site": "up", "norm": "none", "top_k": 5} | changes
        return make_order(kind, self.model, **parameters)


def desk_in(folder: Path, name: str = "jobs", layers: int = LAYERS, **settings: Any) -> Desk:
    """A desk with a random Llama of some layers, in a folder."""
    model = folder / f"{name}-model"
    tiny_model("llama", num_hidden_layers=layers, **settings).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    return Desk(open_store(folder / f"{name}.db"), ModelRef(str(model)))


def stored_bytes(store: Store, run_key: str | None) -> list[tuple[Any, ...]]:
    """All that a run's arrays consist of, byte for byte, in order."""
    rows = store.rows(
        "SELECT unit_idx, name, dtype, shape, data FROM arrays WHERE run_key = ? ORDER BY unit_idx, name",
        (run_key,),
    )
    assert rows
    return [tuple(row.values()) for row in rows]


def another_process() -> Owner:
    """The process that started this one: it lives, and it is not this one."""
    parent = psutil.Process().parent()
    assert parent is not None
    return Owner(socket.gethostname(), parent.pid, parent.create_time())


Before = Callable[[int, Pulse], None]


class Watched:
    """InThread, unit by unit. asked: the units it was asked for; before: called as each begins."""

    def __init__(self, before: Before = lambda index, pulse: None) -> None:
        self.asked: list[int] = []
        self._before = before

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine."""
        for index in units:
            self.asked.append(index)
            self._before(index, pulse)
            yield from InThread().map(loaded, store, order, [index], pulse)


class Gate:
    """Holds unit `at` until somebody opens it; meanwhile the unit pulses, or hangs.

    stopped: whether a pulse told it to end.
    """

    def __init__(self, at: int, *, pulses: bool = True) -> None:
        self._at, self._pulses = at, pulses
        self.reached, self.opened = threading.Event(), threading.Event()
        self.stopped = False

    def __call__(self, index: int, pulse: Pulse) -> None:
        if index != self._at:
            return
        self.reached.set()
        while not self.opened.wait(0.01):
            if self._pulses:
                self._pulse(pulse)

    def _pulse(self, pulse: Pulse) -> None:
        try:
            pulse(0, 0)
        except Stopped:
            self.stopped = True
            raise

    def wait(self) -> None:
        """Until the unit is held."""
        assert self.reached.wait(SECONDS)


def failing_once(at: int, error: Exception) -> Before:
    """Unit `at` fails the first time."""
    left = [error]

    def before(index: int, pulse: Pulse) -> None:
        if index == at and left:
            raise left.pop()

    return before
