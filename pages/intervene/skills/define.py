"""Skill definition: pasted, uploaded or from a Hub data set; previewed before it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from analysis.errors import SkillError
from analysis.skills.items import JUDGE_NAMES, Skill, SkillItem
from pages.shared import state
from pages.shared.errors import show_errors, toast_errors
from pages.shared.layout import show_caption
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from workbench.skills.drafts import (
    FIRST,
    HubRequest,
    can_fetch,
    describe_skill,
    explain_shortage,
    fetch_skill,
)
from workbench.skills.library import keep_skill, list_unreadable_skills, parse_given_skill

LONGEST_CELL = 300
"""Largest number of characters shown in a cell."""

_FORMS = {"jsonl": "jsonl", "json": "jsonl", "csv": "csv", "tsv": "csv", "txt": "text"}
_NAME, _PASTED, _DRAFT, _FETCHED = "_skill_name", "_skill_pasted", "_skill_draft", "_skill_fetched"
_HUB, _FILES = "_skill_hub", "_skill_files"
_EXAMPLE = '{"prompt": "Question: What is the capital of Italy?\\nAnswer:", "answer": "Rome"}'
_HELP = (
    "JSON lines with prompt, answer and, optionally, judge, group and wording; a table with these as its "
    "header; or GSM8K, MBPP, HumanEval, MMLU, ARC, CommonsenseQA, SQuAD, TOFU as published. Plain paragraphs "
    "are texts measured by perplexity."
)


def define_skill() -> None:
    """The panel: empty, a preview, or the error in the input."""
    for name, why in list_unreadable_skills(get_store()).items():
        st.warning(
            f"The skill {escape_text(name)} cannot be read: {escape_text(why)}", icon=":material/warning:"
        )
    with st.expander("Define a skill", icon=":material/add_circle:"):
        st.text_input("Name", key=_NAME, placeholder="capitals")
        source = st.radio("From", list(_SOURCES), horizontal=True, key="_skill_from")
        draft = None
        with show_errors():
            draft = _SOURCES[source]()
        if draft is None:
            show_caption(f"{_HELP} Nothing is stored until you confirm.")
        else:
            _preview(draft)


def _read_pasted() -> Skill | None:
    text = st.text_area("Examples", key=_PASTED, height=160, placeholder=_EXAMPLE, help=_HELP)
    return _read(text.encode("utf-8", "surrogatepass"), "paste") if text.strip() else None


def _read_uploaded() -> Skill | None:
    file = st.file_uploader(
        "A file", list(_FORMS), key=f"{_FILES}_{st.session_state.get(_FILES, 0)}", help=_HELP
    )
    if file is None:
        return None
    return _read(file.getvalue(), _FORMS[file.name.rpartition(".")[2].lower()])


@dataclass(frozen=True)
class _DraftState:
    """The last input, by its digest, and the result of reading it."""

    digest: str
    found: Skill | SkillError


def _read(data: bytes, form: str) -> Skill:
    """Read the input once; its name is chosen when it is stored. Raises SkillError."""
    digest = hashlib.sha256(form.encode() + data).hexdigest()
    last: _DraftState | None = st.session_state.get(_DRAFT)
    if last is None or last.digest != digest:
        try:
            last = _DraftState(digest, parse_given_skill("draft", data, form))
        except SkillError as error:
            last = _DraftState(digest, error)
        st.session_state[_DRAFT] = last
    if isinstance(last.found, SkillError):
        raise last.found
    return last.found


def _from_hub() -> Skill | None:
    if not can_fetch():
        st.info(
            "Hub data sets need another package. In Headlamp's folder run "
            "`pip install -r requirements-skills.txt`, then restart the app. "
            "Until then, download the data set's file and upload it.",
            icon=":material/download:",
        )
        return None
    with st.form(_HUB, border=False):
        asked = _hub_form()
        pressed = st.form_submit_button("Fetch", icon=":material/download:")
    if pressed:
        st.session_state.pop(_FETCHED, None)
        with st.spinner("Fetching rows from the Hub …", show_time=True):
            st.session_state[_FETCHED] = fetch_skill(asked(), "draft")
    return st.session_state.get(_FETCHED)


def _hub_form() -> Callable[[], HubRequest]:
    """The form's widgets; their values once submitted. Raises SkillError."""
    first, second, third = st.columns([2, 1, 1])
    repository = first.text_input("Data set", placeholder="openai/gsm8k", key=f"{_HUB}_id")
    config = second.text_input("Configuration", placeholder="main", key=f"{_HUB}_config")
    split = third.text_input("Split", "test", key=f"{_HUB}_split")
    columns = st.columns(5)
    fields = {
        name: column.text_input(f"Field for {name}", key=f"{_HUB}_{name}", placeholder=example)
        for column, (name, example) in zip(columns, _FIELDS.items(), strict=False)
    }
    judge = columns[-1].selectbox("Judge", ["", *JUDGE_NAMES], format_func=lambda n: n or "as the data says")
    show_caption(
        "Leave the fields empty if the data set has a known layout. A field may be a template, such as "
        "`Question: {question}`."
    )
    return lambda: HubRequest(repository, config, split, fields, judge)


_FIELDS = {"prompt": "question", "answer": "answer", "choices": "", "group": ""}
_SOURCES: dict[str, Callable[[], Skill | None]] = {
    "Paste": _read_pasted,
    "Upload": _read_uploaded,
    "Hub data set": _from_hub,
}


def _preview(draft: Skill) -> None:
    st.markdown(f"**Preview**: {escape_text(describe_skill(draft))}")
    show_examples(draft.items[:FIRST])
    if told := explain_shortage(draft):
        st.warning(escape_text(told), icon=":material/warning:")
    st.button("Keep this skill", type="primary", icon=":material/save:", on_click=_keep, args=(draft,))


def _keep(draft: Skill) -> None:
    """Store the draft under the typed name, and select it."""
    with toast_errors():
        source = keep_skill(get_store(), replace(draft, name=str(st.session_state[_NAME] or "")))
        st.session_state[state.SKILL] = source.name
        st.session_state.update({_NAME: "", _PASTED: "", _FILES: st.session_state.get(_FILES, 0) + 1})
        st.session_state.pop(_FETCHED, None)
        st.toast(f"Kept: {escape_text(source.name)}", icon=":material/save:")


def show_examples(items: Sequence[SkillItem]) -> None:
    """The first examples of a skill, each on one line."""
    rows = [
        {name: show_token(str(getattr(item, name))[:LONGEST_CELL]) for name in _COLUMNS} for item in items
    ]
    st.dataframe(pd.DataFrame(rows, columns=list(_COLUMNS)), hide_index=True, height=_height(len(rows)))
    show_caption(
        "Prompt: what the model is asked. Judge: what decides whether it answered. Group: examples of one "
        f"fact, never divided by a split. Wording: the phrasing. ⏎: line break. At most {FIRST} rows."
    )


_COLUMNS = ("prompt", "answer", "judge", "group", "wording")


def _height(rows: int) -> int:
    return min(36 * (rows + 1) + 2, 260)
