"""Profile of a model's experts: the job that reads the text, the verdict, and the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.super_experts.profile import BlockRow, ExpertProfile
from analysis.super_experts.verdict import SuperExpertVerdict
from pages.shared.jobs.timing import estimate_reading
from pages.shared.jobs.waiting import ensure_done
from pages.shared.layout import show_caption, show_download, show_empty
from pages.shared.resources import get_store, use_model
from pages.shared.tokens import escape_text, show_token
from workbench.experts.answers import (
    ProfiledBlock,
    answer_profile,
    describe_block,
    describe_windows,
    list_judged_rows,
)
from workbench.experts.profiles import (
    EXPERTS,
    RELEASED_DTYPE,
    ProfileTexts,
    count_calibration_tokens,
    find_expert_profile,
)
from workbench.experts.questions import ProfileQuestion
from workbench.files import table_csv
from workbench.kinds import make_order
from workbench.records import write_record

SHOWN = 50
WHY = (
    "The model reads a calibration text, once, to measure each expert's largest output. The page "
    "continues automatically."
)


def load_released_profile(loaded: LoadedModel, texts: ProfileTexts) -> ExpertProfile | None:
    """The profile as the authors' code reads a text: in bfloat16, whatever the open model is in."""
    if loaded.dtype == RELEASED_DTYPE:
        return _load(loaded, texts.released_question)
    with use_model(replace(loaded.ref, dtype=RELEASED_DTYPE)) as coarse:
        return _load(coarse, texts.released_question)


def load_expert_profile(loaded: LoadedModel, texts: ProfileTexts) -> ExpertProfile | None:
    """The profile on a text; until it exists, the page shows the profiling job."""
    return _load(loaded, texts.question)


def _load(loaded: LoadedModel, asked: ProfileQuestion) -> ExpertProfile | None:
    found = find_expert_profile(loaded, get_store(), asked)
    if found is None:
        takes = estimate_reading(loaded, count_calibration_tokens(loaded, asked))
        if ensure_done(make_order(EXPERTS, loaded.ref, **asked.document()), f"{WHY}{takes}"):
            found = find_expert_profile(loaded, get_store(), asked)
    return found


def show_remarks(verdict: SuperExpertVerdict) -> None:
    """The number of super experts, the thresholds, and caveats."""
    threshold = verdict.threshold
    with st.container(horizontal=True):
        st.metric("Super", str(len(verdict.supers)), border=True)
        st.metric("Compared", f"{threshold.size:,}", border=True)
        if threshold.rule == "forms":
            st.metric("Rule forms: supplies at least", "half", border=True)
        else:
            st.metric("Rule percentile: a above", _format(threshold.percentile_value), border=True)
            st.metric("and above", _format(threshold.ratio_value), border=True)
        layers = ", ".join(f"L{layer}" for layer in threshold.layers[:6]) or "none"
        st.metric("in layers", f"{layers}…" if len(threshold.layers) > 6 else layers, border=True)
    for remark in verdict.remarks:
        st.info(escape_text(remark), icon=":material/info:")


def _format(bound: float) -> str:
    """`0.512`, `303.3`, `3,211,987`."""
    return f"{bound:,.0f}" if bound >= 10_000 else f"{bound:.4g}"


def show_super_table(loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict) -> None:
    """Super experts, near misses and what forms massive activations; all blocks as CSV and JSON."""
    rows = list_judged_rows(profile, verdict)
    if not rows:
        show_empty("No expert passes all rules, and none fails exactly one. Adjust the rules above.")
    else:
        _show_rows(loaded, profile, rows[:SHOWN])
    found = answer_profile(loaded, profile, verdict)
    with st.container(horizontal=True):
        show_download("All blocks as CSV", lambda: _csv((*found.experts, *found.blocks)), "experts.csv")
        show_download("Profile as JSON", lambda: json.dumps(found.to_document()), "experts.json")


def _show_rows(loaded: LoadedModel, profile: ExpertProfile, rows: list[tuple[BlockRow, str]]) -> None:
    """The table. rows: with the verdict on each."""
    found = [_list_cells(describe_block(loaded, row, profile.windows), verdict) for row, verdict in rows]
    percent = st.column_config.NumberColumn(format="percent")
    shares = dict.fromkeys(("forms", "jointly", "first tokens"), percent)
    st.dataframe(pd.DataFrame(found), hide_index=True, column_config=shares)
    what = "expert over the tokens routed to it" if profile.experts else "block"
    read = escape_text(str(describe_windows(loaded, profile)))
    show_caption(
        f"Read: {read}. Forms, jointly: the share of windows in which it supplies half of a massive "
        "activation, alone or as one of two; blank: unknown. First tokens: the share of windows whose first "
        f"token it was given. Then the largest output of each {what}, the token that triggered it, and the "
        f"super weight: row and column of its down projection. At most {SHOWN} rows."
    )


def _list_cells(block: ProfiledBlock, verdict: str) -> dict[str, object]:
    """A row of the table, by column."""
    return {
        "address": block.address,
        "verdict": verdict,
        "forms": block.forms,
        "jointly": block.formed_jointly,
        "max |out|": block.max_abs,
        "token": show_token(block.token or ""),
        "position": block.position,
        "row": block.row,
        "column": block.column,
        "super weight": block.weight,
        "tokens": block.count,
        "first tokens": block.sink_share,
    }


def _csv(blocks: Sequence[ProfiledBlock]) -> bytes:
    rows = [write_record(block) for block in blocks]
    return table_csv(list(rows[0]), [list(row.values()) for row in rows])
