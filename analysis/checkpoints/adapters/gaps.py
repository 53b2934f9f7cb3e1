"""Layers that an adapter's settings name and its weights lack, where other layers have them."""

from __future__ import annotations

import re
from collections.abc import Collection

from analysis.checkpoints.adapters.files import CONFIG, Adapter, LoraSettings
from analysis.errors import NotAModel

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def refuse_gaps(adapter: Adapter, parameters: Collection[str], changed: Collection[str]) -> None:
    """Raise NotAModel for a weight that the adapter does not change, though its settings name the module and
    it changes the same module of another layer. parameters: those of the model; changed: those it changes.

    peft would leave such a layer as its base has it, with a warning.
    """
    kinds = {_NUMBER.sub("#", name) for name in changed}
    for name in parameters:
        if name in changed or _NUMBER.sub("#", name) not in kinds:
            continue
        if is_targeted(adapter.settings, name.removesuffix(".weight")):
            raise NotAModel(
                f"{adapter.name} has no matrices for {name}, which its {CONFIG} names (target_modules) and "
                "other layers have; download it again, or name the layers it is for there "
                "(layers_to_transform)"
            )


def is_targeted(settings: LoraSettings, module: str) -> bool:
    """Whether settings name a module of a model as one to change, by peft's rules."""
    if _is_named(settings.excluded, module) or not _is_named(settings.targets, module):
        return False
    layer = _NUMBER.search(module)
    return not settings.layers or (layer is not None and int(layer[0]) in settings.layers)


def _is_named(names: str | tuple[str, ...], module: str) -> bool:
    """Whether a pattern is a module's name, or one of some names is, or the end of it."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(f".{module}".endswith(f".{name}") for name in names)
