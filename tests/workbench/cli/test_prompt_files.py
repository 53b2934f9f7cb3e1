"""`generate --prompts`: several prompts, their pairs and the mean of P(word)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workbench.conftest import Cli
from workbench.generating.prompt_files import MOST_PROMPTS

CLAMP = ("--clamp", "L1.N3:set:2r@last", "--max-new-tokens", 4)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    lines: list[dict[str, Any]] = [
        {"prompt": "a dog is a"},
        {"prompt": "a cat is a", "answer_prefix": " dog", "split": "held_out"},
        {"prompt": "is a dog", "word": "cat", "split": "other"},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", encoding="utf-8")
    return path


def test_each_prompt_gives_what_it_gives_alone(cli: Cli, tiny: Path, prompts: Path) -> None:
    found = cli("generate", tiny, "--prompts", prompts, "--word", "dog", *CLAMP, "--json").document
    assert list(found) == ["seed", "prompts", "word"]
    assert [one["split"] for one in found["prompts"]] == ["select", "held_out", "other"]
    asked = (
        ("a dog is a", "--word", "dog"),
        ("a cat is a", "--answer-prefix", " dog", "--word", "dog"),
        ("is a dog", "--word", "cat"),
    )
    for one, (prompt, *more) in zip(found["prompts"], asked, strict=True):
        alone = cli("generate", tiny, "--prompt", prompt, *more, *CLAMP, "--json").document
        assert {name: one[name] for name in alone if name != "seed"} == {
            name: value for name, value in alone.items() if name != "seed"
        }
    pairs = np.array([[one["word"]["base"], one["word"]["changed"]] for one in found["prompts"]])
    word = found["word"]
    assert word["n"] == 3
    assert 1 <= word["controls"]["n"] <= 20
    assert 0 < word["controls"]["mean"] <= word["controls"]["largest"] <= 1
    assert [word["mean"]["base"], word["mean"]["changed"]] == pytest.approx(list(pairs.mean(0)))
    assert word["mean"]["change"] == pytest.approx(float((pairs[:, 1] - pairs[:, 0]).mean()))
    for name, value in word["mean"].items():
        low, high = word["interval"][name]
        assert low <= value <= high
        assert low < high
    assert word["interval"]["base"][1] <= pairs[:, 0].max() + 1e-12


def test_prompts_may_be_given_one_by_one(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    path.write_text('{"prompt": "a dog is a"}\n{"prompt": "is a dog"}', encoding="utf-8")
    more = ("--answer-prefix", " dog", "--word", "dog", *CLAMP, "--json")
    several = cli("generate", tiny, "--prompt", "a dog is a", "--prompt", "is a dog", *more).document
    assert several == cli("generate", tiny, "--prompts", path, *more).document
    assert [one["answer_prefix"] for one in several["prompts"]] == [" dog", " dog"]
    assert "--prompt, prompt 2: " in cli("generate", tiny, "--prompt", "a dog", "--prompt", " ").err


def test_one_prompt_has_no_interval_and_no_word_has_no_mean(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "a dog is a"}', encoding="utf-8")
    asked = ("generate", tiny, "--prompts", path, *CLAMP)
    assert cli(*asked, "--word", "dog", "--json").document["word"]["interval"] is None
    assert cli(*asked, "--json").document["word"] is None
    printed = cli(*asked, "--word", "dog").out
    assert "mean P(word) of 1" in printed
    assert "a dog is a" in printed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no prompt"),
        ('{"prompt": "a dog"}\nnonsense', "line 2 is not JSON"),
        ('["a dog"]', 'is not an object with a "prompt"'),
        ('{"text": "a dog"}', 'is not an object with a "prompt"'),
        ('{"prompt": "a dog", "words": "x"}', "known are prompt"),
        ('{"prompt": 3}', "prompt is not text"),
        ('{"prompt": "a dog", "split": "train"}', "choose select, held_out, other"),
        ('{"prompt": " "}', "the prompt is empty"),
        ('{"prompt": "a"}\n' * (MOST_PROMPTS + 1), f"more than {MOST_PROMPTS}"),
        ('{"prompt": "a dog"}\n{"prompt": "' + "a dog " * 200 + '"}', "prompt 2: "),
        ('{"prompt": "a dog"}\n{"prompt": "a dog", "word": "</s>"}', "prompt 2: "),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_file_is_refused_before_anything_is_generated(
    cli: Cli, tiny: Path, tmp_path: Path, text: str, said: str
) -> None:
    path, database = tmp_path / "prompts.jsonl", tmp_path / "headlamp.db"
    path.write_text(text, encoding="utf-8")
    found = cli("generate", tiny, "--prompts", path, *CLAMP, "--db", database)
    assert found.code == 2
    assert said in found.err
    assert cli("runs", "list", "--db", database, "--json").document["runs"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "either --prompt TEXT or --prompts"),
        (("--prompt", "a dog", "--prompts", "{}"), "either --prompt TEXT or --prompts"),
        (("--prompts", "{}", "--keep", "x"), "a finding holds one pair"),
        (("--prompt", "a", "--prompt", "a dog", "--keep", "x"), "a finding holds one pair"),
        (("--prompts", "missing.jsonl"), "cannot be read"),
    ],
)
def test_options_that_exclude_one_another_are_refused(
    cli: Cli, tiny: Path, prompts: Path, options: tuple[str, ...], said: str
) -> None:
    found = cli("generate", tiny, *(option.format(prompts) for option in options))
    assert found.code == 2
    assert said in found.err


def test_a_recipe_of_several_prompts_holds_the_clamps(
    cli: Cli, tiny: Path, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "recipe.json"
    assert cli("generate", tiny, "--prompts", prompts, *CLAMP, "--recipe-out", out).code == 0
    (entry,) = json.loads(out.read_text(encoding="utf-8"))["interventions"]
    assert (entry["value"], entry["unit"], entry["raw"]) == (2.0, "residual", None)


def test_a_sweep_is_on_the_lines_of_its_word_that_are_to_choose_on(
    cli: Cli, tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "words.jsonl"
    lines = [
        {"prompt": "the cat is a", "word": "dog"},
        {"prompt": "he is a", "word": "cat"},
        {"prompt": "it was the", "split": "held_out"},
        {"prompt": "it was a", "split": "other"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    sweep = ("sweep", tiny, "--neuron", "L0.N1", "--values", "1r", "--controls", 0, "--prompts", path)
    assert len(cli(*sweep, "--word", "dog", "--json").document["base"]["probability"]) == 1
    path.write_text(json.dumps(lines[2]))
    assert "no prompt's split is select" in cli(*sweep, "--word", "dog").err
    path.write_text(json.dumps(lines[1]))
    for command in (sweep + ("--word", "dog"), ("levers", tiny, "dog", "--prompts", path)):
        answer = cli(*command)
        assert (answer.code, "words.jsonl has no prompt for 'dog'" in answer.err) == (2, True)


@pytest.mark.parametrize("command", [("levers",), ("sweep", "--neuron", "L0.N1", "--word")])
def test_an_answer_prefix_without_prompts_is_refused(cli: Cli, tiny: Path, command: tuple[str, ...]) -> None:
    answer = cli(command[0], tiny, *command[1:], "dog", "--answer-prefix", "it is a")
    assert (answer.code, answer.err.count("--answer-prefix begins the answers to prompts")) == (2, 1)
