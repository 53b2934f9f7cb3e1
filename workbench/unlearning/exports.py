"""Exports of an unlearned skill: the recipe, a script, the whole model with the change in it."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.files import rename_recipe
from analysis.unlearning.edits.baking import save_baked, why_not_baked
from analysis.unlearning.guards.key_guards import KeyGuard
from store import Store
from workbench.models import open_model
from workbench.unlearning.guard_snippets import write_guard_snippet
from workbench.unlearning.unlearning import read_changes

LARGEST_BAKED_BYTES = 2_000_000_000
"""Largest model that is sent to a browser."""

_MADE = (1980, 1, 1, 0, 0, 0)
"""Timestamp of every file in an archive: the same contents give the same bytes."""


def zip_recipe(files: Mapping[str, bytes], stem: str) -> bytes:
    """A recipe's JSON and the safetensors file beside it, renamed, as one archive."""
    return _zip(rename_recipe(files, stem))


def why_no_script(files: Mapping[str, bytes]) -> str:
    """Why a change has no script; empty if it has."""
    guard = _guard(files)
    if guard is None:
        return "scripts exist only for KSD's guard; other changes are applied by their recipe"
    if guard.as_released:
        return "a guard as released judges whole batches; fit it without that option"
    return ""


def write_guard_script(loaded: LoadedModel, files: Mapping[str, bytes], stem: str, prompt: str) -> str:
    """The script that answers a prompt under a guard whose recipe is `stem`.json beside it.

    Raises HeadlampError for the reasons in `why_no_script`.
    """
    reason, guard = why_no_script(files), _guard(files)
    if reason or guard is None:
        raise HeadlampError(reason)
    return write_guard_snippet(loaded, guard, Path(f"{stem}.json"), prompt)


def why_no_weights(loaded: LoadedModel, files: Mapping[str, bytes]) -> str:
    """Why no weights equal a change, or they are too large to send; empty if available."""
    reason = why_not_baked(read_changes(files))
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
        save_baked(loaded, read_changes(files), folder)
        files_in = sorted(path for path in folder.rglob("*") if path.is_file())
        return _zip({str(path.relative_to(folder)): path.read_bytes() for path in files_in})


def _guard(files: Mapping[str, bytes]) -> KeyGuard | None:
    return next((change for change in read_changes(files) if isinstance(change, KeyGuard)), None)


def _zip(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _MADE), data)
    return made.getvalue()
