"""Define a skill: pasted, uploaded or from a data set of the Hub; previewed before it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from analysis.errors import SkillError
from analysis.skills.items import JUDGE_NAMES, Skill, SkillItem
from pages.shared import state
from pages.shared.errors import shown_errors, toasted_errors
from pages.shared.layout import caption
from pages.shared.resources import store
from pages.shared.tokens import plain, show_token
from workbench.skills.drafts import FIRST, HubRequest, can_fetch, described, fetched, shortage
from workbench.skills.library import given_skill, keep_skill, unreadable_skills

LONGEST_CELL = 300
"""Characters of a cell that are shown."""

_FORMS = {"jsonl": "jsonl", "json": "jsonl", "csv": "csv", "txt": "text"}
_NAME, _PASTED, _DRAFT, _FETCHED = "_skill_name", "_skill_pasted", "_skill_draft", "_skill_fetched"
_HUB, _FILES = "_skill_hub", "_skill_files"
_EXAMPLE = '{"prompt": "Question: What is the capital of Italy?\\nAnswer:", "answer": "Rome"}'
_HELP = (
    "JSON lines with prompt, answer and, if wanted, judge, group and wording; a CSV with these as its "
    "header; or GSM8K, MBPP, HumanEval, MMLU, SQuAD, TOFU as they are published. Plain paragraphs are texts "
    "whose perplexity is the measure."
)


def define_a_skill() -> None:
    """The panel: nothing given, a preview, or what is wrong with what was given."""
    for name, why in unreadable_skills(store()).items():
        st.warning(f"The skill {plain(name)} cannot be read: {plain(why)}", icon=":material/warning:")
    with st.expander("Define a skill", icon=":material/add_circle:"):
        st.text_input("Name", key=_NAME, placeholder="capitals")
        source = st.radio("From", list(_SOURCES), horizontal=True, key="_skill_from")
        draft = None
        with shown_errors():
            draft = _SOURCES[source]()
        if draft is None:
            caption(f"{_HELP} Nothing is kept before you say so.")
        else:
            _preview(draft)


def _pasted() -> Skill | None:
    text = st.text_area("Examples", key=_PASTED, height=160, placeholder=_EXAMPLE, help=_HELP)
    return _read(text.encode("utf-8", "surrogatepass"), "paste") if text.strip() else None


def _uploaded() -> Skill | None:
    file = st.file_uploader(
        "A file", list(_FORMS), key=f"{_FILES}_{st.session_state.get(_FILES, 0)}", help=_HELP
    )
    if file is None:
        return None
    return _read(file.getvalue(), _FORMS[file.name.rpartition(".")[2].lower()])


@dataclass(frozen=True)
class _Read:
    """What was given last, by its digest, and what came of reading it."""

    digest: str
    found: Skill | SkillError


def _read(data: bytes, form: str) -> Skill:
    """What was given, read once; its name is asked for when it is kept. Raises SkillError."""
    digest = hashlib.sha256(form.encode() + data).hexdigest()
    last: _Read | None = st.session_state.get(_DRAFT)
    if last is None or last.digest != digest:
        try:
            last = _Read(digest, given_skill("draft", data, form))
        except SkillError as error:
            last = _Read(digest, error)
        st.session_state[_DRAFT] = last
    if isinstance(last.found, SkillError):
        raise last.found
    return last.found


def _from_hub() -> Skill | None:
    if not can_fetch():
        st.info(
            "Data sets of the Hub need one more package. In Headlamp's folder: "
            "`pip install -r requirements-skills.txt`, then restart the app. "
            "Until then, download the data set's file yourself and upload it.",
            icon=":material/download:",
        )
        return None
    with st.form(_HUB, border=False):
        asked = _hub_form()
        pressed = st.form_submit_button("Fetch", icon=":material/download:")
    if pressed:
        st.session_state.pop(_FETCHED, None)
        with st.spinner("Fetching rows from the Hub …", show_time=True):
            st.session_state[_FETCHED] = fetched(asked(), "draft")
    return st.session_state.get(_FETCHED)


def _hub_form() -> Callable[[], HubRequest]:
    """The form's widgets; what they say, once it was sent. Raises SkillError."""
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
    caption(
        "Leave the fields empty where the data set has a layout that is known. A field may be a template, "
        "such as `Question: {question}`."
    )
    return lambda: HubRequest(repository, config, split, fields, judge)


_FIELDS = {"prompt": "question", "answer": "answer", "choices": "", "group": ""}
_SOURCES: dict[str, Callable[[], Skill | None]] = {
    "Paste": _pasted,
    "Upload": _uploaded,
    "Hub data set": _from_hub,
}


def _preview(draft: Skill) -> None:
    st.markdown(f"**Preview**: {plain(described(draft))}")
    example_table(draft.items[:FIRST])
    if told := shortage(draft):
        st.warning(plain(told), icon=":material/warning:")
    st.button("Keep this skill", type="primary", icon=":material/save:", on_click=_keep, args=(draft,))


def _keep(draft: Skill) -> None:
    """Keep the draft under the name that was typed, and choose it."""
    with toasted_errors():
        source = keep_skill(store(), replace(draft, name=str(st.session_state[_NAME] or "")))
        st.session_state[state.SKILL] = source.name
        st.session_state.update({_NAME: "", _PASTED: "", _FILES: st.session_state.get(_FILES, 0) + 1})
        st.session_state.pop(_FETCHED, None)
        st.toast(f"Kept: {plain(source.name)}", icon=":material/save:")


def example_table(items: Sequence[SkillItem]) -> None:
    """The first examples of a skill, as they are, each on one line."""
    rows = [
        {name: show_token(str(getattr(item, name))[:LONGEST_CELL]) for name in _COLUMNS} for item in items
    ]
    st.dataframe(pd.DataFrame(rows, columns=list(_COLUMNS)), hide_index=True, height=_height(len(rows)))
    caption(
        "Prompt: what the model is asked. Judge: what decides whether it answered. Group: examples of one "
        f"fact, which no split takes apart. Wording: which phrasing. ⏎: line break. At most {FIRST} rows."
    )


_COLUMNS = ("prompt", "answer", "judge", "group", "wording")


def _height(rows: int) -> int:
    return min(36 * (rows + 1) + 2, 260)
