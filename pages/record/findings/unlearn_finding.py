"""Finding of unlearning: before and after per method and skill; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from analysis.unlearning.methods import name_method
from pages.shared import state
from pages.shared.layout import show_caption, show_page_link
from pages.shared.links.questions import make_unlearn_view
from pages.shared.tokens import escape_text
from pages.shared.verdicts.methods import show_measures
from store.unlearning_evidence import MethodVerdict, read_method_verdict
from workbench.records import read_odd_record
from workbench.unlearning.documents import judge_document


@dataclass(frozen=True)
class _Document:
    forget: str = ""
    methods: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Evidence:
    document: Mapping[str, Any] = field(default_factory=dict)
    question: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Method:
    method: str = ""
    skills: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Skill:
    skill: str = ""
    role: str = ""
    n: int | None = None
    before: float | None = None
    after: float | None = None
    relative_drop: float | None = None
    interval: tuple[float, float] | None = None


def read_verdicts(evidence: Mapping[str, Any]) -> tuple[MethodVerdict, ...]:
    """The methods' verdicts; of evidence of earlier versions made from its numbers, where it has enough."""
    methods = [one for one in _read_document(evidence).methods if isinstance(one, Mapping)]
    found = (read_method_verdict(judge_document(method)) for method in methods)
    return tuple(one for one in found if one is not None)


def show_unlearning(evidence: Mapping[str, Any]) -> None:
    """What was measured of each method, and its effect on each skill."""
    for verdict in read_verdicts(evidence):
        show_measures(verdict)
    document = _read_document(evidence)
    methods = [read_odd_record(_Method, method) for method in document.methods]
    rows = [_row(one, read_odd_record(_Skill, skill)) for one in methods for skill in one.skills]
    number = st.column_config.NumberColumn(format="%.3f")
    columns = dict.fromkeys(("before", "after", "relative drop", "from", "to"), number)
    st.dataframe(pd.DataFrame(rows), column_config=columns, hide_index=True)
    show_caption(
        f"Accuracy on the test with the forget skill **{escape_text(document.forget)}**; the "
        "relative drop with its 95 % interval."
    )


def _read_document(evidence: Mapping[str, Any]) -> _Document:
    return read_odd_record(_Document, read_odd_record(_Evidence, evidence).document)


def _row(method: _Method, skill: _Skill) -> dict[str, object]:
    return {
        "method": name_method(method.method),
        "skill": skill.skill,
        "role": skill.role,
        "n": skill.n,
        "before": skill.before,
        "after": skill.after,
        "relative drop": skill.relative_drop,
        **dict(zip(("from", "to"), skill.interval or (), strict=False)),
    }


def open_unlearning(evidence: Mapping[str, Any], model_name: str) -> None:
    """A link to the same question."""
    view = {state.MODEL: model_name, **make_unlearn_view(read_odd_record(_Evidence, evidence).question)}
    show_page_link("Open in Unlearn", "/unlearn", icon=":material/backspace:", **view)
