"""A skill: a named set of examples, each with a judge of its answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from analysis.errors import BadSkillFile, JudgeError, TooFewExamples
from analysis.skills.choices import read_choices, read_texts, write_text
from analysis.skills.numbers import read_number

JudgeName = Literal["number", "substring", "exact", "choice", "tests", "perplexity"]
JUDGE_NAMES: tuple[JudgeName, ...] = get_args(JudgeName)
BLANK_LINE = "\n\n"
"""The default end of an answer that continues plain text."""


@dataclass(frozen=True)
class SkillItem:
    """One example.

    answer: the expected answer; for `choice` the 0-based index into `choices`; for `perplexity` the text
    scored after the prompt, or "" if the prompt itself is scored. tests: Python statements that must not
    fail; setup: code that comes before the output. group: one fact or template, whose wordings stay in one
    part of a split; wording: the phrasing. stop: what ends an answer, beside an end of text; None: a blank
    line where plain text is continued, nothing behind a chat template, whose answers have paragraphs.
    """

    prompt: str
    answer: str
    judge: JudgeName = "substring"
    choices: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    setup: str = ""
    group: str = ""
    wording: str = ""
    lang: str = "en"
    stop: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.judge not in JUDGE_NAMES:
            raise JudgeError(f"judge {self.judge!r} is unknown; choose {', '.join(JUDGE_NAMES)}")
        try:
            "".join(self._texts()).encode()
        except UnicodeEncodeError as error:
            raise BadSkillFile(
                f"it contains a lone surrogate ({error.object[error.start]!r}), which UTF-8 cannot encode; "
                "replace that character"
            ) from error
        if not self.prompt.strip():
            raise BadSkillFile("an example has an empty prompt; write what the model is asked")
        if self.judge in ("number", "substring", "exact") and not self.answer.strip():
            raise BadSkillFile(f"{self.prompt[:60]!r} has no answer, which the judge {self.judge} needs")
        if self.judge == "number" and read_number(self.answer) is None:
            raise BadSkillFile(
                f"{self.prompt[:60]!r}: the answer {self.answer[:40]!r} is not one finite number, which the "
                "judge number needs; write digits alone, with a point before decimals (1072, -3, 0.5, 1e-7)"
            )
        if self.judge == "choice" and self.chosen not in range(len(self.choices)):
            raise BadSkillFile(
                f"{self.prompt[:60]!r}: answer {self.answer!r} is no 0-based index into its "
                f"{len(self.choices)} choices"
            )
        if self.judge == "tests" and not self.tests:
            raise BadSkillFile(f"{self.prompt[:60]!r} is judged by tests, but has none")
        if not self.group:
            object.__setattr__(self, "group", f"item-{_digest([self.prompt, self.answer])[:16]}")

    def _texts(self) -> Iterator[str]:
        yield from (self.prompt, self.answer, self.setup, self.group, self.wording, self.lang)
        yield from (*self.choices, *self.tests, *(self.stop or ()))

    @property
    def chosen(self) -> int:
        """The index of the right choice; −1 if the answer is not an index."""
        return int(self.answer) if self.answer.strip().isdecimal() else -1

    @property
    def chance(self) -> float:
        """The accuracy of guessing, if known: 1 / choices, else 0."""
        return 1 / len(self.choices) if self.judge == "choice" else 0.0


@dataclass(frozen=True)
class Skill:
    """Examples under a name. Raises TooFewExamples if there are none."""

    name: str
    items: tuple[SkillItem, ...]

    def __post_init__(self) -> None:
        if not self.items:
            raise TooFewExamples(f"the skill {self.name!r} is empty; give at least one example")

    @property
    def digest(self) -> str:
        """SHA-256 of the examples in their order: part of the key of everything measured on them."""
        return _digest([_record(item) for item in self.items])

    @property
    def wordings(self) -> tuple[str, ...]:
        """The distinct phrasings, sorted, without ""."""
        return tuple(sorted({item.wording for item in self.items} - {""}))

    def subsample(self, count: int) -> Skill:
        """At most `count` examples, evenly spaced over the skill."""
        step = max(1.0, len(self.items) / max(count, 1))
        return replace(
            self, items=tuple(self.items[int(i * step)] for i in range(min(count, len(self.items))))
        )


def read_item(record: Mapping[str, Any]) -> SkillItem:
    """The example of one record of a skill file. Raises BadSkillFile or JudgeError with the reason."""
    fields: dict[str, Any] = {
        name: write_text(record[name], name)
        for name in ("prompt", "answer", "judge", "setup", "group", "wording", "lang")
        if record.get(name) not in (None, "")
    }
    for name in ("tests", "stop"):
        if record.get(name) not in (None, "", []):
            fields[name] = read_texts(record, name)
    if record.get("choices") not in (None, "", []):
        choices = read_choices(record)
        fields["choices"] = choices.texts
        if fields.get("judge") == "choice" and "answer" in fields:
            fields["answer"] = choices.find(fields["answer"])
    return SkillItem(**{"prompt": "", "answer": ""} | fields)


def _record(item: SkillItem) -> dict[str, Any]:
    """What a digest covers. The default stop is written as the blank line that it was in all versions."""
    if item.stop is None:
        return asdict(item) | {"stop": [BLANK_LINE]}
    return asdict(item) | ({"stop_given": True} if item.stop == (BLANK_LINE,) else {})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
