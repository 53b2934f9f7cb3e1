"""The skills a person has: bundled ones first, defined ones as files that nothing leads out of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.errors import BadSkillFile, JudgeError, SkillError, TooFewExamples
from analysis.skills.files import parse_skill_bytes
from store import Store, open_store
from store.errors import DatabaseReadOnly, StoreFull
from workbench.skills.library import (
    add_skill,
    list_bundled_skills,
    list_skills,
    list_unreadable_skills,
    parse_given_skill,
    remove_skill,
)
from workbench.skills.sources import SkillSource

BUNDLED = ["arithmetic", "facts", "french", "python", "spanish", "stories"]
CAPITALS = b'{"prompt": "The capital of Italy is", "answer": "Rome"}\n'
RIVERS = b'{"prompt": "A river in Egypt is", "answer": "the Nile"}\n'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "here" / "headlamp.db")


def names(store: Store) -> list[str]:
    return [source.name for source in list_skills(store)]


def files(store: Store) -> list[str]:
    return sorted(path.name for path in (store.path.parent / "skills").iterdir())


def test_the_six_bundled_skills_come_first_then_the_defined_ones_by_name(store: Store) -> None:
    assert names(store) == BUNDLED == [source.name for source in list_bundled_skills()]
    assert all(len(source.read().items) >= 360 for source in list_bundled_skills())
    for name in ("zebras", "Capitals", "beetles"):
        add_skill(store, name, CAPITALS, "jsonl")
    assert names(store) == [*BUNDLED, "beetles", "Capitals", "zebras"]
    assert files(store) == ["Capitals.jsonl", "beetles.jsonl", "zebras.jsonl"]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("jsonl", CAPITALS + RIVERS),
        (
            "jsonl",
            '{"prompt": "Où ?", "answer": "là-bas", "lang": "fr", "stop": ["!"], "group": "g"}'.encode(),
        ),
        ("jsonl", json.dumps([{"question": "1 + 1?", "answer": "two\n#### 2"}]).encode()),
        ("jsonl", json.dumps({"text": "Add.", "test_list": ["assert f(1) == 2"]}).encode()),
        (
            "jsonl",
            b'{"prompt": "def f(x):", "test": "def check(f): pass", "entry_point": "f", "task_id": "T/1"}',
        ),
        ("csv", b"Which?,red,blue,green,black,B\nWhat?,1,2,3,4,D\n"),
        ("csv", b'prompt,answer,judge\n"2 + 2, please",4,number\n'),
        (
            "jsonl",
            json.dumps(
                {
                    "data": [
                        {
                            "paragraphs": [
                                {"context": "A cat.", "qas": [{"question": "?", "answers": [{"text": "c"}]}]}
                            ]
                        }
                    ]
                }
            ).encode(),
        ),
        ("jsonl", b'{"question": "Who?", "answer": "She", "perturbed_answer": ["He", "They"]}'),
        (
            "paste",
            b"A paragraph that is long enough to be an example.\n\nAnother one that is as long as that.\n",
        ),
    ],
)
def test_every_layout_is_kept_example_by_example(store: Store, form: str, data: bytes) -> None:
    given = parse_skill_bytes(data, "x", "mine")
    source = add_skill(store, "mine", data, form)
    assert source.digest == given.digest
    assert source.read() == given
    assert Path(source.path) == store.path.parent / "skills" / "mine.jsonl"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.jsonl"),
        ("/tmp/x", "%2Ftmp%2Fx.jsonl"),
        (".hidden", "%2Ehidden.jsonl"),
        ("a\\b:c*?", "a%5Cb%3Ac%2A%3F.jsonl"),
        ("100%2F", "100%252F.jsonl"),
        ("  two \n words ", "two words.jsonl"),
        ("franc\u0327ais 日本 v1.2", "français 日本 v1.2.jsonl"),
        ("<script>", "%3Cscript%3E.jsonl"),
    ],
)
def test_any_name_becomes_a_file_in_the_folder_and_is_read_back(store: Store, name: str, file: str) -> None:
    source = add_skill(store, name, CAPITALS, "jsonl")
    assert files(store) == [file]
    assert source.name == names(store)[-1] == " ".join(name.replace("c\u0327", "ç").split())
    assert sorted(path.name for path in store.path.parent.parent.iterdir()) == ["here"]
    remove_skill(store, source.name)
    assert files(store) == []


@pytest.mark.parametrize("name", ["", "  \n", "a\x00b", "\u202eabc", "x" * 181, "日" * 61])
def test_a_name_that_no_file_can_have_is_refused(store: Store, name: str) -> None:
    with pytest.raises(SkillError, match="name"):
        add_skill(store, name, CAPITALS, "jsonl")
    assert names(store) == BUNDLED


def test_a_taken_name_is_refused_unless_the_examples_are_the_same(store: Store) -> None:
    first = add_skill(store, "capitals", CAPITALS, "jsonl")
    assert add_skill(store, "capitals", b"prompt,answer\nThe capital of Italy is,Rome\n", "csv") == first
    for name in ("capitals", "Capitals"):
        with pytest.raises(SkillError, match="other examples; choose another name, or remove"):
            add_skill(store, name, RIVERS, "jsonl")
    with pytest.raises(SkillError, match=r"other examples; choose another name$"):
        add_skill(store, "facts", RIVERS, "jsonl")
    facts = list_bundled_skills()[1]
    assert add_skill(store, "facts", Path(facts.path).read_bytes(), "jsonl") == facts
    assert first.read().items[0].answer == "Rome"
    assert files(store) == ["capitals.jsonl"]


def test_only_a_defined_skill_can_be_removed(store: Store) -> None:
    add_skill(store, "capitals", CAPITALS, "jsonl")
    with pytest.raises(SkillError, match="is bundled"):
        remove_skill(store, "facts")
    for name in ("rivers", "../headlamp", "../skills/capitals"):
        with pytest.raises(SkillError, match="no skill"):
            remove_skill(store, name)
    remove_skill(store, "capitals")
    assert names(store) == BUNDLED
    assert store.path.is_file()
    assert len(list_bundled_skills()[1].read().items) == 362


@pytest.mark.parametrize(
    ("form", "data", "error", "told"),
    [
        ("jsonl", b"", TooFewExamples, "empty"),
        ("csv", b"  \n", TooFewExamples, "empty"),
        ("paste", b"too short", TooFewExamples, "empty"),
        ("jsonl", b"\xff{}", BadSkillFile, "not UTF-8"),
        ("csv", "prompt,answer\né,1\n".encode("latin-1"), BadSkillFile, "not UTF-8"),
        ("csv", b"What is 2 + 2?,4\nWhat is 3 + 3?,6\n", BadSkillFile, "needs a header"),
        (
            "csv",
            b"prompt,answer\nHello, world,4\n",
            BadSkillFile,
            "^the CSV: line 2 has 3 cells under a header of 2",
        ),
        ("csv", b'prompt,answer\n"Hello,4\n', BadSkillFile, "line 2 is no row of the table"),
        (
            "csv",
            b"prompt\nThe capital of Italy, as everybody knows, is\n",
            BadSkillFile,
            "line 2 has 3 cells under a header of 1",
        ),
        ("jsonl", b"prompt,answer\na,b\n", BadSkillFile, "write one JSON document per line"),
        ("jsonl", b'{"prompt": "a", "answer": "b"}\n{"prompt":', BadSkillFile, "line 2 is not JSON"),
        ("jsonl", b'{"prompt": "a", "answer": "b", "judge": "oracle"}', JudgeError, "oracle.*choose number"),
        ("jsonl", b'{"cat": "a"}', BadSkillFile, "no known layout"),
        ("jsonl", b'{"prompt": "\\ud800", "answer": "b"}', BadSkillFile, "a lone surrogate"),
        ("jsonl", b"\x1f\x8bdamaged", BadSkillFile, "damaged gzip"),
        ("docx", CAPITALS, SkillError, "choose jsonl, csv, text, paste"),
    ],
)
def test_what_is_no_skill_is_refused_in_a_sentence(
    store: Store, form: str, data: bytes, error: type[SkillError], told: str
) -> None:
    with pytest.raises(error, match=told):
        add_skill(store, "mine", data, form)
    assert names(store) == BUNDLED


def test_a_file_that_is_too_large_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.skills.files.LARGEST_BYTES", len(CAPITALS))
    assert len(parse_given_skill("mine", CAPITALS, "jsonl").items) == 1
    with pytest.raises(BadSkillFile, match="larger than"):
        parse_given_skill("mine", CAPITALS + RIVERS, "jsonl")


def test_a_damaged_file_is_left_out_told_about_and_can_be_removed(store: Store) -> None:
    add_skill(store, "capitals", CAPITALS, "jsonl")
    folder = store.path.parent / "skills"
    (folder / "torn.jsonl").write_bytes(b'{"prompt": "a", "ans')
    (folder / "facts.jsonl").write_bytes(RIVERS)
    assert names(store) == [*BUNDLED, "capitals"]
    assert list(list_unreadable_skills(store)) == ["torn"]
    assert "not JSON" in list_unreadable_skills(store)["torn"]
    with pytest.raises(SkillError, match="other examples"):
        add_skill(store, "torn", RIVERS, "jsonl")
    remove_skill(store, "torn")
    assert list_unreadable_skills(store) == {}


def test_files_are_read_once_until_they_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    source = add_skill(store, "capitals", CAPITALS, "jsonl")
    assert names(store)[-1] == "capitals"
    read: list[Path] = []

    def counted(path: Path, name: str) -> SkillSource:
        read.append(path)
        return SkillSource(name, str(path), "another")

    monkeypatch.setattr("workbench.skills.library.make_skill_source", counted)
    assert list_skills(store)[-1] == source
    assert not read
    Path(source.path).write_bytes(CAPITALS + RIVERS)
    assert list_skills(store)[-1].digest == "another"
    assert read == [Path(source.path)]


def test_a_write_that_fails_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.path.parent / "skills"
    folder.write_text("a file where the folder would be")
    with pytest.raises(DatabaseReadOnly, match="cannot be written"):
        add_skill(store, "capitals", CAPITALS, "jsonl")
    folder.unlink()

    def full(part: Path, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.files.os.replace", full)
    with pytest.raises(StoreFull, match="No room left"):
        add_skill(store, "capitals", CAPITALS, "jsonl")
    assert files(store) == []
