"""What is asked of the model beside the clamps: the form above the texts, read and filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel
from analysis.running.conversations import parse_turns, write_turns
from analysis.running.generation import Sampling
from pages.shared import state
from pages.shared.layout import show_caption
from pages.shared.prompts import choose_first_prompt
from pages.shared.tokens import escape_text
from workbench.generating.requests import GenerationRequest, describe_unapplied

LONGEST, HOTTEST, LAST_SEED = 4096, 10.0, 2**53 - 1


def edit_settings(loaded: LoadedModel, undo: Callable[[], None], *, can_undo: bool) -> bool:
    """The form above the texts; returns whether Generate was pressed. undo: what its other button does."""
    handed = st.query_params.pop(state.HANDED_WORD, "")
    if handed:
        st.session_state[state.WORD] = handed
    with st.form("clamp-settings"):
        st.text_area(
            "Prompt", choose_first_prompt(loaded.ref.name), key=state.PROMPT, bind="query-params", height=68
        )
        prefix, word, button = st.columns([3, 3, 2], vertical_alignment="bottom")
        prefix.text_input(
            "Answer begins with", key=state.PREFIX, bind="query-params", help="Fed after the prompt."
        )
        word.text_input(
            "Word to measure",
            key=state.WORD,
            bind="query-params",
            help="Its probability is reported, with and without a leading space; it may have several tokens. "
            "Without a beginning of the answer it is read where the model's own answer says it.",
        )
        pressed = button.form_submit_button(
            "Generate", type="primary", width="stretch", shortcut="Ctrl+Enter"
        )
        rest, back = st.columns([6, 2])
        with rest.expander("Settings", icon=":material/settings:"):
            _edit_sampling()
            if loaded.tokenizer.chat_template:
                _edit_surroundings()
        back.form_submit_button(
            "Undo",
            icon=":material/undo:",
            disabled=not can_undo,
            on_click=undo,
            width="stretch",
            help="Takes back the changes since the last pair of texts; without any, the pair before it.",
        )
    _show_unapplied(loaded)
    return bool(pressed)


def _edit_sampling() -> None:
    st.checkbox("Count the word in any case: dog, Dog and DOG", key=state.FOLD, bind="query-params")
    tokens, heat, seed = st.columns(3)
    tokens.number_input("New tokens", 1, LONGEST, 40, key=state.TOKENS, bind="query-params")
    heat.number_input(
        "Temperature",
        0.0,
        HOTTEST,
        0.0,
        0.1,
        key=state.TEMPERATURE,
        bind="query-params",
        help="0 always takes the likeliest token.",
    )
    seed.number_input("Seed", 0, LAST_SEED, 0, key=state.SEED, bind="query-params")


def _edit_surroundings() -> None:
    """For a chat model: system prompt, earlier turns, and whether the template is used at all."""
    st.text_area("System prompt", key=state.SYSTEM, bind="query-params", height=68)
    st.text_area(
        "Earlier turns",
        key=state.TURNS,
        bind="query-params",
        height=100,
        placeholder="user: Hello\nassistant: Hello! How can I help?",
        help="Each begins a line with user: or assistant:. The prompt follows the last one.",
    )
    st.checkbox("Feed the prompt raw, without the chat template", key=state.RAW, bind="query-params")


def _show_unapplied(loaded: LoadedModel) -> None:
    """What the model's generation_config asks for and is not applied."""
    asked = describe_unapplied(loaded)
    if asked:
        show_caption(
            f"The model's generation_config asks for {escape_text(asked)}, which is not applied here; "
            "`generate --as-configured` applies it."
        )


def read_request(clamps: Sequence[str], *, chat: bool) -> GenerationRequest:
    """The request entered in the widgets. chat: whether the model has a template.

    Raises ClampError and related errors.
    """
    now = st.session_state
    return GenerationRequest(
        now[state.PROMPT] or "",
        tuple(parse_clamp(text) for text in clamps),
        now[state.PREFIX] or "",
        Sampling(int(now[state.TOKENS]), round(float(now[state.TEMPERATURE]), 3), int(now[state.SEED])),
        now[state.WORD] or "",
        now.get(state.SYSTEM) or "" if chat else "",
        parse_turns(now.get(state.TURNS) or "") if chat else (),
        chat and bool(now.get(state.RAW)),
        bool(now[state.WORD]) and bool(now.get(state.FOLD)),
    )


def fill_in_request(request: GenerationRequest) -> None:
    """Put a request into the widgets, apart from its clamps. For callbacks alone."""
    values = {
        state.PROMPT: request.prompt,
        state.PREFIX: request.answer_prefix,
        state.WORD: request.word,
        state.FOLD: request.fold_case,
        state.TOKENS: request.sampling.max_new_tokens,
        state.TEMPERATURE: request.sampling.temperature,
        state.SEED: request.sampling.seed,
        state.SYSTEM: request.system,
        state.TURNS: write_turns(request.turns),
        state.RAW: request.raw,
    }
    st.session_state.update({key: value for key, value in values.items() if key in st.session_state})
