"""Ask it something: one prompt answered as the model is and under a change, side by side, streamed."""

from __future__ import annotations

import time
from collections.abc import Mapping

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.running.generation import CHANGED, Sampling
from pages.intervene.unlearn.sentences import method_name
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.layout import caption, duration, progress_bar
from pages.shared.pair import HOW_TO_READ, pair_slots, show_pair
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.generating.clamping import Generation, Request, stored_generation, stream
from workbench.unlearning.checks import fresh_prompt
from workbench.unlearning.unlearning import Question, Unlearned, changes_of

LONGEST_ANSWER = 512
DRAWS_PER_SECOND = 8
_WANTED, _ANSWER = "_unlearn_asked", "_unlearn_answer"
"""What was asked, and the last answer with what it answers."""


def ask_box(
    loaded: LoadedModel, question: Question, found: Unlearned, recipes: Mapping[str, Mapping[str, bytes]]
) -> None:
    """The box under the results, for any of the methods that are done."""
    names = {method_name(one): one["method"] for one in found.document["methods"]}
    st.subheader("Ask it something", anchor=False)
    with st.form("unlearn-ask"):
        prompt = st.text_area(
            "Prompt", fresh_prompt(question), key=state.ASK, bind="query-params", height=100
        )
        method, tokens, button = st.columns([3, 2, 2], vertical_alignment="bottom")
        name = method.selectbox("Under", list(names), key=state.TRIED, bind="query-params")
        count = tokens.number_input(
            "New tokens", 1, LONGEST_ANSWER, 40, key=state.TOKENS, bind="query-params"
        )
        pressed = button.form_submit_button("Ask", width="stretch")
    answer_under(
        loaded, recipes[names[name]], prompt, int(count), key=f"{found.run}-{names[name]}", pressed=pressed
    )


def answer_under(
    loaded: LoadedModel, files: Mapping[str, bytes], prompt: str, tokens: int, *, key: str, pressed: bool
) -> None:
    """Both answers, if they were asked for now or before. key: of the change."""
    wanted = (loaded.ref, key, prompt, tokens)
    if pressed:
        st.session_state[_WANTED] = wanted
    with shown_errors():
        request = Request(prompt, changes_of(files), sampling=Sampling(tokens))
        shown = _found(loaded, wanted, request)
        if shown is None:
            caption("Both answers grow side by side: as the model is, and under the change.")
            return
        _show(loaded, shown)
        said = "**Refused: the guard abstains.** " if CHANGED in shown.reach.abstained else ""
        caption(f"{said}{HOW_TO_READ} Greedy, done in {duration(shown.seconds)}.")
        if shown.warning:
            st.warning(plain(shown.warning), icon=":material/save:")


def _found(loaded: LoadedModel, wanted: object, request: Request) -> Generation | None:
    last, answer = st.session_state.get(_ANSWER, (None, None))
    if last == wanted:
        return answer  # type: ignore[no-any-return]
    if st.session_state.get(_WANTED) != wanted:
        return stored_generation(loaded, store(), request) if request.prompt.strip() else None
    made = _streamed(loaded, request)
    st.session_state[_ANSWER] = (wanted, made)
    return made


def _streamed(loaded: LoadedModel, request: Request) -> Generation:
    place, drawn = st.empty(), 0.0
    with place.container():
        writing = progress_bar("Answering", "tokens")
        st.button("Stop", icon=":material/stop:", key="unlearn_stop", on_click=_forget)
        slots = pair_slots()
        try:
            for made in stream(loaded, store(), request):
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
    show_pair(pair_slots(), made.base_tokens, made.changed_tokens, before=before)
