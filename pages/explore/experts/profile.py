"""Profile of a model's experts: the job that reads the text, the verdict, and the table."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.verdict import SuperExpertVerdict
from pages.shared.jobs.waiting import ensure_done
from pages.shared.layout import show_caption, show_download, show_empty
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from workbench.experts.documents import block_document, profile_document
from workbench.experts.profiles import EXPERTS, ProfileTexts, find_expert_profile
from workbench.files import table_csv
from workbench.kinds import make_order

SHOWN = 50
WHY = (
    "The model reads a calibration text, once, to measure each expert's largest output. The page "
    "continues automatically."
)


def load_expert_profile(loaded: LoadedModel, texts: ProfileTexts) -> ExpertProfile | None:
    """The profile on a text; until it exists, the page shows the profiling job."""
    asked = texts.calibration_parameters
    found = find_expert_profile(loaded, get_store(), asked)
    if found is None and ensure_done(make_order(EXPERTS, loaded.ref, **asked), WHY):
        found = find_expert_profile(loaded, get_store(), asked)
    return found


def show_remarks(verdict: SuperExpertVerdict) -> None:
    """The number of super experts, the thresholds, and caveats."""
    threshold = verdict.threshold
    bound = threshold.small_value if threshold.rule == "small" else threshold.percentile_value
    with st.container(horizontal=True):
        st.metric("Super", str(len(verdict.supers)), border=True)
        st.metric("Compared", f"{threshold.size:,}", border=True)
        st.metric(f"Rule {threshold.rule}: a above", "–" if bound is None else f"{bound:.4g}", border=True)
        st.metric("and above", f"{threshold.ratio_value:.4g}", border=True)
        layers = ", ".join(f"L{layer}" for layer in threshold.layers[:6]) or "none"
        st.metric("in layers", f"{layers}…" if len(threshold.layers) > 6 else layers, border=True)
    for remark in verdict.remarks:
        st.info(escape_text(remark), icon=":material/info:")


def show_super_table(loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict) -> None:
    """Super experts, then near misses with the rule that excluded each; all of them as CSV and JSON."""
    rows = [(row, "super") for row in verdict.supers]
    rows += [(miss.row, f"fails {miss.rule}") for miss in verdict.near_misses]
    if not rows:
        show_empty("No expert passes all rules, and none fails exactly one. Adjust the rules above.")
    else:
        found = [block_document(loaded, row) | {"verdict": verdict} for row, verdict in rows[:SHOWN]]
        shown = pd.DataFrame(found)[
            ["address", "verdict", "max_abs", "token", "position", "row", "column", "weight", "count"]
        ]
        shown["token"] = [show_token(token) for token in shown["token"]]
        st.dataframe(
            shown.rename(columns={"max_abs": "max |out|", "count": "tokens", "weight": "super weight"}),
            hide_index=True,
        )
        show_caption(
            "The largest output of each expert over the tokens routed to it, the token that triggered it, "
            "and the "
            f"super weight: row and column of its down projection. At most {SHOWN} rows."
        )
    document = profile_document(loaded, profile, verdict)
    with st.container(horizontal=True):
        show_download(
            "All blocks as CSV", lambda: _csv(document["experts"] + document["blocks"]), "experts.csv"
        )
        show_download("Profile as JSON", lambda: json.dumps(document), "experts.json")


def _csv(rows: list[dict[str, object]]) -> bytes:
    return table_csv(list(rows[0]), [list(row.values()) for row in rows])
