"""Answers become JSON without NaN and are read back equal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from analysis.levers.results import LeverSearch, Shortlisted
from analysis.levers.sweeping import DoseCurve, DosePoint
from analysis.running.words import Spelling
from tests.analysis.levers.bench_made import lever, neurons, tried
from workbench.levers.answers import (
    LeverAnswer,
    SweepAnswer,
    SweepControls,
    read_levers,
    read_sweep,
)
from workbench.levers.asking import propose_sweep_title

SPELLINGS = (Spelling("dog", (4, 5, 6)), Spelling(" dog", (17,)))
FOUND = LeverSearch(
    levers=(lever(9.0, size=3, specificity=None, collapse=None), lever(0.1 + 0.2, 0.5, controls=())),
    search_control=lever(1.0, 0.3),
    shortlist=(
        Shortlisted(neurons(1)[0], 8.5, None, 2.25, 1.5, 1.0),
        Shortlisted(neurons(3, "L1.E3")[2], None, 0.4, None, -0.125, 0.5),
    ),
    refused=((tried(5.0, 2.0, -0.3).clamps, "neutral KL 0.4 nats, above 0.1"),),
    base=0.05,
)
LEVERS = LeverAnswer(
    "dog",
    SPELLINGS,
    FOUND,
    ("said so", "first"),
    {"select": 2, "held_out": 2, "other": 0},
    1.5,
    "× block",
    "So.",
)


def through_json(document: dict[str, Any]) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


@pytest.mark.parametrize(
    "found", [FOUND, LeverSearch((), None, (), (), 0.0), replace(FOUND, search_control=None)]
)
def test_levers_are_read_back_as_they_were(found: LeverSearch) -> None:
    answer = replace(LEVERS, found=found)
    document = through_json(answer.to_document())
    assert read_levers(document) == answer
    assert read_levers(document).to_document() == answer.to_document()


def test_levers_say_at_the_top_what_is_to_be_taken() -> None:
    document = through_json(LEVERS.to_document())
    assert document["best"] == [f"L3.N{at}:key:set:1.5r@last" for at in range(3)]
    assert document["steerable"] is True
    assert document["controls"]["value_matched"] == {"n": 3, "largest": 0.1}
    assert document["controls"]["search_matched"]["held_out"] == 0.3
    assert document["levers"][1]["largest_control"] is None
    assert document["levers"][1]["steerable"] is False
    assert document["shortlist"][1]["address"] == "L1.E3.N2"
    nothing = through_json(replace(LEVERS, found=LeverSearch((), None, (), (), 0.0)).to_document())
    assert (nothing["best"], nothing["steerable"]) == (None, False)
    assert nothing["controls"] == {"value_matched": None, "search_matched": None}


POINTS = (
    DosePoint(-1.5, None, (0.25, 0.5), 0.375, -0.5, 0.01, 0.02, 12.0, 0.3, False),
    DosePoint(4.0, 8.25, (0.0, 0.0), None, None, None, None, None, None, None),
)
SWEEP = SweepAnswer(
    *("dog", SPELLINGS, "max", "key", "last"),
    values=(-1.5, 4.0),
    base=(0.1, 0.3),
    curves=(DoseCurve(neurons(1)[0], POINTS, 0.5),),
    controls=SweepControls(("L0.N4", "L0.N5"), ((0.1, 0.2), (0.0, 0.3)), 0.3),
    positions=("said so", "first"),
    verdict="So.",
)


@pytest.mark.parametrize("answer", [SWEEP, replace(SWEEP, controls=None)])
def test_sweeps_are_read_back_as_they_were(answer: SweepAnswer) -> None:
    document = through_json(answer.to_document())
    assert read_sweep(document) == answer
    assert document["base"] == {"probability": [0.1, 0.3], "mean": pytest.approx(0.2)}
    assert document["controls"] is None or document["controls"]["n"] == 2


def test_a_title_does_not_say_that_nothing_raises_a_word_where_repetition_does() -> None:
    spoiled, none = replace(POINTS[0], collapse=True), replace(POINTS[0], mean=0.1)
    for points, said in (
        ((spoiled, none), "No value without repetition of L0.N0"),
        ((none,), "No value of L0.N0"),
    ):
        answer = replace(SWEEP, curves=(DoseCurve(neurons(1)[0], points, 1.0),))
        assert propose_sweep_title(answer) == f"{said} raises dog above 20 %"
