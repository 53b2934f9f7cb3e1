"""A decoding that is killed again and again, at any moment, ends with the bytes of one that never was."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from analysis.opening.models import ModelRef
from store import list_stored_units, open_store
from tests.torture.children import decode, forked
from tests.torture.counts import count
from tests.workbench.jobs.job_engines import stored_bytes
from workbench.models import open_model
from workbench.neurons.decoding import decode_spec

KILLS = count(quick=10, full=100)
LAYERS = 32
SEED = 20_261_123
LONGEST_LIFE = 300
EARLY = 0.3
"""The share of kills while the process starts: before the store or the model is open."""
MOST_UNITS = 8
"""A child that is killed later has begun at most so many units."""
ARRAYS = 13
"""What is stored of a unit: nine arrays of a Decoding, its kurtosis, three cosines."""
UNIT_SECONDS = 0.03
"""A unit takes less, with its commit: so a kill falls into either."""


@dataclass(frozen=True)
class Moment:
    """When a child is killed, unless it is over by then: so many seconds after so many units were begun."""

    units: int
    seconds: float


NEVER = Moment(0, LONGEST_LIFE)


def moments(life: float) -> Iterator[Moment]:
    """Moments all over a child's life, the same in every session. life: what an uninterrupted one takes."""
    chosen = random.Random(SEED)
    while True:
        if chosen.random() < EARLY:
            yield Moment(0, chosen.uniform(0, life / 2))
        else:
            yield Moment(chosen.randint(1, MOST_UNITS), chosen.uniform(0, UNIT_SECONDS))


@dataclass
class Tally:
    """What happened to all children together."""

    kills_before_a_unit: int = 0
    kills_among_units: int = 0
    kills_in_a_commit: int = 0
    starts: int = 0
    finished: int = 0
    computed: int = 0
    computed_again: list[int] = field(default_factory=list)
    healthy: int = 0

    @property
    def kills(self) -> int:
        """Children killed so far."""
        return self.kills_before_a_unit + self.kills_among_units

    def __str__(self) -> str:
        return (
            f"kills {self.kills} ({self.kills_before_a_unit} before a unit was begun, "
            f"{self.kills_among_units} after, {self.kills_in_a_commit} of all amid a commit), "
            f"starts {self.starts}, runs finished {self.finished} of {LAYERS} units each, "
            f"units begun {self.computed}, begun again after their commit {len(self.computed_again)}, "
            f"integrity checks ok {self.healthy}"
        )


@dataclass(frozen=True)
class Site:
    """A database, the model that is decoded into it, and the log of the units that were begun."""

    database: Path
    model: Path
    run_key: str

    @property
    def log(self) -> Path:
        """One unit's number a line, written before it is computed."""
        return self.database.with_suffix(".log")

    def begun(self) -> list[int]:
        """The units that were begun, by all children, in order."""
        return [int(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def stored(self) -> set[int]:
        """The units that are committed."""
        store = open_store(self.database)
        try:
            return list_stored_units(store, self.run_key)
        finally:
            store.close()

    def bytes(self) -> list[tuple[object, ...]]:
        """The run's arrays."""
        store = open_store(self.database)
        try:
            return stored_bytes(store, self.run_key)
        finally:
            store.close()


def live(site: Site, moment: Moment, tally: Tally) -> bool:
    """One child's life, ended at a moment if it is not over by then; whether it finished its run."""
    stored, before = site.stored(), len(site.begun())
    child = forked().Process(target=decode, args=(site.database, site.model, site.log))
    child.start()
    while child.exitcode is None and len(site.begun()) - before < moment.units:
        time.sleep(0.001)
    child.join(moment.seconds)
    ended = child.exitcode is not None
    child.kill()
    child.join()
    begun = site.begun()[before:]
    tally.starts += 1
    tally.kills_in_a_commit += half_committed(site.database)
    tally.computed += len(begun)
    tally.computed_again += sorted(stored & set(begun))
    check_health(site, tally)
    if ended:
        assert child.exitcode == 0
        tally.finished += 1
    elif begun:
        tally.kills_among_units += 1
    else:
        tally.kills_before_a_unit += 1
    return ended


def half_committed(database: Path) -> bool:
    """Whether the write-ahead log ends in frames that no commit completes, as its writer left it."""
    log = database.with_name(f"{database.name}-wal")
    data = log.read_bytes() if log.exists() else b""
    page, salts, last = int.from_bytes(data[8:12]), data[16:24], b""
    for start in range(32, len(data) - 24, 24 + page):
        if data[start + 8 : start + 16] == salts:
            last = data[start + 4 : start + 8]
    return last == bytes(4)


def check_health(site: Site, tally: Tally) -> None:
    """SQLite finds nothing wrong in the file, and every unit that is stored is whole."""
    with closing(sqlite3.connect(site.database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        if db.execute("SELECT name FROM sqlite_master WHERE name = 'arrays'").fetchall():
            counted = db.execute("SELECT count(*) FROM arrays GROUP BY run_key, unit_idx").fetchall()
            assert set(counted) <= {(ARRAYS,)}
    tally.healthy += 1


def test_a_decoding_killed_at_any_moment_goes_on_and_no_stored_unit_is_computed_again(
    llama: Callable[..., Path], tmp_path: Path
) -> None:
    model = llama("model", num_hidden_layers=LAYERS, intermediate_size=1500)
    store = open_store(tmp_path / "key.db")
    with open_model(ModelRef(str(model)), store) as loaded:
        key = decode_spec(loaded, "up", "none", 10).key
    whole, tally = Site(tmp_path / "whole.db", model, key), Tally()
    assert live(whole, NEVER, Tally())  # the process that children are forked from is up now
    measured = Site(tmp_path / "measured.db", model, key)
    started = time.monotonic()
    assert live(measured, NEVER, Tally())
    life, expected = time.monotonic() - started, whole.bytes()
    kills = moments(life)
    while tally.kills < KILLS:
        site = Site(tmp_path / f"run-{tally.finished}.db", model, key)
        while not live(site, next(kills) if tally.kills < KILLS else NEVER, tally):
            pass
        assert site.bytes() == expected
        assert set(site.begun()) == set(range(LAYERS))
    print(f"\n{tally}; an uninterrupted life takes {life:.2f} s")
    assert tally.computed_again == []
    assert tally.kills == KILLS
    assert tally.healthy == tally.starts
