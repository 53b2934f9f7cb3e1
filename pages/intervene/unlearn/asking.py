"""Ask panel: one prompt answered by the unchanged and the changed model, side by side, streamed."""

from __future__ import annotations

import time
from collections.abc import Mapping

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.running.generation import CHANGED, Sampling
from pages.intervene.unlearn.sentences import name_method
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import format_duration, make_progress_bar, show_caption
from pages.shared.pair import HOW_TO_READ, place_pair, show_pair
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.generating.clamping import Generation, find_pair, stream_pair
from workbench.generating.requests import GenerationRequest
from workbench.saving.saving import read_changes
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.checks import pick_test_prompt
from workbench.unlearning.questions import UnlearningQuestion

LONGEST_ANSWER = 512
DRAWS_PER_SECOND = 8
_WANTED, _ANSWER = "_unlearn_asked", "_unlearn_answer"
"""The last prompt and answer, with what it belongs to."""


def show_ask_box(
    loaded: LoadedModel,
    question: UnlearningQuestion,
    found: UnlearningAnswer,
    recipes: Mapping[str, Mapping[str, bytes]],
) -> None:
    """The panel below the results, for any of the finished methods."""
    names = {name_method(one): one.method for one in found.methods if read_changes(recipes[one.method])}
    st.subheader("Ask it something", anchor=False)
    if not names:
        show_caption("No method changes anything, so there is nothing to compare.")
        return
    with st.form("unlearn-ask"):
        prompt = st.text_area(
            "Prompt", pick_test_prompt(question), key=state.ASK, bind="query-params", height=100
        )
        method, tokens, button = st.columns([3, 2, 2], vertical_alignment="bottom")
        name = method.selectbox("Under", list(names), key=state.TRIED, bind="query-params")
        count = tokens.number_input(
            "New tokens", 1, LONGEST_ANSWER, 40, key=state.TOKENS, bind="query-params"
        )
        pressed = button.form_submit_button("Ask", width="stretch")
    show_answers_under(
        loaded, recipes[names[name]], prompt, int(count), key=f"{found.run}-{names[name]}", pressed=pressed
    )


def show_answers_under(
    loaded: LoadedModel, files: Mapping[str, bytes], prompt: str, tokens: int, *, key: str, pressed: bool
) -> None:
    """Both answers, if requested now or before. key: of the change."""
    wanted = (loaded.ref, key, prompt, tokens)
    if pressed:
        st.session_state[_WANTED] = wanted
    with show_errors():
        request = GenerationRequest(prompt, read_changes(files), sampling=Sampling(tokens))
        shown = _find_answer(loaded, wanted, request)
        if shown is None:
            show_caption("Both answers are generated side by side: base and changed.")
            return
        _show(loaded, shown)
        said = "**Refused: the guard abstains.** " if CHANGED in shown.reach.abstained else ""
        show_caption(f"{said}{HOW_TO_READ} Greedy, done in {format_duration(shown.seconds)}.")
        if shown.warning:
            st.warning(escape_text(shown.warning), icon=":material/save:")


def _find_answer(loaded: LoadedModel, wanted: object, request: GenerationRequest) -> Generation | None:
    last, answer = st.session_state.get(_ANSWER, (None, None))
    if last == wanted:
        return answer  # type: ignore[no-any-return]
    if st.session_state.get(_WANTED) != wanted:
        return find_pair(loaded, get_store(), request) if request.prompt.strip() else None
    made = _stream_answer(loaded, request)
    st.session_state[_ANSWER] = (wanted, made)
    return made


def _stream_answer(loaded: LoadedModel, request: GenerationRequest) -> Generation:
    place, drawn = st.empty(), 0.0
    with place.container():
        writing = make_progress_bar("Answering", "tokens")
        st.button("Stop", icon=":material/stop:", key="unlearn_stop", on_click=_forget)
        slots = place_pair()
        try:
            for made in stream_pair(loaded, get_store(), request):
                if time.monotonic() - drawn >= 1 / DRAWS_PER_SECOND:
                    drawn = time.monotonic()
                    done = max(len(made.base_ids), len(made.changed_ids))
                    writing(done, request.sampling.max_new_tokens)
                    show_pair(
                        slots, made.base_tokens, made.changed_tokens, before=request.prompt, growing=True
                    )
        finally:
            place.empty()
    return made


def _forget() -> None:
    st.session_state.pop(_WANTED, None)


def _show(loaded: LoadedModel, made: Generation) -> None:
    before = "" if loaded.tokenizer.chat_template else made.request.prompt
    show_pair(place_pair(), made.base_tokens, made.changed_tokens, before=before)
