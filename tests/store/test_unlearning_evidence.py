"""Verdicts on methods in findings: read from any evidence, told first, and in every report as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store import Finding, write_findings_html, write_findings_markdown
from store.evidence import read_evidence
from store.headlines import write_headline
from store.unlearning_evidence import read_method_verdicts

Keep = Callable[..., Finding]
SENTENCE = "KSD forgets <b>x</b> as asked (1.00), not after a greeting (.00)."


def row(**changes: Any) -> dict[str, Any]:
    made = {"what": "drop in the worst form", "name": "after a greeting | x", "value": -0.0314, "n": 20}
    return made | {"interval": [-0.1, 0.05], "bound": "> 0.8", "within": False} | changes


def method(reached: bool | None = False, *rows: dict[str, Any]) -> dict[str, Any]:
    took = {"layers": "L3", "α": "1.5"}
    verdict = {"reached": reached, "sentence": SENTENCE, "rows": list(rows) or [row()], "took": took}
    return {"method": "ksd", "skills": [], "verdict": verdict}


def test_the_verdict_is_the_headline_and_its_table_is_in_every_report(keep: Keep) -> None:
    unmeasured = row(what="MMLU drop", name="", value=None, interval=None, n=0, within=None)
    document = {"forget": "x", "methods": [method(False, row(), unmeasured)]}
    finding = keep(kind="unlearning", evidence={"document": document})
    assert write_headline(finding, read_evidence(finding.evidence)) == SENTENCE
    html = write_findings_html([finding])
    assert html.count("KSD forgets &lt;b&gt;x&lt;/b&gt; as asked") == 1 + 1  # the verdict, all the evidence
    assert '<p class="verdict missed"' in html
    for cell in ("after a greeting | x", "−0.031", "−0.100 – 0.050", "&gt; 0.8", "✗ no", "not measured"):
        assert f'<td class="number">{cell}</td>' in html
    assert "What it took: layers L3 · α 1.5" in html
    text = write_findings_markdown([finding])
    assert "| drop in the worst form | after a greeting \\| x | −0.031 |" in text
    assert "layers L3 · α 1.5" in text


@pytest.mark.parametrize(("reached", "state"), [(True, "reached"), (False, "missed"), (None, "open")])
def test_a_green_verdict_is_drawn_as_a_red_one_is(keep: Keep, reached: bool | None, state: str) -> None:
    finding = keep(kind="unlearning", evidence={"document": {"methods": [method(reached)]}})
    html = write_findings_html([finding])
    assert f'<p class="verdict {state}" dir="auto">' in html
    assert html.count(".verdict.reached {") == html.count(".verdict.missed {") == 1


@pytest.mark.parametrize(
    "document",
    [
        *(None, 3, {"methods": 3}, {"methods": [3, None]}, {"methods": [{"verdict": 3}]}),
        *({"methods": [{"verdict": {"sentence": ""}}]}, {"methods": [{"verdict": {"rows": [row()]}}]}),
    ],
)
def test_odd_evidence_has_no_verdict(document: Any) -> None:
    assert read_method_verdicts({"document": document}) == ()


def test_odd_rows_become_empty_ones() -> None:
    odd = {"value": "x", "interval": [1], "n": None, "within": 3}
    verdict = {"sentence": "s", "rows": [odd, 3], "took": 3}
    (found,) = read_method_verdicts({"document": {"methods": [{"method": "new", "verdict": verdict}]}})
    assert (found.title, found.took, found.reached) == ("new", "", None)
    assert [one.cells() for one in found.rows] == [("", "", "–", "", "–", "", "not measured")] * 2


def test_evidence_of_an_earlier_version_is_told_with_its_worst_form(keep: Keep) -> None:
    skills = [
        {"skill": "sums", "role": "forget", "before": 1.0, "after": 0.0, "relative_drop": 1.0},
        {"skill": "facts", "role": "retain", "before": 1.0, "after": 0.98, "relative_drop": 0.02},
    ]
    forms = [{"form": "few_shot", "relative_drop": 0.9}, {"form": "harmless_prefix", "relative_drop": 0.0}]
    methods = [{"method": "ksd", "skills": skills, "robustness": forms}]
    finding = keep(kind="unlearning", evidence={"document": {"forget": "sums", "methods": methods}})
    told = write_headline(finding, read_evidence(finding.evidence))
    assert "from 100 % to 0 % correct (drop in its worst other form, harmless prefix: 0 %)" in told
