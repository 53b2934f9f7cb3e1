"""Tables with any usual separator, and rows, fields and answers that are refused by their number."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from analysis.errors import BadSkillFile, TooFewExamples
from analysis.skills.files import parse_skill_bytes, write_skill_lines
from analysis.skills.items import Skill, SkillItem

QUESTION = "Which gas do plants take in?"
GASES = ["oxygen", "carbon dioxide", "neon", "helium"]


def read(data: str | bytes, **fields: str) -> Skill:
    given = data.encode() if isinstance(data, str) else data
    return parse_skill_bytes(given, "file", "skill", fields or None)


def lines(*records: Mapping[str, Any]) -> str:
    return "\n".join(json.dumps(record) for record in records)


def one(record: Mapping[str, Any]) -> SkillItem:
    (item,) = read(lines(record)).items
    return item


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("head", ["prompt{0}answer{0}judge", "Prompt{0}ANSWER{0} Judge "])
def test_the_header_says_what_separates_and_its_case_does_not_matter(separator: str, head: str) -> None:
    rows = [head.format(separator), f"4 ÷ 2 ={separator}2{separator}number"]
    (item,) = read("\n".join(rows)).items
    assert (item.prompt, item.answer, item.judge) == ("4 ÷ 2 =", "2", "number")


def test_a_declared_separator_a_byte_order_mark_and_utf_16_change_nothing() -> None:
    plain = read("prompt,answer\na,b\n")
    assert read("sep=;\r\nprompt;answer\r\na;b\r\n").digest == plain.digest
    assert read("sep=,\nprompt,answer\na,b\n").digest == plain.digest
    assert read("prompt,answer\na,b\n".encode("utf-16")).digest == plain.digest
    assert read("\ufeffprompt;answer\na;b\n").digest == plain.digest


def test_a_cell_may_hold_separators_quotes_and_line_breaks() -> None:
    (item,) = read('prompt;answer\r\n"She said ""no"";\r\nwhy?";because, yes\r\n').items
    assert (item.prompt, item.answer) == ('She said "no";\r\nwhy?', "because, yes")


def test_empty_cells_behind_the_last_column_are_left_out() -> None:
    assert read("prompt,answer\na,b,\nc,d,,\n").digest == read("prompt,answer\na,b\nc,d\n").digest


def test_a_column_of_texts_is_a_table() -> None:
    found = read('text\n"One, two."\nThree.\n').items
    assert [(item.prompt, item.judge) for item in found] == [
        ("One, two.", "perplexity"),
        ("Three.", "perplexity"),
    ]


def test_mapped_columns_make_a_table_too() -> None:
    (item,) = read("Frage;Die Antwort\nWas?;Das.\n", prompt="Frage", answer="Die Antwort").items
    assert (item.prompt, item.answer) == ("Was?", "Das.")


def test_prose_with_commas_stays_prose() -> None:
    prose = "A first one, with commas, that is long enough.\nThe second one has none and will do as well.\n"
    assert [item.judge for item in read(prose).items] == ["perplexity", "perplexity"]


def test_lines_may_end_in_carriage_returns_alone() -> None:
    assert read("prompt,answer\ra,b\rc,d\r").digest == read("prompt,answer\na,b\nc,d\n").digest
    given = lines({"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d"})
    assert read(given.replace("\n", "\r")).digest == read(given).digest


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("count", [1, 2])
def test_mmlu_without_a_header_is_read_with_any_separator(separator: str, count: int) -> None:
    row = separator.join(["Which is a gas?", "iron", "neon", "salt", "ice", "B"])
    found = read("\n".join([row] * count)).items
    assert [(item.chosen, item.prompt) for item in found] == [
        (1, "Which is a gas?\nA. iron\nB. neon\nC. salt\nD. ice\nAnswer:")
    ] * count


def test_a_short_text_is_refused_with_what_it_is_not() -> None:
    with pytest.raises(TooFewExamples, match=r"file: it is empty: no paragraph of 40 .* no table"):
        read("a; b; c\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,answer,answer\na,b,c\n", "the header names the column 'answer' 2 times; rename"),
        ("Prompt;answer;PROMPT\na;b;c\n", "the header names the column 'prompt' 2 times; rename"),
        (
            "prompt,answer\na,b\nc, d,e\n",
            "line 3 has 3 cells under a header of 2; put a text",
        ),
        ("prompt;answer\na;b\nc\n", "line 3 has 1 cells under a header of 2"),
        ("sep=;\nprompt;answer\na;b\nc\n", "line 4 has 1 cells"),
        ("\n\r\nprompt,answer\na,b\nc\n", "line 5 has 1 cells"),
        ('prompt,answer\n"a\nb",c\nd\n', "line 4 has 1 cells"),
        ('prompt,answer\na,b\n"Which" one?,c\n', "line 3 is no row of the table .* double its own"),
        ("prompt\na\n", "example 1: 'a' has no answer"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_its_line(text: str, message: str) -> None:
    with pytest.raises(BadSkillFile, match=message):
        read(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("prompt,answer,judge\na,1,number\nb,NaN,number\n", "NaN"),
        ("prompt;answer;judge\na;1;number\nb;1,5;number\n", "1,5"),
        ("question,answer\na,first #### 4\nb,then #### seven\n", "seven"),
        (lines({"question": "a", "answer": "#### 4"}, {"question": "b", "answer": "#### inf"}), "inf"),
    ],
)
def test_a_number_that_is_none_is_refused_by_its_row(text: str, answer: str) -> None:
    with pytest.raises(BadSkillFile, match=f"example 2: .*the answer '{answer}' is not one finite number"):
        read(text)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), ["Ann", "A."], True, {"x": 1}])
@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "ok?", "answer": "BAD", "judge": "substring"},
        {"prompt": "BAD", "answer": "b"},
        {"question": "ok?", "answer": "BAD"},
        {"question": "BAD", "answer": "b"},
        {"question": "BAD", "answer": "#### 4"},
        {"question": "ok?", "answer": "BAD", "choices": ["x", "y"]},
        {"question": "ok?", "answer": 0, "choices": ["x", "BAD"]},
        {"question": "ok?", "answer": "A", "choices": {"text": ["x", "BAD"], "label": ["A", "B"]}},
        {"question": "ok?", "answer": "x", "perturbed_answer": ["BAD"]},
        {"context": "BAD", "question": "ok?", "answers": {"text": ["x"]}},
        {"context": "c", "question": "BAD", "answers": {"text": ["x"]}},
        {"context": "c", "question": "ok?", "answers": {"text": ["BAD"]}},
        {"text": "BAD", "test_list": ["assert f()"]},
        {"text": "ok", "test_list": ["BAD"]},
        {"prompt": "def f():", "entry_point": "f", "test": "BAD"},
        {"messages": [{"role": "user", "content": "ok?"}, {"role": "assistant", "content": "BAD"}]},
        {"text": "BAD"},
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_in_every_layout(record: dict[str, Any], bad: Any) -> None:
    text = json.dumps(record).replace('"BAD"', json.dumps(bad))
    with pytest.raises(BadSkillFile, match="example 2"):
        read(f"{lines({'prompt': 'a', 'answer': 'b'})}\n{text}")


@pytest.mark.parametrize("answer", [1, "1", "B", "carbon dioxide"])
def test_a_right_choice_is_an_index_a_letter_or_its_text(answer: Any) -> None:
    item = one({"question": QUESTION, "choices": GASES, "answer": answer})
    assert (item.judge, item.chosen, item.choices) == ("choice", 1, ("A", "B", "C", "D"))
    assert "B. carbon dioxide" in item.prompt


@pytest.mark.parametrize("field", ["answer", "answerKey"])
@pytest.mark.parametrize(("labels", "key"), [("ABCD", "C"), ("1234", "3"), ("1234", 3)])
def test_arc_and_commonsense_qa_label_their_choices(field: str, labels: str, key: Any) -> None:
    item = one({"question": QUESTION, "choices": {"text": GASES, "label": [*labels]}, field: key})
    assert item.chosen == 2
    assert item.prompt.startswith(f"{QUESTION}\nA. oxygen\n")


def test_labels_of_ones_own_layout_say_which_choice_is_right() -> None:
    choices = {"text": ["no", "yes"], "label": ["N", "Y"]}
    item = one({"prompt": "Is ice cold?", "judge": "choice", "choices": choices, "answer": "Y"})
    assert (item.chosen, item.choices) == (1, ("no", "yes"))


def test_answers_counted_from_one_are_counted_from_zero() -> None:
    def ask(*answers: int) -> list[int]:
        records = ({"question": QUESTION, "choices": GASES, "answer": one} for one in answers)
        return [item.chosen for item in read(lines(*records)).items]

    assert ask(1, 4, 2) == [0, 3, 1]
    assert ask(1, 3, 2) == [1, 3, 2]
    assert choose((DIGITS, 2), (WORDS, 4)) == [1, 3]
    with pytest.raises(BadSkillFile, match=r"example 2: .* '4' is no 0-based index into its 4 choices"):
        ask(0, 4)


def choose(*rows: tuple[list[str], object], ask: str = "question", **more: str) -> list[int]:
    records = ({ask: QUESTION, "choices": texts, "answer": said, **more} for texts, said in rows)
    return [item.chosen for item in read(lines(*records)).items]


DIGITS, COLOURS, WORDS = ["1", "2", "3", "4"], ["red", "blue"], ["w", "x", "y", "z"]


@pytest.mark.parametrize("ours", [{}, {"ask": "prompt", "judge": "choice"}])
def test_whether_numbers_and_letters_are_texts_or_places_is_decided_by_the_file(ours: dict[str, str]) -> None:
    assert choose((DIGITS, "2"), (COLOURS, "blue"), **ours) == [1, 1]
    assert choose((["3", "4", "5", "6"], "4"), (["3", "4", "5", "6"], "3"), **ours) == [1, 0]
    assert choose((["41", "42"], "42"), (WORDS, "2"), **ours) == [1, 2]
    assert choose((DIGITS, "2"), (WORDS, "0"), **ours) == [2, 0]
    assert choose((["0", "1", "2"], "1"), **ours) == [1]
    assert choose((["C", "A", "D", "B"], "A"), (WORDS, "D"), **ours) == [0, 3]
    assert choose((["C", "A", "D", "B"], "A"), (["E", "F"], "F"), **ours) == [1, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(WORDS, "x"), (DIGITS, "2"), (WORDS, "2")], "example 2: the answer '2' is the text of one choice"),
        ([(DIGITS, "2")], "example 1: the answer '2' .*; write the right choice's letter, A for the first"),
        ([(["C", "A", "D", "B"], "A")], "example 1: the answer 'A' .*; write the right choice's index"),
    ],
)  # fmt: skip
def test_an_answer_that_may_be_a_text_or_a_place_is_refused(
    rows: list[tuple[list[str], object]], message: str
) -> None:
    with pytest.raises(BadSkillFile, match=message):
        choose(*rows)


def test_a_table_and_mapped_columns_are_decided_by_the_file_too() -> None:
    rows = 'question,choices,answer\nq,"[""1"",""2"",""3""]",2\n'
    assert [one.chosen for one in read(f'{rows}r,"[""red"",""blue""]",blue\n').items] == [1, 1]
    with pytest.raises(BadSkillFile, match="example 1: the answer '2' is the text"):
        read(rows)
    kind = {"prompt": "Q", "choices": "C", "answer": "R", "judge": "J"}
    with pytest.raises(BadSkillFile, match="example 1: the answer '2' is the text"):
        read(lines({"Q": "q", "C": DIGITS, "R": "2", "J": "choice"}), **kind)


def test_in_the_own_layout_a_number_is_an_index_so_that_what_is_written_is_read_again() -> None:
    skill = Skill("skill", (SkillItem("q", "1", "choice", choices=("1", "2", "0")),))
    assert read(write_skill_lines(skill)) == skill


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": QUESTION, "choices": GASES, "answer": None}, "the field 'answer' is null; write"),
        ({"question": QUESTION, "choices": GASES, "answer": "E"}, "answer 'E' is no 0-based index"),
        ({"question": QUESTION, "choices": ["x", "x"], "answer": "x"}, "answer 'x' is no 0-based index"),
        (
            {"question": QUESTION, "choices": {"a": 1}, "answer": "A"},
            "'choices' is a dict; write a list",
        ),
        (
            {"question": QUESTION, "choices": {"text": GASES, "label": ["A"]}, "answer": "A"},
            "it has 1 labels for 4",
        ),
        ({"question": QUESTION, "choices": GASES, "answer": True}, "'answer' is a bool"),
    ],
)
def test_a_choice_that_is_none_is_refused(record: Mapping[str, Any], message: str) -> None:
    with pytest.raises(BadSkillFile, match=f"example 1: .*{message}"):
        one(record)


def test_a_chat_of_one_question_and_answer_is_an_example() -> None:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert vars(one({"messages": chat})) == vars(SkillItem("hi", "hello", "perplexity"))
    assert read(json.dumps(chat)).digest == read(lines({"messages": chat})).digest
    with pytest.raises(BadSkillFile, match="its messages are of system, user, assistant; an example is one"):
        one({"messages": [{"role": "system", "content": "be brief"}, *chat]})


def test_records_under_data_are_read() -> None:
    assert read(json.dumps({"data": [{"prompt": "a", "answer": "b"}]})).items[0].answer == "b"
    rows = [{"question": "q", "choices": WORDS, "answer": one} for one in (1, 4)]
    assert [item.chosen for item in read(json.dumps({"data": rows})).items] == [0, 3]


def test_a_list_with_a_comma_too_many_says_where() -> None:
    with pytest.raises(
        BadSkillFile, match=r"the list is not JSON \(.*line 3 column 1.*comma behind the last entry"
    ):
        read('[\n {"prompt": "a", "answer": "b"},\n]\n')
