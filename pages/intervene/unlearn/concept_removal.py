"""TARS panel: a concept and prompts that lead to it; the reversed vectors, and their effect."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD
from analysis.unlearning.edits.tars_search import GOAL, MOST_KL
from pages.intervene.unlearn.removal_results import show_removal
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.jobs.timing import estimate_removal
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.layout import show_empty, show_method
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.jobs.engines import check_order
from workbench.kinds import make_order
from workbench.unlearning.concepts.questions import Concept, ConceptQuestion
from workbench.unlearning.concepts.tars import TARS, StoredRemoval, find_removal

_COSINE_HELP = "Without its sign. The concept's own head rows are tried anyway."
Prompts = tuple[Conversation, ...]
LAST_SEED = 2**53 - 1
WHY = "The job aims at the concept, chooses the vectors that point at it, and measures the edit."
PAPER = (
    "Targeted angular reversal: Davies 2024, arXiv 2412.10257. Noise and threshold are unpublished; "
    "these are ours"
)
METHOD = r"""
The aim is where the model's own answer says the concept. $v_0$ is the residual stream after the last block,
there, behind the prompt with the largest P(concept). Random perturbations that raise
$P(\text{concept})$ through the final norm and the head refine it to $v^*$. All vectors that act on the
residual stream (up, gate, down, rows of the head) and align best with $v^*$ are tried; as few as are needed
are reversed: $w \leftarrow -\lVert w \rVert\, v^* / \lVert v^* \rVert$. The edit changes the weights,
independent of the input.
"""


def show_concept_removal(loaded: LoadedModel) -> None:
    """The form, the job, and the results."""
    asked, pressed = _read_question()
    show_method("How this works", METHOD, PAPER)
    if asked is None:
        show_empty(
            "Type a concept, one word such as *dog*, and a few prompts that the model answers with it, one "
            "per line. **Remove it** reverses the vectors that point at it, and measures the effect."
        )
        return
    found = find_removal(loaded, get_store(), asked)
    if found is None or (found.earlier and pressed):
        found = _load_removal(loaded, asked, pressed=pressed) or found
    if found is not None:
        show_removal(loaded, asked, found)


def _read_question() -> tuple[ConceptQuestion | None, bool]:
    """The question, None where concept or prompts are missing; and whether it is asked now."""
    with st.form("concept-settings"):
        first, second = st.columns([2, 5])
        concept = first.text_input(
            "Concept",
            key=state.CONCEPT,
            bind="query-params",
            help="A word that is one token; its forms are included.",
        )
        prompts = second.text_area(
            "Prompts that it answers with it, one per line",
            key=state.LEADS,
            bind="query-params",
            height=100,
        )
        measured = _read_measured()
        how = _read_settings()
        pressed = st.form_submit_button("Remove it", type="primary", icon=":material/backspace:")
    if not (concept or "").strip() or not _read_lines(prompts):
        return None, pressed
    with show_errors():
        one = Concept(concept.strip(), _read_lines(prompts), *measured[:2])
        return ConceptQuestion((one,), measured[2], **how), pressed
    return None, False


def _read_measured() -> tuple[Prompts, Prompts, Prompts]:
    """Held-out wordings, other languages, and prompts whose answers are to stay."""
    labels = (
        (state.HELD_OUT, "Other wordings, only measured"),
        (state.LANGUAGES, "In other languages, only measured"),
        (state.STAYING, "Prompts whose answers are to stay"),
    )
    found = []
    for place, (key, label) in zip(st.columns(3), labels, strict=True):
        found.append(_read_lines(place.text_area(label, key=key, bind="query-params", height=80)))
    return found[0], found[1], found[2]


def _read_settings() -> dict[str, Any]:
    edits, goal, most, cosine, noise, seed = st.columns(6)

    def read(place: Any, label: str, low: float, high: float, value: float, key: str, help: str) -> float:
        step = value / 10
        return round(
            float(
                place.number_input(
                    label, low, high, value, step, format="%.4g", key=key, bind="query-params", help=help
                )
            ),
            6,
        )

    how = {
        "edits": int(
            edits.number_input("Most vectors", 1, None, MOST_EDITS, key=state.EDITS, bind="query-params")
        ),
        "goal": read(goal, "Goal", 1e-6, 0.5, GOAL, state.GOAL, "P(concept) at which it counts as removed."),
        "max_kl": read(
            most, "Largest KL", 1e-6, 10.0, MOST_KL, state.MOST_KL, "Median on neutral text, in nats."
        ),
        "threshold": read(cosine, "Smallest cosine", 0.0, 1.0, THRESHOLD, state.COSINE, _COSINE_HELP),
        "noise": read(
            noise,
            "First noise",
            0.01,
            10.0,
            NOISE,
            state.NOISE,
            "Size of the perturbations, × the vector's own.",
        ),
        "seed": int(seed.number_input("Seed", 0, LAST_SEED, 0, key=state.SEED, bind="query-params")),
    }
    rows = st.toggle(
        "Rows of the LM head may be reversed",
        True,
        key=state.HEAD_ROWS,
        bind="query-params",
        help="A removal that head rows carry only bans the token.",
    )
    return how | {"head_rows": rows}


def _read_lines(text: str | None) -> Prompts:
    return tuple(Conversation(line.strip()) for line in (text or "").splitlines() if line.strip())


def _load_removal(loaded: LoadedModel, asked: ConceptQuestion, *, pressed: bool) -> StoredRemoval | None:
    order = make_order(TARS, loaded.ref, **asked.document())
    with show_errors():
        if pressed and not is_under_way(order):
            check_order(loaded, order)
            request_order(order)
        if not is_under_way(order) and not has_failed(order):
            word = escape_text(asked.concepts[0].word)
            show_empty(f"Everything is filled in. **Remove it** removes {word}. {estimate_removal(loaded)}")
        elif ensure_done(order, WHY):
            return find_removal(loaded, get_store(), asked)
    return None
