"""Recipes given as files: read strictly, since anybody may have written them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from analysis.errors import HeadlampError, RecipeError
from analysis.interventions import Change
from analysis.models import LoadedModel
from analysis.recipes import read_recipe, recorded_raw
from workbench.cli.session import read_text


def read_recipe_file(path: Path) -> Any:
    """The recipe document in a file, its clamps checked. Raises RecipeError, HeadlampError."""
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path} is not JSON ({str(error)[:100]}); a recipe is what --recipe-out writes"
        ) from error
    try:
        for number in range(len(read_recipe(document))):
            _check_raw(number, document["interventions"][number].get("raw"))
    except (HeadlampError, OverflowError) as error:
        raise RecipeError(f"{path}: {error}") from error
    return document


def applied(document: Any, loaded: LoadedModel) -> tuple[Change, ...]:
    """The changes for this model, at their recorded raw values where it is the one they were recorded with.

    A recipe that names no fingerprint is measured anew. Raises RecipeError for another model's recipe.
    """
    changes = read_recipe(document, loaded.fingerprint)
    model = document.get("model")
    same = isinstance(model, dict) and model.get("fingerprint") == loaded.fingerprint
    return recorded_raw(document) if same else tuple(changes)


def _check_raw(number: int, raw: Any) -> None:
    finite = isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)
    if raw is not None and not finite:
        raise RecipeError(f"intervention {number}: raw {str(raw)[:40]!r} is not a finite number")
