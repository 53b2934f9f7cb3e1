"""Panel “Make it say …”: the neurons and small sets that make the model say a word, by measured effect."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.jobs.timing import estimate_levers
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.keeping import offer_keeping_answer
from pages.shared.layout import show_download, show_empty, show_method, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from pages.shared.weights import explain_not_run
from pages.shared.word_effects import (
    make_clamp_view,
    show_lever_chart,
    show_lever_table,
    show_verdict,
    write_effects_csv,
)
from store.word_evidence import read_word_evidence
from workbench.findings.findings import keep_effect
from workbench.jobs.engines import check_order
from workbench.kinds import make_order
from workbench.levers.asking import propose_lever_title
from workbench.levers.levers import LEVERS, StoredLevers, find_levers
from workbench.levers.questions import LeverQuestion, ask_levers

WHY = (
    "A shortlist by label and by gradient is tried at many values, on some prompts; the best neurons and "
    "sets are then measured on others, beside random neurons. The page continues automatically."
)
METHOD = """
The shortlist holds the neurons whose label is the word, at every site, and those with the largest gradient of
its log-odds. Each is held at 4 to 23 values, in × the residual at the answer position; the best are combined
into sets of up to 3, and the best set is improved by exchanging members and refining values. What raises the
word but changes neutral text by more than 0.1 nats a token, or makes the text repeat itself, is left out.
**P on held-out prompts**, which the choice never saw, is what counts. Random neurons are given the same
search over values. A word counts as steerable from 90 % on, if the best random set stays within 30 points of
the model without clamps.
"""


def show_lever_panel(loaded: LoadedModel, word: str) -> None:
    """The panel of a word, open if the URL says so; an error stays inside it."""
    panel = st.expander(
        f"**Make it say “{escape_text(word)}”**: the neurons with the largest measured effect",
        key=state.LEVERS,
        bind="query-params",
        on_change="rerun",
        icon=":material/bolt:",
    )
    if not panel.open:
        return
    with panel, show_errors():
        if loaded.streamed is not None:
            explain_not_run(loaded.ref, "Measuring an effect")
            return
        asked = ask_levers(loaded, word)
        found = find_levers(loaded, get_store(), asked) or _load_levers(loaded, asked)
        if found is not None:
            _show_levers(loaded, asked, found)


def _load_levers(loaded: LoadedModel, asked: LeverQuestion) -> StoredLevers | None:
    """The button, or the job's progress, or why it stopped; the answer once it is there.

    Raises TextError, UnknownWord for what cannot be measured, before there is a button.
    """
    order = make_order(LEVERS, loaded.ref, **asked.document())
    check_order(loaded, order)
    if not is_under_way(order) and not has_failed(order):
        show_empty(
            f"A neuron whose label is {escape_text(asked.word)} need not make the model say it. **Best "
            "levers** tries neurons and sets of up to 3, at many values, and measures. "
            f"{estimate_levers(loaded, set_size=asked.set_size, controls=asked.controls)}"
        )
        if st.button("Best levers", type="primary", icon=":material/bolt:", key="best_levers"):
            request_order(order)
    elif ensure_done(order, WHY):
        return find_levers(loaded, get_store(), asked)
    return None


def _show_levers(loaded: LoadedModel, asked: LeverQuestion, found: StoredLevers) -> None:
    """Verdict, actions for the ticked lever, table and chart."""
    said = read_word_evidence({"document": found.answer.to_document(), "question": asked.document()})
    show_verdict(said)
    bar = st.container(horizontal=True, vertical_alignment="center")
    if said.levers:
        lever = said.levers[show_lever_table(said, key="levers_table", pick=True)]
        show_lever_chart(said, key="levers_chart")
        with bar:
            label = f"Clamp it: {escape_text(lever.name)}"
            view = make_clamp_view(said, lever.clamps, lever)
            show_page_link(label, "/clamp", icon=":material/tune:", **view)
    with bar:
        show_download("Levers as CSV", write_effects_csv(said), "levers.csv", key="levers_csv")
        offer_keeping_answer(
            found.run,
            propose_lever_title(found.answer),
            lambda title, note, tags: keep_effect(
                loaded, get_store(), asked, found.answer, found.run, title=title, note=note, tags=tags
            ),
        )
        show_method("How levers are found", METHOD, "Flash Interpretability: Davies 2025, arXiv 2501.02688")
