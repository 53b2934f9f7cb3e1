"""Answers for notebooks: each is the command line's, with a chart and a table."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import headlamp
from analysis.errors import HeadlampError, RecipeError, TextError
from analysis.figures.theme import Figure
from tests.workbench.conftest import Cli
from tests.workbench.skill_files_made import LETTERS, write_skill

PROMPT = "My favourite animal is the"
CLAMP = "L3.N418:key:set:4r@last"
OWN = {"seconds", "cached"}
"""What may differ between two answers to one question."""


def check(answer: headlamp.Answer, printed: Any, rows: int) -> None:
    """The document is what was printed, and chart and table hold something."""
    document = json.loads(json.dumps(answer.to_document(), allow_nan=False))
    assert {k: v for k, v in document.items() if k not in OWN} == {
        k: v for k, v in printed.items() if k not in OWN
    }
    assert isinstance(answer.figure(), Figure)
    assert len(answer.figure().data) > 0
    assert isinstance(answer.table(), pd.DataFrame)
    assert len(answer.table()) == rows


def test_find_is_the_commands_answer(base: headlamp.Model, cli: Cli) -> None:
    found = base.find("dog", by="cosine", sign="positive", limit=5)
    arguments = ("--by", "cosine", "--sign", "positive", "--limit", "5")
    check(found, cli("find", "demo/base", "dog", *arguments, "--json").document, rows=5)
    assert list(found.table()["cosine"]) == sorted(found.table()["cosine"], reverse=True)
    assert "<table" in found._repr_html_()


def test_neuron_is_the_commands_answer(base: headlamp.Model, cli: Cli) -> None:
    found = base.neuron("L3.N418", text="My dog")
    printed = cli("neuron", "demo/base", "L3.N418", "--text", "My dog", "--json").document
    sites = printed["sites"]
    check(found, printed, rows=sum(len(site[end]) for site in sites.values() for end in ("top", "bottom")))
    assert list(found.activations()["key"]) == printed["text"]["key"]
    with pytest.raises(HeadlampError, match="it has up, gate, down"):
        found.figure("middle")
    with pytest.raises(HeadlampError, match="text="):
        base.neuron("L3.N418").activations()


def test_generate_is_the_commands_answer_and_can_be_kept(base: headlamp.Model, cli: Cli) -> None:
    how = ("--clamp", CLAMP, "--word", "dog", "--max-new-tokens", "6", "--seed", "1", "--temperature", "0.5")
    printed = cli("generate", "demo/base", "--prompt", PROMPT, *how, "--json").document
    options: dict[str, Any] = {"word": "dog", "max_new_tokens": 6, "seed": 1, "temperature": 0.5}
    found = base.generate(PROMPT, clamps=[CLAMP], **options, keep="A dog")
    check(found, printed, rows=len(printed["answer"]["base"]))
    assert (found.base, found.changed) == (printed["base"]["text"], printed["changed"]["text"])
    assert len(found.path_figure().data) == 2
    (kept,) = headlamp.findings("dog")
    assert kept.title == "A dog"
    assert kept.to_document() == cli("findings", "show", kept.id, "--json").document
    assert "Clamps" in list(kept.table()["fact"])
    assert kept.rerun().same


def test_a_sweep_is_the_commands_answer_and_its_finding_has_the_chart(
    base: headlamp.Model, cli: Cli, tmp_path: Path
) -> None:
    found = base.sweep(["L3.N418"], "dog", prompts=[PROMPT], values="1r,2r", controls=2, keep="Doses")
    how = ("--word", "dog", "--prompt", PROMPT, "--values", "1r,2r", "--controls", "2", "--json")
    check(found, cli("sweep", "demo/base", "--neuron", "L3.N418", *how).document, rows=2)
    assert found.verdict in found.to_document()["verdict"]
    with pytest.raises(HeadlampError, match=r"L0\.N0 was not swept; L3\.N418 was"):
        found.figure("L0.N0")
    (kept,) = headlamp.findings()
    assert kept.figure().data == found.figure().data
    report = headlamp.findings().export(tmp_path / "doses.html")
    assert "Dose curve of L3.N418" in report.read_text("utf-8")


def test_levers_are_the_commands_answer_and_clamp_the_model(base: headlamp.Model, cli: Cli) -> None:
    found = base.levers("dog", prompts=[PROMPT], held_out=["She has a"], controls=1)
    how = ("--prompt", PROMPT, "--held-out", "She has a", "--controls", "1", "--limit", "1000", "--json")
    printed = cli("levers", "demo/base", "dog", *how).document
    check(found, printed, rows=len(printed["levers"]))
    pair = base.generate(PROMPT, clamps=found.clamps, word="dog")
    before, after = (pair.to_document()["word"][row] for row in ("base", "changed"))
    assert after > before


def test_one_bare_text_in_place_of_prompts_is_refused(base: headlamp.Model) -> None:
    with pytest.raises(TextError, match="give a list of texts"):
        base.levers("dog", prompts=PROMPT)


def test_experts_are_the_commands_answer(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat. " * 1000, encoding="utf-8")
    how = ("--text", text, "--prune", "L1.E3", "--draws", "1", "--json")
    with headlamp.open("demo/moe") as model:
        found = model.experts(text=text, prune="L1.E3", draws=1)
        printed = cli("experts", "demo/moe", *how).document
        check(found, printed, rows=len(printed["experts"]) + len(printed["blocks"]))
        plain = model.experts(text=text)
    assert found.supers == printed["super"]
    assert plain.figure().data[0].type == "heatmap"
    assert found.figure().data[0].y[0] == "L1.E3"


def test_unlearning_gives_a_recipe_that_generate_takes(tiny: Path, cli: Cli, tmp_path: Path) -> None:
    forget, retain = (write_skill(tmp_path / f"{name}.jsonl", tiny, LETTERS[name]) for name in LETTERS)
    with headlamp.open(str(tiny)) as model:
        found = model.unlearn(forget, retain=str(retain), method="sp", limit=90, quick=True)
        how = ("--retain", retain, "--method", "sp", "--limit", "90", "--quick", "--json")
        check(found, cli("unlearn", tiny, "--forget", forget, *how).document, rows=2)
        pair = model.generate("the dog", recipe=found.recipe, max_new_tokens=2)
    assert "selective_prune" in found.recipe["recipe.json"].decode()
    assert pair.generation.reach.counts()


def test_a_removed_concept_is_saved_as_a_model(base: headlamp.Model, cli: Cli, tmp_path: Path) -> None:
    prompts = ["The capital of France is"]
    found = base.tars("Paris", prompts=prompts)
    how = ("--concept", "Paris", "--prompt", prompts[0], "--json")
    printed = cli("tars", "demo/base", *how).document
    check(found, printed, rows=len(printed["concepts"][0]["prompts"]))
    saved = base.save(found.recipe, tmp_path / "changed")
    changed = saved.to_document()["changed"]
    assert len(saved.table()) == len(changed) == len(saved.figure().data[0].x)
    with headlamp.open(saved.folder) as other:
        assert other.loaded.fingerprint != base.loaded.fingerprint
    with pytest.raises(HeadlampError, match="changed"):
        base.save(found.recipe, tmp_path / "changed")


def test_what_no_weights_can_hold_is_not_saved(base: headlamp.Model, cli: Cli, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    cli("generate", "demo/base", "--prompt", PROMPT, "--clamp", CLAMP, "--recipe-out", recipe)
    with pytest.raises(RecipeError):
        base.save(recipe, tmp_path / "changed")
    assert not (tmp_path / "changed").exists()


def test_a_document_is_a_copy(base: headlamp.Model) -> None:
    found = base.find("dog", limit=1)
    found.to_document()["neurons"].clear()
    assert len(found.table()) == 1


def test_a_closed_model_is_released(tmp_path: Path) -> None:
    with headlamp.open("demo/base", db=tmp_path / "own.db", dtype="float32") as model:
        assert "4,096 neurons" in repr(model)
        assert model.store.path == tmp_path / "own.db"
    assert not model.close.alive
