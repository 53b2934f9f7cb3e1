"""Records as JSON: written, read back, and refused or left at their defaults where something is odd."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.intervening.clamps import Clamp, parse_clamp
from workbench.records import IncompleteRecord, read_odd_record, read_record, write_record


@dataclass(frozen=True)
class Dose:
    value: float
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    word: str = ""
    site: Literal["key", "up"] = "key"
    doses: tuple[Dose, ...] = ()
    pair: tuple[int, float] | None = None
    kl: Mapping[str, float | None] = None  # type: ignore[assignment]
    anything: Any = None
    raw: bool = False
    seed: int = 0


CURVE = Curve("dog", "up", (Dose(1.5, ("a", "b")), Dose(2)), (3, 0.25), {"chat": None, "raw": 0.5}, [1], True)


def test_a_record_is_read_back_as_it_was_written() -> None:
    document = json.loads(json.dumps(write_record(CURVE)))
    assert list(document) == ["word", "site", "doses", "pair", "kl", "anything", "raw", "seed"]
    assert document["doses"][0] == {"value": 1.5, "prompts": ["a", "b"]}
    assert read_record(Curve, document) == CURVE
    assert read_odd_record(Curve, document) == CURVE


def test_a_missing_field_takes_its_default_and_other_keys_are_ignored() -> None:
    assert read_record(Dose, {"value": 1, "of a later version": True}) == Dose(1)


def test_a_field_that_is_a_record_already_stays() -> None:
    dose = Dose(1.0)
    (kept,) = read_record(Curve, {"doses": [dose]}).doses
    assert kept is dose


@dataclass(frozen=True)
class Held:
    clamps: tuple[Clamp, ...]
    neuron: NeuronAddress | None = None


def test_clamps_and_addresses_are_written_as_they_are_typed() -> None:
    held = Held((parse_clamp("L1.N3:key:set:8x@last"),), parse_address("L1.E2.N4"))
    document = write_record(held)
    assert document == {"clamps": ["L1.N3:key:set:8x@last"], "neuron": "L1.E2.N4"}
    assert read_record(Held, document) == held
    with pytest.raises(IncompleteRecord, match=r"clamps\[0\]: .*nonsense"):
        read_record(Held, {"clamps": ["nonsense"]})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "Curve is list"),
        ({"doses": [{}]}, r"doses\[0\]\.value is missing"),
        ({"doses": [{"value": True}]}, r"doses\[0\]\.value is bool"),
        ({"doses": [{"value": float("nan")}]}, "is float 'nan', not float"),
        ({"doses": "ab"}, "doses is str"),
        ({"site": "gate"}, "site is str 'gate'"),
        ({"pair": [1]}, "pair is list .*, not a list of 2"),
        ({"pair": [1.5, 2]}, r"pair\[0\] is float"),
        ({"kl": {"raw": "much"}}, r"kl\.raw is str"),
        ({"seed": False}, "seed is bool"),
        ({"word": None}, "word is NoneType"),
    ],
)
def test_what_is_missing_or_of_another_type_is_refused_by_its_place(document: Any, message: str) -> None:
    with pytest.raises(IncompleteRecord, match=message):
        read_record(Curve, document)


@pytest.mark.parametrize("document", [None, 3, {"word": 3, "pair": "x", "doses": [{"value": "x"}], "raw": 1}])
def test_from_odd_values_a_record_takes_its_defaults(document: Any) -> None:
    assert read_odd_record(Curve, document) == Curve()


def test_an_odd_field_leaves_the_others_as_they_are() -> None:
    assert read_odd_record(Curve, {"word": "dog", "seed": "x"}) == Curve(word="dog")
