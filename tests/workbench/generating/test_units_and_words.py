"""× residual and P(word) through the command line, findings, stored texts and keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.intervening.clamps import parse_clamp
from analysis.intervening.steps import USED_VALUES, Reach
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.recipes.recipes import versions
from analysis.running.generation import Sampling
from store import Store, begin_run, open_store, put_unit, read_unit
from tests.analysis.conftest import loaded_from, tiny_model
from tests.workbench.conftest import Cli
from workbench.findings.findings import keep_generation, rerun_finding
from workbench.generating.clamping import find_pair, generate_pair
from workbench.generating.requests import GenerationRequest, generation_spec

KEY_WITHOUT_WORD = "a9dbad61b55b4cd62158fd91150a5f1e"
"""Of the request below, at every version since the prompt's ids are in the key."""
KEY_OF_SINGLE_TOKENS = "7344e15a9069aff68d32d4c1a4418f28"
"""Of the same with a word, while P(word) was that of single tokens."""


@pytest.fixture
def loaded(tiny: Path) -> LoadedModel:
    return load_model(ModelRef(str(tiny)))


@pytest.fixture
def database(tmp_path: Path) -> Store:
    return open_store(tmp_path / "headlamp.db")


def residual(word: str = "dog", scope: str = "last", value: str = "2r") -> GenerationRequest:
    clamp = parse_clamp(f"L1.N3:set:{value}@{scope}")
    return GenerationRequest("a dog is a", (clamp,), sampling=Sampling(6), word=word)


def test_texts_without_a_word_keep_their_key_and_those_with_one_have_another() -> None:
    clamps = (
        parse_clamp("L1.N7:set:8x@last").resolve(largest=2.5, mean=0),
        parse_clamp("L0.N3:gate:add:2").resolve(largest=1, mean=0),
    )
    plain = GenerationRequest(" my dog is the", clamps, sampling=Sampling(8))
    llama = loaded_from(tiny_model("llama"))
    assert generation_spec(llama, plain, [1, 5, 9]).key == KEY_WITHOUT_WORD
    spec = generation_spec(llama, replace(plain, word="dog"), [1, 5, 9])
    assert spec.key != KEY_OF_SINGLE_TOKENS
    assert spec.method_version == "3"
    other = replace(plain, clamps=(parse_clamp("L1.N7:set:8r@last"),))
    assert generation_spec(llama, other, [1, 5, 9]).key != KEY_WITHOUT_WORD


def test_a_text_stored_before_words_had_positions_is_still_read(
    loaded: LoadedModel, database: Store, tmp_path: Path
) -> None:
    asked = residual(word="")
    result = generate_pair(loaded, database, asked)
    payload = read_unit(database, result.run, 0).payload
    del payload["per_position"], payload["reach"]["used"]
    payload["word"] = [0.25, 0.5]
    older = open_store(tmp_path / "older.db")
    spec = generation_spec(loaded, result.request, result.prompt_ids)
    begin_run(older, spec, versions())
    put_unit(older, spec.key, 0, name="pair", payload=payload, seconds=0.0)
    found = find_pair(loaded, older, asked)
    assert found is not None
    assert (found.word, found.per_position, found.changed_ids) == ((0.25, 0.5), None, result.changed_ids)


def test_a_finding_in_residual_units_runs_again_with_its_values_kept(
    loaded: LoadedModel, database: Store
) -> None:
    result = generate_pair(loaded, database, residual(scope="all"))
    assert find_pair(loaded, database, residual(scope="all")) is not None
    (values,) = result.reach.used
    assert len(values) == result.reach.acted[0] > 4
    finding = keep_generation(loaded, database, result, title="held")
    (entry,) = finding.evidence["recipe"]["interventions"]
    assert (entry["unit"], entry["value"], entry["raw"]) == ("residual", 2.0, values)
    again = rerun_finding(database, finding.id)
    assert again.same
    assert again.largest_difference <= 1e-6


