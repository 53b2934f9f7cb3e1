"""Answers of `unlearn` as text: a method's verdict first, then its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

from analysis.unlearning.results import SkillResult
from store.unlearning_evidence import MEASURE_COLUMNS
from workbench.cli.shared.output import format_number, format_table
from workbench.unlearning.answers import MethodAnswer, UnlearningAnswer
from workbench.unlearning.documents import warn_cut_off

WIDTH = 100
"""Columns of the sentence."""


def list_warnings(found: UnlearningAnswer) -> list[str]:
    """Skills without a drop, answers that were cut off, near-duplicates between the parts of a split."""
    first = found.methods[0]
    told = [f"{skill.skill}: {skill.change.warning}" for skill in first.skills if skill.change.warning]
    told += filter(None, [warn_cut_off(first)])
    for split in found.split.skills:
        if split.near_duplicates:
            told.append(
                f"{split.skill}: {split.near_duplicates} pairs of prompts in the test and outside it "
                "are near-duplicates"
            )
    return told


def format_unlearned(found: UnlearningAnswer) -> str:
    """Every method's verdict, the table behind it, and its numbers by skill and by form."""
    opened = found.split.test_opened
    end = f"forget {found.forget}; this test was used for {opened} question(s); run {found.run}"
    parts = [part for method in found.methods for part in _format_method(method)]
    return "\n\n".join([*parts, end])


def _format_method(method: MethodAnswer) -> Iterator[str]:
    verdict = method.evidence
    yield fill(verdict.sentence, WIDTH)
    yield format_table(MEASURE_COLUMNS, [row.cells() for row in verdict.rows])
    yield f"What it took: {verdict.took or '–'}"
    yield f"{method.method}: {_parameters(method.parameters)}"
    rows = [_row(skill) for skill in method.skills]
    yield format_table(("skill", "n", "before", "after", "drop", "95 %"), rows)
    if unseen := method.forget.unseen:
        drop = format_number(unseen.relative_drop)
        yield f"in wordings that no probe had ({unseen.n} examples): drop {drop}"
    if method.robustness:
        yield format_table(("other forms", "n", "before", "after", "drop"), _forms(method))
    yield f"over-refusal {format_number(method.over_refusal)}"
    if unrelated := method.settings.unrelated:
        yield f"of unrelated text refused {format_number(unrelated.refused)} ({unrelated.n} passages)"


def _row(skill: SkillResult) -> tuple[str, ...]:
    change = skill.change
    return (
        f"{skill.skill}{' (forget)' if skill.role == 'forget' else ''}",
        str(change.n),
        *(format_number(value) for value in (change.before, change.after, change.relative_drop)),
        _interval(change.interval),
    )


def _forms(method: MethodAnswer) -> list[tuple[str, ...]]:
    return [
        (
            f"{form.form} {form.lang}".strip(),
            str(form.change.n),
            *(
                format_number(value)
                for value in (form.change.before, form.change.after, form.change.relative_drop)
            ),
        )
        for form in method.robustness
    ]


def _parameters(parameters: Mapping[str, Any]) -> str:
    shown = {
        name: value for name, value in parameters.items() if name not in ("k", "validation", "unrelated")
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
