"""Install a lock into this Python's environment: `python scripts/install.py requirements.lock`.

Every file must have a hash that the lock names. Where pip took torch's CUDA build, as it does on Linux from
the package index alone, that build's own requirements follow. Needs nothing but Python and pip.
"""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA = ROOT / "requirements-cuda.lock"


def install(lock: Path) -> int:
    """pip's exit code. All of a lock's packages are in it, so pip need not look for others."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
    return subprocess.run([*command, "--no-deps", "-r", str(lock)], check=False).returncode


def needs_cuda(requirements: list[str]) -> bool:
    """Whether a torch with these requirements is a CUDA build."""
    return any(re.match(r"nvidia-|cuda-", one) for one in requirements)


def main(arguments: list[str]) -> int:
    """Install each lock that is named; the exit code is the first of pip's that is not 0."""
    for name in arguments:
        if code := install(ROOT / name):
            return code
    importlib.invalidate_caches()
    try:
        requirements = importlib.metadata.requires("torch") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    return install(CUDA) if needs_cuda(requirements) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
