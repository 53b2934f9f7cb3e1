"""One finding: its evidence, editable title, note and tags, and a re-run."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.record.findings.comparison_finding import open_comparison, show_comparison
from pages.record.findings.generation_finding import open_generation, show_generation, show_neuron_finding
from pages.record.findings.pruning_finding import open_pruning, show_pruning_finding
from pages.record.findings.rerun import ask_rerun, show_rerun
from pages.record.findings.skill_finding import open_skill, show_skill
from pages.record.findings.unlearn_finding import open_unlearning, read_verdicts, show_unlearning
from pages.record.findings.word_finding import open_word_finding, show_word_finding
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import format_time, shorten_model, show_download, show_page_link
from pages.shared.links.stored import StoredSettings
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from pages.shared.verdicts.methods import show_method_verdict
from pages.shared.word_effects import show_verdict
from store.evidence import EvidenceView, read_evidence
from store.headlines import write_headline
from workbench.experts.evidence import KIND as PRUNING
from workbench.findings.findings import (
    EXPORT_FORMATS,
    Finding,
    all_tags,
    delete_finding,
    export_findings,
    update_finding,
)
from workbench.levers.evidence import KINDS as OF_WORDS
from workbench.neurons.comparison_evidence import KIND as COMPARISON
from workbench.records import read_odd_record
from workbench.unlearning.evidence import KIND as UNLEARNING

RUN_AGAIN = ("generation", UNLEARNING, PRUNING, COMPARISON, *OF_WORDS)
"""Kinds of findings that can be run again."""


def show_finding(finding: Finding, *, bundled: bool = False) -> None:
    """Everything of one finding, from top to bottom. bundled: it is not stored, so it cannot be changed."""
    shown = read_evidence(finding.evidence)
    st.subheader(escape_text(finding.title), anchor=False)
    st.caption(describe_finding(finding))
    headline = write_headline(finding, shown)
    verdicts = read_verdicts(finding.evidence) if finding.kind == UNLEARNING else ()
    for verdict in verdicts:
        show_method_verdict(verdict)
    if headline and not (shown.said.verdict or verdicts):
        st.markdown(f"**{escape_text(headline)}**")
    elif headline and shown.said.verdict:
        show_verdict(shown.said)
    if finding.note:
        st.text(finding.note)
    _actions(finding, shown, bundled=bundled)
    show_rerun(finding)
    if finding.kind == "skill":
        show_skill(finding.evidence)
    elif finding.kind == UNLEARNING:
        show_unlearning(finding.evidence)
    elif finding.kind in OF_WORDS:
        show_word_finding(finding.evidence, shown)
    elif finding.kind == PRUNING:
        show_pruning_finding(shown)
    elif finding.kind == COMPARISON:
        show_comparison(finding.evidence)
    elif shown.address:
        show_neuron_finding(shown)
    else:
        show_generation(finding.id, shown)
    with st.expander("Settings and versions"):
        st.table(show_evidence_facts(finding, shown))
    with st.expander("The evidence as stored"):
        st.json(finding.evidence, expanded=1)


def describe_finding(finding: Finding) -> str:
    """Kind, model, time and tags in one line of escaped Markdown."""
    tags = " ".join(f":gray-badge[{escape_text(tag)}]" for tag in finding.tags)
    kept = f"kept {format_time(finding.created_at)}"
    return f"{escape_text(finding.kind)} · {escape_text(shorten_model(finding.model_name))} · {kept} {tags}"


def _actions(finding: Finding, shown: EvidenceView, *, bundled: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if finding.kind in RUN_AGAIN and not bundled:
            st.button(
                "Run again",
                icon=":material/replay:",
                on_click=ask_rerun,
                args=(finding.id,),
                help="Computes it again, never from stored results, and compares.",
            )
        if not bundled:
            with st.popover("Edit", icon=":material/edit:"):
                _edit(finding)
        with st.popover("Export", icon=":material/download:"):
            for form in EXPORT_FORMATS:
                show_download(
                    "Markdown" if form == "md" else form.upper(),
                    partial(export_findings, [finding], form),
                    f"finding-{finding.id[:8]}.{form}",
                    key=f"export-{form}",
                )
        if not bundled:
            with st.popover("Delete", icon=":material/delete:"):
                st.markdown("The finding and its evidence are deleted permanently. Stored runs stay.")
                st.button("Delete it", type="primary", on_click=_delete, args=(finding.id,))
        _open_in(finding, shown)


def _open_in(finding: Finding, shown: EvidenceView) -> None:
    model = {state.MODEL: finding.model_name}
    if finding.kind == "skill":
        open_skill(finding.evidence, finding.model_name)
    elif finding.kind == UNLEARNING:
        open_unlearning(finding.evidence, finding.model_name)
    elif finding.kind in OF_WORDS:
        open_word_finding(shown, finding.model_name)
    elif finding.kind == PRUNING:
        open_pruning(finding.evidence, finding.model_name)
    elif finding.kind == COMPARISON:
        open_comparison(finding.evidence, finding.model_name)
    elif shown.address:
        show_page_link(
            "Open the neuron", "/neurons", icon=":material/scatter_plot:", neuron=shown.address, **model
        )
        clamp = f"{shown.address}:key:set:1r@last"
        show_page_link("Clamp it", "/clamp", icon=":material/tune:", clamps=clamp, **model)
    else:
        open_generation(finding.evidence, shown, finding.model_name)


def _edit(finding: Finding) -> None:
    with st.form("edit", border=False):
        title = st.text_input("Title", finding.title)
        note = st.text_area("Note", finding.note)
        known = list(dict.fromkeys([*finding.tags, *all_tags(get_store())]))
        tags = st.multiselect("Tags", known, finding.tags, accept_new_options=True)
        pressed = st.form_submit_button("Save", type="primary")
    if pressed:
        with show_errors():
            update_finding(get_store(), finding.id, title=title, note=note, tags=tags)
            st.rerun()


def _delete(finding_id: str) -> None:
    with show_errors():
        delete_finding(get_store(), finding_id)
        st.query_params.pop(state.FINDING, None)
        st.toast("The finding is deleted", icon=":material/delete:")


def show_evidence_facts(finding: Finding, shown: EvidenceView) -> dict[str, str]:
    """Settings, versions and keys, as a two-column table; missing ones are left out."""
    stored = read_odd_record(StoredSettings, finding.evidence)
    named = {
        "Model": finding.model_name,
        "Fingerprint": finding.model_fingerprint,
        "Weights": shown.weights,
        "Run": shown.run_key,
        "System prompt": shown.system,
        "Earlier turns": shown.turns,
        "Seed": shown.seed,
        "Temperature": stored.temperature,
        "New tokens": stored.max_new_tokens,
        "Device": stored.device,
        "dtype": stored.dtype,
        "Finding": finding.id,
        **{f"Version of {name}": value for name, value in (stored.versions or {}).items()},
    }
    return {
        escape_text(name): escape_text(str(value)) for name, value in named.items() if value not in (None, "")
    }
