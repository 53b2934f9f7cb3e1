"""One finding: its evidence, editable title, note and tags, and a re-run."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from pages.record.findings.skill_finding import open_skill, show_skill
from pages.record.findings.unlearn_finding import open_unlearning, show_unlearning
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import format_duration, format_time, shorten_model, show_download, show_page_link
from pages.shared.pair import HOW_TO_READ, place_pair, show_answers, show_pair, show_word, split_words
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from store.evidence import DecodedTokens, EvidenceView, read_evidence
from workbench.findings.findings import (
    EXPORT_FORMATS,
    Finding,
    all_tags,
    delete_finding,
    export_findings,
    rerun_finding,
    update_finding,
)
from workbench.unlearning.evidence import KIND as UNLEARNING

RUN_AGAIN = ("generation", UNLEARNING)
"""Kinds of findings that can be run again."""

_RERUN = "_rerun_result"


def show_finding(finding: Finding) -> None:
    """Everything of one finding, from top to bottom."""
    shown = read_evidence(finding.evidence)
    st.subheader(escape_text(finding.title), anchor=False)
    st.caption(describe_finding(finding))
    if finding.note:
        st.text(finding.note)
    _actions(finding, shown)
    _show_rerun(finding)
    if finding.kind == "skill":
        show_skill(finding.evidence)
    elif finding.kind == UNLEARNING:
        show_unlearning(finding.evidence)
    elif shown.address:
        _neuron(shown)
    else:
        _generation(finding, shown)
    with st.expander("Settings and versions"):
        st.table(show_evidence_facts(finding, shown))
    with st.expander("The evidence as stored"):
        st.json(finding.evidence, expanded=1)


def describe_finding(finding: Finding) -> str:
    """Kind, model, time and tags in one line of escaped Markdown."""
    tags = " ".join(f":gray-badge[{escape_text(tag)}]" for tag in finding.tags)
    kept = f"kept {format_time(finding.created_at)}"
    return f"{escape_text(finding.kind)} · {escape_text(shorten_model(finding.model_name))} · {kept} {tags}"


def _actions(finding: Finding, shown: EvidenceView) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if finding.kind in RUN_AGAIN:
            st.button(
                "Run again",
                icon=":material/replay:",
                on_click=_ask_rerun,
                args=(finding.id,),
                help="Computes it again, never from stored results, and compares.",
            )
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
    elif shown.address:
        show_page_link(
            "Open the neuron", "/neurons", icon=":material/scatter_plot:", neuron=shown.address, **model
        )
        clamp = f"{shown.address}:key:set:8x@all"
        show_page_link("Clamp it", "/clamp", icon=":material/tune:", clamps=clamp, **model)
    else:
        show_page_link(
            "Open in Clamp",
            "/clamp",
            icon=":material/tune:",
            **make_clamp_view(finding.evidence, shown),
            **model,
        )


def make_clamp_view(evidence: dict[str, Any], shown: EvidenceView) -> dict[str, Any]:
    """The Clamp page's URL with everything of this evidence filled in."""
    prefix = evidence.get("answer_prefix")
    prefix = prefix if isinstance(prefix, str) else ""
    wanted = {
        state.CLAMPS: state.SEPARATOR.join(shown.clamps),
        state.PROMPT: shown.prompt.removesuffix(prefix),
        state.PREFIX: prefix,
        state.SYSTEM: shown.system or None,
        state.TURNS: shown.turns or None,
        state.RAW: "true" if evidence.get("raw") is True else None,
        state.WORD: shown.word,
        state.TOKENS: evidence.get("max_new_tokens"),
        state.TEMPERATURE: evidence.get("temperature"),
        state.SEED: shown.seed,
    }
    return {key: value for key, value in wanted.items() if isinstance(value, str | int | float)}


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


def _ask_rerun(finding_id: str) -> None:
    st.session_state[_RERUN] = (finding_id, None)


def _show_rerun(finding: Finding) -> None:
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
    said = f"{result.explanation[:1].upper()}{result.explanation[1:]}."
    tell = st.success if result.same else st.warning
    of = f"Tokens {'equal' if result.tokens_equal else 'differ'} · largest difference of a probability"
    tell(
        f"**{'It still holds.' if result.same else 'It no longer holds.'}** {escape_text(said)}  \n"
        f"{'Largest difference of a number' if finding.kind == UNLEARNING else of} "
        f"{result.largest_difference:.1e}, tolerance {result.tolerance:.0e} · "
        f"{format_duration(result.seconds)} · "
        f"run `{result.run[:8]}`",
        icon=":material/verified:" if result.same else ":material/difference:",
    )


def _generation(finding: Finding, shown: EvidenceView) -> None:
    for clamp in shown.clamps:
        st.code(clamp, language=None)
    show_pair(
        place_pair(), split_words(shown.base_text), split_words(shown.changed_text), before=shown.prompt
    )
    st.caption(HOW_TO_READ)
    if shown.word and shown.word_base is not None and shown.word_changed is not None:
        show_word(shown.word, shown.word_base, shown.word_changed)
    if shown.answer:
        show_answers(shown.answer, name=finding.id[:8])


def _neuron(shown: EvidenceView) -> None:
    st.markdown(f"**Neuron** {escape_text(shown.address)}")
    for place, table in zip(st.columns(2) * len(shown.sites), shown.sites, strict=False):
        with place:
            _show_decodings(table)


def _show_decodings(table: DecodedTokens) -> None:
    st.markdown(f"{escape_text(table.site)}, {escape_text(table.end)}")
    st.dataframe(
        {
            "token": [show_token(token) for token, _, _ in table.tokens],
            "logit": [logit for _, logit, _ in table.tokens],
            "probability": [probability for _, _, probability in table.tokens],
        },
        hide_index=True,
    )


def show_evidence_facts(finding: Finding, shown: EvidenceView) -> dict[str, str]:
    """Settings, versions and keys, as a two-column table; missing ones are left out."""
    evidence = finding.evidence
    versions = evidence.get("versions")
    named = {
        "Model": finding.model_name,
        "Fingerprint": finding.model_fingerprint,
        "Weights": shown.weights,
        "Run": shown.run_key,
        "System prompt": shown.system,
        "Earlier turns": shown.turns,
        "Seed": shown.seed,
        "Temperature": evidence.get("temperature"),
        "New tokens": evidence.get("max_new_tokens"),
        "Device": evidence.get("device"),
        "dtype": evidence.get("dtype"),
        "Finding": finding.id,
        **(
            {f"Version of {name}": value for name, value in versions.items()}
            if isinstance(versions, dict)
            else {}
        ),
    }
    return {
        escape_text(name): escape_text(str(value)) for name, value in named.items() if value not in (None, "")
    }
