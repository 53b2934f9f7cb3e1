"""What pages take from unlearning: stored answers, tables, exports, progress, checks."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import HeadlampError, SkillError, TooFewExamples
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import answer_prompts
from analysis.unlearning.methods import METHODS
from store import Store, open_store
from tests.workbench.unlearning.unlearned_made import found, loaded, question, store  # noqa: F401 - fixtures
from workbench.runs import run_missing_units, time_units
from workbench.saving.saving import read_changes
from workbench.skills.sources import SkillSource, make_skill_source
from workbench.skills.utility import MMLU_SAMPLE
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.checks import check_scene, parse_layers, parse_shares, pick_test_prompt
from workbench.unlearning.documents import read_method, warn_cut_off
from workbench.unlearning.exports import (
    why_no_script,
    why_no_weights,
    write_change_script,
    zip_baked_model,
    zip_recipe,
)
from workbench.unlearning.progress import PassCounter, count_examples
from workbench.unlearning.questions import UnlearningQuestion, read_question
from workbench.unlearning.tables import curve_csv, forms_csv, skills_csv, sweep_csv
from workbench.unlearning.unlearning import (
    compute_units,
    find_unlearning_answer,
    read_method_recipe,
    unlearn_spec,
)


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_a_stored_answer_is_read_with_the_methods_that_are_done(
    loaded: LoadedModel, tmp_path: Path, question: UnlearningQuestion, found: UnlearningAnswer, store: Store
) -> None:
    assert find_unlearning_answer(loaded, store, question) == replace(found, cached=True, seconds=0.0)
    empty = open_store(tmp_path / "half.db")
    assert find_unlearning_answer(loaded, empty, question) is None

    def stop_after_one(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_missing_units(
            empty,
            unlearn_spec(loaded, question),
            lambda missing: time_units(
                compute_units(loaded, {"question": question.document()}, missing, lambda *n: None)
            ),
            stop_after_one,
        )
    half = find_unlearning_answer(loaded, empty, question)
    assert half is not None
    assert [method.method for method in half.methods] == ["ksd"]
    assert half.methods == found.methods[:1]


def test_as_released_alone_decides_layers_rivals_checks_and_batches(question: UnlearningQuestion) -> None:
    own: dict[str, Any] = {
        "layers": "all",
        "check": "prefill",
        "measure": "gauss",
        "key": "user_last",
        "wrap": True,
    }
    chosen, released = (replace(question, as_released=flag, **own).plan for flag in (False, True))
    assert (chosen.layers, chosen.rivals, chosen.check_at) == ("all", True, "prefill")
    assert (chosen.measure, chosen.key, chosen.wrap) == ("gauss", "user_last", True)
    assert (released.layers, released.rivals, released.check_at) == ("last", False, "each_step")
    assert (released.measure, released.key, released.wrap) == ("box", "last", False)
    assert released.ways == replace(chosen.ways, batch_size=1)
    assert released.as_released


def test_many_choices_are_read_once_and_sampled_evenly(
    tmp_path: Path, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(f"{name} {n}?,a,b,c,d,A" for n in range(1000)), encoding="utf-8")
        sources.append(make_skill_source(path))
    asked = replace(question, mmlu=tuple(sources))
    utility = asked.plan.mmlu
    assert utility is not None
    assert [item.prompt.split("?")[0] for item in utility.items[::50]] == [
        *("first 0", "first 500", "second 0", "second 500"),
    ]
    assert len(utility.items) == MMLU_SAMPLE
    monkeypatch.setattr(SkillSource, "read", None)  # another reading would fail
    assert asked.plan.mmlu == utility
    assert read_question(asked.document()).plan.mmlu == utility


def test_another_version_of_a_method_is_another_run(
    loaded: LoadedModel, question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {unlearn_spec(loaded, question).key}
    monkeypatch.setattr("analysis.unlearning.scenes.METHOD_VERSION", "other")
    keys.add(unlearn_spec(loaded, question).key)
    for name in question.methods:
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], version="other"))
        keys.add(unlearn_spec(loaded, question).key)
    assert len(keys) == 5


def test_the_tables_hold_the_documents_numbers(found: UnlearningAnswer) -> None:
    methods = found.to_document()["methods"]
    rows = table(skills_csv(found))
    assert len(rows) == 6
    for row, (method, skill) in zip(rows, [(m, s) for m in methods for s in m["skills"]], strict=True):
        assert (row["method"], row["skill"], row["role"]) == (method["method"], skill["skill"], skill["role"])
        assert float(row["after"]) == skill["after"]
        assert float(row["interval_high"]) == skill["interval"][1]
        assert float(row["js"]) == skill["js"]
        assert float(row["control_drop"]) == method["control"]["drop"][skill["skill"]]
    ways = [row for row in table(forms_csv(found)) if row["method"] == "sp"]
    assert [row["way"] for row in ways][:3] == ["test", "unseen_wordings", "seen_wordings"]
    assert {"few_shot", "harmless_prefix"} <= {row["way"] for row in ways}
    assert float(ways[1]["after"]) == methods[2]["skills"][0]["unseen"]["after"]
    points = table(sweep_csv(found))
    assert len(points) == sum(len(method["sweep"]) for method in methods)
    shares = [p for p in points if p["method"] == "na"]
    assert [p["q"] for p in shares] == ["5.0", "30.0"]
    assert [(p["eligible"], p["cost_two_by"]) for p in shares] == [("True", "drop"), ("False", "drop")]
    assert float(shares[1]["cost_two"]) == methods[1]["sweep"][1]["costs"][0]["cost"] > 0.1
    guard = found.methods[0].curve
    assert guard is not None
    curve = table(curve_csv(guard))
    assert [float(row["one"]) for row in curve] == methods[0]["curve"]["abstention"]["one"]


def test_many_answers_cut_off_are_warned_of(found: UnlearningAnswer) -> None:
    method = replace(found.methods[1], cut_off=0.25)
    limit = method.parameters["max_new_tokens"]
    assert warn_cut_off(method).startswith(f"25% of a skill's answers are cut off at {limit} tokens")
    assert warn_cut_off(replace(method, cut_off=0.1)) == ""
    earlier = {name: value for name, value in method.to_document().items() if name != "cut_off"}
    assert warn_cut_off(read_method(earlier)) == ""


def test_a_form_that_is_new_appears_by_itself(found: UnlearningAnswer) -> None:
    method = found.methods[0]
    form = method.robustness[0]
    new = [replace(form, form=name) for name in ("paraphrase", "as_a_riddle")]
    new += [replace(form, form="other_language", lang=lang) for lang in ("fr", "es")]
    wider = replace(method, robustness=tuple(new))
    ways = [row["way"] for row in table(forms_csv(replace(found, methods=(wider,))))]
    assert ways[3:] == ["as_a_riddle", "other_language fr", "other_language es"]


@pytest.mark.slow
def test_a_recipe_in_an_archive_does_what_it_did(
    loaded: LoadedModel, store: Store, found: UnlearningAnswer, question: UnlearningQuestion, tmp_path: Path
) -> None:
    files = read_method_recipe(store, found.run, 0)
    made = zip_recipe(files, "mine")
    assert made == zip_recipe(files, "mine")
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["mine.json", "mine.safetensors"]
        archive.extractall(tmp_path)
    document = json.loads((tmp_path / "mine.json").read_text())
    assert document["tensors"]["file"] == "mine.safetensors"
    forget = question.scene().forget
    prompts = [item.prompt for item in (*forget.probe, *forget.test)]
    told = answer_prompts(loaded, [loaded.tokenizer.encode(text) for text in prompts], read_changes(files))
    prompt = next(text for text, answer in zip(prompts, told, strict=True) if answer.abstained)
    (tmp_path / "mine.py").write_text(write_change_script(loaded, files, "mine", prompt))
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "Sorry, I do not know."


def test_only_what_is_exact_is_offered_as_a_script_or_as_weights(
    loaded: LoadedModel, store: Store, found: UnlearningAnswer
) -> None:
    guard, adjust, prune = (read_method_recipe(store, found.run, index) for index in range(3))
    assert [bool(why_no_script(loaded, files)) for files in (guard, adjust, prune)] == [False] * 3
    assert [bool(why_no_weights(loaded, files)) for files in (guard, adjust, prune)] == [True, True, False]
    with pytest.raises(HeadlampError, match="depends on the input"):
        zip_baked_model(loaded.ref, store, guard)


def test_a_method_that_changed_nothing_exports_nothing(loaded: LoadedModel, store: Store) -> None:
    files = write_recipe_files(loaded, (), "recipe")
    assert read_changes(files) == ()
    for why in (why_no_script(loaded, files), why_no_weights(loaded, files)):
        assert why == "no share of neurons was eligible, so nothing was changed: nothing to export"
    for export in (
        lambda: zip_recipe(files, "mine"),
        lambda: write_change_script(loaded, files, "mine", "abc"),
        lambda: zip_baked_model(loaded.ref, store, files),
    ):
        with pytest.raises(HeadlampError, match="nothing to export"):
            export()


def test_a_model_too_large_for_a_browser_is_not_handed_out(
    loaded: LoadedModel, store: Store, found: UnlearningAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.unlearning.exports.LARGEST_BAKED_BYTES", 10)
    files = read_method_recipe(store, found.run, 2)
    assert "unlearn --bake FOLDER" in why_no_weights(loaded, files)
    with pytest.raises(HeadlampError, match="too large for a browser"):
        zip_baked_model(loaded.ref, store, files)


def test_an_edited_model_in_an_archive_says_what_the_recipe_makes_it_say(
    loaded: LoadedModel, store: Store, found: UnlearningAnswer, tmp_path: Path
) -> None:
    files = read_method_recipe(store, found.run, 2)
    with zipfile.ZipFile(io.BytesIO(zip_baked_model(loaded.ref, store, files))) as archive:
        archive.extractall(tmp_path / "model")
    ids = [loaded.tokenizer.encode(text) for text in ("abc", "no.", "xyz=")]
    expected = answer_prompts(loaded, ids, read_changes(files), max_new_tokens=8)
    assert [a.token_ids for a in expected] != [
        a.token_ids for a in answer_prompts(loaded, ids, max_new_tokens=8)
    ]
    with lease_model(ModelRef(str(tmp_path / "model"))) as edited:
        assert answer_prompts(edited, ids, max_new_tokens=8) == expected


def test_progress_only_grows_and_ends_about_where_it_was_said_to(
    loaded: LoadedModel, tmp_path: Path, question: UnlearningQuestion
) -> None:
    question = replace(question, robustness=False)
    seen: list[tuple[int, int]] = []
    list(compute_units(loaded, {"question": question.document()}, [0, 2], lambda *n: seen.append(n)))
    assert all(before[0] <= after[0] for before, after in pairwise(seen))
    said = count_examples(loaded, question.scene(), question.plan, ["ksd", "sp"])
    assert seen[0][1] == said
    assert said / 2 < seen[-1][0] < 2 * said


def test_a_count_larger_than_was_thought_is_still_a_share() -> None:
    seen: list[tuple[int, int]] = []
    pulse = PassCounter(lambda *n: seen.append(n), 5)
    for done in (0, 4, 0, 3, 6):
        pulse(done, 6)
    assert seen == [(0, 5), (4, 5), (4, 5), (7, 7), (10, 10)]


def test_what_cannot_be_asked_is_told_before_anything_is_measured(
    loaded: LoadedModel, question: UnlearningQuestion
) -> None:
    with pytest.raises(SkillError, match="both forget skill and retain skill"):
        check_scene(loaded, replace(question, retain=(question.forget,)))
    with pytest.raises(TooFewExamples, match="choose KSD alone"):
        check_scene(loaded, replace(question, retain=()))
    assert check_scene(loaded, replace(question, retain=(), methods=("ksd",))).retain == ()
    with pytest.raises(TooFewExamples, match="make 2 probes, and KSD needs at least 30"):
        check_scene(loaded, replace(question, limit=20))
    assert check_scene(loaded, replace(question, limit=20, methods=("sp",)))
    with pytest.raises(SkillError, match="layer 9 has no dense FFN block"):
        check_scene(loaded, replace(question, layers=(0, 9)))


def test_the_prompt_to_begin_with_is_one_that_nothing_was_fitted_on(question: UnlearningQuestion) -> None:
    split = question.scene().forget
    unseen = [item.prompt for item, flag in zip(split.test, split.unseen, strict=True) if flag]
    assert pick_test_prompt(question) in unseen


@pytest.mark.parametrize(
    ("text", "layers"), [("last", "last"), ("all", "all"), ("3, 1", (1, 3)), ("L0", (0,)), ("2,2", (2,))]
)
def test_layers_are_read_as_typed(text: str, layers: Any) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "-1", "a", "1,,2"])
def test_layers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(HeadlampError, match="write last, best, all, or numbers"):
        parse_layers(text)


def test_shares_are_read_as_typed() -> None:
    assert parse_shares("0.5, 3,3") == (0.5, 3.0)
    for text in ("", "x", "0", "101", "-1", "nan", "inf"):
        with pytest.raises(HeadlampError, match="write numbers above 0"):
            parse_shares(text)
