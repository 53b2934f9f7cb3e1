"""Panel “Dose curve”: what one neuron does to a word at every value, beside random neurons."""

from __future__ import annotations

import streamlit as st

from analysis.anatomy.addresses import NeuronAddress
from analysis.opening.models import LoadedModel
from pages.shared.errors import show_errors
from pages.shared.jobs.timing import estimate_sweep
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.keeping import offer_keeping_answer
from pages.shared.layout import show_download, show_empty, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from pages.shared.word_effects import (
    make_clamp_view,
    show_dose_chart,
    show_dose_table,
    show_verdict,
    write_effects_csv,
)
from store.word_evidence import DoseFacts, WordEvidence, read_word_evidence
from workbench.findings.findings import keep_effect
from workbench.jobs.engines import check_order
from workbench.kinds import make_order
from workbench.levers.answers import SweepAnswer
from workbench.levers.asking import ask_neuron_sweep, propose_sweep_title
from workbench.levers.best import best_clamps, hold_at
from workbench.levers.questions import SweepQuestion
from workbench.levers.sweeps import SWEEP, find_sweep

WHY = (
    "The neuron is held at 23 values on each prompt, on neutral text, and 20 random neurons beside it. The "
    "page continues automatically."
)
_BEST = "The value with the largest P of those whose text does not repeat itself"


def show_dose_panel(loaded: LoadedModel, address: NeuronAddress, word: str, label: str) -> None:
    """The panel of a neuron. word: that was searched, if any; label: of the neuron, proposed otherwise.

    An error stays inside it.
    """
    st.subheader("Dose curve", anchor=False)
    with show_errors():
        if not word:
            word = st.text_input("Word", label, key=f"_dose_word_{address}", width=240).strip()
        if not word:
            show_empty("Type a word: the curve shows how likely it is when the neuron is held at each value.")
            return
        asked = ask_neuron_sweep(loaded, address, word)
        found = find_sweep(loaded, get_store(), asked)
        if found is None:
            _load_sweep(loaded, asked)
        else:
            _show_doses(loaded, asked, *found)


def _load_sweep(loaded: LoadedModel, asked: SweepQuestion) -> None:
    """The button, or the job's progress, or why it stopped; once it is done the page is drawn again.

    Raises TextError, UnknownWord, ClampError for what cannot be measured, before there is a button.
    """
    order = make_order(SWEEP, loaded.ref, **asked.document())
    check_order(loaded, order)
    if not is_under_way(order) and not has_failed(order):
        alike = {"neutral": True, "controls": asked.controls, "values": list(asked.values)}
        show_empty(
            f"How likely is {escape_text(asked.word)} when this neuron is held at each value? "
            f"{estimate_sweep(loaded, **alike)}"
        )
        if st.button("Measure the curve", type="primary", icon=":material/show_chart:", key="dose_curve"):
            request_order(order)
    elif ensure_done(order, WHY):
        st.rerun()  # the link above the curve takes its best value too


def _show_doses(loaded: LoadedModel, asked: SweepQuestion, run: str, found: SweepAnswer) -> None:
    """Verdict, actions, chart, and the table behind an expander."""
    said = read_word_evidence({"document": found.to_document(), "question": asked.document()})
    (neuron,) = asked.neurons
    show_verdict(said)
    bar = st.container(horizontal=True, vertical_alignment="center")
    picked = show_dose_chart(said, neuron, key="dose_chart", pick=True)
    with bar:
        _link_to_clamp(said, found, picked)
        show_download("Curve as CSV", write_effects_csv(said), f"{neuron}-doses.csv", key="doses_csv")
        offer_keeping_answer(
            run,
            propose_sweep_title(found),
            lambda title, note, tags: keep_effect(
                loaded, get_store(), asked, found, run, title=title, note=note, tags=tags
            ),
            label="Keep the curve",
        )
    with st.expander("All values", icon=":material/table:"):
        show_dose_table(said, neuron)


def _link_to_clamp(said: WordEvidence, found: SweepAnswer, picked: DoseFacts | None) -> None:
    """The way to Clamp with the value of the point that was clicked, else with the best one, if any is."""
    (curve,) = found.curves
    point = next((one for one in curve.points if picked is not None and one.value == picked.value), None)
    clamps, label, help = best_clamps(found), "Clamp it at the best value", _BEST
    if point is not None:
        clamps = (hold_at(found, curve.address, point),)
        label, help = f"Clamp it at {point.value:.3g} {said.unit}", "The point that was clicked"
    if clamps:
        view = make_clamp_view(said, [str(clamp) for clamp in clamps])
        show_page_link(label, "/clamp", icon=":material/tune:", help=help, **view)
