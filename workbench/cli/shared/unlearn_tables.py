"""Answers of `unlearn` as text: a method's verdict first, then its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

from store.unlearning_evidence import MEASURE_COLUMNS, read_method_verdict
from workbench.cli.shared.output import format_number, format_table
from workbench.unlearning.documents import warn_cut_off

Document = Mapping[str, Any]
WIDTH = 100
"""Columns of the sentence."""


def list_warnings(document: Document) -> list[str]:
    """Skills without a drop, answers that were cut off, near-duplicates between the parts of a split."""
    first = document["methods"][0]
    told = [f"{skill['skill']}: {skill['warning']}" for skill in first["skills"] if skill["warning"]]
    told += filter(None, [warn_cut_off(first)])
    for split in document["split"]["skills"]:
        if split["near_duplicates"]:
            told.append(
                f"{split['skill']}: {split['near_duplicates']} pairs of prompts in the test and outside it "
                "are near-duplicates"
            )
    return told


def format_unlearned(document: Document) -> str:
    """Every method's verdict, the table behind it, and its numbers by skill and by form."""
    opened = document["split"]["test_opened"]
    end = f"forget {document['forget']}; this test was used for {opened} question(s); run {document['run']}"
    parts = [part for method in document["methods"] for part in _format_method(method)]
    return "\n\n".join([*parts, end])


def _format_method(method: Document) -> Iterator[str]:
    verdict = read_method_verdict(method)
    if verdict is not None:
        yield fill(verdict.sentence, WIDTH)
        yield format_table(MEASURE_COLUMNS, [row.cells() for row in verdict.rows])
        yield f"What it took: {verdict.took or '–'}"
    rows = [
        (
            f"{s['skill']}{' (forget)' if s['role'] == 'forget' else ''}",
            str(s["n"]),
            format_number(s["before"]),
            format_number(s["after"]),
            format_number(s["relative_drop"]),
            _interval(s["interval"]),
        )
        for s in method["skills"]
    ]
    yield f"{method['method']}: {_parameters(method['parameters'])}"
    yield format_table(("skill", "n", "before", "after", "drop", "95 %"), rows)
    if unseen := method["skills"][0]["unseen"]:
        drop = format_number(unseen["relative_drop"])
        yield f"in wordings that no probe had ({unseen['n']} examples): drop {drop}"
    if method["robustness"]:
        yield format_table(("other forms", "n", "before", "after", "drop"), _forms(method))
    yield f"over-refusal {format_number(method['over_refusal'])}"
    if unrelated := method["parameters"].get("unrelated"):
        share = format_number(unrelated["refused"])
        yield f"of unrelated text refused {share} ({unrelated['n']} passages)"


def _forms(method: Document) -> list[tuple[str, ...]]:
    return [
        (
            f"{form['form']} {form['lang'] or ''}".strip(),
            str(form["n"]),
            *(format_number(form[name]) for name in ("before", "after", "relative_drop")),
        )
        for form in method["robustness"]
    ]


def _parameters(parameters: Document) -> str:
    shown = {
        name: value for name, value in parameters.items() if name not in ("k", "validation", "unrelated")
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _interval(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
