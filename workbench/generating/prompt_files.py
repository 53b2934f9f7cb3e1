"""Several prompts, from a file of JSON lines or typed: what is asked of each, checked beforehand.

{"prompt", "answer_prefix"?, "system"?, "word"?, "split"?}      split: select (default), held_out or other
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from analysis.errors import HeadlampError, TextError
from workbench.generating.requests import GenerationRequest

SPLITS = ("select", "held_out", "other")
MOST_PROMPTS = 1000
"""Largest number of prompts in one file: each is generated twice, one after the other."""

LARGEST_FILE = 4_000_000
"""Largest uploaded file, in bytes."""


@dataclass(frozen=True)
class PromptLine:
    """One line of a file of prompts. Empty fields take what is asked of all."""

    prompt: str
    answer_prefix: str = ""
    system: str = ""
    word: str = ""
    split: str = SPLITS[0]

    def ask(self, common: GenerationRequest) -> GenerationRequest:
        """The request for this prompt, with everything else as in `common`."""
        return replace(
            common,
            prompt=self.prompt,
            answer_prefix=self.answer_prefix or common.answer_prefix,
            system=self.system or common.system,
            word=self.word or common.word,
        )


def parse_prompts(text: str, name: str) -> tuple[PromptLine, ...]:
    """The prompts of a file's text; `name` is what errors call it.

    Raises TextError for a file without a prompt or with more than MOST_PROMPTS, and for a line that is no
    JSON object of known fields, naming the line.
    """
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not numbered:
        raise TextError(f'{name} has no prompt; write one a line, such as {{"prompt": "My pet is a"}}')
    _check_count(len(numbered), name)
    return tuple(_parse_line(line, f"{name}, line {number}") for number, line in numbered)


def read_prompts(text: str, name: str) -> tuple[PromptLine, ...]:
    """Prompts as typed or uploaded: JSON lines if the first line opens an object, else the lines themselves.

    Empty lines and repeated prompts are left out. Raises TextError as `parse_prompts`.
    """
    if text.lstrip().startswith("{"):
        return tuple(dict.fromkeys(parse_prompts(text, name)))
    lines = tuple(dict.fromkeys(line.rstrip() for line in text.splitlines() if line.strip()))
    if not lines:
        raise TextError(f"{name} holds no prompt; write one a line, such as: My pet is a")
    _check_count(len(lines), name)
    return tuple(map(PromptLine, lines))


def decode_prompts(content: bytes, name: str) -> str:
    """An uploaded file's text. Raises TextError for what is not UTF-8, or too large."""
    if len(content) > LARGEST_FILE:
        raise TextError(f"{name} has {len(content):,} bytes, more than {LARGEST_FILE:,}; split it up")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(f"{name} is not UTF-8 text (byte {error.start}); save it as a text file") from error


def _check_count(count: int, name: str) -> None:
    if count > MOST_PROMPTS:
        raise TextError(f"{name} has {count} prompts, more than {MOST_PROMPTS}; split it into several files")


def _parse_line(line: str, where: str) -> PromptLine:
    known = [field.name for field in fields(PromptLine)]
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TextError(f"{where} is not JSON ({str(error)[:60]}); write one object a line") from error
    if not isinstance(entry, dict) or "prompt" not in entry:
        raise TextError(f'{where} is not an object with a "prompt"; write {{"prompt": "My pet is a"}}')
    for field, value in entry.items():
        if field not in known:
            raise TextError(f"{where} has the field {field[:40]!r}; known are {', '.join(known)}")
        if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
            raise TextError(f"{where}: {field} is not text; write it in quotes")
    if entry.get("split", SPLITS[0]) not in SPLITS:
        raise TextError(f"{where}: split {entry['split'][:40]!r} is unknown; choose {', '.join(SPLITS)}")
    if not entry["prompt"].strip():
        raise TextError(f"{where}: the prompt is empty; write the text the model should continue")
    return PromptLine(**entry)


def name_line(error: HeadlampError, name: str, number: int) -> HeadlampError:
    """The error of prompt `number` (from 0) of a file, saying which it is."""
    return type(error)(f"{name}, prompt {number + 1}: {error}")
