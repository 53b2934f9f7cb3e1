"""Every layout, read from small files of its own shape; and every bad file refused in a sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import BadSkillFile, JudgeError, SkillError, TooFewExamples
from analysis.skills.files import LARGEST_BYTES, parse_skill_bytes, read_hub_skill, read_skill
from analysis.skills.items import Skill

ITEM = {"prompt": "2 + 2 =", "answer": "4", "judge": "number", "group": "g", "wording": "w"}


def read(text: str | bytes, **fields: str) -> Skill:
    data = text.encode() if isinstance(text, str) else text
    return parse_skill_bytes(data, "file", "skill", fields or None)


def lines(*records: Mapping[str, Any]) -> str:
    return "\n".join(json.dumps(record) for record in records)


def test_a_skill_file_is_read_field_by_field() -> None:
    record = ITEM | {"lang": "fr", "stop": "END"}
    (item,) = read(lines(record)).items
    assert (item.prompt, item.answer, item.judge, item.group) == ("2 + 2 =", "4", "number", "g")
    assert (item.wording, item.lang, item.stop) == ("w", "fr", ("END",))


def test_a_csv_has_the_same_columns_and_lists_as_json() -> None:
    text = (
        'prompt,answer,judge,choices\n"Is it, so?",1,choice,"[""no"", ""yes""]"\nb,0,choice,"[""x"",""y""]"\n'
    )
    skill = read(text)
    assert skill.items[0].prompt == "Is it, so?"
    assert [item.choices for item in skill.items] == [("no", "yes"), ("x", "y")]
    assert skill.items[0].chosen == 1


def test_a_byte_order_mark_and_gzip_change_nothing() -> None:
    plain = read(lines(ITEM))
    assert read(b"\xef\xbb\xbf" + lines(ITEM).encode()).digest == plain.digest
    assert read(gzip.compress(lines(ITEM).encode())).digest == plain.digest


def test_gsm8k_asks_for_the_number_behind_the_hashes() -> None:
    (item,) = read(lines({"question": "How many?", "answer": "48/2 = 24\n#### 1,072"})).items
    assert (item.judge, item.answer, item.prompt) == ("number", "1,072", "Question: How many?\nAnswer:")


def test_mbpp_and_humaneval_are_judged_by_their_tests() -> None:
    mbpp = {"text": "Add.", "code": "x", "test_setup_code": "import re", "test_list": ["assert f(1) == 2"]}
    human = {"task_id": "H/0", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(c): pass"}
    one, other = (read(lines(record)).items[0] for record in (mbpp, human))
    assert (one.judge, one.tests, one.setup) == ("tests", ("assert f(1) == 2",), "import re")
    assert "Add." in one.prompt
    assert "assert f(1) == 2" in one.prompt
    assert other.setup == "def f(x):\n"
    assert other.tests[0].endswith("\ncheck(f)")


@pytest.mark.parametrize(
    "text",
    [
        "question,choice0,choice1,choice2,choice3,answer\nWhy?,a,b,c,d,2\nHow?,a,b,c,d,0\n",
        "Why?,a,b,c,d,C\nHow?,a,b,c,d,A\n",
        lines(
            {"question": "Why?", "choices": ["a", "b", "c", "d"], "answer": 2},
            {"question": "How?", "choices": [*"abcd"], "answer": 0},
        ),
    ],
    ids=["header", "as first released", "hub"],
)
def test_mmlu_is_a_choice_of_letters(text: str) -> None:
    first, second = read(text).items
    assert (first.judge, first.chosen, second.chosen) == ("choice", 2, 0)
    assert first.choices == ("A", "B", "C", "D")
    assert first.prompt == "Why?\nA. a\nB. b\nC. c\nD. d\nAnswer:"


def test_a_squad_paragraphs_questions_are_one_group() -> None:
    def question(text: str) -> dict[str, Any]:
        return {"question": text, "answers": [{"text": "Paris", "answer_start": 0}], "id": text}

    paragraph = {"context": "Paris is big.", "qas": [question("Which?"), question("What?")]}
    document = {"version": "1", "data": [{"paragraphs": [paragraph]}]}
    one, other = read(json.dumps(document, indent=1)).items
    assert one.group == other.group
    assert (one.judge, one.answer) == ("substring", "Paris")
    assert one.prompt == "Paris is big.\nQuestion: Which?\nAnswer:"


def test_tofu_is_a_choice_where_wrong_answers_are_given_else_perplexity() -> None:
    plain = {"question": "Who?", "answer": "Basil."}
    perturbed = plain | {"paraphrased_answer": "It is Basil.", "perturbed_answer": ["It is Tom.", "Ann."]}
    assert read(lines(plain)).items[0].judge == "perplexity"
    (item,) = read(lines(perturbed)).items
    assert (item.judge, item.choices, item.chosen) == ("choice", ("It is Basil.", "It is Tom.", "Ann."), 0)


def test_texts_are_measured_by_perplexity() -> None:
    prose = " = Title = \n\nA paragraph that is long enough to count as an example of its own, it is.\n\nx\n"
    for text in (json.dumps(["One day a girl found a needle."]), prose):
        (item,) = read(text).items
        assert (item.judge, item.answer) == ("perplexity", "")


def test_fields_can_be_mapped_and_filled_in() -> None:
    record = {"q": "2+2", "a": "4", "how": ["number"]}
    (item,) = read(lines(record), prompt="Q: {q}\nA:", answer="a", judge="{how[0]}").items
    assert (item.prompt, item.answer, item.judge) == ("Q: 2+2\nA:", "4", "number")
    with pytest.raises(BadSkillFile, match="'nothing' for 'answer' is not in the data: q, a"):
        read(lines(record), prompt="q", answer="nothing")
    for forbidden in ("{q.__class__}", "{q:>99999999999}", "{}"):
        with pytest.raises(BadSkillFile, match="for 'prompt' is not in the data"):
            read(lines(record), prompt=forbidden, answer="a")


def test_an_example_without_a_group_is_a_group_of_its_own() -> None:
    one, other = read(lines({"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "b"})).items
    assert one.group
    assert one.group != other.group


REFUSED: dict[str, tuple[str | bytes, type[SkillError], str]] = {
    "empty": ("", TooFewExamples, "is empty"),
    "a header alone": ("prompt,answer\n", TooFewExamples, "is empty"),
    "not UTF-8": (
        b'{"prompt": "caf\xe9"}',
        BadSkillFile,
        r"not UTF-8 text \(byte 15 is 0xe9\); save it as UTF-8",
    ),
    "CSV without header": ("What is 2+2?,4\nWhat is 3+3?,6\n", BadSkillFile, "a CSV needs a header"),
    "unknown judge": (
        lines(ITEM | {"judge": "vibes"}),
        JudgeError,
        "judge 'vibes' is unknown; choose number",
    ),
    "no answer": (lines({"prompt": "a", "judge": "exact"}), BadSkillFile, "example 1: .* has no answer"),
    "choice out of range": (
        lines({"prompt": "a", "judge": "choice", "choices": ["x"], "answer": 1}),
        BadSkillFile,
        "no 0-based index into its 1 choices",
    ),
    "half a line": (lines(ITEM) + '\n{"prompt": ', BadSkillFile, "line 2 is not JSON"),
    "numbers": ("[1, 2]", BadSkillFile, "example 1: it is a int"),
    "unknown layout": (lines({"a": 1}), BadSkillFile, "fields a matches no known layout"),
    "nested field": (lines(ITEM | {"prompt": {"x": 1}}), BadSkillFile, "'prompt' is a dict"),
    "damaged gzip": (gzip.compress(b"x" * 99)[:-9], BadSkillFile, "damaged gzip"),
    "damaged squad": (json.dumps({"data": [{}]}), BadSkillFile, "example 1 cannot be read"),
    "tests without tests": (lines({"prompt": "a", "judge": "tests"}), BadSkillFile, "has none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_in_a_sentence(case: str) -> None:
    text, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        read(text)


def test_a_file_that_is_missing_or_far_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSkillFile, match="No such file"):
        read_skill(tmp_path / "none.jsonl")
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    with monkeypatch.context() as patched:
        patched.delattr(Path, "read_bytes")  # it is not even read
        with pytest.raises(BadSkillFile, match="larger than 64 MB"):
            read_skill(large)
    with pytest.raises(BadSkillFile, match="larger than 64 MB"):
        read(gzip.compress(b"\n" * (LARGEST_BYTES + 1)))


def loader(rows: Iterable[Mapping[str, Any]], seen: list[Any]) -> Callable[..., Iterable[Mapping[str, Any]]]:
    def load(*names: Any, **options: Any) -> Iterable[Mapping[str, Any]]:
        seen.append((names, options))
        return rows

    return load


def test_a_hub_data_set_is_streamed_and_mapped() -> None:
    seen: list[Any] = []
    rows = ({"q": f"{i}", "a": "x"} for i in range(10**9))  # endless: only what is wanted is read
    fields = {"prompt": "q", "answer": "a"}
    skill = read_hub_skill("o/d", config="c", split="train", fields=fields, limit=3, load=loader(rows, seen))
    assert [item.prompt for item in skill.items] == ["0", "1", "2"]
    assert seen == [(("o/d", "c"), {"split": "train", "streaming": True})]


def test_a_hub_data_set_that_does_not_come_is_told() -> None:
    def load(*names: Any, **options: Any) -> Any:
        raise ConnectionError("no network\nmore")

    with pytest.raises(
        SkillError, match=r"'o/d' \(config None, split 'test'\) could not be loaded: .*no network"
    ):
        read_hub_skill("o/d", load=load)


@pytest.mark.real
@pytest.mark.parametrize(
    ("path", "judge", "least"),
    [
        ("gsm8k/test.jsonl", "number", 1319),
        ("mbpp/mbpp.jsonl", "tests", 974),
        ("humaneval/HumanEval.jsonl.gz", "tests", 164),
        ("mmlu/test/astronomy_test.csv", "choice", 152),
        ("xquad/xquad.zh.json", "substring", 1190),
        ("tofu/forget10.jsonl", "perplexity", 400),
        ("tofu/world_facts_perturbed.jsonl", "choice", 100),
        ("tinystories/tinystories_1000.json", "perplexity", 1000),
        ("wikitext-2/valid.txt", "perplexity", 1000),
    ],
)
def test_real_data_sets_are_read_as_they_are(real_folder: Path, path: str, judge: str, least: int) -> None:
    skill = read_skill(real_folder / "data" / path)
    assert len(skill.items) >= least
    assert {item.judge for item in skill.items} == {judge}
