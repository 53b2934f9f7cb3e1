"""*Save as a model*: where a recipe is, its changes written into a model that everybody can open."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.errors import show_errors
from pages.shared.layout import shorten_model, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.saving.saving import (
    SavedModel,
    find_saving_folder,
    propose_name,
    read_changes,
    save_model,
    why_not_saved,
)

_SAVED = "_saved_models"


def offer_saving(loaded: LoadedModel, files: Mapping[str, bytes], key: str) -> None:
    """A popover that saves the model with a recipe's changes in its weights, or says why none can hold them.

    files: the recipe (`write_recipe_files`); key: of the answer it belongs to.
    """
    with st.popover("Save as a model", icon=":material/save:"):
        reason = why_not_saved(loaded, read_changes(files))
        if reason:
            st.caption(f"Not as weights: {escape_text(reason)}.")
            return
        with st.form(f"save_{key}", border=False):
            name = st.text_input("Name", propose_name(shorten_model(loaded.ref.name)), key=f"save_name_{key}")
            st.caption(
                f"A new folder in {escape_text(str(find_saving_folder(get_store())))}; the model is opened "
                "again by transformers and compared before it stands there."
            )
            pressed = st.form_submit_button("Save", type="primary")
        if pressed:
            with show_errors(), st.spinner("Writing, opening again and comparing …", show_time=True):
                folder = find_saving_folder(get_store(), name)
                saved = save_model(loaded, read_changes(files), folder, files)
                st.session_state[_SAVED] = {**st.session_state.get(_SAVED, {}), key: saved}
        if key in st.session_state.get(_SAVED, {}):
            _show_saved(st.session_state[_SAVED][key])


def _show_saved(saved: SavedModel) -> None:
    many = len(saved.changed)
    differ = "1 parameter differs" if many == 1 else f"{many} parameters differ"
    st.success(f"Saved, and opened again: {differ}, all others are equal.")
    st.code(str(saved.folder), language=None, wrap_lines=True)
    table = {
        "parameter": [one.tensor for one in saved.changed],
        "rows": [one.rows for one in saved.changed],
        "cosine": [one.cosine for one in saved.changed],
    }
    config = {"cosine": st.column_config.NumberColumn(format="%.6f")}
    st.dataframe(pd.DataFrame(table), hide_index=True, height="content", column_config=config)
    untied = " The head was the input embedding; it is a parameter of its own now." if saved.untied else ""
    st.caption(
        f"Logits within {saved.logits_error:.1e} of the changed model's, as a share of the largest; the "
        f"change moves them by up to {saved.effect:.1e}.{untied}"
    )
    show_page_link("Open it", "/", icon=":material/folder_open:", model=str(saved.folder))
