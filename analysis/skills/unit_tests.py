"""Sandboxed execution of model-written code against unit tests: no network, no files, limited memory and
time.

Linux only: bubblewrap if installed, else user namespaces through `unshare`, with an empty file system over
all but what Python needs, and resource limits. If neither is available, nothing runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from analysis.errors import JudgeError
from analysis.skills.items import SkillItem

SECONDS = 5
"""Wall-clock and CPU time limit of one program."""

MEMORY_BYTES = 512 * 1024**2
Container = Literal["bubblewrap", "namespaces", "none"]


@dataclass(frozen=True)
class UnitTests:
    """Permission to run a model's code. unsafe: also without a sandbox."""

    unsafe: bool = False

    def container(self) -> Container:
        """The available sandbox. Raises JudgeError if there is none and unsafe execution is not allowed."""
        found = _container()
        if found == "none" and not self.unsafe:
            raise JudgeError(
                "the model's code is not run: it needs a sandbox, which this machine does not offer (Linux "
                "with "
                "bubblewrap, or user namespaces through `unshare -Urn`); install bubblewrap, or "
                "pass --unsafe-tests to run them with your own rights"
            )
        return found

    def passes(self, item: SkillItem, output: str) -> bool:
        """Whether every test of an example passes after the model's code."""
        program = "\n".join([item.setup + ("" if item.setup == item.prompt else "\n") + output, *item.tests])
        return run_program(program, self.container())


def run_program(program: str, container: Container) -> bool:
    """Whether a program exits without an error, within SECONDS and MEMORY_BYTES."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # it may run as nobody
        file = Path(folder) / "program.py"
        file.write_text(program, encoding="utf-8", errors="replace")
        heard, told = os.pipe()
        runner = _RUNNER.format(seconds=SECONDS, memory=MEMORY_BYTES, file=str(file), told=told)
        try:
            os.set_blocking(heard, False)
            _run([*_prefix(container, folder), _PYTHON, "-I", "-S", "-c", runner], folder, told)
            return _read_reply(heard) == _PASSED
        finally:
            os.close(heard)
            os.close(told)


def _run(command: Sequence[str], folder: str, told: int) -> None:
    """Run to the end or the time limit; then kill the sandbox and everything in it."""
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, pass_fds=(told,), start_new_session=True, **quiet
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS + 2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_reply(heard: int) -> bytes:
    with suppress(BlockingIOError):
        return os.read(heard, 1000)
    return b""


@cache
def _container() -> Container:
    """The sandbox this machine offers, found by trying."""
    if sys.platform != "linux":
        return "none"
    ways: tuple[Container, ...] = ("bubblewrap", "namespaces")
    return next((way for way in ways if _works(way)), "none")


def _works(container: Container) -> bool:
    tool = {"bubblewrap": "bwrap", "namespaces": "unshare", "none": ""}[container]
    return shutil.which(tool) is not None and run_program("import socket", container)


def _prefix(container: Container, folder: str) -> list[str]:
    """The command that sandboxes the one after it; `folder` is readable, nothing is writable."""
    if container == "bubblewrap":
        binds = [part for path in (*_python_folders(), folder) for part in ("--ro-bind", path, path)]
        shut = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        return ["bwrap", *shut, *binds, "--chdir", folder]
    if container == "namespaces":
        as_root = os.geteuid() == 0  # whom no limit on processes binds, so that it has to become nobody
        shut = ["unshare", *([] if as_root else ["-Ur"]), "-nmpif", "--kill-child"]
        drop = "--reuid=65534 --regid=65534 --clear-groups" if as_root else "--no-new-privs"
        folders = _python_folders()
        return [*shut, "sh", "-ec", _JAIL, f"{folder}/jail", folder, drop, str(len(folders)), *folders]
    return []


@cache
def _python_folders() -> tuple[str, ...]:
    """What a bare Python needs: its own installation and the system's libraries."""
    paths = {sys.base_prefix, sysconfig.get_paths()["stdlib"], str(Path(_PYTHON).parent)}
    real = sorted(path for path in {*paths, "/usr", "/lib", "/lib64", "/bin"} if os.path.isdir(path))
    return tuple(p for p in real if not any(p != q and p.startswith(f"{q}/") for q in real))


_PYTHON = os.path.realpath(sys.executable)
_PASSED = b"all tests passed"

_RUNNER = """
import os, resource, runpy
limits = {{"CPU": {seconds}, "AS": {memory}, "FSIZE": 0, "NPROC": 0, "CORE": 0, "NOFILE": 32}}
for name, most in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
runpy.run_path({file!r}, run_name="__main__")
os.write({told}, b"all tests passed")
"""

_JAIL = """
folder=$1 drop=$2 count=$3
shift 3
mkdir "$0"
mount -t tmpfs -o size=1m,mode=755 none "$0"
while [ "$count" -gt 0 ]; do
    mkdir -p "$0$1"
    mount --rbind "$1" "$0$1"
    mount -o remount,ro,bind "$0$1"
    shift
    count=$((count - 1))
done
mkdir -p "$0$folder"
mount --bind "$folder" "$0$folder"
mount -o remount,ro,bind "$0$folder"
mount -o remount,ro "$0"
cd "$0$folder"
exec chroot "$0" setpriv $drop --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""