def test_a_finding_whose_word_was_measured_otherwise_does_not_compare_it(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = generate_pair(loaded, database, residual())
    finding = keep_generation(loaded, database, result, title="held")
    older = {"word": "dog", "base": 0.9, "changed": 0.9}
    old = replace(finding, evidence={**finding.evidence, "word": older})
    monkeypatch.setattr("workbench.findings.findings.get_finding", lambda store, finding_id: old)
    again = rerun_finding(database, finding.id)
    assert again.same
    assert "P(word) was measured by single tokens then" in again.explanation
    middle = replace(finding, evidence={**finding.evidence, "word": {**older, "position": 4}})
    monkeypatch.setattr("workbench.findings.findings.get_finding", lambda store, finding_id: middle)
    again = rerun_finding(database, finding.id)
    assert again.same
    assert "together with the words that it begins, then, so it is not compared" in again.explanation
    placed = {**older, "position": 4, "source": "first"}
    newer = replace(finding, evidence={**finding.evidence, "word": placed})
    monkeypatch.setattr("workbench.findings.findings.get_finding", lambda store, finding_id: newer)
    assert not rerun_finding(database, finding.id).same


def test_the_command_line_prints_both_rows_of_a_word_of_several_tokens(cli: Cli, tiny: Path) -> None:
    asked = ("generate", tiny, "--prompt", "a dog is a", "--clamp", "L1.N3:set:2r@last", "--word", "dog is")
    found = cli(*asked, "--max-new-tokens", 6, "--json").document
    word = found["word"]
    loaded = load_model(ModelRef(str(tiny)))
    ids = loaded.tokenizer.encode("a dog is a")
    assert word["position"] == len(ids) - 1
    assert word["per_position"]["base"][0] == word["base"]
    assert word["per_position"]["changed"][0] == word["changed"] != word["base"]
    for row in ("base", "changed"):
        assert len(word["per_position"][row]) == len(found[row]["token_ids"])
    spelled = [loaded.tokenizer.encode(text) for text in ("dog is", " dog is")]
    assert all(len(ids) > 1 for ids in spelled)
    position, expected = 2, 0.0
    before = [*ids, *found["base"]["token_ids"][:position]]
    for spelling in spelled:
        logs = loaded.model(torch.tensor([[*before, *spelling]])).logits[0].double()
        logs = logs[:, : len(loaded.vocabulary)].log_softmax(-1)
        steps = [logs[len(before) - 1 + n, piece] for n, piece in enumerate(spelling)]
        longer = [text[:1].isalnum() or text.startswith("<0x") for text in loaded.vocabulary.texts]
        ends = 1 - logs[-1].exp()[torch.tensor(longer)].sum()
        expected += float(torch.stack(steps).sum().exp() * ends)
    assert word["per_position"]["base"][position] == pytest.approx(expected, rel=1e-3)


def test_the_command_line_says_the_raw_values_and_where_an_expert_was_not_routed(
    cli: Cli, tiny: Path, experts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "recipe.json"
    asked = ("--prompt", "a dog is a", "--clamp")
    said = cli("generate", tiny, *asked, "L1.N3:set:2r@last", "--recipe-out", out)
    (entry,) = json.loads(out.read_text(encoding="utf-8"))["interventions"]
    assert (entry["unit"], entry["value"]) == ("residual", 2.0)
    assert f"L1.N3:key:set:2r@last: × residual, raw {entry['raw'][0]:.4g}." in said.err
    again = cli("generate", tiny, "--prompt", "a dog is a", "--recipe", out, "--json").document
    once = cli("generate", tiny, *asked, "L1.N3:set:2r@last", "--json").document
    assert again["changed"] == once["changed"]
    never = cli("generate", experts, *asked, "L0.E3.N3:set:2r")
    assert "acted on 0 of the" in never.err
    assert "raw" not in never.err


def test_a_profile_is_not_measured_for_residual_units(cli: Cli, tiny: Path, database: Store) -> None:
    asked = ("generate", tiny, "--prompt", "a dog", "--clamp", "L1.N3:set:2r", "--db", database.path)
    cli(*asked)
    kinds = [run["kind"] for run in cli("runs", "list", "--db", database.path, "--json").document["runs"]]
    assert kinds == ["generate"]


def test_only_so_many_values_are_recorded() -> None:
    reach = Reach([0, 0], [0, 0])
    reach.note_used(1, torch.arange(USED_VALUES + 5.0))
    reach.add(Reach([0, 0], [0, 0], used=[[1.0], [2.0]]))
    assert [len(values) for values in reach.used] == [1, USED_VALUES]
    assert Reach(**reach.counts()) == reach
    assert "used" not in Reach([1], [1]).counts()
