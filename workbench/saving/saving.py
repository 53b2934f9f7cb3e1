"""A changed model saved in a folder of its own: written whole, reopened, compared; or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from analysis.errors import ExpertError, HeadlampError
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneExpert
from analysis.opening.models import LoadedModel
from analysis.recipes.files import parse_recipe_tensors, rename_recipe
from analysis.recipes.recipes import use_recorded_raw
from analysis.saving.baking import bake_weights, why_not_baked
from analysis.saving.dropping import DropPlan, drop_experts, plan_drop
from analysis.saving.folders import check_savable, measure_model, save_folder, save_smaller
from analysis.saving.reopening import TensorChange, compare_reopened
from analysis.unlearning.edits.reversals import Tars
from analysis.unlearning.edits.selective_prune import SelectivePrune
from store import Store
from workbench.files import ExportError, check_new_folder
from workbench.saving.cards import write_card

RECIPE = "headlamp_recipe"
"""Name of the recipe beside the weights."""
CARD = "README.md"
ROOM = 50_000_000
"""Bytes besides the weights: tokenizer, card, recipe."""
LONGEST_NAME = 200
"""Bytes of a folder's name: what it is called while it is written is longer."""


@dataclass(frozen=True)
class SavedModel:
    """A saved model. changed, logits_error, effect, positions: see `Reopened`. untied: whether its head was
    the embedding and no longer is.
    """

    folder: Path
    changed: tuple[TensorChange, ...]
    logits_error: float
    effect: float
    positions: int
    untied: bool

    def to_document(self) -> dict[str, Any]:
        """The shape of `save --json` (INTERFACES)."""
        return {
            "folder": str(self.folder),
            "changed": [asdict(one) for one in self.changed],
            "logits_error": self.logits_error,
            "effect": self.effect,
            "positions": self.positions,
            "untied": self.untied,
            "card": str(self.folder / CARD),
        }


def find_saving_folder(store: Store, name: str = "") -> Path:
    """The folder of a saved model called `name`: in `models`, beside the database; that one without a name.

    Raises HeadlampError for a name that is more than one, or too long.
    """
    place = store.path.absolute().parent / "models"
    if not name:
        return place
    if len(name.encode()) > LONGEST_NAME:
        raise HeadlampError(f"a name of {len(name.encode())} bytes is too long; use {LONGEST_NAME} at most")
    if re.fullmatch(r"[\w-][\w. -]*", name) is None:
        raise HeadlampError(f"{name!r} is no name for a folder; use letters, digits, '-', '_' and '.'")
    return place / name


def propose_name(model: str) -> str:
    """A name for the folder of an edited model, which `find_saving_folder` takes."""
    plain = re.sub(r"[^\w.-]+", "-", model).strip("-.")
    return f"{plain[: LONGEST_NAME // 8] or 'model'}-edited"


def read_changes(files: Mapping[str, bytes]) -> tuple[Change, ...]:
    """The changes of a recipe given as its files, at their recorded values."""
    [document] = [json.loads(data) for name, data in files.items() if name.endswith(".json")]
    tensors = [data for name, data in files.items() if name.endswith(".safetensors")]
    return use_recorded_raw(document, parse_recipe_tensors(document, tensors[0]) if tensors else {})


def why_not_saved(loaded: LoadedModel, changes: Sequence[Change]) -> str:
    """Why these changes cannot be saved as weights of this model; empty if they can."""
    if not changes:
        return "nothing is changed"
    try:
        check_savable(loaded)
    except HeadlampError as error:
        return str(error)
    return why_not_baked(changes)


