"""Three questions: links with everything filled in that end in a finding, with their steps and time."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.methods import name_method
from pages.shared import state
from pages.shared.jobs.timing import estimate_levers, estimate_pruning, estimate_unlearning
from pages.shared.layout import show_page_link
from pages.shared.tokens import escape_text
from workbench.neurons.browsing import find_single_token_words
from workbench.skills.library import list_bundled_skills
from workbench.unlearning.questions import UnlearningQuestion

CANDIDATES = ("dog", "cat", "day", "mom", "time", "water", "house", "girl", "the", "and")
"""Candidate words for the first question; the first that is a single token is used."""
SKILLS, EXAMPLES = ("arithmetic", "facts", "stories"), 240
"""The forget skill and two retain skills of the third question, and the examples of each."""
TAUGHT = {"demo/base", "demo/chat"}
"""The models that were taught these skills; in the bundled mixture no query passes a dense block."""
MIXTURE, SKILLED = "demo/moe", "demo/base"
"""The bundled models of the second and the third question, for a model that cannot be asked."""
NOT_FROM_DISK = "Weights that stay on disk cannot be run; choose another model at the left."


def show_questions(loaded: LoadedModel) -> Callable[[], None]:
    """The three cards. Returns what tells the time of the third, for the end of the page: it is measured."""
    st.subheader("Start with a question", anchor=False)
    word, mixture, skill = st.columns(3)
    with word, st.container(border=True, height="stretch"):
        _ask_word(loaded)
    with mixture, st.container(border=True, height="stretch"):
        _ask_mixture(loaded)
    with skill, st.container(border=True, height="stretch"):
        return _ask_skill(loaded)


def _ask_word(loaded: LoadedModel) -> None:
    words = find_single_token_words(loaded, CANDIDATES, 1)
    word = escape_text(words[0] if words else "")
    st.markdown(
        f"**Which neurons make it say “{word}”?**" if words else "**Which neurons make it say a word?**"
    )
    if not words:
        st.caption("None of ten common words is one token of this vocabulary: search one of your own.")
        show_page_link("Search a word", "/neurons", icon=":material/search:")
        return
    if loaded.streamed is not None:
        st.caption(NOT_FROM_DISK)
    else:
        st.caption(
            f"Measured on prompts the choice never saw, beside random neurons. {estimate_levers(loaded)}"
        )
        st.markdown("1\\. **Best levers** · 2. read the verdict · 3. **Keep as a finding**, or **Clamp it**")
    show_page_link(
        f"Make it say “{word}”",
        "/neurons",
        icon=":material/bolt:",
        **{state.WORD: words[0], state.LEVERS: "true"},
    )


def _ask_mixture(loaded: LoadedModel) -> None:
    st.markdown("**What holds this mixture together?**")
    steps = "1\\. see what is super · 2. **Prune … and see** · 3. read the verdict · 4. **Keep as a finding**"
    if loaded.anatomy.experts and loaded.streamed is None:
        st.caption(
            "The experts with the largest outputs, and what is lost without them, beside random experts. "
            f"{estimate_pruning(loaded)}"
        )
        st.markdown(steps)
        show_page_link("Find its experts", "/experts", icon=":material/hub:")
        return
    why = "This model is dense: it has no experts." if not loaded.anatomy.experts else NOT_FROM_DISK
    st.caption(f"{why} The bundled mixture {MIXTURE} has 96; its super expert was planted.")
    st.markdown(steps)
    show_page_link(f"Ask {MIXTURE}", "/experts", icon=":material/hub:", **{state.MODEL: MIXTURE})


def _ask_skill(loaded: LoadedModel) -> Callable[[], None]:
    forget, *retain = SKILLS
    methods = ("ksd",)
    st.markdown("**Can it forget one skill and keep another?**")
    here = loaded.ref.name in TAUGHT and loaded.streamed is None
    said = f"Forget {forget}, retain {' and '.join(retain)}; measured on a held-out test."
    place = st.empty()
    if here:
        place.caption(f"{said} How long it takes is being measured.")
        sources = {source.name: source for source in list_bundled_skills()}
        mine, *kept = (sources[name] for name in SKILLS)
        question = UnlearningQuestion(mine, tuple(kept), methods, limit=EXAMPLES)
    else:
        place.caption(f"{said} For {SKILLED}, which was taught six: this model was not, as far as is known.")
    st.markdown("1\\. **Forget it and measure** · 2. read the verdict · 3. **Keep as a finding**")
    view: dict[str, object] = {
        state.FORGET: forget,
        state.RETAIN: retain,
        state.METHODS: [name_method(name) for name in methods],
        state.EXAMPLES: EXAMPLES,
        state.MODEL: loaded.ref.name if here else SKILLED,
    }
    label = f"Forget {forget}" if here else f"Let {SKILLED} forget {forget}"
    show_page_link(label, "/unlearn", icon=":material/backspace:", help=None, **view)

    def tell_time() -> None:
        if here:
            place.caption(f"{said} {estimate_unlearning(loaded, question)}")

    return tell_time
