"""The generated part of docs/cli.md: what `--help` says, in its place, whatever became of the file."""

import re
from pathlib import Path

import pytest

from scripts.cli_reference import reference


@pytest.fixture(scope="module")
def text(repo_root: Path) -> str:
    """docs/cli.md."""
    return (repo_root / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_reference_is_what_help_says(text: str) -> None:
    assert reference(text) == text


def test_usage_options_choices_ranges_and_defaults_are_shown(text: str) -> None:
    block = text.split("<!-- decode: generated -->")[1].split("<!-- end -->")[0]
    assert "    python -m workbench decode MODEL [OPTION]…\n" in block
    assert "Decode every neuron through the LM head." in block
    assert re.search(r"^\| `--site up\\\|gate\\\|down` \| .+ \| `\w+` \|$", block, re.M)
    assert re.search(r"^\| `--top-k N` \| .+ From 1\. \| `10` \|$", block, re.M)
    assert re.search(r"^\| `MODEL` \| .+ \| required \|$", block, re.M)
    assert "Common options: `--device`, `--dtype`, `--db`, `--json`." in block
    drawn = text.split("<!-- generate: generated -->")[1].split("<!-- end -->")[0]
    assert "Common options: `--device`, `--dtype`, `--seed`, `--db`, `--json`." in drawn


def test_help_that_changed_is_written_anew(text: str) -> None:
    old = text.replace("Decode every neuron", "Decode all neurons").replace("| `--top-k N`", "| `--k N`")
    assert old != text
    assert reference(old) == text


def test_a_block_that_a_merge_left_in_conflict_is_written_anew(text: str) -> None:
    line = "| `--top-k N`"
    assert reference(text.replace(line, f"<<<<<<< ours\n{line}\n=======\n{line}s\n>>>>>>> theirs\n")) == text


@pytest.mark.parametrize("name", ["models", "generate", "runs delete", "jobs resume"])
def test_a_command_without_a_block_gets_one_under_its_heading(text: str, name: str) -> None:
    without = re.sub(rf"<!-- {name}: generated -->.*?<!-- end -->\n\n?", "", text, flags=re.DOTALL)
    assert f"<!-- {name}: generated -->" not in without
    assert reference(without) == text


def test_a_new_command_gets_a_section_after_the_one_before_it(text: str) -> None:
    start, end = text.index("### `find MODEL WORD`"), text.index("### `compare MODEL TUNED`")
    made = reference(text[:start] + text[end:])
    heads = re.findall(r"^### `(\w+)", made, re.M)
    assert heads[heads.index("decode") + 1] == "find"
    assert "[`find`](#find)" in made


def test_a_block_of_a_command_that_is_gone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seek, which is not a command"):
        reference(text + "\n<!-- seek: generated -->\n\nOld.\n\n<!-- end -->\n")
