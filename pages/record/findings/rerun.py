"""Run a finding again, and say whether it still holds."""

from __future__ import annotations

import streamlit as st

from pages.shared.errors import show_errors
from pages.shared.layout import format_duration
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.findings.findings import Finding, Rerun, rerun_finding

_RERUN = "_rerun_result"


def ask_rerun(finding_id: str) -> None:
    """For callbacks: the page then runs this finding again."""
    st.session_state[_RERUN] = (finding_id, None)


def show_rerun(finding: Finding) -> None:
    """The requested re-run: computed once, then shown while this finding is open."""
    asked, result = st.session_state.get(_RERUN, (None, None))
    if asked != finding.id:
        return
    if result is None:
        del st.session_state[_RERUN]
        with show_errors(), st.spinner("Running it again …", show_time=True):
            result = rerun_finding(get_store(), finding.id)
            st.session_state[_RERUN] = (finding.id, result)
    if result is None:
        return
    tell = st.success if result.same else st.warning
    tell(
        f"**{'It still holds' if result.same else 'It no longer holds'}: {_compare(finding, result)}.**  \n"
        f"{escape_text(_capitalize(result.explanation))}. {format_duration(result.seconds)}"
        + (f" · run `{result.run[:8]}`" if result.run else ""),
        icon=":material/verified:" if result.same else ":material/difference:",
    )


def _compare(finding: Finding, result: Rerun) -> str:
    """`identical`, or by how much numbers differ and whether texts do."""
    of_texts = finding.kind == "generation"
    if result.same and result.largest_difference == 0:
        return "identical"
    gap = f"largest difference of a number {result.largest_difference:.1e}, tolerance {result.tolerance:.0e}"
    if not of_texts:
        return gap
    return f"{'the same tokens' if result.tokens_equal else 'other tokens'}, {gap}"


def _capitalize(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
