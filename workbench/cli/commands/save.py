"""`save`: a recipe's changes written into a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import RecipeError
from analysis.recipes.recipes import read_recipe
from analysis.saving.baking import why_not_baked
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName
from workbench.cli.shared.output import format_table
from workbench.cli.shared.recipe_files import apply_recipe, read_recipe_file
from workbench.cli.shared.session import expand_home, open_session
from workbench.files import check_new_folder
from workbench.neurons.profiles import resolve_clamps
from workbench.saving.saving import SavedModel, save_model


def save(
    model: ModelName,
    *,
    recipe: Annotated[Path, typer.Option("--recipe", metavar="FILE", help="The recipe of the changes.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder for the model.")],
    drop_experts: Annotated[
        bool,
        typer.Option("--drop-experts", help="Take pruned experts out, with the router's rows for them."),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Save a model with a recipe's changes in its weights.

    Only what weights can hold exactly: keys ablated or scaled at every position, pruned neurons and experts,
    replaced vectors (SP, TARS). The folder is opened again with transformers, every tensor and the logits are
    compared, and a model card says what was changed.
    """
    given, folder = read_recipe_file(recipe), expand_home(out)
    check_new_folder(folder)
    if reason := why_not_baked(read_recipe(given.document, tensors=given.tensors)):
        raise RecipeError(f"{recipe}: {reason}")
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        changes = resolve_clamps(loaded, here.store, apply_recipe(given, loaded))
        saved = save_model(loaded, changes, folder, given.files, drop=drop_experts)
        here.show(saved.to_document(), _describe(saved))


def _describe(saved: SavedModel) -> str:
    rows = [(one.tensor, f"{one.rows:,}", f"{one.cosine:.6f}") for one in saved.changed]
    untied = "\nThe head was the input embedding; a row of it changed, so it is a tensor of its own now."
    return (
        f"Saved in {saved.folder}, and opened again.\n\n"
        f"{format_table(('parameter', 'rows that differ', 'cosine'), rows)}\n\n"
        f"Everything else is equal, bit for bit. Logits: within {saved.logits_error:.1e} of the changed "
        f"model's, as a share of the largest; the change moves them by up to {saved.effect:.1e}."
        f"{untied if saved.untied else ''}"
    )
