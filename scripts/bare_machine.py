"""Prove the README's commands on a bare machine: `python -m scripts.bare_machine [app] [wheel] [test]`.

Each runs as for a newcomer: what is committed here is cloned into an empty folder, with an empty home, no
environment and no cache of pip's. Prints the minutes and the megabytes fetched of every step.

    app      `make app` until the app answers
    wheel    the wheel built, installed into an empty environment, and used from another folder
    test     `make test`, whole: about twenty minutes on two cores
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from scripts.servers import free_port, stop, wait_until_healthy

ROOT = Path(__file__).resolve().parent.parent
FETCHED = re.compile(r"^\s*Downloading \S+ \((?P<size>[\d.]+) (?P<unit>bytes|kB|MB|GB)\)", re.M)
ON_DISK = re.compile(r"^Processing (?:file://)?(?P<path>/\S+\.whl)(?= |$)", re.M)
MEGABYTES = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
NOT_PASSED = re.compile(r"PYTHON|VIRTUAL_ENV|HEADLAMP_|XDG_|MAKE|MFLAGS|PIP_CACHE_DIR")


@dataclass(frozen=True)
class Step:
    """One step that succeeded: seconds, megabytes that pip fetched, and those that lay on this disk."""

    name: str
    seconds: float
    fetched: float
    on_disk: float

    @property
    def row(self) -> str:
        """A line of the printed table."""
        disk = f", {self.on_disk:,.0f} MB more from this disk" if self.on_disk >= 1 else ""
        return f"{self.name:<44} {self.seconds / 60:5.1f} min  {self.fetched:7,.0f} MB fetched{disk}"


class Machine:
    """An empty home folder with a clone in it, and an environment that knows nothing else."""

    def __init__(self, folder: Path) -> None:
        self.home, self.clone = folder, folder / "headlamp"
        kept = {name: value for name, value in os.environ.items() if not NOT_PASSED.match(name)}
        self.environment = kept | {"HOME": str(folder), "PIP_CACHE_DIR": str(folder / "pip-cache")}
        self.log = folder / "log.txt"

    def run(self, name: str, command: Sequence[str], folder: Path | None = None) -> Step:
        """Run a command to its end. Raises SystemExit with what it printed where it fails."""
        started, before = time.monotonic(), self.read_log()
        with self.log.open("ab") as log:
            code = subprocess.run(
                command, cwd=folder or self.clone, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, check=False,
            ).returncode  # fmt: skip
        new = self.read_log()[len(before) :]
        if code:
            raise SystemExit(f"{new[-4000:]}\n{name}: exit code {code}")
        return make_step(name, time.monotonic() - started, new)

    def serve(self, name: str, command: Callable[[int], Sequence[str]], folder: Path) -> Step:
        """Start an app with a command, wait until it answers, and stop it."""
        started, before, port = time.monotonic(), self.read_log(), free_port()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command(port), cwd=folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            wait_until_healthy(process, port, seconds=3600)
            return make_step(name, time.monotonic() - started, self.read_log()[len(before) :])
        except RuntimeError as error:
            raise SystemExit(f"{self.read_log()[-4000:]}\n{name}: {error}") from error
        finally:
            stop(process)

    def read_log(self) -> str:
        """What every command so far printed."""
        return self.log.read_text("utf-8", errors="replace") if self.log.is_file() else ""


def make_step(name: str, seconds: float, printed: str) -> Step:
    """The step whose commands printed this."""
    fetched = sum(float(one["size"]) * MEGABYTES[one["unit"]] for one in FETCHED.finditer(printed))
    disk = [Path(unquote(one["path"])) for one in ON_DISK.finditer(printed)]
    return Step(name, seconds, fetched, sum(path.stat().st_size / 1e6 for path in disk if path.is_file()))


def prove_app(machine: Machine) -> Iterator[Step]:
    """`make app` from nothing, then once more."""
    for name in ("make app, until it answers", "make app again"):
        yield machine.serve(name, lambda port: ["make", "app", f"PORT={port}"], machine.clone)


def prove_test(machine: Machine) -> Iterator[Step]:
    """`make test`, whole."""
    yield machine.run("make test", ["make", "test"])


def prove_wheel(machine: Machine) -> Iterator[Step]:
    """The wheel: built, installed into an empty environment, and used from a folder with nothing in it."""
    elsewhere, environment = machine.home / "elsewhere", machine.home / "environment"
    elsewhere.mkdir()
    python, command = str(environment / "bin" / "python"), str(environment / "bin" / "headlamp")
    machine.run("venv", [sys.executable, "-m", "venv", str(environment)])
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    yield machine.run("the wheel, built", [*pip, "-v", "wheel", "--no-deps", "-w", str(machine.home), "."])
    wheels = [str(path) for path in machine.home.glob("headlamp-*.whl")]
    yield machine.run("the wheel, installed", [*pip, "install", *wheels], elsewhere)
    find = [command, "find", "demo/base", "dog"]
    yield machine.run("headlamp find demo/base dog", find, elsewhere)
    chart = "import headlamp; headlamp.open('demo/base').find('dog').figure()"
    yield machine.run("import headlamp, a search and its chart", [python, "-c", chart], elsewhere)
    app = "headlamp app, until it answers"
    yield machine.serve(app, lambda port: [command, "app", "--port", str(port)], elsewhere)


PROOFS: Mapping[str, Callable[[Machine], Iterator[Step]]] = {
    "app": prove_app,
    "wheel": prove_wheel,
    "test": prove_test,
}


@contextmanager
def make_machine() -> Iterator[Machine]:
    """A bare machine that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bare-machine-") as folder:
        machine = Machine(Path(folder).resolve())
        machine.run("clone", ["git", "clone", "--quiet", str(ROOT), str(machine.clone)], machine.home)
        yield machine


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bare_machine")
    parser.add_argument("proof", nargs="*", choices=[*PROOFS, []], help="all where none is named")
    for name in parser.parse_args().proof or list(PROOFS):
        with make_machine() as machine:
            for step in PROOFS[name](machine):
                print(step.row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
