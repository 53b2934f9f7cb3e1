"""Examples in the docs: commands run in this process, their output written or compared.

    ```sh                                             the command, which can be pasted as it stands
    .venv/bin/python -m workbench find demo/base dog
    ```

    <!-- printed: 1-4, -1; slow -->                   the lines that are shown; all where none are named
    ```text
    what it prints, with … where lines are left out
    ```

`slow`: it takes more than a few seconds, so only `python -m scripts.docs --slow` runs it.
"""

from __future__ import annotations

import io
import math
import os
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from typer.core import TyperCommand

from scripts.cli_reference import commands

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ".venv/bin/python"
LEFT_OUT = "…"
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Tolerance between a printed number and the one in the docs: other processors round differently."""
_EXAMPLE = re.compile(
    r"```sh\n(?P<command>(?:(?!```).)*)```\n\n<!-- printed(?::(?P<how>[^>]*))? -->\n```text\n"
    r"(?P<printed>(?:(?!```).)*)```\n",
    re.DOTALL,
)
_NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_STARTS = (PYTHON, "make", "git", "python", "python3", "pip")
"""First words that identify a code block as a command."""


@dataclass(frozen=True)
class Example:
    """A command with its output in the docs. lines: those shown, as in the comment; () is all."""

    command: str
    lines: tuple[str, ...]
    slow: bool
    printed: str


def examples(text: str) -> list[Example]:
    """Every example of a Markdown file, in order. Raises ValueError for a comment without an example."""
    found = [_read(one) for one in _EXAMPLE.finditer(text)]
    if (marked := text.count("<!-- printed")) != len(found):
        raise ValueError(
            f"{marked} comments say `printed`, {len(found)} stand between ```sh and ```text blocks"
        )
    return found


def rewrite(text: str, *, slow: bool) -> str:
    """The file with every example's output updated; slow: also slow examples."""

    def new(found: re.Match[str]) -> str:
        one = _read(found)
        if one.slow and not slow:
            return found[0]
        start, end = (at - found.start() for at in found.span("printed"))
        return found[0][:start] + elide(run(one.command), one.lines) + found[0][end:]

    with own_database():
        return _EXAMPLE.sub(new, text)


def find_drift(text: str) -> list[str]:
    """Differences between the output of a file's quick examples and its text; a sentence each."""
    found = []
    with own_database():
        for one in examples(text):
            if not one.slow and not same(now := elide(run(one.command), one.lines), one.printed):
                found.append(f"{one.command}\n--- in the docs\n{one.printed}--- printed now\n{now}")
    return found


def find_unpasteable(text: str) -> list[str]:
    """The commands of a Markdown file that cannot be pasted, each with the reason."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.M)
    typed = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M)
    typed += [
        code for code in re.findall(r"`([^`\n]+)`", outside) if code.split()[0] in _STARTS and " " in code
    ]
    typed += [line.strip() for line in re.findall(r"^ {4}(?:\$ .*|python.*|\.venv/.*)$", outside, re.M)]
    return [f"{line}: {why}" for line in typed if (why := _why_not(line))]


def elide(printed: str, lines: tuple[str, ...]) -> str:
    """The selected lines, with `…` for the others. Raises ValueError for a missing line."""
    every = printed.rstrip("\n").split("\n")
    wanted = sorted(
        {place for one in lines for place in _places(one, len(every))} if lines else range(len(every))
    )
    made, before = [], -1
    for place in wanted:
        made += [LEFT_OUT] * (place > before + 1) + [every[place]]
        before = place
    return "\n".join([*made, *[LEFT_OUT] * (before < len(every) - 1)]) + "\n"


def same(one: str, other: str) -> bool:
    """Whether two outputs match: words exactly, numbers approximately, spaces ignored."""
    words = [re.sub(r"\s+", " ", _NUMBER.sub("#", text)).strip() for text in (one, other)]
    numbers = [_NUMBER.findall(text) for text in (one, other)]
    return words[0] == words[1] and all(_close(a, b) for a, b in zip(*numbers, strict=True))


def run(command: str) -> str:
    """The stdout of a `.venv/bin/python -m …` command. Raises ValueError if it fails."""
    first, option, module, *arguments = shlex.split(command.replace("\\\n", " "))
    if (first, option) != (PYTHON, "-m"):
        raise ValueError(f"{command}: an example begins with {PYTHON} -m")
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", [module, *arguments]):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = 0 if ended.code is None else int(ended.code)
    if code:
        raise ValueError(f"{command}: exit code {code}\n{err.getvalue()}")
    return out.getvalue()


@contextmanager
def own_database() -> Iterator[None]:
    """A new database, and the repository as working folder, so that the output does not depend on earlier
    state.
    """
    here = Path.cwd()
    with TemporaryDirectory() as folder, patch.dict(os.environ, {"HEADLAMP_DB": f"{folder}/headlamp.db"}):
        os.chdir(ROOT)
        try:
            yield
        finally:
            os.chdir(here)


def _read(found: re.Match[str]) -> Example:
    how = [part.strip() for part in re.split("[,;]", found["how"] or "") if part.strip()]
    lines = tuple(part for part in how if part != "slow")
    return Example(found["command"].strip(), lines, "slow" in how, found["printed"])


def _places(lines: str, count: int) -> range:
    """`3`, `1-4`, `7-` (to the end), `-1` (the last) → places from 0."""
    found = re.fullmatch(r"(-?\d+)(-)?(\d+)?", lines)
    if found is None:
        raise ValueError(f"{lines!r}: name lines as 3, 1-4, 7- or -1")
    first = int(found[1]) - 1 if int(found[1]) > 0 else count + int(found[1])
    last = int(found[3]) - 1 if found[3] else count - 1 if found[2] else first
    if not 0 <= first <= last < count:
        raise ValueError(f"lines {lines} of an output that has {count}")
    return range(first, last + 1)


def _close(one: str, other: str) -> bool:
    if one.isdigit() and other.isdigit():
        return one == other
    numbers = (float(text.replace("−", "-")) for text in (one, other))
    return math.isclose(*numbers, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _why_not(line: str) -> str:
    """Why a command cannot be pasted; empty if it can."""
    if LEFT_OUT in line or line.startswith("$"):
        return "write it whole, without … or a prompt"
    words = shlex.split(line)
    if words[:1] == ["make"]:
        return _why_not_made(words[1:])
    if words[:2] == [PYTHON, "-m"] and len(words) > 2:
        missing = [w for w in words[3:] if re.match(r"(demo|docs|bench)/", w) and not (ROOT / w).exists()]
        if missing:
            return f"there is no {missing[0]}"
        return _why_not_parsed(words[3:]) if words[2] == "workbench" else ""
    return "" if words[0] == "git" else f"begin it with make or {PYTHON} -m, which are there after `make app`"


def _why_not_made(words: list[str]) -> str:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    unknown = [word for word in words if "=" not in word and word not in targets]
    return f"the Makefile has no {unknown[0]}" if unknown else ""


def _why_not_parsed(words: list[str]) -> str:
    """The command line's own parsing error, without running the command."""
    known: dict[str, TyperCommand] = dict(commands())
    if words == ["--help"]:
        return ""
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
    if name is None:
        return f"there is no command {words[0] if words else ''}"
    try:
        known[name].make_context(name, words[len(name.split()) :])
    except Exception as refused:  # Typer's own errors, which it does not name in public
        return str(refused) or type(refused).__name__
    return ""
