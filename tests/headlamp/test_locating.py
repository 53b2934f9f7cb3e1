"""Headlamp's rooms are found beside a user's own modules, or refused by name."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import headlamp
from headlamp.locating import HOUSE, ROOMS, NameTaken, put_house_first


def run(folder: Path, source: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A script run in a folder, where a person's own modules lie, with headlamp on the path."""
    (folder / "mine.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "mine.py"]
    environment = {"PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_house_of_a_clone_is_the_clone(repo_root: Path) -> None:
    assert repo_root == HOUSE
    assert all((HOUSE / room / "__init__.py").is_file() for room in ROOMS)


def test_a_name_that_another_module_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("store")
    other.__file__ = "/home/ann/store.py"
    monkeypatch.setitem(sys.modules, "store", other)
    with pytest.raises(NameTaken, match=r"'store' was imported from /home/ann/store\.py before headlamp"):
        put_house_first()


def test_own_modules_beside_a_script_are_named_and_do_no_harm(tmp_path: Path, repo_root: Path) -> None:
    (tmp_path / "analysis.py").write_text("MINE = True\n", encoding="utf-8")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shelf.py").write_text("", encoding="utf-8")
    (tmp_path / "demo").mkdir()
    done = run(tmp_path, "import headlamp\nprint(headlamp.__version__)", repo_root)
    assert done.stdout.strip() == headlamp.__version__, done.stderr
    assert f"{tmp_path}/analysis.py cannot be imported beside headlamp" in done.stderr
    assert f"{tmp_path}/store cannot be imported beside headlamp" in done.stderr
    assert f"{tmp_path}/demo" not in done.stderr


def test_own_modules_that_were_imported_first_are_refused(tmp_path: Path, repo_root: Path) -> None:
    (tmp_path / "analysis.py").write_text("MINE = True\n", encoding="utf-8")
    done = run(tmp_path, "import analysis\nimport headlamp", repo_root)
    assert done.returncode == 1
    assert f"'analysis' was imported from {tmp_path}/analysis.py" in done.stderr


def test_importing_it_imports_nothing_heavy(tmp_path: Path, repo_root: Path) -> None:
    source = "import sys, headlamp\nprint(sorted({'torch', 'pandas', 'plotly'} & set(sys.modules)))"
    assert run(tmp_path, source, repo_root).stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert {name for name in headlamp.__all__ if getattr(headlamp, name, None) is None} == set()
    assert set(headlamp.__all__) <= set(dir(headlamp))
    with pytest.raises(AttributeError, match="close_all"):
        _ = headlamp.close_all  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", ["headlamp", "workbench"])
@pytest.mark.parametrize(("given", "expected"), [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_it_is_said_otherwise(
    repo_root: Path, package: str, given: str, expected: str
) -> None:
    told = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    told |= {"OMP_WAIT_POLICY": given} if given else {}
    code = f"import sys, os, {package}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=repo_root, env=told, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [expected, "False"]
