"""Skills from data sets, read by the real package from folders here; the network is off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.errors import BadSkillFile, SkillError
from analysis.skills.files import read_hub_skill, read_skill, write_skill_lines
from analysis.skills.items import Skill, SkillItem
from tests.workbench.conftest import Cli, cli

__all__ = ["cli"]
datasets = pytest.importorskip(
    "datasets", reason="datasets is not installed: pip install -r requirements-skills.txt"
)

FIELDS = {"prompt": "Question: {question}\nAnswer:", "answer": "final"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as people upload it: one Parquet file per split."""
    made = tmp_path / "sums"
    made.mkdir()
    for split, first in (("train", 100), ("test", 0)):
        rows: list[dict[str, Any]] = [
            {
                "question": f"{n} + 1",
                "final": n + 1,
                "subject": f"s{n % 3}",
                "answers": {"text": [f"it is {n + 1}"]},
                "options": [str(n), str(n + 1)],
                "right": 1,
            }
            for n in range(first, first + 50)
        ]
        pd.DataFrame(rows).to_parquet(made / f"{split}-00000-of-00001.parquet")
    return made


def test_fields_are_mapped_and_filled_into_texts(folder: Path) -> None:
    fields = FIELDS | {"group": "subject"}
    skill = read_hub_skill(str(folder), name="sums", fields=fields, judge="number")
    assert (skill.name, len(skill.items)) == ("sums", 50)
    assert skill.items[7] == SkillItem("Question: 7 + 1\nAnswer:", "8", "number", group="s1")


def test_a_field_within_a_field_and_lists(folder: Path) -> None:
    nested = read_hub_skill(str(folder), fields={"prompt": "question", "answer": "{answers[text][0]}"})
    assert nested.items[0].answer == "it is 1"
    fields = {"prompt": "question", "answer": "right", "choices": "options"}
    (first, *_) = read_hub_skill(str(folder), fields=fields, judge="choice").items
    assert (first.choices, first.chosen, first.judge) == (("0", "1"), 1, "choice")


def test_only_so_many_rows_of_the_split_that_was_asked_for(folder: Path) -> None:
    skill = read_hub_skill(str(folder), split="train", fields=FIELDS, limit=3)
    assert [item.answer for item in skill.items] == ["101", "102", "103"]


def test_a_known_layout_needs_no_fields(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": f"because\n#### {n}"} for n in range(5)]
    pd.DataFrame(rows).to_json(tmp_path / "test.jsonl", orient="records", lines=True)
    skill = read_hub_skill(str(tmp_path))
    assert skill.items[3] == SkillItem("Question: 3?\nAnswer:", "3", "number")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"split": "dev"}, r"could not be loaded: Bad split: dev\. Available splits: .*'test'"),
        (
            {"config": "hard"},
            r"could not be loaded: BuilderConfig 'hard' not found\. Available: \['default'\]",
        ),
        ({"fields": FIELDS | {"answer": "gold"}}, "the field 'gold' for 'answer' is not in the data: "),
        ({"fields": FIELDS | {"answer": "{answers[x]}"}}, r"the field '\{answers\[x\]\}' for 'answer' is"),
        ({"fields": {}}, "matches no known layout"),
        ({"fields": {}, "judge": "number"}, "needs a prompt and an answer"),
        ({"judge": "choice"}, "is no 0-based index"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_in_one_sentence(folder: Path, how: dict[str, Any], told: str) -> None:
    with pytest.raises(SkillError, match=told) as error:
        read_hub_skill(str(folder), **{"fields": FIELDS} | how)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [("nobody/nothing", "Couldn't reach 'nobody/nothing' on the Hub"), ("./gone", "could not be loaded")],
)
def test_a_data_set_that_nobody_has(name: str, told: str) -> None:
    with pytest.raises(SkillError, match=told):
        read_hub_skill(name)


def test_a_data_set_s_own_code_is_not_run(tmp_path: Path) -> None:
    made = tmp_path / "coded"
    made.mkdir()
    (made / "coded.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(SkillError, match="scripts are no longer supported"):
        read_hub_skill(str(made))
    assert not (tmp_path / "ran").exists()


def test_no_count_is_sent_of_what_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def load(*names: Any, **how: Any) -> Any:
        told.append(datasets.config.HF_UPDATE_DOWNLOAD_COUNTS)
        return datasets.load_dataset(*names, **how)

    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    read_hub_skill(str(folder), fields=FIELDS, load=load)
    assert told == [False]
    assert datasets.config.HF_UPDATE_DOWNLOAD_COUNTS


def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("analysis.skills.files.find_spec", lambda name: None)
    monkeypatch.setattr("analysis.skills.files.import_module", missing)
    with pytest.raises(SkillError, match=r"pip install -r requirements-skills\.txt"):
        read_hub_skill("a/b")


def test_a_skill_that_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    items = (
        SkillItem("Où ?", "à Paris", "exact", group="g", wording="w", lang="fr", stop=("\n", "END")),
        SkillItem("which", "1", "choice", choices=("a", "b")),
        SkillItem("def f():", "", "tests", tests=("assert f()",), setup="import re"),
        SkillItem("a text to read", "", "perplexity"),
    )
    path = tmp_path / "skill.jsonl"
    path.write_bytes(write_skill_lines(Skill("skill", items)))
    assert read_skill(path) == Skill("skill", items)


def test_the_command_writes_a_skill_file(cli: Cli, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sums.jsonl"
    options = (
        "--prompt",
        "{question} =",
        "--answer",
        "final",
        "--field",
        "group=subject",
        "--judge",
        "number",
    )
    found = cli("skill", "import", folder, *options, "--limit", "40", "--out", out, "--json").document
    assert found == {"name": "sums", "examples": 40, "judges": ["number"], "out": str(out)}
    skill = read_skill(out)
    assert skill.items[2] == SkillItem("2 + 1 =", "3", "number", group="s2")
    assert len(skill.items) == 40


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--answer", "final"), "need --prompt"),
        (("--prompt", "question", "--field", "colour=x"), "NAME one of answer, choices"),
        (("--prompt", "question", "--field", "group"), "write NAME=FIELD"),
        (("--prompt", "question", "--answer", "final", "--split", "dev"), "Bad split: dev"),
    ],
)
def test_the_command_refuses_in_one_line(
    cli: Cli, folder: Path, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    answer = cli("skill", "import", folder, *options, "--out", tmp_path / "a.jsonl")
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not (tmp_path / "a.jsonl").exists()


def test_a_field_that_is_missing_is_a_bad_skill_file(folder: Path) -> None:
    with pytest.raises(BadSkillFile, match="example 1: the field 'gold'"):
        read_hub_skill(str(folder), fields={"prompt": "gold"})
