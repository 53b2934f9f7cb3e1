"""Hold neurons at a value, and read what the model says then beside what it says as it is."""

import streamlit as st

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling
from pages.intervene.clamp.generated import (
    Asked,
    ask,
    found_or_generated,
    is_asked,
    is_measured,
    last_generation,
    show_answer_position,
    show_texts_and_word,
)
from pages.intervene.clamp.keeping import show_script, take_away
from pages.intervene.clamp.recipe_editor import load_recipe, recipe_editor
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.layout import empty, method, page_header, page_link, side_by_side
from pages.shared.prompts import first_prompt
from pages.shared.resources import model
from pages.shared.tokens import plain
from workbench.generating.clamping import Request

LONGEST, HOTTEST, LAST_SEED = 4096, 10.0, 2**53 - 1
METHOD = """
Both texts are two rows of one batch and see the same kernels; each position's sampling noise depends on the
seed alone and is the same for both. Only the second row's neurons are changed: **key** is what a neuron gives
to its block's down projection, **up** and **gate** are what comes in. A value in *× max* is in units of the
neuron's largest |activation| on the reference text, position 0 left out.

Change of log-odds at the first generated position: $\\ln\\frac{p'}{1-p'} - \\ln\\frac{p}{1-p}$
"""


def settings(loaded: LoadedModel) -> bool:
    """The form above the texts; whether Generate was pressed."""
    with st.form("clamp-settings"):
        st.text_area(
            "Prompt", first_prompt(loaded.ref.name), key=state.PROMPT, bind="query-params", height=80
        )
        prefix, word = st.columns(2)
        prefix.text_input(
            "Answer begins with", key=state.PREFIX, bind="query-params", help="Fed after the prompt."
        )
        word.text_input(
            "Word whose probability counts",
            key=state.WORD,
            bind="query-params",
            help="As the next token, in every spelling that is one token.",
        )
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


def typed_request(clamps: list[str]) -> Request:
    """What the widgets ask for. Raises ClampError and its kin."""
    now = st.session_state
    return Request(
        now[state.PROMPT] or "",
        tuple(parse_clamp(text) for text in clamps),
        now[state.PREFIX] or "",
        Sampling(int(now[state.TOKENS]), round(float(now[state.TEMPERATURE]), 3), int(now[state.SEED])),
        now[state.WORD] or "",
    )


def results(loaded: LoadedModel, clamps: list[str], *, pressed: bool) -> None:
    """The pair that was asked for; else the last one, said to be of something else; else what to do."""
    result, last, waiting = None, last_generation(loaded.ref), pressed
    with shown_errors():
        asked = Asked(loaded.ref, typed_request(clamps))
        if pressed:
            ask(asked)
        waiting = is_asked(asked)
        if not waiting or is_measured(loaded, asked.request):
            result = found_or_generated(loaded, asked, pressed=pressed)
    if result is None and last is not None and not waiting:
        st.info("These texts are of the request before your last change. **Generate** makes new ones.")
    shown = result or last
    if shown is not None:
        show_texts_and_word(loaded, shown)
        take_away(loaded, shown)
        show_answer_position(shown, name="clamp")
        show_script(loaded, shown)
    elif not waiting:
        nothing_yet(loaded, clamps)


def nothing_yet(loaded: LoadedModel, clamps: list[str]) -> None:
    """Nothing was generated yet: what to do next."""
    if clamps:
        empty(
            "Everything is filled in. **Generate** writes both texts: as the model is, and under the recipe."
        )
        return
    block = loaded.anatomy.blocks[len(loaded.anatomy.blocks) // 2].address
    example = f"{block}.N0:key:set:8x@all"
    empty(
        "Add a clamp at the left, then **Generate**: two texts grow side by side, "
        "the second with those neurons held.",
        lambda: page_link("Find a neuron by a word it says", "/neurons", icon=":material/search:"),
        lambda: st.button(
            f"Try an example: {plain(example)}",
            icon=":material/tune:",
            on_click=load_recipe,
            args=(example,),
        ),
    )


page_header("Clamp", "What does the model say when some of its neurons are held at a value?")
with shown_errors(), model(runs="Clamping") as loaded:
    sides = side_by_side("clamp-recipe", "clamp-texts")
    with sides[0]:
        st.subheader("Recipe", anchor=False)
        clamps = recipe_editor(loaded)
    with sides[1]:
        pressed = settings(loaded)
        results(loaded, clamps, pressed=pressed)
        method("Method", METHOD, "Flash Interpretability: Davies 2025, arXiv 2501.02688")
