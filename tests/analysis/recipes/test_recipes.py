"""Recipes survive the journey through JSON, and say why when they cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from analysis.errors import RecipeError
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import read_recipe, use_recorded_raw, write_recipe_document

TinyModel = Callable[[str], LoadedModel]
CLAMPS = [
    "L1.N7:key:set:-8x@all",
    "L0.N3:up:add:2.5@3-7",
    "L0.N4:gate:ablate@last",
    "L1.N1:key:mean@generated",
]


def written(loaded: LoadedModel) -> Any:
    clamps = [parse_clamp(text).resolve(largest=2.0, mean=0.25) for text in CLAMPS]
    return json.loads(json.dumps(write_recipe_document(loaded, clamps), allow_nan=False))


def test_a_recipe_has_the_shape_others_script_against(tiny: TinyModel) -> None:
    document = written(tiny("llama"))
    assert document["headlamp_recipe"] == 1
    assert document["model"] == {"name": "tiny", "revision": None, "fingerprint": "0" * 64}
    assert document["interventions"][0] == {
        "kind": "clamp", "layer": 1, "expert": None, "shared": False, "neuron": 7, "site": "key",
        "mode": "set", "value": -8.0, "unit": "max", "raw": -16.0, "scope": "all",
    }  # fmt: skip
    assert set(document["versions"]) == {"headlamp", "torch", "transformers"}


def test_a_recipe_reads_back_as_it_was_written(tiny: TinyModel) -> None:
    document = written(tiny("llama"))
    assert [str(clamp) for clamp in read_recipe(document, "0" * 64)] == CLAMPS
    assert [c.raw for c in use_recorded_raw(document) if isinstance(c, Clamp)] == [-16.0, 2.5, 0.0, 0.25]


def test_expert_addresses_survive(tiny: TinyModel) -> None:
    clamps = [parse_clamp("L1.E2.N7:ablate"), parse_clamp("L1.S0.N7:ablate")]
    assert read_recipe(write_recipe_document(tiny("mixtral"), clamps)) == clamps


def changed(document: dict[str, Any], **entry: Any) -> dict[str, Any]:
    first = {**document["interventions"][0], **entry}
    return {**document, "interventions": [first]}


@pytest.mark.parametrize("document", [None, [], "recipe", {}, {"headlamp_recipe": 2}, {"headlamp_recipe": 1}])
def test_what_is_no_recipe_is_refused(document: Any) -> None:
    with pytest.raises(RecipeError):
        read_recipe(document)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "graft"}, "this version supports: clamp"),
        ({"mode": "wiggle"}, "mode"),
        ({"site": "nose"}, "site"),
        ({"unit": "feet"}, "unit"),
        ({"value": "much"}, "cannot be read"),
        ({"value": float("nan")}, "not a number"),
        ({"neuron": None}, "cannot be read"),
        ({"layer": 2.9}, "cannot be read"),
        ({"shared": "no"}, "cannot be read"),
        ({"value": 10**400}, "cannot be read"),
        ({"layer": float("inf")}, "cannot be read"),
        ({"layer": -1}, "L-1.N7"),
        ({"scope": "7-3"}, "FIRST ≤ LAST"),
    ],
)
def test_a_bad_entry_is_named_by_its_number(tiny: TinyModel, entry: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=f"intervention 0.*{said}"):
        read_recipe(changed(written(tiny("llama")), **entry))


@pytest.mark.parametrize("raw", ["much", float("nan"), 10**400, [1]])
def test_a_recorded_value_that_is_no_number_is_refused(tiny: TinyModel, raw: Any) -> None:
    with pytest.raises(RecipeError, match="intervention 0: its raw value"):
        use_recorded_raw(changed(written(tiny("llama")), raw=raw))


@pytest.mark.parametrize(
    "entry",
    [
        {"unit": "raw", "value": 1.0, "raw": 300.0},
        {"mode": "scale", "unit": "raw", "value": 1.0, "raw": 50.0},
        {"mode": "ablate", "unit": "raw", "value": None, "raw": 7.0},
    ],
)
def test_a_raw_value_that_contradicts_the_clamp_is_refused(tiny: TinyModel, entry: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"intervention 0 is .* but its raw value"):
        use_recorded_raw(changed(written(tiny("llama")), **entry))


def test_a_recipe_of_another_model_is_refused(tiny: TinyModel) -> None:
    with pytest.raises(RecipeError, match="made for 'tiny'"):
        read_recipe(written(tiny("llama")), "f" * 64)
