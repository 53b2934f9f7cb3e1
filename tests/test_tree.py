"""What must not be in any file of the tree, whatever kind of file it is."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MARKER = re.compile(rb"^(?:<{7}|>{7}|\|{7})(?: .*)?\r?$", re.MULTILINE)
"""What git writes around two versions that it could not merge; its line of = is also a heading's."""

BINARY_WITHIN = 8000
"""A file with a zero byte among its first ones is no text; git draws the line at the same place."""

ASIDE = {"__pycache__", "build", "dist", "shared"}


def tree(root: Path) -> Iterator[Path]:
    """The files git tracks; all but hidden ones and what is built where this is no checkout."""
    git = shutil.which("git")
    if git and (root / ".git").exists():
        listed = subprocess.run([git, "ls-files", "-z"], cwd=root, capture_output=True, check=False)
        if listed.returncode == 0:
            yield from (root / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name)
            return
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ASIDE]
        yield from (Path(folder, name) for name in names)


def conflicts(root: Path) -> list[str]:
    """path:line of each conflict marker in the text files of a tree."""
    found = []
    for path in tree(root):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content[:BINARY_WITHIN]:
            lines = (content.count(b"\n", 0, mark.start()) + 1 for mark in MARKER.finditer(content))
            found += [f"{path.relative_to(root)}:{line}" for line in lines]
    return sorted(found)


def test_no_file_holds_a_conflict(repo_root: Path) -> None:
    assert conflicts(repo_root) == []


@pytest.mark.parametrize("tracked", [True, False])
def test_a_conflict_is_found(tmp_path: Path, tracked: bool) -> None:
    (tmp_path / "docs").mkdir()
    lines = ["Heading", "=" * 7, "<" * 7 + " HEAD", "ours", "=" * 7, "theirs", ">" * 7 + " 0123abc (x)"]
    (tmp_path / "docs" / "a.md").write_text("\n".join([*lines, "<" * 8, " " + "<" * 7, ">>>"]) + "\n")
    (tmp_path / "docs" / "b.bin").write_bytes(b"\0\n" + b"<" * 7 + b" HEAD\n")
    if tracked:
        if shutil.which("git") is None:
            pytest.skip("git is not installed")
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        subprocess.run(["git", "add", "docs"], cwd=tmp_path, check=True)
        (tmp_path / "untracked.md").write_text("<" * 7 + " HEAD\n")
    assert conflicts(tmp_path) == ["docs/a.md:3", "docs/a.md:7"]


def test_the_tree_is_read(repo_root: Path) -> None:
    names = {str(path.relative_to(repo_root)) for path in tree(repo_root)}
    assert {"CHANGELOG.md", "docs/cli.md", "store/errors.py", "tests/test_tree.py"} <= names
