"""The command line on a trained model, where it is at hand."""

import json
from pathlib import Path

import pytest

from tests.workbench.conftest import Cli

pytestmark = pytest.mark.real
PROMPT = ("--prompt", "Once upon a time", "--max-new-tokens", "10")


def test_inspect_reads_a_trained_llama(cli: Cli, stories: Path) -> None:
    found = cli("inspect", stories, "--json").document
    assert (found["layers"], found["d_model"], found["vocab"], found["tied"]) == (5, 64, 512, True)
    assert (found["neurons"], found["bytes"]) == (860, 4 * 260_032)


def test_every_neuron_is_decoded_once(cli: Cli, stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "stories.jsonl"
    first, second = (
        cli("decode", stories, "--site", "up", "--out", out, "--json").document for _ in range(2)
    )
    assert (first["neurons"], first["cached"], second["cached"]) == (860, False, True)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(found) == 860
    best = max(found, key=lambda row: row["top"][0]["probability"])
    assert best["entropy"] == min(row["entropy"] for row in found)


def test_find_agrees_with_the_file(cli: Cli, stories: Path, tmp_path: Path) -> None:
    out = tmp_path / "stories.jsonl"
    cli("decode", stories, "--out", out, "--top-k", "512")
    cli("decode", stories)  # the map from which probabilities are filled in
    (token,) = cli("find", stories, "day", "--json").document["token_ids"]
    by_file = {}
    for line in out.read_text().splitlines():
        row = json.loads(line)
        p = next(t["probability"] for t in row["top"] if t["token_id"] == token)
        by_file[f"L{row['layer']}.N{row['neuron']}"] = p
    for neuron in cli("find", stories, "day", "--json").document["neurons"]:
        assert neuron["probability"] == pytest.approx(by_file[neuron["address"]], rel=1e-4)


def test_a_word_of_several_tokens_shows_its_pieces(cli: Cli, stories: Path) -> None:
    answer = cli("find", stories, "dog", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "' do' + 'g'" in answer.err


def test_a_clamp_changes_the_story(cli: Cli, stories: Path) -> None:
    options = ("--clamp", "L2.N47:key:set:-8x@all", "--word", "day", "--json")
    found = cli("generate", stories, *PROMPT, *options).document
    assert found["base"]["text"].startswith(", there was a little")
    assert found["changed"]["text"] != found["base"]["text"]
    assert found["word"]["base"] != found["word"]["changed"]


def test_a_finding_runs_again_to_the_same_tokens(cli: Cli, stories: Path) -> None:
    cli("generate", stories, *PROMPT, "--clamp", "L2.N47:set:-2x", "--keep", "a story neuron")
    (finding,) = cli("findings", "list", "--json").document["findings"]
    assert cli("findings", "rerun", finding["id"], "--json").document["same"]
