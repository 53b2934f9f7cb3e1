"""Requirements: all that is imported is declared, all that is declared is locked, each file with a hash."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from analysis.version import VERSION
from scripts.install import needs_cuda, read_pin
from scripts.lock import split
from scripts.rooms import TOPS

HOUSE = ("analysis", "demo", "headlamp", "pages", "store", "workbench")
OPTIONAL = {"datasets", "evaluate", "jinja2", "lm_eval", "pyyaml", "ray"}
"""Packages of the extra requirements files, and one that is taken where it is there."""


def name(text: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(path: Path) -> dict[str, str]:
    """Package → version of a requirements file or a lock; markers left out."""
    found = re.findall(r"^([A-Za-z][\w.-]*)==([^\s;]+)", path.read_text(encoding="utf-8"), re.M)
    return {name(package): version for package, version in found}


def imports(root: Path) -> set[str]:
    """The names of other people's packages that the app imports, also late."""
    found = set[str]()
    for path in [root / "app.py", *(p for room in HOUSE for p in root.glob(f"{room}/**/*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - {*TOPS, "app"}


def test_all_that_is_imported_is_declared(repo_root: Path) -> None:
    known = packages_distributions()
    needed = {name(known.get(module, [module])[0]) for module in imports(repo_root)}
    declared = set(pins(repo_root / "requirements.txt"))
    assert needed - declared <= {name(one) for one in OPTIONAL}
    extra = {**pins(repo_root / "requirements-skills.txt"), **pins(repo_root / "requirements-evaluate.txt")}
    assert {name(one) for one in OPTIONAL} - {"ray"} <= {*extra, "lm-eval"}


@pytest.mark.parametrize(
    ("files", "lock"),
    [
        (["requirements.txt"], "requirements.lock"),
        (
            [
                "requirements.txt",
                "requirements-skills.txt",
                "requirements-evaluate.txt",
                "requirements-dev.txt",
            ],
            "requirements-dev.lock",
        ),
    ],
)
def test_all_that_is_declared_is_locked(repo_root: Path, files: list[str], lock: str) -> None:
    declared = {package: version for file in files for package, version in pins(repo_root / file).items()}
    locked = pins(repo_root / lock)
    assert {package: locked.get(package) for package in declared} == declared


def test_the_locks_agree_and_every_file_has_a_hash(repo_root: Path) -> None:
    tools = pins(repo_root / "requirements-dev.lock")
    assert pins(repo_root / "requirements.lock").items() <= tools.items()
    for lock in repo_root.glob("requirements*.lock"):
        text = lock.read_text(encoding="utf-8")
        entries = re.split(r"^(?=[A-Za-z])", re.sub(r"^#.*\n", "", text, flags=re.M), flags=re.M)[1:]
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries), lock


def test_a_machine_without_a_gpu_fetches_nothing_of_cuda(repo_root: Path) -> None:
    assert not [one for one in pins(repo_root / "requirements.lock") if needs_cuda([one])]
    assert len([one for one in pins(repo_root / "requirements-cuda.lock") if needs_cuda([one])]) > 10
    assert needs_cuda(["filelock", 'nvidia-cublas==13.1.1.3; platform_system == "Linux"'])
    assert not needs_cuda(["filelock", "sympy>=1.13.3"])


def test_both_builds_of_torch_are_one_version(repo_root: Path) -> None:
    assert read_pin(repo_root / "requirements-cpu.lock") == pins(repo_root / "requirements.txt")["torch"]
    assert read_pin(repo_root / "requirements.lock") == read_pin(repo_root / "requirements-cpu.lock")


def test_a_resolved_lock_is_split() -> None:
    entry = "{0}==1 ; sys_platform == 'linux' \\\n    --hash=sha256:{1}\n"
    resolved = "".join(entry.format(one, "0" * 64) for one in ("nvidia-nvtx", "pip", "torch", "triton"))
    kept, cuda = split(resolved)
    assert kept == entry.format("torch", "0" * 64)
    assert cuda == entry.format("nvidia-nvtx", "0" * 64) + entry.format("triton", "0" * 64)


def test_the_version_is_said_alike_everywhere(repo_root: Path) -> None:
    assert f"version = {{{VERSION}}}" in (repo_root / "README.md").read_text("utf-8")
    assert f"version: {VERSION}\n" in (repo_root / "CITATION.cff").read_text("utf-8")
    assert VERSION in (repo_root / "CHANGELOG.md").read_text("utf-8")
    assert "version" not in re.findall(r"^(\w+) = ", (repo_root / "pyproject.toml").read_text("utf-8"), re.M)
