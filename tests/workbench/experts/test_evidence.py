"""A pruning as a finding: kept with its controls, measured again, told in words that claim no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from analysis.errors import HeadlampError, RecipeError
from analysis.opening.models import ModelRef
from analysis.running.perplexity import Estimate
from analysis.super_experts.sinks import SinkSums
from store import Finding, Store, keep_finding, keep_text, open_store
from store.evidence import read_evidence
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from workbench.experts.evidence import keep_pruning
from workbench.experts.pruning import PRUNE
from workbench.experts.questions import read_prune_question
from workbench.experts.reports import PruneEffect, PruneReport, measure_report
from workbench.experts.verdicts import describe_pruning, propose_pruning_title, stands_out
from workbench.findings.charts import make_report_charts
from workbench.findings.findings import export_findings, rerun_finding
from workbench.kinds import make_order
from workbench.models import open_model

WORDS = " dog cat the is my w20 w21 w22 w23 w24"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moe")
    tiny_model("mixtral").save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "s.db")
    yield opened
    opened.close()


def keep(store: Store, folder: Path) -> tuple[Finding, PruneReport]:
    groups = [[["L1.E2"]], [["L0.E1"], ["L0.E3"]], [["L1.E0"]]]
    sizes = {"window": 16, "draws": 2, "prompt": 4, "new_tokens": 6}
    with open_model(ModelRef(str(folder)), store) as loaded:
        order = make_order(PRUNE, loaded.ref, text=keep_text(WORDS * 8), split=False, groups=groups, **sizes)
        report = measure_report(loaded, read_prune_question(order.parameters))
        return keep_pruning(loaded, store, order, report, title="Without L1.E2"), report


def test_it_holds_what_a_reader_needs_and_is_the_same_when_measured_again(store: Store, folder: Path) -> None:
    finding, report = keep(store, folder)
    assert finding.kind == "pruning"
    shown = read_evidence(finding.evidence)
    assert shown.said.verdict == describe_pruning(report)
    assert [one.group for one in shown.pruned_sets] == [
        "base", "pruned", "random", "random", "random, same layers",
    ]  # fmt: skip
    assert report.pruned.sample is not None
    assert shown.changed_text == report.pruned.sample.text
    again = rerun_finding(store, finding.id)
    assert (again.same, again.largest_difference) == (True, 0.0)
    assert again.explanation == "every number is the same"


def test_other_numbers_no_longer_hold(store: Store, folder: Path) -> None:
    finding, _ = keep(store, folder)
    finding.evidence["document"]["super"]["delta_nll"] += 0.01
    about = {"model_name": finding.model_name, "model_fingerprint": finding.model_fingerprint}
    forged = keep_finding(store, title="x", kind="pruning", evidence=finding.evidence, **about)
    assert not rerun_finding(store, forged.id).same
    other = keep_finding(
        store, title="x", kind="pruning", evidence=finding.evidence, **about | {"model_fingerprint": "0" * 64}
    )
    with pytest.raises(RecipeError, match="no longer the model"):
        rerun_finding(store, other.id)


@pytest.mark.parametrize(
    "change",
    [
        {"groups": [[], [], []]},
        {"new_tokens": 10**9},
        {"window": 1},
        {"length": 1},
        {"surprise": 1},
        {"groups": 3},
    ],
)
def test_an_incomplete_or_absurd_question_is_refused_before_the_model_is_opened(
    store: Store, folder: Path, change: dict[str, Any]
) -> None:
    finding, _ = keep(store, folder)
    evidence = finding.evidence | {"question": finding.evidence["question"] | change}
    odd = keep_finding(
        store, title="x", kind="pruning", model_name="gone", model_fingerprint="f", evidence=evidence
    )
    with pytest.raises(HeadlampError, match="not complete enough to run again"):
        rerun_finding(store, odd.id)


def test_a_report_holds_its_chart_and_every_set(store: Store, folder: Path) -> None:
    finding, report = keep(store, folder)
    (chart,) = make_report_charts([finding]).by_finding[finding.id]
    assert chart.title == "Effect of pruning"
    assert chart.figure["data"][0]["x"] == [report.pruned.effect.value]
    document = export_findings([finding], "html")
    assert "<h3>Sets of experts</h3>" in document
    assert "Plotly.newPlot" in document
    assert "**Sets of experts**" in export_findings([finding], "md")


def effect(name: str, value: float, interval: tuple[float, float] | None, decay: float | None) -> PruneEffect:
    """The model without a part; its sinks are not read."""
    perplexity, sinks = Estimate(5.0 * float(np.exp(value)), None), cast(SinkSums, None)
    return PruneEffect((name,), perplexity, Estimate(value, interval), sinks, (None, decay), (), None)


def report_of(
    value: float, interval: tuple[float, float] | None, *, random: float | None, same: float | None
) -> PruneReport:
    base = effect("", 0.0, None, None)
    pruned = effect("L1.E9", value, interval, 0.9)
    return PruneReport(base, pruned, drawn(random), drawn(same), "", 2, 9, ())


def drawn(largest: float | None) -> tuple[PruneEffect, ...]:
    if largest is None:
        return ()
    return effect("L0.E1", largest, None, 0.01), effect("L0.E2", 0.0, None, None)


def test_a_loss_above_every_random_set_stands_out() -> None:
    report = report_of(0.5, (0.4, 0.6), random=0.1, same=0.2)
    assert stands_out(report) is True
    assert describe_pruning(report) == (
        "Without L1.E9 the model predicts held-out text worse: perplexity 5 → 8.24 (+0.5 nats a token, 95 % "
        "+0.4 to +0.6). That is more than without each of 2 random sets drawn from all layers (at most +0.1) "
        "and more than without each of 2 random sets of the same layers (at most +0.2). The heads that rest "
        "on the first token lose 90 % of that attention; without random sets at most 1.0 %."
    )
    assert propose_pruning_title(report) == (
        "Without L1.E9: perplexity 5 → 8.24; without random sets at most 6.11"
    )


def test_a_loss_that_one_random_set_reaches_does_not_stand_out() -> None:
    report = report_of(0.5, (0.4, 0.6), random=0.1, same=0.7)
    assert stands_out(report) is False
    assert ", but not more than without each of 2 random sets of the same layers (at most +0.7)" in (
        describe_pruning(report)
    )


@pytest.mark.parametrize(
    ("value", "interval", "said"),
    [
        (0.1, (-0.1, 0.3), "no loss is measured for certain"),
        (0.1, None, "no loss is measured for certain"),
        (-0.2, (-0.3, -0.1), "predicts held-out text better"),
    ],
)
def test_what_is_not_certain_is_not_claimed(
    value: float, interval: tuple[float, float] | None, said: str
) -> None:
    report = report_of(value, interval, random=0.0, same=None)
    assert said in describe_pruning(report)
    assert stands_out(report) is None


def test_without_random_sets_chance_is_not_excluded() -> None:
    report = report_of(0.5, (0.4, 0.6), random=None, same=None)
    assert stands_out(report) is None
    assert "No random sets were pruned, so chance is not excluded." in describe_pruning(report)


def test_a_set_that_was_drawn_again_counts_once() -> None:
    report = report_of(0.5, (0.4, 0.6), random=0.1, same=0.2)
    report = replace(report, random=report.random * 10, same_layer=report.same_layer[:1] * 20)
    said = describe_pruning(report)
    assert "more than without each of 2 random sets (20 draws) drawn from all layers (at most" in said
    assert "more than without the random set (20 draws) of the same layers (at most" in said
