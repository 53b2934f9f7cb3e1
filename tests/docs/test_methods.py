"""docs/methods.md has every section that the code cites, and states defaults and versions as they are."""

import re
from pathlib import Path

import pytest

from scripts.cli_reference import commands, parameters

CITED = re.compile(r"METHODS\s+§\s?(\d+)(?:,\s+([A-Z]\w+))?")
LAYERS = (
    "app.py",
    "analysis",
    "workbench",
    "store",
    "pages",
    "demo",
    "training",
    "bench",
    "headlamp",
    "scripts",
    "tests",
)


@pytest.fixture(scope="module")
def methods(repo_root: Path) -> str:
    """docs/methods.md."""
    return (repo_root / "docs" / "methods.md").read_text(encoding="utf-8")


def sources(root: Path) -> list[Path]:
    """Every Python file of the repository, but this one."""
    found = [
        path
        for layer in LAYERS
        for path in ([root / layer] if layer.endswith(".py") else (root / layer).rglob("*.py"))
    ]
    return [path for path in found if path.is_file() and path != Path(__file__)]


def citations(root: Path) -> set[tuple[str, str]]:
    """(section, part of it or "") of every citation, across line ends too."""
    text = "\n".join(re.sub(r"\n\s*#?", " ", path.read_text(encoding="utf-8")) for path in sources(root))
    return set(CITED.findall(text))


def missing(cited: set[tuple[str, str]], methods: str) -> set[tuple[str, str]]:
    """The citations that lead nowhere."""
    parts = re.split(r"^## (\d+)\. ", methods, flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {
        (section, part)
        for section, part in cited
        if section not in sections or (part and not re.search(rf"^### .*\b{part}\b", sections[section], re.M))
    }


def test_the_code_cites_all_parts_of_the_methods(repo_root: Path) -> None:
    cited = citations(repo_root)
    assert {section for section, _ in cited} == {"0", "1", "2", "3", "4"}
    assert ("4", "Evaluation") in cited


def test_every_cited_section_is_there(repo_root: Path, methods: str) -> None:
    assert missing(citations(repo_root), methods) == set()


@pytest.mark.parametrize("cited", [("9", ""), ("3", "Evaluation"), ("4", "Evaluations")])
def test_a_citation_of_nothing_is_seen(methods: str, cited: tuple[str, str]) -> None:
    assert missing({cited, ("4", "Evaluation")}, methods) == {cited}


def defaults() -> dict[str, set[str]]:
    """Every option → its defaults in the commands that have it."""
    found: dict[str, set[str]] = {}
    for _, command in commands():
        for one in parameters(command):
            found.setdefault(one.name, set()).add(one.default)
    return found


def stated_defaults(methods: str) -> list[tuple[str, str]]:
    """(option, default) of every table whose first column is an option, and of every `--option` (number)."""
    found = re.findall(r"`(--[a-z-]+)` \((\d[\d.]*)\)", methods)
    for option, rows in re.findall(r"^\| `(--[a-z-]+)` \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", methods, re.M):
        found += [(option, value) for value in re.findall(r"^\| `(\w+)` \(default\) ", rows, re.M)]
    return found


def test_the_defaults_are_those_of_the_command_line(methods: str) -> None:
    stated = stated_defaults(methods)
    assert {option for option, _ in stated} >= {
        "--norm",
        "--by",
        "--rule",
        "--layers",
        "--top-k",
        "--noise",
        "--draws",
    }
    assert [(option, value) for option, value in stated if value not in defaults().get(option, ())] == []


def test_the_versions_are_those_of_the_code(repo_root: Path, methods: str) -> None:
    constants = re.compile(r'^(?:METHOD|WORD)_VERSION = "(.*)"$', re.M)
    code = [
        v
        for path in (repo_root / "analysis").rglob("*.py")
        for v in constants.findall(path.read_text("utf-8"))
    ]
    table = re.findall(r"^\| (\d+) \| ", methods, re.M)
    assert "All versions are 1, but for:" in methods
    assert len(code) > 10
    assert sorted(v for v in code if v != "1") == sorted(table)
