"""Exports of an unlearned skill: the recipe, a script, the whole model with the change in it."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from analysis.errors import HeadlampError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.files import rename_recipe
from analysis.saving.baking import why_not_baked
from analysis.unlearning.edits.neuron_adjust import NeuronAdjust
from analysis.unlearning.guards.linear_guards import Guard
from store import Store
from workbench.models import open_model
from workbench.saving.saving import read_changes, save_model
from workbench.saving.scripts import write_edit_script
from workbench.unlearning.adjust_snippets import why_no_adjust_script, write_adjust_snippet
from workbench.unlearning.guard_snippets import write_guard_snippet

LARGEST_BAKED_BYTES = 2_000_000_000
"""Largest model that is sent to a browser."""

_C = TypeVar("_C")
_MADE = (1980, 1, 1, 0, 0, 0)
"""Timestamp of every file in an archive: the same contents give the same bytes."""


def why_nothing(changes: Sequence[Change]) -> str:
    """Why a method's recipe cannot be exported; empty if it can."""
    return "" if changes else "no share of neurons was eligible, so nothing was changed: nothing to export"


def zip_recipe(files: Mapping[str, bytes], stem: str) -> bytes:
    """A recipe's JSON and the safetensors file beside it, renamed, as one archive.

    Raises HeadlampError for a recipe without a change.
    """
    if reason := why_nothing(read_changes(files)):
        raise HeadlampError(reason)
    return _zip(rename_recipe(files, stem))


def why_no_script(loaded: LoadedModel, files: Mapping[str, bytes]) -> str:
    """Why a change has no script; empty if it has."""
    changes = read_changes(files)
    if not changes or _find_guard(changes) is not None:
        return why_nothing(changes)
    adjust = _only(NeuronAdjust, changes)
    return why_not_baked(changes) if adjust is None else why_no_adjust_script(loaded, adjust)


def write_change_script(loaded: LoadedModel, files: Mapping[str, bytes], stem: str, prompt: str) -> str:
    """The script that answers a prompt under a change whose recipe is `stem`.json beside it.

    Raises HeadlampError for the reasons in `why_no_script`.
    """
    if reason := why_no_script(loaded, files):
        raise HeadlampError(reason)
    changes, recipe = read_changes(files), Path(f"{stem}.json")
    if (guard := _find_guard(changes)) is not None:
        return write_guard_snippet(loaded, guard, recipe, prompt)
    if (adjust := _only(NeuronAdjust, changes)) is not None:
        return write_adjust_snippet(loaded, adjust, recipe, prompt)
    return write_edit_script(loaded, changes, recipe, prompt)


def why_no_weights(loaded: LoadedModel, files: Mapping[str, bytes]) -> str:
    """Why no weights equal a change, or they are too large to send; empty if available."""
    changes = read_changes(files)
    reason = why_nothing(changes) or why_not_baked(changes)
    size = sum(p.numel() * p.element_size() for p in loaded.parameters.values())
    if not reason and size > LARGEST_BAKED_BYTES:
        return f"the model's {size / 1e9:.1f} GB are too large for a browser; use unlearn --bake FOLDER"
    return reason


def zip_baked_model(ref: ModelRef, store: Store, files: Mapping[str, bytes]) -> bytes:
    """The whole model with the change in its weights, and its tokenizer: a folder that opens, as one archive.

    Raises HeadlampError for the reasons in `why_no_weights`.
    """
    with open_model(ref, store) as loaded, tempfile.TemporaryDirectory() as name:
        if reason := why_no_weights(loaded, files):
            raise HeadlampError(reason)
        folder = Path(name) / "model"
        save_model(loaded, read_changes(files), folder, files)
        files_in = sorted(path for path in folder.rglob("*") if path.is_file())
        return _zip({str(path.relative_to(folder)): path.read_bytes() for path in files_in})


def _find_guard(changes: Sequence[Change]) -> Guard | None:
    return next((change for change in changes if isinstance(change, Guard)), None)


def _only(kind: type[_C], changes: Sequence[Change]) -> _C | None:
    return next((change for change in changes if isinstance(change, kind)), None)


def _zip(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _MADE), data)
    return made.getvalue()
