"""Where in a model the weights lie that an adapter names by modules, of today or of older versions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)
from transformers.pytorch_utils import Conv1D

from analysis.checkpoints.adapters.files import CONFIG, Adapter
from analysis.errors import NotAModel

_JOINS = ((MergeModulelist,), (Concatenate,), (MergeModulelist, Concatenate))


@dataclass(frozen=True)
class Place:
    """A parameter of the model, or a part of it. own: the name by which the adapter's settings know it;
    within: which part; experts: how many weights are stacked in it; transposed: whether it is (in, out).
    """

    name: str
    own: str
    within: tuple[int | slice, ...] = ()
    experts: int = 1
    transposed: bool = False


class AdapterPlaces:
    """The parameters of a model, which may be without weights, as an adapter names them."""

    def __init__(self, model: PreTrainedModel, adapter: Adapter) -> None:
        self._model, self._adapter = model, adapter
        self.parameters: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
        self._modules = dict(model.named_modules())
        mapping = get_model_conversion_mapping(model)
        self._renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        self._converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]

    def find(self, name: str) -> str:
        """The parameter with this name. Raises NotAModel if there is none."""
        return self._find(name)[0]

    def locate(self, module: str, depth: int, outputs: int, *, embedding: bool) -> Place:
        """The weight of a module. depth: how many parameters of it are changed within this one, where the
        adapter changes parameters directly. outputs: how wide the change is. Raises NotAModel.
        """
        direct = self._list_targets(module)
        if direct:
            if depth >= len(direct):
                self._refuse_missing(module)
            name = f"{module}.{direct[-1 - depth]}"
            shape = self.parameters[name].shape
            if len(shape) < 3:
                return Place(name, name)
            transposed = bool(getattr(self._modules[module], "is_transposed", False))
            return Place(name, name, (0,) if shape[0] == 1 else (), int(shape[0]), transposed)
        name, pattern, converter = self._find(f"{module}.weight")
        if converter is None:
            owner = self._modules[name.rpartition(".")[0]]
            return Place(name, module, transposed=embedding or isinstance(owner, Conv1D))
        return Place(name, module, self._find_part(module, pattern, converter, outputs))

    def read_shape(self, place: Place) -> tuple[int, int]:
        """(out, in) of the weight at a place, or of each that is stacked there. Raises NotAModel."""
        view = self.parameters[place.name]
        try:
            view = view[place.within] if place.within else view
        except IndexError:
            self._refuse_missing(place.own)
        if view.dim() < 2:
            raise NotAModel(
                f"{self._adapter.name} changes {place.own} by matrices, and it is a vector in {self._where}; "
                f"{self._advice}"
            )
        rows, columns = tuple(view.shape)[-2:]
        return (columns, rows) if place.transposed else (rows, columns)

    def require(self, what: str, given: Sequence[int], wanted: Sequence[int]) -> None:
        """Raise NotAModel for a tensor of the adapter whose shape is not the one that the model has."""
        if tuple(given) != tuple(wanted):
            raise NotAModel(
                f"{self._adapter.name} changes {what} as {list(given)}, and {self._where} has {list(wanted)} "
                f"there; {self._advice}"
            )

    def _list_targets(self, module: str) -> list[str]:
        """The module's own parameters that the settings name, the one changed last at the end."""
        targets = self._adapter.settings.parameters
        if not targets or module not in self._modules:
            return []
        own = [name for name, _ in self._modules[module].named_parameters(recurse=False)]
        return [name for name in own if any(f".{module}.{name}".endswith(f".{one}") for one in targets)]

    def _find(self, name: str) -> tuple[str, str, WeightConverter | None]:
        """The parameter with this name, by today's names or by those of checkpoints, and how it is joined."""
        if name in self.parameters:
            return name, "", None
        prefix = self._model.base_model_prefix
        found, pattern = rename_source_key(name, self._renamings, self._converters, prefix, self.parameters)
        if found not in self.parameters:
            self._refuse_missing(name)
        if pattern is None:
            return found, "", None
        converter = next(entry for entry in self._converters if pattern in entry.source_patterns)
        return found, pattern, converter

    def _find_part(
        self, module: str, pattern: str, converter: WeightConverter, outputs: int
    ) -> tuple[int | slice, ...]:
        """Where in a joined parameter a weight lies that older versions of transformers kept by itself."""
        steps = tuple(type(step) for step in converter.operations)
        numbers = re.findall(r"\.experts\.(\d+)\.", f"{module}.")
        if steps not in _JOINS or (MergeModulelist in steps and len(numbers) != 1):
            raise NotAModel(
                f"{self._adapter.name} changes {module}, which this version of transformers keeps within "
                "another weight in a way that is not known here; merge it with the versions it was made with"
            )
        within: tuple[int | slice, ...] = (int(numbers[0]),) if MergeModulelist in steps else ()
        if Concatenate in steps:
            start = converter.source_patterns.index(pattern) * outputs
            within += (slice(start, start + outputs),)
        return within

    def _refuse_missing(self, name: str) -> None:
        raise NotAModel(
            f"{self._adapter.name} changes {name}, which {self._where} does not have; {self._advice}"
        )

    @property
    def _where(self) -> str:
        return str(self._model.config.name_or_path)

    @property
    def _advice(self) -> str:
        """Another base, where the adapter does not name this model as its own."""
        base = self._adapter.settings.base
        if base and _is_same(base, self._where):
            return (
                f"its {CONFIG} names this model as its base, so its weights belong to another {CONFIG}, or "
                "the model is another version: download both again"
            )
        return f"the adapter was made for {base or 'another model'}: give that as its base"


def _is_same(base: str, where: str) -> bool:
    """Whether a name, of a folder or at the Hub, is that of the model at a path."""
    cached = f"models--{base.replace('/', '--')}"
    return base == where or Path(base).resolve() == Path(where).resolve() or cached in Path(where).parts
