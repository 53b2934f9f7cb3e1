"""The command line on SmolLM2-135M-Instruct, a real chat model: every use case once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workbench.conftest import Cli

pytestmark = pytest.mark.real
CITIES = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Greece": "Athens", "Japan": "Tokyo", "China": "Beijing",
    "Russia": "Moscow", "Egypt": "Cairo", "Kenya": "Nairobi", "Cuba": "Havana", "Peru": "Lima",
    "Chile": "Santiago", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Hungary": "Budapest", "Iran": "Tehran",
    "Iraq": "Baghdad", "Canada": "Ottawa", "Turkey": "Ankara", "India": "Delhi", "Ukraine": "Kyiv",
    "Belgium": "Brussels", "Romania": "Bucharest", "Bulgaria": "Sofia", "Serbia": "Belgrade",
    "Croatia": "Zagreb", "Vietnam": "Hanoi", "Syria": "Damascus", "Jordan": "Amman",
    "Thailand": "Bangkok", "Mongolia": "Ulaanbaatar", "Lebanon": "Beirut", "Qatar": "Doha",
}  # fmt: skip


@pytest.fixture
def capitals(tmp_path: Path) -> Path:
    file = tmp_path / "capitals.jsonl"
    items = [
        {"prompt": f"What is the capital of {c}?", "answer": city, "judge": "substring", "group": c}
        for c, city in CITIES.items()
    ]
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return file


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    items = [
        {"prompt": f"What is {a} plus {b}?", "answer": str(a + b), "judge": "number", "group": f"{a}+{b}"}
        for a in range(1, 7)
        for b in range(1, 7)
    ]
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return file


def test_it_is_inspected_as_gguf_and_says_what_it_is_dequantised_from(cli: Cli, smollm2_gguf: Path) -> None:
    found = cli("inspect", smollm2_gguf, "--json").document
    assert (found["layers"], found["neurons"], found["vocab"], found["tied"]) == (30, 46_080, 49_152, True)
    assert "dequantised from Q4_1" in cli("inspect", smollm2_gguf).out


def test_it_answers_and_a_neuron_is_held(cli: Cli, smollm2: Path) -> None:
    options = ("--prompt", "What is the capital of France?", "--max-new-tokens", "8", "--word", "Paris")
    held = cli("generate", smollm2, *options, "--clamp", "L29.N808:key:set:60@all", "--json").document
    assert "Paris" in held["base"]["text"]
    assert held["base"]["text"] != held["changed"]["text"]


def test_a_word_is_found_over_all_neurons_before_anything_is_mapped(cli: Cli, smollm2: Path) -> None:
    found = cli("find", smollm2, "dog", "--limit", "50", "--json").document
    best = found["neurons"][0]
    assert (best["address"], best["token"].strip().lower()) == ("L29.N808", "dog")
    assert abs(best["z_score"]) >= abs(found["neurons"][1]["z_score"])
    assert best["probability"] is None, "nothing is decoded yet"
    alone = cli("neuron", smollm2, best["address"], "--json").document
    ends = [row["token"].strip().lower() for end in ("top", "bottom") for row in alone["sites"]["down"][end]]
    assert "dog" in ends


def test_its_experts_are_a_table_of_blocks(cli: Cli, smollm2: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog and runs into the wood.\n" * 40)
    found = cli("experts", smollm2, "--text", text, "--json").document
    assert found["experts"] == []
    assert len(found["blocks"]) == 30
    peak = max(found["blocks"], key=lambda row: row["max_abs"])
    assert (peak["address"], peak["position"]) == ("L11", 0)
    assert found["threshold"]["layers"] == [11]


def test_a_skill_is_fitted_and_asked(cli: Cli, smollm2: Path, capitals: Path, sums: Path) -> None:
    asked = [json.loads(line) for line in capitals.read_text().splitlines()]
    more = [one | {"prompt": f"Name the capital of {one['group']}."} for one in asked]
    capitals.write_text("".join(json.dumps(item) + "\n" for item in [*asked, *more]))
    fit = ("skill", "fit", smollm2, "--skill", capitals, "--compared", sums, "--name", "capitals")
    assert cli(*fit, "--json").code == 0
    inside = cli("skill", "check", smollm2, "--name", "capitals", "--query", "What is the capital of Cuba?")
    other = cli("skill", "check", smollm2, "--name", "capitals", "--query", "Write a poem about rain.")
    assert inside.code == other.code == 0
    assert inside.out != other.out


def test_it_is_made_to_forget_in_one_round(cli: Cli, smollm2: Path, capitals: Path, sums: Path) -> None:
    options = ("--method", "na", "--share", "1", "--max-new-tokens", "8", "--no-controls", "--no-robustness")
    found = cli("unlearn", smollm2, "--forget", capitals, "--retain", sums, *options, "--json").document
    (method,) = found["methods"]
    roles = {row["role"]: row for row in method["skills"]}
    assert roles["forget"]["before"] > 0.5 > roles["forget"]["after"]
    assert roles["retain"]["n"] == 14


def test_a_concept_is_refused_where_the_answer_does_not_say_it(cli: Cli, smollm2: Path) -> None:
    asked = ("--concept", "Paris", "--prompt", "France has which city as its capital?")
    refused = cli("tars", smollm2, *asked)
    assert refused.code == 2
    assert "the model does not say 'Paris'" in refused.err
    assert "so there is nothing to remove there" in refused.err
