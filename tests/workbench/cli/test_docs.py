"""docs/cli.md names every command and every option, and no command or option that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from tests.workbench.conftest import Cli
from workbench.cli.app import app


def commands() -> dict[str, set[str]]:
    """Every command, as it is typed → its options."""
    return dict(_commands(typer.main.get_command(app), ""))


def _commands(group: object, path: str) -> Iterator[tuple[str, set[str]]]:
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", {o for p in command.params for o in p.opts if o.startswith("--")}


@pytest.fixture(scope="module")
def sections(repo_root: Path) -> dict[str, str]:
    """The headings of docs/cli.md → what stands under each."""
    text = (repo_root / "docs" / "cli.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} +(.*)$", text, flags=re.M)
    return {head.strip("`"): body for head, body in zip(parts[1::2], parts[2::2], strict=True)}


def test_these_are_the_commands() -> None:
    assert list(commands()) == [
        *("app", "models", "inspect", "decode", "find", "neuron", "compare", "generate", "sweep"),
        *("levers", "concepts", "experts", "unlearn", "tars", "save", "harness", "repair"),
        *(f"skill {name}" for name in ("fit", "check", "import")),
        *(f"findings {name}" for name in ("list", "show", "export", "import", "rerun")),
        *(f"runs {name}" for name in ("list", "delete", "resume", "export", "import")),
        *(f"jobs {name}" for name in ("list", "cancel", "resume")),
    ]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_section_that_names_its_options(sections: dict[str, str], command: str) -> None:
    (head,) = [head for head in sections if re.match(rf"{command}( |$)", head)]
    common = set(re.findall(r"--[a-z-]+", sections["Common options"]))
    named = set(re.findall(r"--[a-z-]+", head + sections[head]))
    assert commands()[command] - common <= named


@pytest.mark.parametrize("command", commands())
def test_no_section_names_an_option_that_is_not_there(sections: dict[str, str], command: str) -> None:
    (head,) = [head for head in sections if re.match(rf"{command}( |$)", head)]
    every = set().union(*commands().values())
    assert set(re.findall(r"--[a-z][a-z-]*", head + sections[head])) <= every


@pytest.mark.parametrize("command", commands())
def test_every_command_takes_the_common_options(command: str) -> None:
    without = ("app", "models", "findings", "runs", "jobs", "repair", "skill import")
    opens_a_model = not command.startswith(without)
    common = {"--db"} if command == "app" else {"--db", "--json"}
    common |= {"--device", "--dtype"} if opens_a_model else set()
    assert common <= commands()[command]


@pytest.mark.parametrize("command", commands())
def test_only_a_command_that_draws_takes_a_seed(command: str) -> None:
    draws = command in (
        *("generate", "sweep", "levers", "concepts"),
        *("experts", "unlearn", "tars", "harness"),
    )
    assert ("--seed" in commands()[command]) == draws


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_help_text(cli: Cli, command: str) -> None:
    answer = cli(*command.split(), "--help")
    assert answer.code == 0
    assert "Usage: python -m workbench" in answer.out


def test_the_exit_codes_are_told(sections: dict[str, str]) -> None:
    told = set(re.findall(r"^\| (\d+) \|", sections["Exit codes"], re.M))
    assert told == {"0", "1", "2", "130", "141"}
