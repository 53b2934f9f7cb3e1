"""Fields of a record: texts that must be there, choices, and which of them is right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.errors import BadSkillFile

LETTERS = "ABCDEFGHIJ"


def read_text(record: Mapping[str, Any], name: str) -> str:
    """A field as text. Raises BadSkillFile for one that is missing, null, not finite, a list or an object."""
    if name not in record:
        raise BadSkillFile(f"the field {name!r} is missing; write a text or a number")
    return write_text(record[name], name)


def write_text(value: Any, name: str) -> str:
    """A value of a field as text. Raises BadSkillFile as `read_text`."""
    if value is None:
        raise BadSkillFile(f"the field {name!r} is null; write a text or a number, or leave the example out")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadSkillFile(f"the field {name!r} is a {type(value).__name__}; write a text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadSkillFile(
            f"the field {name!r} is {value}, which is no number; write the answer, or leave the example out"
        )
    return str(value)


def read_texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts, also if written as JSON inside a CSV cell; `stop` may be a single text."""
    value = record[name]
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadSkillFile(f"the field {name!r} is not a JSON list: {str(error)[:60]}") from error
    if isinstance(value, str) and name == "stop":
        value = [value]
    if not isinstance(value, list | tuple):
        raise BadSkillFile(f"the field {name!r} is a {type(value).__name__}; write a list of texts")
    return tuple(write_text(one, f"{name}[{place}]") for place, one in enumerate(value))


@dataclass(frozen=True)
class Choices:
    """The choices of a question, and their labels where they have some of their own."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != len(self.texts):
            raise BadSkillFile(f"it has {len(self.labels)} labels for {len(self.texts)} choices")

    def find(self, answer: Any) -> str:
        """The 0-based index, as text, of the choice that an answer names: by a label, a letter, a number from
        0, or its own text. An answer that names none is given back, for the example's own error.
        """
        said = write_text(answer, "answer").strip()
        if said in self.labels:
            return str(self.labels.index(said))
        if len(said) == 1 and said in LETTERS[: len(self.texts)]:
            return str(LETTERS.index(said))
        if not said.isdecimal() and self.texts.count(said) == 1:
            return str(self.texts.index(said))
        return said


def read_choices(record: Mapping[str, Any], name: str = "choices") -> Choices:
    """A list of texts, or an object of texts and labels, as ARC and CommonsenseQA have it."""
    value = record[name]
    if isinstance(value, Mapping) and "text" in value:
        labels = read_texts(value, "label") if value.get("label") is not None else ()
        return Choices(read_texts(value, "text"), labels)
    if isinstance(value, Mapping):
        raise BadSkillFile(
            f"the field {name!r} is a dict; write a list of texts, or an object with the lists text and label"
        )
    return Choices(read_texts(record, name))


def counts_from_one(answers: Sequence[tuple[int, int]]) -> bool:
    """Whether answers are counted from 1. answers: (index, number of choices) of every example of a file.

    They are where none is 0 and one is as large as its number of choices.
    """
    return all(index > 0 for index, _ in answers) and any(index == count for index, count in answers)
