"""The notebook: what was kept, with its evidence; searched, edited, run again, carried in and out."""

from functools import partial

import streamlit as st

from pages.record.findings.finding import finding_page, headline
from pages.shared import state
from pages.shared.errors import show_unreadable, shown_errors
from pages.shared.layout import download, empty, page_header, page_link
from pages.shared.resources import store
from pages.shared.tokens import plain
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


def wanted() -> list[Finding]:
    """The findings that fit the search and the tag, best or newest first."""
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
        list(all_tags(store())),
        index=None,
        key=state.TAG,
        bind="query-params",
        persist_state="session",
        placeholder="All tags",
    )
    found = list_findings(store(), search=words or "", tag=chosen, limit=AT_MOST)
    show_unreadable(found)
    return found


def look_at(finding_id: str | None) -> None:
    """Open a finding, or the list where there is none; the search stays as it is."""
    if finding_id:
        st.query_params[state.FINDING] = finding_id
    else:
        st.query_params.pop(state.FINDING, None)


def show_list(findings: list[Finding]) -> None:
    """One line per finding: its title, a link to it, and what it is of."""
    st.caption(
        f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
        + (f"; only the first {AT_MOST} are listed" if len(findings) == AT_MOST else "")
    )
    pages = -(-len(findings) // ON_A_PAGE)
    start = (st.pagination(pages, key="_findings_page") - 1) * ON_A_PAGE if pages > 1 else 0
    for finding in findings[start : start + ON_A_PAGE]:
        with st.container(border=True):
            st.button(
                plain(finding.title),
                key=f"_open_{finding.id}",
                type="tertiary",
                icon=":material/bookmark:",
                on_click=look_at,
                args=(finding.id,),
            )
            st.caption(headline(finding))


def export(findings: list[Finding]) -> None:
    """The listed findings as one file of each format."""
    with st.popover(f"Export these {len(findings)}", icon=":material/download:", disabled=not findings):
        for form in EXPORT_FORMATS:
            download(
                form.upper() if form != "md" else "Markdown",
                partial(export_findings, findings, form),
                f"findings.{form}",
                key=f"export-{form}",
            )


def bring_in() -> None:
    """Findings from a JSON export; those that are here already stay as they are."""
    with (
        st.popover("Import", icon=":material/upload:"),
        st.form("import", border=False, clear_on_submit=True),
    ):
        file = st.file_uploader("A file made by Export → JSON", type="json", key=_UPLOAD)
        if st.form_submit_button("Import", type="primary") and file is not None:
            result = import_findings(store(), file.getvalue().decode("utf-8", "replace"))
            known = f", {result.already_there} were here already" if result.already_there else ""
            st.toast(f"{result.added} imported{known}", icon=":material/upload:")


def notebook() -> None:
    """Search, filter, list, export and import."""
    filters, tools = st.container(), st.container(horizontal=True)
    with tools, shown_errors():
        bring_in()  # before the list is read, so that it holds what came in
    with filters:
        findings = wanted()
    with tools:
        export(findings)
    if findings:
        show_list(findings)
    elif st.session_state.get(state.SEARCH) or st.session_state.get(state.TAG):
        empty("No finding holds these words under this tag. Use fewer words, or another tag.")
    else:
        empty(
            "Nothing is kept yet. On **Clamp**, generate a pair of texts and press *Keep as a finding*; "
            "on **Neurons**, open a neuron and keep it. Each finding freezes its evidence, to be run again.",
            lambda: page_link("Clamp a neuron", "/clamp", icon=":material/tune:"),
            lambda: page_link("Find a neuron", "/neurons", icon=":material/search:"),
        )


page_header("Findings", "What did you find, and does it still hold?")
with shown_errors():
    chosen = st.query_params.get(state.FINDING)
    if chosen:
        st.button("All findings", icon=":material/arrow_back:", on_click=look_at, args=(None,))
        finding_page(get_finding(store(), chosen))
    else:
        notebook()
