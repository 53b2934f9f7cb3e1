"""Lock every requirement with its hashes: `python -m scripts.lock`, what `make lock` runs.

    requirements.lock         what Headlamp needs, for Linux and macOS, Python 3.11 and newer
    requirements-dev.lock     the same and the tools for tests
    requirements-cuda.lock    what torch needs besides, where pip took its CUDA build

uv resolves, and the package index says the hashes. requirements-cpu.lock is kept by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = "3.11"
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==.*?\n(?=\S|\Z)", re.S | re.M)
"""One package of a lock: its pin, its marker and its hashes."""
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")
LEFT_OUT = ("pip",)
"""Packages that every environment has already."""
HEADS = {
    "requirements.lock": "What Headlamp needs",
    "requirements-dev.lock": "What Headlamp and its tests need",
    "requirements-cuda.lock": "What torch's CUDA build needs besides",
}


def resolve(requirements: Path, *constraints: Path) -> str:
    """Every package that the requirements need, with markers and hashes, as uv writes it.

    Raises SystemExit with what to do where uv is not installed or finds no answer.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", OLDEST]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet", str(requirements)]
    for path in constraints:
        command += ["--constraint", str(path)]
    call = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if call.returncode:
        raise SystemExit(f"{call.stderr.strip()}\nWhere uv is missing: {sys.executable} -m pip install uv")
    return call.stdout


def split(resolved: str) -> tuple[str, str]:
    """(what every machine installs, what torch's CUDA build needs besides), of a resolved lock."""
    kept: list[str] = []
    cuda: list[str] = []
    for entry in ENTRY.finditer(resolved):
        if entry["name"] not in LEFT_OUT:
            (cuda if OF_CUDA.match(entry["name"]) else kept).append(entry[0])
    return "".join(kept), "".join(cuda)


def write(name: str, entries: str) -> None:
    """Write one of the locks."""
    (ROOT / name).write_text(f"# {HEADS[name]}; written by `make lock`.\n{entries}", encoding="utf-8")


def main() -> int:
    """Resolve and write all three."""
    with tempfile.TemporaryDirectory() as folder:
        agreed = Path(folder) / "agreed.txt"
        everything = resolve(ROOT / "requirements-dev.txt")
        agreed.write_text(re.sub(r" \\$|^    --hash.*\n", "", everything, flags=re.M), encoding="utf-8")
        kept, cuda = split(resolve(ROOT / "requirements.txt", agreed))
    write("requirements.lock", kept)
    write("requirements-dev.lock", split(everything)[0])
    write("requirements-cuda.lock", cuda)
    return 0


if __name__ == "__main__":
    sys.exit(main())
