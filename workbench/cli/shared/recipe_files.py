"""Recipe files: read and written, and strictly validated."""

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
from analysis.recipes.files import read_recipe_tensors, rename_recipe
from analysis.recipes.recipes import read_recipe, use_recorded_raw
from workbench.cli.shared.session import read_text
from workbench.files import ExportError, check_writable, replace_file
from workbench.records import read_odd_record


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with the tensors of the file it names. files: both as they lie on disk."""

    document: Any
    tensors: Mapping[str, Tensor]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class _Entry:
    unit: Any = None
    raw: Any = None


@dataclass(frozen=True)
class _TensorFile:
    file: str = ""


@dataclass(frozen=True)
class _RecordedModel:
    fingerprint: str | None = None


@dataclass(frozen=True)
class _RecipeHead:
    """What a recipe's document says beside its changes, which `read_recipe` checks."""

    interventions: tuple[_Entry, ...] = ()
    tensors: _TensorFile = _TensorFile()
    model: _RecordedModel = _RecordedModel()


def read_recipe_file(path: Path) -> RecipeFile:
    """Read and check the recipe in a file. Raises RecipeError, HeadlampError."""
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path} is not JSON ({str(error)[:100]}); use a file written by --recipe-out"
        ) from error
    tensors = read_recipe_tensors(path, document)
    try:
        read_recipe(document, tensors=tensors)
        head = read_odd_record(_RecipeHead, document)
        for number, entry in enumerate(head.interventions):
            values = entry.raw if entry.unit == "residual" and isinstance(entry.raw, list) else [entry.raw]
            for value in values:  # of a clamp in × residual, what it put in when it was recorded
                _check_raw(number, value)
    except (HeadlampError, OverflowError) as error:
        raise RecipeError(f"{path}: {error}") from error
    files = {"recipe.json": text.encode()}
    if tensors:
        files["recipe.safetensors"] = (path.parent / head.tensors.file).read_bytes()
    return RecipeFile(document, tensors, files)


def apply_recipe(recipe: RecipeFile, loaded: LoadedModel) -> tuple[Change, ...]:
    """The recipe's changes for this model, at their recorded raw values if it is the model they were recorded
    with.

    Without a fingerprint, values are measured again. Raises RecipeError for another model's recipe.
    """
    changes = read_recipe(recipe.document, loaded.fingerprint, recipe.tensors)
    same = read_odd_record(_RecipeHead, recipe.document).model.fingerprint == loaded.fingerprint
    return use_recorded_raw(recipe.document, recipe.tensors) if same else tuple(changes)


def check_recipe(path: Path, *, tensors: bool) -> None:
    """Refuse a recipe file, or its tensor file, that could not be written. Raises ExportError."""
    check_writable(path)
    if tensors:
        beside = path.with_name(f"{path.stem}.safetensors")
        if beside == path:
            raise ExportError(f"{path} is reserved for the recipe's tensors; end the recipe's name in .json")
        check_writable(beside)


def write_recipe(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a recipe (`analysis.recipes.files.write_recipe_files`) at a path, its tensors beside it."""
    check_recipe(path, tensors=len(files) > 1)
    for name, data in rename_recipe(files, path.stem).items():
        with replace_file(path if name.endswith(".json") else path.with_name(name)) as stream:
            stream.write(data)


def _check_raw(number: int, raw: Any) -> None:
    finite = isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)
    if raw is not None and not finite:
        raise RecipeError(f"intervention {number}: raw {str(raw)[:40]!r} is not a finite number")
