"""Changes of a model, as the functions for notebooks take them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from workbench.cli.shared.recipe_files import RecipeFile, apply_recipe, read_recipe_file
from workbench.cli.shared.session import expand_home

Recipe = str | Path | Mapping[str, bytes]
"""A recipe's file, or the files of one by name, as answers that come with a change have them."""


def read_recipe(recipe: Recipe) -> RecipeFile:
    """A recipe, read and checked. Raises RecipeError, HeadlampError."""
    if not isinstance(recipe, Mapping):
        return read_recipe_file(expand_home(Path(recipe)))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in recipe.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        return read_recipe_file(Path(folder) / "recipe.json")


def collect_changes(
    loaded: LoadedModel, recipe: Recipe | None, clamps: Sequence[str | Clamp]
) -> tuple[Change, ...]:
    """A recipe's changes for this model, then the clamps. Raises RecipeError, ClampError."""
    first = () if recipe is None else apply_recipe(read_recipe(recipe), loaded)
    given = [clamps] if isinstance(clamps, str) else clamps
    return (*first, *(parse_clamp(one) if isinstance(one, str) else one for one in given))
