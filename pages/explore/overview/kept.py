"""The findings that were kept last; where there is none, a bundled example of one."""

from __future__ import annotations

import streamlit as st

from pages.shared import state
from pages.shared.layout import format_time, shorten_model, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from store.evidence import read_evidence
from store.headlines import write_headline
from workbench.findings.example import EXAMPLE_ID, read_example_finding
from workbench.findings.findings import list_findings

SHOWN = 3


def show_kept_findings() -> None:
    """The latest findings as links, or the example."""
    st.subheader("Findings", anchor=False)
    findings = list_findings(get_store(), limit=SHOWN)
    for finding in findings:
        with st.container(horizontal=True, vertical_alignment="center"):
            show_page_link(
                escape_text(finding.title),
                "/findings",
                icon=":material/bookmark:",
                **{state.FINDING: finding.id},
            )
            st.caption(
                f"{escape_text(shorten_model(finding.model_name))} · {format_time(finding.created_at)}"
            )
    if not findings:
        _show_example()


def _show_example() -> None:
    example = read_example_finding()
    if example is None:
        st.caption("None is kept yet. Each question above ends in one.")
        return
    headline = write_headline(example, read_evidence(example.evidence))
    with st.container(border=True):
        st.markdown(f"**What a finding looks like.** {escape_text(headline)}")
        st.caption(
            f"None of yours is kept yet. This one is bundled: measured on {escape_text(example.model_name)}, "
            f"{format_time(example.created_at)}."
        )
        show_page_link(
            "Open the example", "/findings", icon=":material/bookmark:", **{state.FINDING: EXAMPLE_ID}
        )
