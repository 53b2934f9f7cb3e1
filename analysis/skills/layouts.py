"""Layouts of skill files and Hub data sets, converted to examples.

GSM8K, MBPP, HumanEval, MMLU, ARC, CommonsenseQA, SQuAD-style (XQuAD, MLQA), TOFU, chats, and lists of texts.
The layout is detected from a record's fields, never from a file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from analysis.errors import BadSkillFile, SkillError
from analysis.skills.choices import (
    LETTERS,
    Asked,
    Choices,
    read_choices,
    read_text,
    settle_answers,
    write_text,
)
from analysis.skills.items import SkillItem, read_item

Record = Mapping[str, Any]
CODE_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\nassert ", "\n\n\n")
"""What ends a generated function."""


def read_items(record: Record) -> list[SkillItem]:
    """The examples of one record in any known layout; SQuAD records hold many.

    Raises BadSkillFile naming the layouts if none matches.
    """
    for is_layout, read in _LAYOUTS:
        if is_layout(record):
            return read(record)
    raise BadSkillFile(
        f"a record with the fields {', '.join(map(str, record)) or '(none)'} matches no known layout; write "
        '{"prompt", "answer", "judge"}, or map its fields to these'
    )


class _Template(Formatter):
    """Template with plain field substitution only: no attributes, no format specs."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if "." in field_name:
            raise KeyError(field_name)
        return super().get_field(field_name, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec:
            raise ValueError(format_spec)
        return str(value)


def map_fields(record: Record, fields: Mapping[str, str]) -> dict[str, Any]:
    """A record with a skill file's field names. fields: our name → theirs; a text with {theirs} is a
    template.

    Raises BadSkillFile if a field is missing.
    """
    made: dict[str, Any] = {}
    for ours, theirs in fields.items():
        try:
            made[ours] = _Template().vformat(theirs, (), record) if "{" in theirs else record[theirs]
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise BadSkillFile(
                f"the field {theirs!r} for {ours!r} is not in the data: {', '.join(map(str, record))}"
            ) from error
    return made


def join_chat(records: list[Any]) -> list[Any]:
    """The records of a file; one chat where they are its messages."""
    said = [isinstance(one, Mapping) and one.keys() == {"role", "content"} for one in records]
    return [{"messages": records}] if records and all(said) else records


def make_text_item(text: str) -> SkillItem:
    """An example that is measured by the perplexity of a text."""
    return SkillItem(text, "", "perplexity")


def _has(*names: str) -> Callable[[Record], bool]:
    return lambda record: all(name in record for name in names)


def _gsm8k(record: Record) -> list[SkillItem]:
    answer = read_text(record, "answer").rpartition("####")[2].strip()
    return [SkillItem(_ask(record), answer, "number")]


def _ask(record: Record) -> str:
    return f"Question: {read_text(record, 'question')}\nAnswer:"


def _is_gsm8k(record: Record) -> bool:
    return _has("question", "answer")(record) and "####" in str(record["answer"])


def _mbpp(record: Record) -> list[SkillItem]:
    tests = [*record.get("test_list", ()), *record.get("challenge_test_list", ())]
    setup = "\n".join([str(record.get("test_setup_code") or ""), *record.get("test_imports", ())]).strip()
    task = read_text(record, "text" if record.get("text") else "prompt")
    prompt = f'"""\n{task}\n{tests[0] if tests else ""}\n"""\n'
    statements = tuple(write_text(test, "test_list") for test in tests)
    return [SkillItem(prompt, "", "tests", tests=statements, setup=setup, stop=CODE_STOPS[1:])]


def _humaneval(record: Record) -> list[SkillItem]:
    test = f"{read_text(record, 'test')}\ncheck({read_text(record, 'entry_point')})"
    prompt = read_text(record, "prompt")
    group = str(record.get("task_id", ""))
    return [SkillItem(prompt, "", "tests", tests=(test,), setup=prompt, group=group, stop=CODE_STOPS)]


def _multiple_choice(record: Record) -> list[SkillItem]:
    choices = _read_choices(record)
    index = choices.find(_right(record))
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, choices.texts, strict=False))
    prompt = f"{read_text(record, 'question').strip()}\n{listed}\nAnswer:"
    return [SkillItem(prompt, index, "choice", choices=tuple(LETTERS[: len(choices.texts)]))]


def _right(record: Record) -> Any:
    return record["answerKey" if record.get("answer") is None and "answerKey" in record else "answer"]


