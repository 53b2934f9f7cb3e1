"""The unlearning job of the page, and the stored part of its answer."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.scenes import METHOD_NAMES
from pages.shared.errors import show_errors
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.layout import show_empty
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.kinds import make_order
from workbench.unlearning.checks import check_scene
from workbench.unlearning.unlearning import (
    UNLEARN,
    UnlearningAnswer,
    UnlearningQuestion,
    find_unlearning_answer,
)

WHY = (
    "Every skill is answered by the unchanged model, and under each method. A finished method stays "
    "stored, whatever happens to the others. The page continues automatically."
)


def load_unlearning_answer(
    loaded: LoadedModel, question: UnlearningQuestion, *, pressed: bool
) -> UnlearningAnswer | None:
    """The stored answer: complete, the finished methods, or None. Shows what is missing, and why."""
    found = find_unlearning_answer(loaded, get_store(), question)
    if is_whole(found, question):
        return found
    order = make_order(UNLEARN, loaded.ref, question=question.document())
    with show_errors():
        if pressed and not is_under_way(order):
            check_scene(loaded, question)
            request_order(order)
        if is_under_way(order) or has_failed(order):
            if ensure_done(order, WHY):
                return find_unlearning_answer(loaded, get_store(), question)
        elif found is not None:
            _go_on(question, found)
        else:
            _nothing_yet(question)
    return found


def is_whole(found: UnlearningAnswer | None, question: UnlearningQuestion) -> bool:
    """Whether every method of the question is finished."""
    return found is not None and len(found.document["methods"]) == len(question.methods)


def _go_on(question: UnlearningQuestion, found: UnlearningAnswer) -> None:
    done = [METHOD_NAMES[method["method"]] for method in found.document["methods"]]
    st.info(
        f"Only {', '.join(done)} of {len(question.methods)} methods is done; its results are below. "
        "**Forget it and measure** continues with the others.",
        icon=":material/hourglass_pause:",
    )


def _nothing_yet(question: UnlearningQuestion) -> None:
    names = ", ".join(METHOD_NAMES[method] for method in question.methods)
    kept = escape_text(", ".join(source.name for source in question.retain)) or "nothing"
    show_empty(
        f"Everything is filled in: forget **{escape_text(question.forget.name)}** by {names}, and retain "
        f"{kept}. "
        "**Forget it and measure** fits each method on a part of the examples, chooses its setting on a "
        "second, and "
        "measures once on a third. That takes a few minutes on a bundled model, and far longer on a larger "
        "one. Fewer examples per skill, in **More settings**, are quicker, with wider intervals."
    )
