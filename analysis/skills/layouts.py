"""Layouts of skill files and Hub data sets, converted to examples.

GSM8K, MBPP, HumanEval, MMLU, SQuAD-style (XQuAD, MLQA), TOFU, and lists of texts. The layout
is detected from a record's fields, never from a file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from analysis.errors import BadSkillFile
from analysis.skills.items import SkillItem, read_item

Record = Mapping[str, Any]
LETTERS = "ABCDEFGHIJ"
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


def make_text_item(text: str) -> SkillItem:
    """An example that is measured by the perplexity of a text."""
    return SkillItem(text, "", "perplexity")


def _has(*names: str) -> Callable[[Record], bool]:
    return lambda record: all(name in record for name in names)


def _gsm8k(record: Record) -> list[SkillItem]:
    answer = str(record["answer"]).rpartition("####")[2].strip()
    return [SkillItem(f"Question: {record['question']}\nAnswer:", answer, "number")]


def _is_gsm8k(record: Record) -> bool:
    return _has("question", "answer")(record) and "####" in str(record["answer"])


def _mbpp(record: Record) -> list[SkillItem]:
    tests = [*record.get("test_list", ()), *record.get("challenge_test_list", ())]
    setup = "\n".join([str(record.get("test_setup_code") or ""), *record.get("test_imports", ())]).strip()
    task = record.get("text") or record.get("prompt")
    prompt = f'"""\n{task}\n{tests[0] if tests else ""}\n"""\n'
    return [SkillItem(prompt, "", "tests", tests=tuple(map(str, tests)), setup=setup, stop=CODE_STOPS[1:])]


def _humaneval(record: Record) -> list[SkillItem]:
    test = f"{record['test']}\ncheck({record['entry_point']})"
    prompt = str(record["prompt"])
    group = str(record.get("task_id", ""))
    return [SkillItem(prompt, "", "tests", tests=(test,), setup=prompt, group=group, stop=CODE_STOPS)]


def _mmlu(record: Record) -> list[SkillItem]:
    choices = record.get("choices") or [record[f"choice{i}"] for i in range(4)]
    answer = str(record["answer"]).strip()
    index = str(LETTERS.index(answer)) if len(answer) == 1 and answer in LETTERS else answer
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    prompt = f"{str(record['question']).strip()}\n{listed}\nAnswer:"
    return [SkillItem(prompt, index, "choice", choices=tuple(LETTERS[: len(choices)]))]


def _is_mmlu(record: Record) -> bool:
    return _has("question", "answer")(record) and ("choices" in record or _has("choice0", "choice3")(record))


def _squad(record: Record) -> list[SkillItem]:
    return [
        item
        for entry in record["data"]
        for paragraph in entry["paragraphs"]
        for item in _paragraph(paragraph["context"], paragraph["qas"])
    ]


def _paragraph(context: str, questions: Sequence[Record]) -> Iterator[SkillItem]:
    """Questions on one paragraph form one group: seeing one reveals the text of all."""
    for question in questions:
        answers = question.get("answers") or []
        texts = answers.get("text", []) if isinstance(answers, Mapping) else [a["text"] for a in answers]
        if texts and str(texts[0]).strip():
            prompt = f"{context}\nQuestion: {question['question']}\nAnswer:"
            yield SkillItem(prompt, str(texts[0]), group=f"context-{context[:80]}")


def _flat_squad(record: Record) -> list[SkillItem]:
    return list(_paragraph(str(record["context"]), [record]))


def _tofu(record: Record) -> list[SkillItem]:
    prompt = f"Question: {record['question']}\nAnswer:"
    if "perturbed_answer" not in record:
        return [SkillItem(prompt, str(record["answer"]), "perplexity")]
    wrong = record["perturbed_answer"]
    right = str(record.get("paraphrased_answer") or record["answer"])
    choices = (right, *([wrong] if isinstance(wrong, str) else map(str, wrong)))
    return [SkillItem(prompt, "0", "choice", choices=choices)]


_LAYOUTS: tuple[tuple[Callable[[Record], bool], Callable[[Record], list[SkillItem]]], ...] = (
    (_has("test_list"), _mbpp),
    (_has("prompt", "test", "entry_point"), _humaneval),
    (_has("prompt"), lambda record: [read_item(record)]),
    (_has("data"), _squad),
    (_has("context", "question", "answers"), _flat_squad),
    (_is_mmlu, _mmlu),
    (_is_gsm8k, _gsm8k),
    (_has("question", "answer"), _tofu),
    (_has("text"), lambda record: [make_text_item(str(record["text"]))]),
)
