"""What is taken away of an unlearned skill: the recipe, a script, the whole model with the change in it."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.files import renamed
from analysis.unlearning.edits.baking import save_baked, why_not_baked
from analysis.unlearning.guards.key_guards import KeyGuard
from store import Store
from workbench.models import opened
from workbench.unlearning.guard_snippets import guard_snippet
from workbench.unlearning.unlearning import changes_of

LARGEST_BAKED_BYTES = 2_000_000_000
"""Largest model that is handed to a browser whole."""

_MADE = (1980, 1, 1, 0, 0, 0)
"""The moment every file of an archive was made: the same contents give the same bytes."""


def recipe_zip(files: Mapping[str, bytes], stem: str) -> bytes:
    """A recipe's JSON and the safetensors file beside it, under a name of their own, as one archive."""
    return _zip(renamed(files, stem))


def why_no_script(files: Mapping[str, bytes]) -> str:
    """Why a change cannot be had as a script; empty where it can."""
    guard = _guard(files)
    if guard is None:
        return "a script is written for the guard of KSD alone; others are applied by their recipe"
    if guard.as_released:
        return "a guard as released judges whole batches; fit it without that"
    return ""


def script_of(loaded: LoadedModel, files: Mapping[str, bytes], stem: str, prompt: str) -> str:
    """The script that answers a prompt under a guard whose recipe `stem`.json lies beside it.

    Raises HeadlampError as `why_no_script` tells.
    """
    reason, guard = why_no_script(files), _guard(files)
    if reason or guard is None:
        raise HeadlampError(reason)
    return guard_snippet(loaded, guard, Path(f"{stem}.json"), prompt)


def why_no_weights(loaded: LoadedModel, files: Mapping[str, bytes]) -> str:
    """Why no weights hold a change exactly, or are too large to hand out; empty where they can be had."""
    reason = why_not_baked(changes_of(files))
    size = sum(p.numel() * p.element_size() for p in loaded.parameters.values())
    if not reason and size > LARGEST_BAKED_BYTES:
        return f"the model's {size / 1e9:.1f} GB are too many for a browser; use unlearn --bake FOLDER"
    return reason


def baked_zip(ref: ModelRef, store: Store, files: Mapping[str, bytes]) -> bytes:
    """The whole model with the change in its weights, and its tokenizer: a folder that opens, as one archive.

    Raises HeadlampError as `why_no_weights` tells.
    """
    with opened(ref, store) as loaded, tempfile.TemporaryDirectory() as name:
        if reason := why_no_weights(loaded, files):
            raise HeadlampError(reason)
        folder = Path(name) / "model"
        save_baked(loaded, changes_of(files), folder)
        files_in = sorted(path for path in folder.rglob("*") if path.is_file())
        return _zip({str(path.relative_to(folder)): path.read_bytes() for path in files_in})


def _guard(files: Mapping[str, bytes]) -> KeyGuard | None:
    return next((change for change in changes_of(files) if isinstance(change, KeyGuard)), None)


def _zip(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _MADE), data)
    return made.getvalue()
