"""Options that say what is asked, shared by the commands that read a word behind prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import HeadlampError
from analysis.running.conversations import Conversation, parse_turn
from workbench.cli.shared.options import check_readable_text
from workbench.cli.shared.session import read_text
from workbench.generating.prompt_files import PromptLine, parse_prompts
from workbench.levers.questions import take_lines

Word = Annotated[
    str,
    typer.Argument(metavar="WORD", callback=check_readable_text, help="The word; several tokens are fine."),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        callback=check_readable_text,
        help="A prompt to choose on; may be repeated.",
        show_default="those of the word's kind",
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE.jsonl",
        help="Prompts, a JSON object a line: prompt, and where it has them answer_prefix, system, word, and "
        "split (select, held_out, other).",
        show_default=False,
    ),
]
AnswerPrefix = Annotated[
    str,
    typer.Option(
        "--answer-prefix",
        metavar="TEXT",
        callback=check_readable_text,
        help="Beginning of the answer; the word is read behind it.",
    ),
]
System = Annotated[
    str,
    typer.Option(
        "--system", metavar="TEXT", callback=check_readable_text, help="System prompt of a chat model."
    ),
]
Turns = Annotated[
    list[str] | None,
    typer.Option(
        "--turn",
        metavar="ROLE:TEXT",
        callback=check_readable_text,
        help="An earlier turn, user:TEXT or assistant:TEXT, before every prompt; may be repeated.",
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Feed prompts to a chat model without its chat template.")]
Controls = Annotated[int, typer.Option("--controls", min=0, help="Number of sets of random neurons.")]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="TITLE",
        callback=check_readable_text,
        help="Keep the answer as a finding with this title.",
        show_default=False,
    ),
]
RecipeOut = Annotated[
    Path | None,
    typer.Option(
        "--recipe-out", metavar="FILE", help="Write the best clamps as a recipe.", show_default=False
    ),
]
ScriptOut = Annotated[
    Path | None,
    typer.Option(
        "--script-out",
        metavar="FILE.py",
        help="Write a script that shows the best clamps with torch and transformers alone.",
        show_default=False,
    ),
]


def read_lines(
    prompts: list[str] | None, path: Path | None, word: str | None = None
) -> tuple[PromptLine, ...]:
    """The prompts that were given, from the command line or from a file; with a word those for it.

    Raises HeadlampError for both, and for a file that has none for the word.
    """
    if prompts and path is not None:
        raise HeadlampError("--prompt and --prompts were both given; put all prompts into the file")
    if path is None:
        return tuple(map(PromptLine, prompts or ()))
    lines = parse_prompts(read_text(path), path.name)
    if word is None:
        return lines
    own = take_lines(lines, word)
    if not own:
        raise HeadlampError(
            f"{path.name} has no prompt for {word.strip()!r}; add lines with this word or with none, or "
            "leave the file out to take the prompts of the word's kind"
        )
    return tuple(own)


def check_prefix(answer_prefix: str, prompts: Sequence[object]) -> None:
    """Refuse an answer prefix without prompts: those that ship have their own."""
    if answer_prefix and not prompts:
        raise HeadlampError(
            "--answer-prefix begins the answers to prompts that are given; add --prompt, or leave it out"
        )


def read_common(answer_prefix: str, system: str, turns: list[str] | None, raw: bool) -> Conversation:
    """What all prompts have in common; its own prompt is a placeholder."""
    return Conversation("…", answer_prefix, system, tuple(parse_turn(text) for text in turns or ()), raw)
