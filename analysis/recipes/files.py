"""Recipes as files: JSON, plus one safetensors file if a change carries tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from analysis.errors import RecipeError
from analysis.inputs import check_input
from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneExpert
from analysis.intervening.steps import AttachableChange
from analysis.opening.models import LoadedModel
from analysis.recipes.kinds import READERS, write_entry
from analysis.recipes.recipes import write_recipe_document


def write_recipe_files(
    loaded: LoadedModel, changes: Sequence[Change], name: str, used: Sequence[Sequence[float]] = ()
) -> dict[str, bytes]:
    """File name → contents of a recipe called `name`.json; the recipe holds the tensors' digest.

    used: as `write_recipe_document`.
    """
    document = write_recipe_document(loaded, changes, used)
    tensors: dict[str, Tensor] = {}
    for number, item in enumerate(changes):
        if not isinstance(item, Clamp | PruneExpert):
            tensors |= write_entry(item, number)[1]
    files: dict[str, bytes] = {}
    if tensors:
        data = save(tensors)
        files[f"{name}.safetensors"] = data
        document["tensors"] = {"file": f"{name}.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    return {f"{name}.json": json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"} | files


def rename_recipe(files: Mapping[str, bytes], stem: str) -> dict[str, bytes]:
    """A recipe's files under another name, with its reference to the tensors' file updated."""
    made: dict[str, bytes] = {}
    for name, data in files.items():
        new = f"{stem}{Path(name).suffix}"
        if name.endswith(".json"):
            document = json.loads(data)
            if "tensors" in document:
                document["tensors"]["file"] = f"{stem}.safetensors"
            data = json.dumps(document, indent=1).encode() + b"\n"
        made[new] = data
    return made


def digest_change(change: AttachableChange) -> str:
    """SHA-256 of a change with its tensors: part of the key of everything generated with it."""
    entry, tensors = write_entry(change, 0)
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode() + save(tensors)).hexdigest()


def has_tensors(document: Any) -> bool:
    """Whether a recipe has a change that carries tensors."""
    entries = document.get("interventions") if isinstance(document, dict) else None
    return isinstance(entries, list) and any(
        isinstance(entry, dict) and entry.get("kind") in READERS for entry in entries
    )


def read_recipe_tensors(path: Path, document: Any) -> dict[str, Tensor]:
    """The tensors of the file named by a recipe at `path`; empty if it needs none. Raises RecipeError."""
    if not has_tensors(document):
        return {}
    named = document.get("tensors")
    name = named.get("file") if isinstance(named, dict) else None
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise RecipeError(
            f"{path} has changes with tensors but names no tensor file; keep the two "
            "files together as they were written"
        )
    try:
        check_input(path.parent / name)
        data = (path.parent / name).read_bytes()
    except OSError as error:
        raise RecipeError(
            f"{path} needs the file {name} beside it ({error.strerror}); keep both files together"
        ) from error
    return parse_recipe_tensors(document, data)


def parse_recipe_tensors(document: Any, data: bytes) -> dict[str, Tensor]:
    """The tensors in the safetensors file named by a recipe. Raises RecipeError for another file."""
    named = document["tensors"]
    if hashlib.sha256(data).hexdigest() != named.get("sha256"):
        raise RecipeError(
            f"{named.get('file')!r} is not the file written with this recipe; keep both files together"
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise RecipeError(f"{named.get('file')!r} is damaged: {error}") from error
