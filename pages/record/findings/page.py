"""Findings: the notebook of evidence; searched, edited, run again, exported and imported."""

from functools import partial

import streamlit as st

from pages.record.findings.finding import describe_finding, show_finding
from pages.shared import state
from pages.shared.errors import show_errors, show_unreadable
from pages.shared.layout import show_download, show_empty, show_header, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from store.evidence import read_evidence
from store.headlines import write_headline
from workbench.findings.example import EXAMPLE_ID, read_example_finding
from workbench.findings.findings import (
    EXPORT_FORMATS,
    Finding,
    all_tags,
    export_findings,
    get_finding,
    import_findings,
    list_findings,
)

ON_A_PAGE = 20
AT_MOST = 500
_UPLOAD = "_findings_upload"


def search_findings() -> list[Finding]:
    """The findings that match the search and the tag, best or newest first."""
    search, tag = st.columns([3, 2])
    words = search.text_input(
        "Search",
        key=state.SEARCH,
        bind="query-params",
        persist_state="session",
        icon=":material/search:",
        placeholder="Any words of title, note, tags, prompt or texts",
    )
    chosen = tag.selectbox(
        "Tag",
        list(all_tags(get_store())),
        index=None,
        key=state.TAG,
        bind="query-params",
        persist_state="session",
        placeholder="All tags",
    )
    found = list_findings(get_store(), search=words or "", tag=chosen, limit=AT_MOST)
    show_unreadable(found)
    return found


def open_finding(finding_id: str | None) -> None:
    """Open a finding, or the list if there is none; the search stays."""
    if finding_id:
        st.query_params[state.FINDING] = finding_id
    else:
        st.query_params.pop(state.FINDING, None)


def show_list(findings: list[Finding]) -> None:
    """One line per finding: title, link and subject."""
    st.caption(
        f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
        + (f"; only the first {AT_MOST} are listed" if len(findings) == AT_MOST else "")
    )
    pages = -(-len(findings) // ON_A_PAGE)
    start = (st.pagination(pages, key="_findings_page") - 1) * ON_A_PAGE if pages > 1 else 0
    for finding in findings[start : start + ON_A_PAGE]:
        with st.container(border=True):
            st.button(
                escape_text(finding.title),
                key=f"_open_{finding.id}",
                type="tertiary",
                icon=":material/bookmark:",
                on_click=open_finding,
                args=(finding.id,),
            )
            show_summary(finding)
            st.caption(describe_finding(finding))


def show_summary(finding: Finding) -> None:
    """What was found, in a sentence, where the title does not say it; of texts their first lines."""
    shown = read_evidence(finding.evidence)
    headline = write_headline(finding, shown)
    if headline and headline != finding.title:
        st.markdown(escape_text(headline))


def offer_export(findings: list[Finding]) -> None:
    """The listed findings as one file of each format."""
    with st.popover(f"Export these {len(findings)}", icon=":material/download:", disabled=not findings):
        for form in EXPORT_FORMATS:
            show_download(
                form.upper() if form != "md" else "Markdown",
                partial(export_findings, findings, form),
                f"findings.{form}",
                key=f"export-{form}",
            )


def offer_import() -> None:
    """Import findings from a JSON export; existing ones stay unchanged."""
    with (
        st.popover("Import", icon=":material/upload:"),
        st.form("import", border=False, clear_on_submit=True),
    ):
        file = st.file_uploader("A file made by Export → JSON", type="json", key=_UPLOAD)
        if st.form_submit_button("Import", type="primary") and file is not None:
            result = import_findings(get_store(), file.getvalue().decode("utf-8", "replace"))
            known = f", {result.already_there} already existed" if result.already_there else ""
            st.toast(f"{result.added} imported{known}", icon=":material/upload:")


def show_notebook() -> None:
    """Search, filter, list, export and import."""
    filters, tools = st.container(), st.container(horizontal=True)
    with tools, show_errors():
        offer_import()  # before the list is read, so that it includes the imports
    with filters:
        findings = search_findings()
    with tools:
        offer_export(findings)
    if findings:
        show_list(findings)
    elif st.session_state.get(state.SEARCH) or st.session_state.get(state.TAG):
        show_empty("No finding matches these words and this tag. Use fewer words, or another tag.")
    else:
        show_empty(
            "No finding is kept yet. On **Clamp**, generate a pair of texts and press *Keep as a "
            "finding*; on **Neurons**, open a neuron and keep it. Each finding freezes its evidence, so "
            "that it can be run again.",
            lambda: show_page_link(
                "See an example", "/findings", icon=":material/bookmark:", **{state.FINDING: EXAMPLE_ID}
            ),
            lambda: show_page_link("Clamp a neuron", "/clamp", icon=":material/tune:"),
            lambda: show_page_link("Find a neuron", "/neurons", icon=":material/search:"),
        )


show_header("Findings", "What did you find, and does it still hold?")
with show_errors():
    chosen = st.query_params.get(state.FINDING)
    if chosen:
        st.button("All findings", icon=":material/arrow_back:", on_click=open_finding, args=(None,))
        example = read_example_finding() if chosen == EXAMPLE_ID else None
        if example is None:
            show_finding(get_finding(get_store(), chosen))
        else:
            st.info(
                "A bundled example, to read: it was measured, but is not in your notebook. *Open in Neurons* "
                "measures it here.",
                icon=":material/menu_book:",
            )
            show_finding(example, bundled=True)
    else:
        show_notebook()
