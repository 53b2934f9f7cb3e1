"""Recipes: interventions as versioned JSON (`headlamp_recipe` 1); never pickle."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any, cast

import torch
import transformers
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress, NeuronAddress, parse_address, parse_part
from analysis.errors import HeadlampError, RecipeError
from analysis.intervening.clamps import Clamp, parse_scope
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneColumn, PruneExpert
from analysis.opening.models import LoadedModel
from analysis.recipes.kinds import READERS, read_intervention, write_entry
from analysis.version import VERSION

FORMAT = 1
KINDS = ("clamp", "prune_expert", "prune_column", *READERS)
"""The kinds of intervention that this version reads and writes."""
LARGEST_RAW = 1e30
"""A raw value this large overflows float32 when multiplied."""


def versions() -> dict[str, str]:
    """The software versions behind a number."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    return {
        "headlamp": VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "streamlit": version("streamlit"),
        "python": platform.python_version(),
    }


def write_recipe_document(
    loaded: LoadedModel, changes: Sequence[Change], used: Sequence[Sequence[float]] = ()
) -> dict[str, Any]:
    """The recipe of these changes for this model, ready for json.dumps; `write_recipe_files` adds the
    tensors.

    used: as `Reach.used`, the raw values that clamps in × residual put in; written down, never read back.
    """
    values = [used[number] if number < len(used) else () for number in range(len(changes))]
    return {
        "headlamp_recipe": FORMAT,
        "model": {
            "name": loaded.ref.name,
            "revision": loaded.ref.revision,
            "fingerprint": loaded.fingerprint,
        },
        "interventions": [
            _entry(change, number, own)
            for number, (change, own) in enumerate(zip(changes, values, strict=True))
        ],
        "versions": {name: versions()[name] for name in ("headlamp", "torch", "transformers")},
    }


def read_recipe(
    document: Any, fingerprint: str | None = None, tensors: Mapping[str, Tensor] | None = None
) -> list[Change]:
    """The changes of a recipe. Raises RecipeError for a newer format, an unknown kind or another model.

    tensors: those of the file that the recipe names (`recipe_store.tensors_of`), if it names one. Values in
    × max are resolved later on the open model; `use_recorded_raw` keeps their recorded size.
    """
    if not isinstance(document, dict) or document.get("headlamp_recipe") != FORMAT:
        raise RecipeError(
            f'this is not a Headlamp recipe of format {FORMAT}; it needs "headlamp_recipe": {FORMAT}'
        )
    model = document.get("model") or {}
    stated = model.get("fingerprint") if isinstance(model, dict) else None
    if fingerprint is not None and stated not in (None, fingerprint):
        raise RecipeError(
            f"this recipe was made for {model.get('name')!r} with fingerprint {str(stated)[:12]}…, the open "
            f"model has {fingerprint[:12]}…; open that model, or remove the recipe's fingerprint to apply it"
        )
    entries = document.get("interventions")
    if not isinstance(entries, list):
        raise RecipeError('a recipe needs a list of "interventions"')
    return [_read_entry(number, entry, tensors or {}) for number, entry in enumerate(entries)]


def use_recorded_raw(document: Any, tensors: Mapping[str, Tensor] | None = None) -> tuple[Change, ...]:
    """The changes of a recipe with clamps at their recorded raw values, whatever would be measured now.

    A clamp in × residual has no value of its own: it is computed in the pass, as it was then.
    """
    changes = read_recipe(document, tensors=tensors)
    entries = document["interventions"]
    return tuple(
        replace(change, raw=_check_recorded_raw(number, change, entry["raw"]))
        if isinstance(change, Clamp) and change.unit != "residual" and entry.get("raw") is not None
        else change
        for number, (change, entry) in enumerate(zip(changes, entries, strict=True))
    )


def _check_recorded_raw(number: int, clamp: Clamp, raw: Any) -> float:
    """The raw value, if it is consistent with the clamp."""
    if not isinstance(raw, int | float) or not abs(raw) < LARGEST_RAW:
        raise RecipeError(f"intervention {number}: its raw value {str(raw)[:40]!r} is not a usable number")
    said = clamp.resolve(largest=1.0, mean=0.0).raw
    if not clamp.needs_profile and raw != said:
        raise RecipeError(
            f"intervention {number} is {clamp}, but its raw value is {raw:g}; remove one of them"
        )
    return float(raw)


def _entry(change: Change, number: int, used: Sequence[float]) -> dict[str, Any]:
    if isinstance(change, PruneExpert):
        return {"kind": "prune_expert"} | vars(change.address)
    if isinstance(change, PruneColumn):
        where = change.address
        return {"kind": "prune_column"} | vars(where.block) | {"neuron": where.neuron}
    return _clamp_entry(change, used) if isinstance(change, Clamp) else write_entry(change, number)[0]


def _clamp_entry(clamp: Clamp, used: Sequence[float]) -> dict[str, Any]:
    block = clamp.address.block
    return {
        "kind": "clamp",
        "layer": block.layer,
        "expert": block.expert,
        "shared": block.shared,
        "neuron": clamp.address.neuron,
        "site": clamp.site,
        "mode": clamp.mode,
        "value": clamp.value,
        "unit": clamp.unit,
        "raw": (list(used) or None) if clamp.unit == "residual" else clamp.raw,
        "scope": str(clamp.scope),
    }


def _read_entry(number: int, entry: Any, tensors: Mapping[str, Tensor]) -> Change:
    kind = entry.get("kind") if isinstance(entry, dict) else entry
    if kind not in KINDS:
        raise RecipeError(
            f"intervention {number} has the kind {kind!r}; this version supports: {', '.join(KINDS)}"
        )
    if kind in READERS:
        return read_intervention(number, entry, tensors)
    try:
        if kind == "clamp":
            return _read_clamp(entry)
        if kind == "prune_column":
            return PruneColumn(_read_neuron(entry))
        return PruneExpert(cast(BlockAddress, parse_part(str(_read_block(entry)))))
    except HeadlampError as error:
        raise RecipeError(f"intervention {number}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecipeError(f"intervention {number} cannot be read: {type(error).__name__} {error}") from error


def _read_clamp(entry: dict[str, Any]) -> Clamp:
    value = entry.get("value")
    return Clamp(
        _read_neuron(entry),
        entry.get("site", "key"),
        entry.get("mode", "set"),
        None if value is None else float(value),
        entry.get("unit", "raw"),
        parse_scope(str(entry.get("scope", "all"))),
    )


def _read_neuron(entry: dict[str, Any]) -> NeuronAddress:
    return parse_address(str(NeuronAddress(_read_block(entry), _whole(entry["neuron"]))))


def _read_block(entry: dict[str, Any]) -> BlockAddress:
    expert, shared = entry.get("expert"), entry.get("shared", False)
    if not isinstance(shared, bool):
        raise TypeError(f"shared is {shared!r}, not true or false")
    if shared and expert is None:
        raise TypeError("a shared expert has a number")
    return BlockAddress(_whole(entry["layer"]), shared, None if expert is None else _whole(expert))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value
