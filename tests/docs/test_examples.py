"""What the docs say commands print: read, compared, found out of date; and that commands can be pasted."""

import io
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from scripts import docs, examples
from scripts.examples import elide, find_drift, find_unpasteable, same

FIND = ".venv/bin/python -m workbench find demo/base dog --limit 2"


def page(command: str, printed: str, how: str = "") -> str:
    """A Markdown page with one example."""
    return f"Before.\n\n```sh\n{command}\n```\n\n<!-- printed{how} -->\n```text\n{printed}```\n\nAfter.\n"


def test_an_example_is_read_with_its_lines_and_whether_it_is_slow() -> None:
    (one,) = examples.examples(page("a \\\n  b", "x\n", ": 1-2, -1; slow"))
    assert (one.command, one.lines, one.slow, one.printed) == ("a \\\n  b", ("1-2", "-1"), True, "x\n")
    (two,) = examples.examples(page("a", ""))
    assert (two.lines, two.slow) == ((), False)


def test_a_comment_that_belongs_to_no_example_is_refused() -> None:
    with pytest.raises(ValueError, match="1 comments"):
        examples.examples(page("a", "x\n").replace("```text", "```"))


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ((), "1\n2\n3\n4\n5\n"),
        (("1-2",), "1\n2\n…\n"),
        (("2",), "…\n2\n…\n"),
        (("1", "-1"), "1\n…\n5\n"),
        (("4-",), "…\n4\n5\n"),
        (("4-", "1-3"), "1\n2\n3\n4\n5\n"),
    ],
)
def test_lines_are_left_out_with_a_mark(lines: tuple[str, ...], wanted: str) -> None:
    assert elide("1\n2\n3\n4\n5\n", lines) == wanted


@pytest.mark.parametrize("lines", ["6", "3-9", "0", "a", "4-2"])
def test_lines_that_are_not_there_are_refused(lines: str) -> None:
    with pytest.raises(ValueError):
        elide("1\n2\n3\n4\n5\n", (lines,))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("P 0.5299 of L3.N418", "P  0.52991 of L3.N418", True),
        ("p 5.34\n", "p 5.341\n", True),
        ("p 5.34", "p 5.36", False),
        ("p 1e-06", "p 0", True),
        ("p -0.1841", "p 0.1841", False),
        ("L3.N418", "L3.N419", False),
        ("a cat", "a dog", False),
        ("one", "one 1", False),
        ("1 2", "1", False),
    ],
)
def test_numbers_may_differ_in_their_last_digit_and_nothing_else(one: str, other: str, alike: bool) -> None:
    assert same(one, other) is alike


@pytest.mark.parametrize(
    "command",
    [
        "make app",
        "make app MODEL=demo/moe PORT=8502",
        FIND,
        ".venv/bin/python -m workbench --help",
        ".venv/bin/python -m workbench generate demo/base --prompt 'a b' \\\n    --word dog",
        ".venv/bin/python -m training.evaluate demo/base",
    ],
)
def test_a_command_that_can_be_pasted_raises_no_alarm(command: str) -> None:
    assert find_unpasteable(page(command, "")) == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("make appp", "has no appp"),
        ("make app MODEL=…", "whole"),
        ("$ make app", "whole"),
        ("python -m workbench models", "begin it with"),
        (".venv/bin/python -m workbench finds demo/base dog", "no command finds"),
        (".venv/bin/python -m workbench find demo/base", "Missing parameter"),
        (".venv/bin/python -m workbench find demo/base dog --sight up", "--sight"),
        (".venv/bin/python -m workbench find demo/base dog --limit few", "few"),
        (".venv/bin/python -m workbench unlearn demo/base --forget demo/skills/fact.jsonl", "fact.jsonl"),
        (".venv/bin/python -m workbench findings rerun …", "whole"),
    ],
)
def test_a_command_that_cannot_be_pasted_is_seen(command: str, why: str) -> None:
    (found,) = find_unpasteable(page(command, ""))
    assert why in found


@pytest.mark.parametrize(
    "place", ["Type `python -m workbench models`.", "    $ make app", "    python -m training.train"]
)
def test_commands_outside_of_examples_are_seen_too(place: str) -> None:
    assert len(find_unpasteable(f"Before.\n\n{place}\n\nAfter.\n")) == 1


@pytest.mark.slow
def test_an_output_that_is_out_of_date_is_seen() -> None:
    assert len(find_drift(page(FIND, "cat: tokens\n", ": 1"))) == 1
    now = elide(examples.run(f"{FIND} --site down"), ("1",))
    assert find_drift(page(f"{FIND} --site down", now, ": 1")) == []


def test_a_slow_example_is_not_run() -> None:
    assert find_drift(page(".venv/bin/python -m no.such.module", "x\n", ": slow")) == []


def test_a_command_that_fails_is_told() -> None:
    told = "exit code 2\nError: 'dogs and cats' is not a single token of this model"
    with pytest.raises(ValueError, match=told):
        examples.run(".venv/bin/python -m workbench find demo/base 'dogs and cats'")


def test_the_quick_examples_print_what_the_docs_say(repo_root: Path) -> None:
    """The README's are `make lint`'s."""
    assert find_drift((repo_root / "docs" / "examples.md").read_text(encoding="utf-8")) == []


def test_every_command_of_the_readme_and_the_examples_can_be_pasted() -> None:
    assert [why for path in docs.EXAMPLES for why in find_unpasteable(path.read_text(encoding="utf-8"))] == []
    assert [len(examples.examples(path.read_text(encoding="utf-8"))) for path in docs.EXAMPLES] == [3, 5]


def test_the_check_fails_where_the_reference_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "cli.md"
    old.write_text(
        docs.CLI.read_text(encoding="utf-8").replace("Find the neurons", "Find neurons"), encoding="utf-8"
    )
    quiet = tmp_path / "README.md"
    quiet.write_text("Nothing to run: `make ap`.\n", encoding="utf-8")
    monkeypatch.setattr(docs, "CLI", old)
    monkeypatch.setattr(docs, "README", quiet)
    monkeypatch.setattr(docs, "EXAMPLES", (quiet,))
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    said = io.StringIO()
    with redirect_stderr(said):
        assert docs.main() == 1
    assert "docs/cli.md does not match --help" in said.getvalue()
    assert "the Makefile has no ap" in said.getvalue()
    monkeypatch.setattr(sys, "argv", ["docs"])
    assert docs.main() == 0
    assert old.read_text(encoding="utf-8") == docs.reference(old.read_text(encoding="utf-8"))
