"""The command-line reference: generated blocks of docs/cli.md, made from `--help`.

    <!-- find: generated -->  …  <!-- end -->

A command without a place in the file gets one, in the order of `--help`. `python -m scripts.docs` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from workbench.cli.app import app

PROGRAM = "python -m workbench"
COMMON = ("--device", "--dtype", "--seed", "--db", "--json")
"""Options that many commands have, listed once, under ALIKE."""
ALIKE, ALL = "common options", "commands"
"""The two blocks that do not belong to a command."""
_BLOCK = re.compile(r"<!-- (?P<name>[\w -]+): generated -->\n.*?<!-- end -->\n", re.DOTALL)
_HEADING = re.compile(r"^### `([a-z][a-z ]*[a-z])(?: [^`]*)?`.*\n\n?", re.M)


@dataclass(frozen=True)
class Shown:
    """One argument or option in the reference: notation, help and default."""

    name: str
    written: str
    help: str
    default: str

    @property
    def row(self) -> str:
        """A line of a Markdown table."""
        plain = not self.default or self.default == "required" or " " in self.default
        default = self.default if plain else f"`{self.default}`"
        return f"| `{_cell(self.written)}` | {_cell(self.help)} | {_cell(default)} |"


def reference(text: str) -> str:
    """docs/cli.md with every generated block updated from `--help`. Raises ValueError for a block of a
    removed command.
    """
    found = dict(commands())
    text = _with_places(text, [ALL, ALIKE, *found])
    blocks = dict(_blocks(found, {h[1]: h[0] for h in _HEADING.finditer(text)}))
    missing = re.findall(_BLOCK, text)
    if gone := [name for name in missing if name not in blocks]:
        raise ValueError(f"docs/cli.md has a block for {', '.join(gone)}, which is not a command; remove it")
    return _BLOCK.sub(lambda found: _block(found["name"], blocks[found["name"]]), text)


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Every command, as typed, in the order of `--help`."""
    group = get_command(app) if group is None else group
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield f"{path}{name}", command


def parameters(command: TyperCommand) -> list[Shown]:
    """A command's arguments and options, without `--help`."""
    context = command.make_context(command.name or "", [], resilient_parsing=True)
    return [_shown(one, context) for one in command.params if "--help" not in one.opts]


def _blocks(found: Mapping[str, TyperCommand], headings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, content) of every generated block; headings: of the commands, for links."""
    shown = {name: parameters(command) for name, command in found.items()}
    common = _most_used(shown.values())
    rows = [
        f"| [`{name}`](#{_anchor(headings[name])}) | {_cell(_paragraphs(command)[0])} |"
        for name, command in found.items()
    ]
    yield ALL, "\n".join(["| command | |", "|---|---|", *rows])
    yield ALIKE, _table(common)
    for name, command in found.items():
        own = [one for one in shown[name] if one not in common]
        alike = [f"`{one.name}`" for one in shown[name] if one in common]
        parts = [f"    {_usage(name, shown[name])}", *_paragraphs(command)]
        parts += [_table(own)] if own else []
        parts += [f"Common options: {', '.join(alike)}."] if alike else []
        yield name, "\n\n".join(parts)


def _most_used(every: Iterable[Sequence[Shown]]) -> list[Shown]:
    """The COMMON options in the form most commands have."""
    found = [one for shown in every for one in shown if one.name in COMMON]
    forms = sorted(set(found), key=lambda one: -found.count(one))
    return [next(one for one in forms if one.name == name) for name in COMMON]


def _with_places(text: str, names: Sequence[str]) -> str:
    """The text with empty blocks for commands that lack one: under their heading, else under a new one."""
    for before, name in zip(["", *names], names, strict=False):
        if f"<!-- {name}: generated -->" in text:
            continue
        heading = next((h for h in _HEADING.finditer(text) if h[1] == name), None)
        if heading is not None:
            place, made = heading.end(), ""
        else:
            last = next((m for m in _BLOCK.finditer(text) if m["name"] == before), None)
            after = re.compile(r"^#{2,3} ", re.M).search(text, last.end()) if last else None
            place, made = after.start() if after else len(text), f"### `{name}`\n\n"
        text = f"{text[:place]}{made}{_block(name, '')}\n{text[place:]}"
    return text


def _block(name: str, content: str) -> str:
    return f"<!-- {name}: generated -->\n\n{content}\n\n<!-- end -->\n"


def _anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip("# \n").lower()).replace(" ", "-")


def _usage(name: str, shown: Sequence[Shown]) -> str:
    needed = [one.written for one in shown if one.default == "required" or not one.name.startswith("-")]
    return " ".join([PROGRAM, name, *needed, "[OPTION]…"])


def _paragraphs(command: TyperCommand) -> list[str]:
    text = (command.help or "").strip()
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]


def _table(shown: Sequence[Shown]) -> str:
    return "\n".join(["| | | default |", "|---|---|---|", *(one.row for one in shown)])


def _shown(one: Any, context: Any) -> Shown:
    name = next((opt for opt in one.opts if opt.startswith("--")), one.opts[0])
    if one.param_type_name == "argument":
        return Shown(name, one.metavar or name.upper(), one.help or "", "required" if one.required else "")
    again = " …" if one.multiple else ""
    value = "" if one.is_flag else f" {_value(one, context)}"
    return Shown(name, f"{name}{value}{again}", f"{one.help or ''}{_range(one.min, one.max)}", _default(one))


def _value(one: Any, context: Any) -> str:
    """The value of an option that is not a switch: its choices, or a word for its type."""
    kind = one.display_type(context).strip("<>").removeprefix("list[").removesuffix("]")
    names = {"str": "TEXT", "path": "FILE", "file": "FILE", "int": "N", "float": "X"}
    return str(one.metavar or names.get(kind.removesuffix(" range"), kind))


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return "" if low is None else f" From {low:g}."
    return f" Up to {high:g}." if low is None else f" {low:g} to {high:g}."


def _default(one: Any) -> str:
    if one.required:
        return "required"
    if isinstance(one.show_default, str):
        return one.show_default
    if one.show_default is False or one.default in (None, "", (), []) or one.is_flag:
        return ""
    return f"{one.default:g}" if isinstance(one.default, float) else str(one.default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
