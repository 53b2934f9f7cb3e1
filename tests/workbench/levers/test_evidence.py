"""Levers and sweeps as findings: kept, measured again, and compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import HeadlampError, RecipeError
from analysis.opening.models import ModelRef
from analysis.running.conversations import Conversation
from store import Finding, Store, get_finding, open_store
from workbench.findings.findings import rerun_finding
from workbench.levers.evidence import keep_effect, measure_again
from workbench.levers.levers import answer_levers
from workbench.levers.questions import LeverQuestion, SweepQuestion
from workbench.levers.sweeps import answer_sweep
from workbench.models import open_model

PROMPTS = (Conversation("a dog is a"), Conversation("the cat is"))


def keep(store: Store, folder: Path, kind: str) -> Finding:
    with open_model(ModelRef(str(folder)), store) as loaded:
        if kind == "levers":
            levers = LeverQuestion("dog", PROMPTS[:1], PROMPTS[1:], (), ("down",), 4, 2, 2)
            return keep_effect(loaded, store, levers, answer_levers(loaded, levers), "r" * 32, title="Levers")
        sweep = SweepQuestion("dog", ("L1.N3",), PROMPTS, (-1.0, 0.0, 2.0), controls=2)
        return keep_effect(loaded, store, sweep, answer_sweep(loaded, sweep), "s" * 32, title="A sweep")


@pytest.mark.parametrize("kind", ["levers", "sweep"])
def test_what_is_measured_again_is_the_same(tiny: Path, tmp_path: Path, kind: str) -> None:
    store = open_store(tmp_path / "s.db")
    finding = get_finding(store, keep(store, tiny, kind).id)
    assert finding.kind == kind
    again = rerun_finding(store, finding.id)
    assert (again.same, again.largest_difference) == (True, 0.0)


def tamper(kind: str, document: dict[str, Any]) -> None:
    if kind == "levers":
        document["levers"][0]["held_out"] += 0.01
    else:
        document["neurons"][0]["points"][2]["mean"] += 0.01


@pytest.mark.parametrize("kind", ["levers", "sweep"])
def test_another_number_is_seen_and_how_long_it_took_is_not_compared(
    tiny: Path, tmp_path: Path, kind: str
) -> None:
    store = open_store(tmp_path / "s.db")
    finding = keep(store, tiny, kind)
    document = finding.evidence["document"] | {"verdict": "Other words.", "seconds": 99.0}
    told = replace(finding, evidence=finding.evidence | {"document": document})
    assert measure_again(store, told).difference == 0.0
    tamper(kind, document)
    assert measure_again(store, told).difference == pytest.approx(0.01)


def test_another_model_and_incomplete_evidence_are_refused(tiny: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    finding = keep(store, tiny, "sweep")
    with pytest.raises(RecipeError, match="no longer the model"):
        measure_again(store, replace(finding, model_fingerprint="0" * 64))
    for part in ("document", "question", "device"):
        lacking = {name: value for name, value in finding.evidence.items() if name != part}
        with pytest.raises(HeadlampError, match="not complete enough"):
            measure_again(store, replace(finding, evidence=lacking))
