"""The unlearning job of the page, and the stored part of its answer."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.methods import name_method
from pages.intervene.unlearn.form import choose_quick
from pages.shared.errors import show_errors
from pages.shared.jobs.timing import plan_unlearning
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.layout import show_empty
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.expected import format_minutes
from workbench.kinds import make_order
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.checks import check_scene
from workbench.unlearning.presets import PlannedTime
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import UNLEARN, find_unlearning_answer

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
            _nothing_yet(loaded, question)
    return found


def is_whole(found: UnlearningAnswer | None, question: UnlearningQuestion) -> bool:
    """Whether every method of the question is finished."""
    return found is not None and len(found.methods) == len(question.methods)


def _go_on(question: UnlearningQuestion, found: UnlearningAnswer) -> None:
    done = [name_method(method.method) for method in found.methods]
    st.info(
        f"Only {', '.join(done)} of {len(question.methods)} methods is done; its results are below. "
        "**Forget it and measure** continues with the others.",
        icon=":material/hourglass_pause:",
    )


def _nothing_yet(loaded: LoadedModel, question: UnlearningQuestion) -> None:
    """What will be done and how long it takes; or, where it cannot work, why."""
    planned = plan_unlearning(loaded, question)
    names = ", ".join(name_method(method) for method in question.methods)
    kept = escape_text(", ".join(source.name for source in question.retain)) or "nothing"
    show_empty(
        f"Everything is filled in: forget **{escape_text(question.forget.name)}** by {names}, and retain "
        f"{kept}. "
        "**Forget it and measure** fits each method on a part of the examples, chooses its setting on a "
        "second, and "
        f"measures once on a third. {_say_time(planned)}"
    )
    for concern in () if planned is None else planned.concerns:
        st.warning(escape_text(concern), icon=":material/info:")
    if planned is not None and planned.quick is not None:
        st.button(
            f"Quick answer ({format_minutes(planned.quick_seconds)})",
            icon=":material/bolt:",
            on_click=choose_quick,
            args=(planned.quick,),
            help=f"{name_method(planned.quick.methods[0])} alone, on {_say_examples(planned.quick)}, "
            "without controls; in every other form too. Wider intervals, and the same verdict's table.",
        )


def _say_time(planned: PlannedTime | None) -> str:
    if planned is None:
        return "Its time is measured once the model is no longer at work."
    return f"That takes **{format_minutes(planned.seconds)}** here, by a short measurement of the model."


def _say_examples(question: UnlearningQuestion) -> str:
    return f"{question.limit} examples per skill" if question.limit else "all examples"
