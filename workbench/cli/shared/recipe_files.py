"""Recipes given and written as files: read strictly, since anybody may have written them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from analysis.errors import HeadlampError, RecipeError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.recipes.files import renamed, tensors_beside
from analysis.recipes.recipes import read_recipe, recorded_raw
from workbench.cli.shared.session import read_text
from workbench.files import ExportError, check_writable, replacing


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it was read, with the tensors of the file that it names."""

    document: Any
    tensors: Mapping[str, Tensor]


def read_recipe_file(path: Path) -> RecipeFile:
    """The recipe in a file, its changes checked. Raises RecipeError, HeadlampError."""
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path} is not JSON ({str(error)[:100]}); a recipe is what --recipe-out writes"
        ) from error
    tensors = tensors_beside(path, document)
    try:
        for number in range(len(read_recipe(document, tensors=tensors))):
            _check_raw(number, document["interventions"][number].get("raw"))
    except (HeadlampError, OverflowError) as error:
        raise RecipeError(f"{path}: {error}") from error
    return RecipeFile(document, tensors)


def applied(recipe: RecipeFile, loaded: LoadedModel) -> tuple[Change, ...]:
    """The changes for this model, at their recorded raw values where it is the one they were recorded with.

    A recipe that names no fingerprint is measured anew. Raises RecipeError for another model's recipe.
    """
    changes = read_recipe(recipe.document, loaded.fingerprint, recipe.tensors)
    model = recipe.document.get("model")
    same = isinstance(model, dict) and model.get("fingerprint") == loaded.fingerprint
    return recorded_raw(recipe.document, recipe.tensors) if same else tuple(changes)


def check_recipe(path: Path, *, tensors: bool) -> None:
    """Refuse a recipe's file that could not be written, and the one of its tensors. Raises ExportError."""
    check_writable(path)
    if tensors:
        beside = path.with_name(f"{path.stem}.safetensors")
        if beside == path:
            raise ExportError(f"{path} is where the recipe's tensors would go; let its name end in .json")
        check_writable(beside)


def write_recipe(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a recipe (`analysis.recipes.files.recipe_files`) at a path, its tensors beside it."""
    check_recipe(path, tensors=len(files) > 1)
    for name, data in renamed(files, path.stem).items():
        with replacing(path if name.endswith(".json") else path.with_name(name)) as stream:
            stream.write(data)


def _check_raw(number: int, raw: Any) -> None:
    finite = isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)
    if raw is not None and not finite:
        raise RecipeError(f"intervention {number}: raw {str(raw)[:40]!r} is not a finite number")