def _read_choices(record: Record) -> Choices:
    if record.get("choices"):
        return read_choices(record)
    return Choices(tuple(read_text(record, f"choice{place}") for place in range(4)))


def _is_multiple_choice(record: Record) -> bool:
    """Whether a record is MMLU's, ARC's or CommonsenseQA's: a question, its choices, and which is right."""
    right, choices = ("answer", "answerKey"), ("choices" in record or _has("choice0", "choice3")(record))
    return "prompt" not in record and "question" in record and choices and any(n in record for n in right)


def settle_choices(records: list[Any], *, mapped: bool = False) -> list[Any]:
    """The records of a file, the answers of those with choices written as indices from 0.

    mapped: their fields were mapped to ours. Raises BadSkillFile as `settle_answers`.
    """
    asked = [_read_asked(number, one, mapped) for number, one in enumerate(records, 1)]
    found = settle_answers([one for one in asked if one is not None])
    return [
        {**record, "choices": list(one.choices.texts), "answer": str(found[one.number])}
        if one is not None and one.number in found
        else record
        for one, record in zip(asked, records, strict=True)
    ]


def _read_asked(number: int, record: Any, mapped: bool) -> Asked | None:
    """What a record says is right among its choices; None if it has none, or none that can be read."""
    if not isinstance(record, Mapping):
        return None
    ours = "prompt" in record and record.get("judge") == "choice" and bool(record.get("choices"))
    if not ours and not _is_multiple_choice(record):
        return None
    try:
        said = write_text(_right(record), "answer").strip()
        return Asked(number, _read_choices(record), said, ours and not mapped)
    except (SkillError, KeyError):
        return None


def _squad(record: Record) -> list[SkillItem]:
    """SQuAD's document, or any other whose records are under data."""
    entries = record["data"]
    if not any("paragraphs" in entry for entry in entries) and all(entries):
        return [item for entry in settle_choices(entries) for item in read_items(entry)]
    return [
        item
        for entry in entries
        for paragraph in entry["paragraphs"]
        for item in _paragraph(read_text(paragraph, "context"), paragraph["qas"])
    ]


def _paragraph(context: str, questions: Sequence[Record]) -> Iterator[SkillItem]:
    """Questions on one paragraph form one group: seeing one reveals the text of all."""
    for question in questions:
        answers = question.get("answers") or []
        texts = answers.get("text", []) if isinstance(answers, Mapping) else [a["text"] for a in answers]
        if texts and write_text(texts[0], "answers").strip():
            prompt = f"{context}\n{_ask(question)}"
            yield SkillItem(prompt, str(texts[0]), group=f"context-{context[:80]}")


def _flat_squad(record: Record) -> list[SkillItem]:
    return list(_paragraph(read_text(record, "context"), [record]))


def _tofu(record: Record) -> list[SkillItem]:
    if "perturbed_answer" not in record:
        return [SkillItem(_ask(record), read_text(record, "answer"), "perplexity")]
    wrong = record["perturbed_answer"]
    right = read_text(record, "paraphrased_answer" if record.get("paraphrased_answer") else "answer")
    others = [wrong] if isinstance(wrong, str) else wrong
    choices = (right, *(write_text(one, "perturbed_answer") for one in others))
    return [SkillItem(_ask(record), "0", "choice", choices=choices)]


def _messages(record: Record) -> list[SkillItem]:
    """A chat of one question and its answer, which is measured by perplexity."""
    said = [(read_text(one, "role"), read_text(one, "content")) for one in record["messages"]]
    if [role for role, _ in said] != ["user", "assistant"]:
        roles = ", ".join(role for role, _ in said) or "none"
        raise BadSkillFile(
            f"its messages are of {roles}; an example is one message of the user and one of the assistant"
        )
    return [SkillItem(said[0][1], said[1][1], "perplexity")]


_LAYOUTS: tuple[tuple[Callable[[Record], bool], Callable[[Record], list[SkillItem]]], ...] = (
    (_has("test_list"), _mbpp),
    (_has("prompt", "test", "entry_point"), _humaneval),
    (_has("prompt"), lambda record: [read_item(record)]),
    (_has("data"), _squad),
    (_has("context", "question", "answers"), _flat_squad),
    (_is_multiple_choice, _multiple_choice),
    (_is_gsm8k, _gsm8k),
    (_has("question", "answer"), _tofu),
    (_has("messages"), _messages),
    (_has("text"), lambda record: [make_text_item(read_text(record, "text"))]),
)
