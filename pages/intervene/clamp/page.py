"""Clamp: clamp neurons, and compare base and changed text."""

from functools import partial

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.intervene.clamp.generated import (
    PairRequest,
    find_or_generate,
    is_measured,
    is_requested,
    recall_pair,
    request_pair,
    show_answer_position,
    show_texts_and_verdict,
    show_token_table,
)
from pages.intervene.clamp.history import can_undo, record_pair, show_history, undo_pair
from pages.intervene.clamp.keeping import offer_pair_exports, show_script
from pages.intervene.clamp.many_prompts import show_many_prompts
from pages.intervene.clamp.recipe_editor import edit_recipe
from pages.intervene.clamp.recipe_state import load_recipe
from pages.intervene.clamp.settings import edit_settings, read_request
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import place_side_by_side, show_empty, show_header, show_method, show_page_link
from pages.shared.prompts import ANY_WORD
from pages.shared.resources import get_store, use_model
from pages.shared.tokens import escape_text
from workbench.levers.asking import propose_clamps

METHOD = """
Both texts are two rows of one batch and see the same kernels; each position's sampling noise depends on the
seed alone and is the same for both. Only the second row's neurons are changed: **key** is a neuron's input to
its block's down projection, **up** and **gate** are the projections before it. A value in *× max* is in units
of the neuron's largest |activation| on the reference text, position 0 excluded.

P(word) is read at the answer position: the last token of the given beginning of the answer; without one,
where a chat model's own greedy answer (at most 40 tokens) says the word or, failing that, a word of its kind;
else the first position after the prompt. It leaves out what makes a longer word (dogs, for dog). The scope
*last* is that position there.

Change of log-odds: $\\ln\\frac{p'}{1-p'} - \\ln\\frac{p}{1-p}$
"""


def show_pair_results(loaded: LoadedModel, clamps: list[str], *, pressed: bool) -> None:
    """The requested pair; else the last one, marked as outdated; else what to do."""
    result, last, waiting = None, recall_pair(loaded.ref), pressed
    with show_errors():
        asked = PairRequest(loaded.ref, read_request(clamps, chat=bool(loaded.tokenizer.chat_template)))
        if pressed:
            request_pair(asked)
        waiting = is_requested(asked)
        if not waiting or is_measured(loaded, asked.request):
            result = find_or_generate(loaded, asked, pressed=pressed)
        if result is not None:
            record_pair(asked, result)
    if result is None and last is not None and not waiting:
        st.info("These texts belong to the request before your last change. **Generate** creates new ones.")
    shown = result or last
    if shown is not None:
        show_texts_and_verdict(loaded, shown)
        offer_pair_exports(loaded, shown)
        show_history(loaded)
        show_answer_position(shown, name="clamp")
        show_token_table(loaded, shown)
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
    word = read_word() or ANY_WORD
    show_empty(
        "Add a clamp at the left, then **Generate**: two texts are generated side by side, the second "
        "with those neurons clamped.",
        lambda: show_page_link("Find a neuron by a word it decodes to", "/neurons", icon=":material/search:"),
        lambda: _offer_example(loaded, word),
    )


def _offer_example(loaded: LoadedModel, word: str) -> None:
    """A button that fills in the lever of a word, or the neuron that writes it most."""
    if not st.button(f"Try an example: make it say {escape_text(word)}", icon=":material/tune:"):
        return
    with show_errors(), st.spinner("Searching all neurons …"):
        found = propose_clamps(loaded, get_store(), word)
        load_recipe(state.SEPARATOR.join(str(clamp) for clamp in found.clamps))
        st.query_params[state.HANDED_WORD] = word
        st.rerun()


def read_word() -> str:
    """The word to measure, also before its field is drawn."""
    given = st.session_state.get(state.WORD) or st.query_params.get(state.WORD) or ""
    return (st.query_params.get(state.HANDED_WORD) or str(given)).strip()


show_header("Clamp", "What does the model say when some of its neurons are clamped?")
with show_errors(), use_model(runs="Clamping") as loaded:
    sides = place_side_by_side("clamp-recipe", "clamp-texts")
    with sides[0]:
        st.subheader("Recipe", anchor=False)
        clamps = edit_recipe(loaded, read_word())
    with sides[1]:
        undo = partial(undo_pair, loaded.ref, chat=bool(loaded.tokenizer.chat_template))
        pressed = edit_settings(loaded, undo, can_undo=can_undo(loaded.ref))
        show_pair_results(loaded, clamps, pressed=pressed)
        show_many_prompts(loaded, clamps)
        show_method("Method", METHOD, "Flash Interpretability: Davies 2025, arXiv 2501.02688")
