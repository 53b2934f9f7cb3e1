"""Clamp: clamp neurons, and compare base and changed text."""

import streamlit as st

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel
from analysis.running.conversations import parse_turns
from analysis.running.generation import Sampling
from pages.intervene.clamp.generated import (
    PairRequest,
    find_or_generate,
    is_measured,
    is_requested,
    recall_pair,
    request_pair,
    show_answer_position,
    show_texts_and_word,
)
from pages.intervene.clamp.keeping import offer_pair_exports, show_script
from pages.intervene.clamp.recipe_editor import edit_recipe, load_recipe
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import (
    place_side_by_side,
    show_caption,
    show_empty,
    show_header,
    show_method,
    show_page_link,
)
from pages.shared.prompts import choose_first_prompt
from pages.shared.resources import use_model
from pages.shared.tokens import escape_text
from workbench.generating.requests import GenerationRequest, describe_unapplied

LONGEST, HOTTEST, LAST_SEED = 4096, 10.0, 2**53 - 1
METHOD = """
Both texts are two rows of one batch and see the same kernels; each position's sampling noise depends on the
seed alone and is the same for both. Only the second row's neurons are changed: **key** is a neuron's input to
its block's down projection, **up** and **gate** are the projections before it. A value in *× max* is in units
of the neuron's largest |activation| on the reference text, position 0 excluded.

Change of log-odds at the first generated position: $\\ln\\frac{p'}{1-p'} - \\ln\\frac{p}{1-p}$
"""


def edit_settings(loaded: LoadedModel) -> bool:
    """The form above the texts; returns whether Generate was pressed."""
    with st.form("clamp-settings"):
        st.text_area(
            "Prompt", choose_first_prompt(loaded.ref.name), key=state.PROMPT, bind="query-params", height=80
        )
        prefix, word = st.columns(2)
        prefix.text_input(
            "Answer begins with", key=state.PREFIX, bind="query-params", help="Fed after the prompt."
        )
        word.text_input(
            "Word whose probability is reported",
            key=state.WORD,
            bind="query-params",
            help="With and without a leading space, case as typed; it may have several tokens.",
        )
        if loaded.tokenizer.chat_template:
            edit_surroundings()
        tokens, heat, seed, button = st.columns(4, vertical_alignment="bottom")
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
        return button.form_submit_button("Generate", type="primary", width="stretch")


def edit_surroundings() -> None:
    """For a chat model: system prompt, earlier turns, and whether the template is used at all."""
    with st.expander("System prompt and earlier turns", icon=":material/forum:"):
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


def show_unapplied(loaded: LoadedModel) -> None:
    """What the model's generation_config asks for and is not applied."""
    asked = describe_unapplied(loaded)
    if asked:
        show_caption(
            f"The model's generation_config asks for {escape_text(asked)}, which is not applied here; "
            "`generate --as-configured` applies it."
        )


def read_request(loaded: LoadedModel, clamps: list[str]) -> GenerationRequest:
    """The request entered in the widgets. Raises ClampError and related errors."""
    now = st.session_state
    chat = bool(loaded.tokenizer.chat_template)
    return GenerationRequest(
        now[state.PROMPT] or "",
        tuple(parse_clamp(text) for text in clamps),
        now[state.PREFIX] or "",
        Sampling(int(now[state.TOKENS]), round(float(now[state.TEMPERATURE]), 3), int(now[state.SEED])),
        now[state.WORD] or "",
        now.get(state.SYSTEM) or "" if chat else "",
        parse_turns(now.get(state.TURNS) or "") if chat else (),
        chat and bool(now.get(state.RAW)),
    )


def show_pair_results(loaded: LoadedModel, clamps: list[str], *, pressed: bool) -> None:
    """The requested pair; else the last one, marked as outdated; else what to do."""
    result, last, waiting = None, recall_pair(loaded.ref), pressed
    with show_errors():
        asked = PairRequest(loaded.ref, read_request(loaded, clamps))
        if pressed:
            request_pair(asked)
        waiting = is_requested(asked)
        if not waiting or is_measured(loaded, asked.request):
            result = find_or_generate(loaded, asked, pressed=pressed)
    if result is None and last is not None and not waiting:
        st.info("These texts belong to the request before your last change. **Generate** creates new ones.")
    shown = result or last
    if shown is not None:
        show_texts_and_word(loaded, shown)
        offer_pair_exports(loaded, shown)
        show_answer_position(shown, name="clamp")
        show_script(loaded, shown)
    elif not waiting:
        show_empty_pair(loaded, clamps)


def show_empty_pair(loaded: LoadedModel, clamps: list[str]) -> None:
    """Empty state: what to do next."""
    if clamps:
        show_empty(
            "Everything is filled in. **Generate** writes both texts: base, and changed by the recipe."
        )
        return
    block = loaded.anatomy.blocks[len(loaded.anatomy.blocks) // 2].address
    example = f"{block}.N0:key:set:8x@all"
    show_empty(
        "Add a clamp at the left, then **Generate**: two texts are generated side by side, the second "
        "with those neurons clamped.",
        lambda: show_page_link("Find a neuron by a word it decodes to", "/neurons", icon=":material/search:"),
        lambda: st.button(
            f"Try an example: {escape_text(example)}",
            icon=":material/tune:",
            on_click=load_recipe,
            args=(example,),
        ),
    )


show_header("Clamp", "What does the model say when some of its neurons are clamped?")
with show_errors(), use_model(runs="Clamping") as loaded:
    sides = place_side_by_side("clamp-recipe", "clamp-texts")
    with sides[0]:
        st.subheader("Recipe", anchor=False)
        clamps = edit_recipe(loaded)
    with sides[1]:
        pressed = edit_settings(loaded)
        show_unapplied(loaded)
        show_pair_results(loaded, clamps, pressed=pressed)
        show_method("Method", METHOD, "Flash Interpretability: Davies 2025, arXiv 2501.02688")
