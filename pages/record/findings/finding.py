"""One finding: its evidence, its title, note and tags to edit, and whether it still holds."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from pages.record.findings.skill_finding import open_skill, show_skill
from pages.record.findings.unlearn_finding import open_unlearning, show_unlearning
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.layout import download, duration, page_link, short, when
from pages.shared.pair import HOW_TO_READ, pair_slots, show_answers, show_pair, show_word, words_of
from pages.shared.resources import store
from pages.shared.tokens import plain, show_token
from store.evidence import Decoded, Reading, read_evidence
from workbench.findings.findings import (
    EXPORT_FORMATS,
    Finding,
    all_tags,
    delete_finding,
    export_findings,
    rerun,
    update_finding,
)
from workbench.unlearning.evidence import KIND as UNLEARNING

RUN_AGAIN = ("generation", UNLEARNING)
"""Kinds of findings that can be computed anew."""

_RERUN = "_rerun_result"


def finding_page(finding: Finding) -> None:
    """Everything of one finding, read from top to bottom."""
    shown = read_evidence(finding.evidence)
    st.subheader(plain(finding.title), anchor=False)
    st.caption(headline(finding))
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
    with st.expander("What it was made with"):
        st.table(facts(finding, shown))
    with st.expander("The evidence as stored"):
        st.json(finding.evidence, expanded=1)


def headline(finding: Finding) -> str:
    """Kind, model, time and tags in one line of Markdown; none of them is interpreted."""
    tags = " ".join(f":gray-badge[{plain(tag)}]" for tag in finding.tags)
    kept = f"kept {when(finding.created_at)}"
    return f"{plain(finding.kind)} · {plain(short(finding.model_name))} · {kept} {tags}"


def _actions(finding: Finding, shown: Reading) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if finding.kind in RUN_AGAIN:
            st.button(
                "Run again",
                icon=":material/replay:",
                on_click=_ask_rerun,
                args=(finding.id,),
                help="Computes it anew, never from stored results, and compares.",
            )
        with st.popover("Edit", icon=":material/edit:"):
            _edit(finding)
        with st.popover("Export", icon=":material/download:"):
            for form in EXPORT_FORMATS:
                download(
                    "Markdown" if form == "md" else form.upper(),
                    partial(export_findings, [finding], form),
                    f"finding-{finding.id[:8]}.{form}",
                    key=f"export-{form}",
                )
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown("The finding and its evidence are deleted for good. Stored runs stay.")
            st.button("Delete it", type="primary", on_click=_delete, args=(finding.id,))
        _open_in(finding, shown)


def _open_in(finding: Finding, shown: Reading) -> None:
    model = {state.MODEL: finding.model_name}
    if finding.kind == "skill":
        open_skill(finding.evidence, finding.model_name)
    elif finding.kind == UNLEARNING:
        open_unlearning(finding.evidence, finding.model_name)
    elif shown.address:
        page_link(
            "Open the neuron", "/neurons", icon=":material/scatter_plot:", neuron=shown.address, **model
        )
        clamp = f"{shown.address}:key:set:8x@all"
        page_link("Clamp it", "/clamp", icon=":material/tune:", clamps=clamp, **model)
    else:
        page_link(
            "Open in Clamp", "/clamp", icon=":material/tune:", **clamp_view(finding.evidence, shown), **model
        )


def clamp_view(evidence: dict[str, Any], shown: Reading) -> dict[str, Any]:
    """The Clamp page's URL with everything of this evidence filled in."""
    prefix = evidence.get("answer_prefix")
    prefix = prefix if isinstance(prefix, str) else ""
    wanted = {
        state.CLAMPS: state.SEPARATOR.join(shown.clamps),
        state.PROMPT: shown.prompt.removesuffix(prefix),
        state.PREFIX: prefix,
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
        known = list(dict.fromkeys([*finding.tags, *all_tags(store())]))
        tags = st.multiselect("Tags", known, finding.tags, accept_new_options=True)
        pressed = st.form_submit_button("Save", type="primary")
    if pressed:
        with shown_errors():
            update_finding(store(), finding.id, title=title, note=note, tags=tags)
            st.rerun()


def _delete(finding_id: str) -> None:
    with shown_errors():
        delete_finding(store(), finding_id)
        st.query_params.pop(state.FINDING, None)
        st.toast("The finding is deleted", icon=":material/delete:")


def _ask_rerun(finding_id: str) -> None:
    st.session_state[_RERUN] = (finding_id, None)


def _show_rerun(finding: Finding) -> None:
    """The re-run that was asked for: computed once, then shown as long as this finding is open."""
    asked, result = st.session_state.get(_RERUN, (None, None))
    if asked != finding.id:
        return
    if result is None:
        del st.session_state[_RERUN]
        with shown_errors(), st.spinner("Running it again …", show_time=True):
            result = rerun(store(), finding.id)
            st.session_state[_RERUN] = (finding.id, result)
    if result is None:
        return
    said = f"{result.explanation[:1].upper()}{result.explanation[1:]}."
    tell = st.success if result.same else st.warning
    of = f"Tokens {'equal' if result.tokens_equal else 'differ'} · largest difference of a probability"
    tell(
        f"**{'It still holds.' if result.same else 'It no longer holds.'}** {plain(said)}  \n"
        f"{'Largest difference of a number' if finding.kind == UNLEARNING else of} "
        f"{result.largest_difference:.1e}, tolerance {result.tolerance:.0e} · {duration(result.seconds)} · "
        f"run `{result.run[:8]}`",
        icon=":material/verified:" if result.same else ":material/difference:",
    )


def _generation(finding: Finding, shown: Reading) -> None:
    for clamp in shown.clamps:
        st.code(clamp, language=None)
    show_pair(pair_slots(), words_of(shown.base_text), words_of(shown.changed_text), before=shown.prompt)
    st.caption(HOW_TO_READ)
    if shown.word and shown.word_base is not None and shown.word_changed is not None:
        show_word(shown.word, shown.word_base, shown.word_changed)
    if shown.answer:
        show_answers(shown.answer, name=finding.id[:8])


def _neuron(shown: Reading) -> None:
    st.markdown(f"**Neuron** {plain(shown.address)}")
    for place, table in zip(st.columns(2) * len(shown.sites), shown.sites, strict=False):
        with place:
            _decoded(table)


def _decoded(table: Decoded) -> None:
    st.markdown(f"{plain(table.site)}, {plain(table.end)}")
    st.dataframe(
        {
            "token": [show_token(token) for token, _, _ in table.tokens],
            "logit": [logit for _, logit, _ in table.tokens],
            "probability": [probability for _, _, probability in table.tokens],
        },
        hide_index=True,
    )


def facts(finding: Finding, shown: Reading) -> dict[str, str]:
    """Settings, versions and keys, as a two-column table; what the evidence does not tell is left out."""
    evidence = finding.evidence
    versions = evidence.get("versions")
    named = {
        "Model": finding.model_name,
        "Fingerprint": finding.model_fingerprint,
        "Run": shown.run_key,
        "Seed": shown.seed,
        "Temperature": evidence.get("temperature"),
        "New tokens": evidence.get("max_new_tokens"),
        "Device": evidence.get("device"),
        "Number format": evidence.get("dtype"),
        "Finding": finding.id,
        **(
            {f"Version of {name}": value for name, value in versions.items()}
            if isinstance(versions, dict)
            else {}
        ),
    }
    return {plain(name): plain(str(value)) for name, value in named.items() if value not in (None, "")}
