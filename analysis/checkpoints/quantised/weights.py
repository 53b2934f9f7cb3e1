"""The weights of a quantised checkpoint: tensors that belong together become one that is dequantised."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from analysis.checkpoints.quantised.formats import Quantisation, find_quantisation
from analysis.checkpoints.quantised.parts import DequantisedTensor, Part
from analysis.checkpoints.stored import AGAIN, StoredTensor
from analysis.errors import NotAModel

_ENTRIES = ("quantization_config", "compression_config")


def read_quantisation(folder: Path) -> Quantisation | None:
    """The format that config.json names; None where weights are not quantised.

    Raises NotAModel for a format that cannot be read. A folder without a readable config.json has none.
    """
    try:
        stored = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return find_stated_quantisation(folder, stored) if isinstance(stored, dict) else None


def find_stated_quantisation(folder: Path, stored: Mapping[str, Any]) -> Quantisation | None:
    """The same of a config.json that was read."""
    for place, settings in _list_settings(stored):
        if not isinstance(settings, Mapping):
            raise NotAModel(
                f"{folder}: {place} in its config.json is {settings!r}, not an object that names how its "
                "weights are quantised (quant_method); remove it if they are not"
            )
        return find_quantisation(f"{folder} ({place} in its config.json)", settings)
    return None


def _list_settings(stored: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Where a configuration, or a part of it such as text_config, says that weights are quantised."""
    for name, value in stored.items():
        if not value or not (isinstance(value, Mapping) or name in _ENTRIES):
            continue
        if name in _ENTRIES or (name == "quantization" and "bits" in value):  # the latter by MLX
            yield place + name, value
        elif name.endswith("_config"):
            yield from _list_settings(value, f"{place}{name}.")


def forget_quantisation(config: Any) -> None:
    """Remove the settings from a configuration, which then describes the dequantised model."""
    for part in (config, config.get_text_config()):
        for name in _ENTRIES:
            if hasattr(part, name):
                delattr(part, name)


def join_tensors(
    where: Path, tensors: Mapping[str, StoredTensor], quantisation: Quantisation | None
) -> Mapping[str, StoredTensor | DequantisedTensor]:
    """Every weight by its key as an unquantised checkpoint has it.

    Raises NotAModel if no tensor is quantised, or if tensors that belong together contradict each other.
    """
    if quantisation is None:
        return tensors
    roles = list_roles(tensors, quantisation)
    if all("" in of_key for of_key in roles.values()):
        raise NotAModel(
            f"{where}: its config.json says that weights are quantised, and no tensor is; remove "
            f"quantization_config from it if they were dequantised{AGAIN}"
        )
    found = {key: join_parts(key, of_key, tensors, quantisation) for key, of_key in roles.items()}
    return cast(Mapping[str, StoredTensor | DequantisedTensor], found)


def list_roles(keys: Collection[str], quantisation: Quantisation | None) -> dict[str, dict[str, str]]:
    """Every weight's key as an unquantised checkpoint has it → role → key of the tensor; a tensor that stands
    alone has the role "". Scales of activations are left out. Raises NotAModel for a weight of which a part
    is missing.
    """
    if quantisation is None:
        return {key: {"": key} for key in keys}
    quantisation.require_whole(keys)
    found = quantisation.group(keys)
    used = {key for roles in found.values() for key in roles.values()}
    alone = [key for key in keys if key not in used and not quantisation.is_of_activations(key)]
    return found | {key: {"": key} for key in alone}


def join_parts(
    key: str, roles: Mapping[str, str], tensors: Mapping[str, Part], quantisation: Quantisation | None
) -> Part | DequantisedTensor:
    """The weight that tensors make, by their roles as in `list_roles`."""
    if quantisation is None or "" in roles:
        return tensors[key]
    return quantisation.make(key, {role: tensors[part] for role, part in roles.items()})
