"""TARS by its steps, and its recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.errors import RecipeError, SkillError, TextError
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel
from analysis.recipes.files import parse_recipe_tensors, read_recipe_tensors, write_recipe_files
from analysis.recipes.recipes import read_recipe, use_recorded_raw
from analysis.running.batches import make_batches, run_batch
from analysis.unlearning.edits.head_states import final_norm, read_concept_probability, read_residuals
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars
from analysis.unlearning.edits.selective_prune import draw_prune
from analysis.unlearning.edits.tars import (
    aim_at_concept,
    combine_reversals,
    find_aligned,
    list_candidates,
)
from tests.analysis.unlearning.edits.neuron_methods_made import PROMPTS, adjusting
from tests.analysis.unlearning.edits.tars_made import edits
from tests.analysis.unlearning.guards.guards_made import guard_around


def test_the_aim_says_the_concept(llama: LoadedModel) -> None:
    tokens = (33,)
    target = aim_at_concept(llama, PROMPTS, tokens)
    with torch.inference_mode():
        said = float(read_concept_probability(llama, target.vector[None], tokens))
        first = read_concept_probability(llama, read_residuals(llama, PROMPTS), tokens)
    assert target.first == pytest.approx(float(first.max()), rel=1e-6)
    assert target.probability == pytest.approx(said, rel=1e-5)
    assert target.probability > max(0.5, 10 * target.first)
    assert torch.equal(aim_at_concept(llama, PROMPTS, tokens).vector, target.vector)
    assert not torch.equal(aim_at_concept(llama, PROMPTS, tokens, seed=1).vector, target.vector)


def test_a_residual_gives_the_models_own_probabilities(llama: LoadedModel) -> None:
    with torch.inference_mode():
        ours = read_concept_probability(llama, read_residuals(llama, PROMPTS[:1]), (33, 34))
        theirs = (
            llama.model(torch.tensor(PROMPTS[:1])).logits[:, -1].double().softmax(-1)[:, [33, 34]].sum(-1)
        )
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_planted_vector_is_found_and_turned_round(llama: LoadedModel) -> None:
    target = aim_at_concept(llama, PROMPTS, (33,))
    unit = target.vector / target.vector.norm()
    llama.anatomy.blocks[0].down.vectors(llama.parameters)[11] = 3 * unit
    llama.anatomy.blocks[1].up.vectors(llama.parameters)[5] = -2 * unit
    planted = list_candidates(llama, target, head_rows=False)[:2]
    best, away = sorted(planted, key=lambda edit: -edit.cosine)
    assert (str(best.address), best.site) == ("L0.N11", "down")
    assert best.cosine == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(best.value, -3 * unit, atol=1e-5)
    assert (str(away.address), away.site) == ("L1.N5", "up")
    assert away.cosine == pytest.approx(-1.0, abs=1e-5)
    assert torch.allclose(away.value, 2 * unit, atol=1e-5)
    cosines = [abs(edit.cosine) for edit in find_aligned(llama, target)]
    assert cosines == sorted(cosines, reverse=True)


def test_a_head_row_that_points_away_is_no_candidate(llama: LoadedModel) -> None:
    target = aim_at_concept(llama, PROMPTS, (33,))
    with torch.inference_mode():
        read = final_norm(llama)(target.vector)
    llama.parameters[llama.anatomy.head.parameter][40] = -5 * read
    llama.parameters[llama.anatomy.head.parameter][41] = 5 * read
    found = list_candidates(llama, target, threshold=0)
    rows = [edit for edit in found if edit.site == "head"]
    assert str(rows[0].address) == "head.T41"
    assert rows[0].cosine == pytest.approx(1.0, abs=1e-5)  # with v* as the head reads it
    assert torch.allclose(rows[0].value, -5 * read, atol=1e-3)
    assert all(edit.cosine > 0 for edit in rows)
    assert all(edit.site != "head" for edit in list_candidates(llama, target, threshold=0, head_rows=False))


def test_the_concepts_own_rows_are_candidates_wherever_they_stand(llama: LoadedModel) -> None:
    target = aim_at_concept(llama, PROMPTS, (33,))
    with torch.inference_mode():
        read = final_norm(llama)(target.vector)
    rows = llama.parameters[llama.anatomy.head.parameter]
    across = torch.randn(len(read))
    across -= read * (across @ read) / (read @ read)
    rows[33], rows[34] = across + 0.01 * read, -read
    found = list_candidates(llama, target, threshold=0.9, own=(33, 34))
    own = [edit for edit in found if edit.address == HeadRow(33)]
    assert [0 < edit.cosine < 0.2 for edit in own] == [True]
    assert not any(edit.address == HeadRow(34) for edit in found)  # it points away


def test_what_is_reversed_already_is_no_candidate(llama: LoadedModel) -> None:
    target = aim_at_concept(llama, PROMPTS, (33,))
    first, second, *_ = list_candidates(llama, target, threshold=0)
    again = list_candidates(llama, target, threshold=0, taken=[first])
    assert (again[0].address, again[0].site) == (second.address, second.site)
    assert (first.address, first.site) not in {(edit.address, edit.site) for edit in again}


def test_nothing_is_turned_round_below_the_threshold(llama: LoadedModel) -> None:
    target = aim_at_concept(llama, PROMPTS, (33,))
    with pytest.raises(SkillError, match=r"no vector has a cosine above 0\.99"):
        list_candidates(llama, target, threshold=0.99)
    with pytest.raises(SkillError, match="choose 0 to 1"):
        list_candidates(llama, target, threshold=-0.5)
    with pytest.raises(TextError, match="at least one prompt"):
        aim_at_concept(llama, [], (33,))
    with pytest.raises(SkillError, match="noise 0"):
        aim_at_concept(llama, PROMPTS, (33,), noise=0)


def test_of_two_concepts_the_last_has_a_shared_vector() -> None:
    one, other = (Tars((Reversal(HeadRow(1), "head", 0.5, torch.full((2,), v)),)) for v in (1.0, 2.0))
    assert [float(edit.value[0]) for edit in combine_reversals(one, other).edits] == [2.0]


def changes(loaded: LoadedModel) -> list[Any]:
    clamp = parse_clamp("L0.N3:key:set:2@prompt").resolve(largest=1, mean=0)
    guard = guard_around(loaded, [2, 7], (0, 1), check_at="each_step", refusal="Non.")
    return [clamp, draw_prune(loaded, 10.0, 0), guard, adjusting(loaded), edits(loaded)]


def test_a_recipe_gives_back_what_went_in(llama: LoadedModel) -> None:
    files = write_recipe_files(llama, changes(llama), "r")
    assert sorted(files) == ["r.json", "r.safetensors"]
    document = json.loads(files["r.json"])
    assert [e["kind"] for e in document["interventions"]] == [
        *("clamp", "selective_prune", "key_space_guard", "neuron_adjust", "tars")
    ]
    tensors = parse_recipe_tensors(document, files["r.safetensors"])
    assert len(read_recipe(document, llama.fingerprint, tensors)) == len(document["interventions"])
    back = use_recorded_raw(document, tensors)
    assert write_recipe_files(llama, back, "r") == files
    batch = next(make_batches(llama, PROMPTS))
    (one, reach), (other, again) = (run_batch(llama, batch, own) for own in (changes(llama), back))
    assert torch.equal(one, other)
    assert reach.abstained == again.abstained
    guard = document["interventions"][2]
    assert {"layer", "alpha", "k", "n", "check", "refusal", "tensors"} <= set(guard)


def test_a_recipe_of_clamps_alone_is_as_it_always_was(llama: LoadedModel) -> None:
    assert list(write_recipe_files(llama, changes(llama)[:1], "r")) == ["r.json"]


def damaged(document: dict[str, Any], **changed: Any) -> dict[str, Any]:
    entries = [dict(entry) for entry in document["interventions"]]
    for path, value in changed.items():
        number, name = int(path[1]), path[3:]
        entries[number][name] = value
    return document | {"interventions": entries}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"i2_layer": "x"}, r"intervention 2 \(key_space_guard\) cannot be read"),
        ({"i2_alpha": -1.0}, "intervention 2: alpha -1.0: choose"),
        ({"i2_tensors": {"mean": "no"}}, "intervention 2 .* are damaged"),
        ({"i1_kind": "lobotomy"}, "has the kind 'lobotomy'"),
        ({"i4_tensors": {}}, "intervention 4"),
    ],
)
def test_a_damaged_recipe_is_refused(llama: LoadedModel, changed: dict[str, Any], message: str) -> None:
    files = write_recipe_files(llama, changes(llama), "r")
    document = damaged(json.loads(files["r.json"]), **changed)
    tensors = parse_recipe_tensors(document, files["r.safetensors"])
    with pytest.raises(RecipeError, match=message):
        use_recorded_raw(document, tensors)


def test_tensors_of_another_recipe_are_refused(llama: LoadedModel, tmp_path: Path) -> None:
    files = write_recipe_files(llama, changes(llama), "r")
    document = json.loads(files["r.json"])
    with pytest.raises(RecipeError, match="is not the file written with this recipe"):
        parse_recipe_tensors(document, files["r.safetensors"] + b"x")
    with pytest.raises(RecipeError, match="names no tensor file"):
        read_recipe_tensors(tmp_path / "r.json", document | {"tensors": None})
    with pytest.raises(RecipeError, match="are damaged"):
        read_recipe(document)
    with pytest.raises(RecipeError, match="keep both files together"):
        read_recipe_tensors(tmp_path / "r.json", document)
    with pytest.raises(RecipeError, match="names no tensor file"):
        read_recipe_tensors(tmp_path / "r.json", document | {"tensors": {"file": "../r.safetensors"}})
    with pytest.raises(RecipeError, match="was made for"):
        read_recipe(document, "f" * 64, parse_recipe_tensors(document, files["r.safetensors"]))


def test_tars_leaves_other_rows_bit_for_bit(llama: LoadedModel) -> None:
    ids = torch.tensor([PROMPTS[0]] * 2)
    positions = torch.arange(ids.shape[1]).expand(2, -1)
    with torch.inference_mode():
        plain: Tensor = llama.model(ids).logits
        with intervene(llama, [edits(llama)], positions=positions, rows=[[1]]):
            logits = llama.model(ids).logits
    assert torch.equal(logits[0], plain[0])
    assert not torch.equal(logits[1], plain[1])