def check_saving(loaded: LoadedModel, changes: Sequence[Change], folder: Path) -> None:
    """Refuse what could not be saved there, before anything is computed.

    Raises HeadlampError, ExportError.
    """
    if not changes:
        raise HeadlampError(
            "this recipe changes nothing, so the saved model would be the original; copy that"
        )
    if reason := why_not_baked(changes):
        raise HeadlampError(reason)
    check_savable(loaded)
    own = loaded.path if loaded.path.is_dir() else loaded.path.parent
    if folder.resolve() == own.resolve():
        raise ExportError(f"{folder} is the model that is being changed; name a new folder")
    check_new_folder(folder)
    there = next(place for place in folder.absolute().parents if place.exists())
    need, free = measure_model(loaded) + ROOM, shutil.disk_usage(there).free
    if free < need:
        raise ExportError(
            f"{folder} needs {need / 1e9:.2f} GB and {there} has {free / 1e9:.2f} GB left; free some space, "
            "or name a folder elsewhere"
        )


def save_model(
    loaded: LoadedModel,
    changes: Sequence[Change],
    folder: Path,
    recipe: Mapping[str, bytes],
    *,
    drop: bool = False,
) -> SavedModel:
    """Write the model with these changes in its weights into a new folder, with its tokenizer, the recipe and
    a card, reopen it with transformers and compare it.

    The folder appears only when all of that has succeeded. recipe: the changes' files (`write_recipe_files`).
    drop: take pruned experts out, with the router's rows for them, instead of setting them to 0. Raises as
    `check_saving`, and HeadlampError for a model that does not reopen as it should.
    """
    check_saving(loaded, changes, folder)
    plan, kept = _plan(loaded, changes) if drop else (None, changes)
    changed = bake_weights(loaded, kept)
    if plan is None:
        _check_different(loaded, changed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        made = Path(name) / "model"
        try:
            if plan is None:
                untied = save_folder(loaded, changed, made)
            else:
                untied = False
                save_smaller(loaded, drop_experts(loaded, plan, changed), made)
            found = compare_reopened(loaded, kept, made, changed, plan)
            saved = SavedModel(
                folder, found.changed, found.logits_error, found.effect, found.positions, untied
            )
            said = [
                f"{line} (taken out, with the router's row)" if drop and line.endswith(":prune") else line
                for line in describe_changes(changes)
            ]
            card = write_card(loaded, saved, said)
            (made / CARD).write_text(card, encoding="utf-8")
            for part, data in rename_recipe(recipe, RECIPE).items():
                (made / part).write_bytes(data)
        except (OSError, SafetensorError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            raise ExportError(
                f"{folder} could not be written whole ({error}); nothing of it was kept: free some space, "
                "or name a folder elsewhere"
            ) from error
        _move(made, folder)
    return saved


def _check_different(loaded: LoadedModel, changed: Mapping[str, Tensor]) -> None:
    """Raise HeadlampError for changes that leave every weight unchanged."""
    if all(torch.equal(tensor, loaded.parameters[name]) for name, tensor in changed.items()):
        raise HeadlampError(
            "these changes leave every weight unchanged, so the saved model would be the original; copy that"
        )


def _move(made: Path, folder: Path) -> None:
    """Move what was made to its place. Raises ExportError if another was saved there in the meantime."""
    try:
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise ExportError(
            f"{folder} was written by another save in the meantime, and stays; name a new folder"
        ) from error


def _plan(loaded: LoadedModel, changes: Sequence[Change]) -> tuple[DropPlan, list[Change]]:
    """What is taken out, and the changes that are left. Raises ExpertError where nothing can be."""
    dropped = [item.address for item in changes if isinstance(item, PruneExpert)]
    if not dropped:
        raise ExpertError("the recipe prunes no expert, so none can be taken out; save without dropping")
    plan = plan_drop(loaded, dropped)
    return plan, [item for item in changes if not isinstance(item, PruneExpert)]


def describe_changes(changes: Sequence[Change]) -> list[str]:
    """Every change of a recipe that weights can hold, a line each."""
    lines: list[str] = []
    for item in changes:
        if isinstance(item, Tars):
            lines += [f"{edit.address}:{edit.site} replaced" for edit in item.edits]
        elif isinstance(item, SelectivePrune):
            lines += [f"{block}.N{n}:key:ablate" for block, neurons in item.blocks for n in neurons.tolist()]
        else:
            lines.append(str(item))
    return lines
