"""Fields of a record: texts that must be there, choices, and which of them is right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True)
class Asked:
    """What an example of a file says is right. number: the example's, from 1; ours: the example is in this
    program's own layout, in which a number is an index from 0.
    """

    number: int
    choices: Choices
    said: str
    ours: bool = False

    @property
    def kind(self) -> Literal["label", "number", "letter", "text", ""]:
        """What the answer can be beside the text of a choice; "" if it names none."""
        count = len(self.choices.texts)
        if self.said in self.choices.labels:
            return "label"
        if self.said.isdecimal() and len(self.said) < 4 and int(self.said) <= count:
            return "number"
        if len(self.said) == 1 and self.said in LETTERS[:count]:
            return "letter"
        return "text" if self.spelled is not None else ""

    @property
    def spelled(self) -> int | None:
        """The index of the one choice with the answer's text, if there is one."""
        texts = self.choices.texts
        return texts.index(self.said) if texts.count(self.said) == 1 else None

    @property
    def placed(self) -> int:
        """The index that a number from 0 or a letter names."""
        return int(self.said) if self.said.isdecimal() else LETTERS.index(self.said)


def settle_answers(asked: Sequence[Asked]) -> dict[int, int]:
    """Number of each example → index of its right choice, where an answer of the file names one.

    A number or a letter may be the text of a choice, too. All the numbers, and all the letters, of a file
    are one or the other: texts where another answer is a text and nothing else, or where they are no
    indices from 0; places where one of them is no text. Numbers are counted from 1, except in our own layout,
    where none is 0 and one is as large as its number of choices. Raises BadSkillFile for the first answer
    that may be either.
    """
    texts = [one for one in asked if one.kind == "text"]
    found = {one.number: one.choices.labels.index(one.said) for one in asked if one.kind == "label"}
    found |= {one.number: one.spelled for one in texts if one.spelled is not None}
    for kind in ("number", "letter"):
        group = [one for one in asked if one.kind == kind]
        indices = _settle(group, bool(texts)) if group else []
        found |= {one.number: index for one, index in zip(group, indices, strict=True)}
    return found


def _settle(group: Sequence[Asked], beside_texts: bool) -> list[int]:
    """The indices of all numbers, or of all letters, of a file."""
    placed = [one.placed for one in group]
    spelled = [one.spelled for one in group if one.spelled is not None]
    are_texts = len(spelled) == len(group)
    fit = all(place < len(one.choices.texts) for place, one in zip(placed, group, strict=True))
    if are_texts and (beside_texts or not fit):
        return spelled
    if all(one.ours for one in group):
        are_texts = False
    elif not fit and all(placed):
        placed = [place - 1 for place in placed]
    for place, one in zip(placed, group, strict=True):
        if (are_texts or beside_texts) and one.spelled not in (None, place):
            raise _ambiguous(one)
    return placed


def _ambiguous(one: Asked) -> BadSkillFile:
    place, way = ("index", "letter, A for the first") if one.kind == "number" else ("letter", "index from 0")
    return BadSkillFile(
        f"example {one.number}: the answer {one.said!r} is the text of one choice and the {place} of "
        f"another, and the file does not tell which is meant; write the right choice's {way}"
    )
