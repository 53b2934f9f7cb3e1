"""The job that answers the Unlearn page's question, and what is stored of the answer."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.errors import shown_errors
from pages.shared.jobs.waiting import ask_for, finished, has_failed, is_under_way
from pages.shared.layout import empty
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.kinds import make_order
from workbench.unlearning.checks import METHOD_NAMES, checked_scene
from workbench.unlearning.unlearning import UNLEARN, Question, Unlearned, stored_unlearned

WHY = (
    "Every skill is answered as the model is, and under each method. A method that is done is kept, whatever "
    "becomes of the others. The page goes on by itself afterwards."
)


def answered(loaded: LoadedModel, question: Question, *, pressed: bool) -> Unlearned | None:
    """What is known: all of the answer, the methods that are done, or None. Says what is missing, and why."""
    found = stored_unlearned(loaded, store(), question)
    if is_whole(found, question):
        return found
    order = make_order(UNLEARN, loaded.ref, question=question.document())
    with shown_errors():
        if pressed and not is_under_way(order):
            checked_scene(loaded, question)
            ask_for(order)
        if is_under_way(order) or has_failed(order):
            if finished(order, WHY):
                return stored_unlearned(loaded, store(), question)
        elif found is not None:
            _go_on(question, found)
        else:
            _nothing_yet(question)
    return found


def is_whole(found: Unlearned | None, question: Question) -> bool:
    """Whether every method of the question is answered."""
    return found is not None and len(found.document["methods"]) == len(question.methods)


def _go_on(question: Question, found: Unlearned) -> None:
    done = [METHOD_NAMES[method["method"]] for method in found.document["methods"]]
    st.info(
        f"Only {', '.join(done)} of {len(question.methods)} methods is done; what is known stands below. "
        "**Forget it and measure** goes on with the others.",
        icon=":material/hourglass_pause:",
    )


def _nothing_yet(question: Question) -> None:
    names = ", ".join(METHOD_NAMES[method] for method in question.methods)
    kept = plain(", ".join(source.name for source in question.retain)) or "nothing"
    empty(
        f"Everything is filled in: forget **{plain(question.forget.name)}** by {names}, and keep {kept}. "
        "**Forget it and measure** fits each method on a part of the examples, sets it on a second, and "
        "measures it once on a third. For the bundled model that takes a few minutes."
    )
