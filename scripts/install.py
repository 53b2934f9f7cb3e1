"""Install a lock into this Python's environment: `python scripts/install.py requirements.lock`.

Every file must have a hash that a lock names. On Linux torch comes first: PyTorch's CPU build where pip finds
one, else the package index's, which is for CUDA and has further requirements of its own. Needs nothing but
Python and pip.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU, CUDA = ROOT / "requirements-cpu.lock", ROOT / "requirements-cuda.lock"


def install(lock: Path, *, quiet: bool = False) -> int:
    """pip's exit code. All of a lock's packages are in it, so pip need not look for others."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run([*command, "--no-deps", "-r", str(lock)], check=False, stderr=output).returncode


def read_torch() -> tuple[str, bool] | None:
    """The installed torch: its version, and whether it is a CUDA build; None if there is none."""
    importlib.invalidate_caches()
    try:
        found = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    return found.version, needs_cuda(found.requires or [])


def needs_cuda(requirements: list[str]) -> bool:
    """Whether a torch with these requirements is a CUDA build."""
    return any(re.match(r"nvidia-|cuda-", one) for one in requirements)


def read_pin(lock: Path) -> str:
    """The version of torch that a lock names, without the build's name."""
    found = re.search(r"^torch==([\d.]+)", lock.read_text(encoding="utf-8"), re.M)
    if found is None:
        raise ValueError(f"{lock.name} names no torch")
    return found[1]


def main(arguments: list[str]) -> int:
    """Install each lock that is named; the exit code is the first of pip's that is not 0."""
    torch = read_torch()
    current = torch is not None and torch[0].partition("+")[0] == read_pin(CPU)
    if sys.platform == "linux" and not current and install(CPU, quiet=True):
        print("pip finds no CPU build of torch here, so the package index's follows, which is for CUDA.")
    for name in arguments:
        if code := install(ROOT / name):
            return code
    torch = read_torch()
    return install(CUDA) if torch is not None and torch[1] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
