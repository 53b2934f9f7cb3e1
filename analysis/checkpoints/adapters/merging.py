"""Merging of an adapter into a model's weights, in memory or as they are read from disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from analysis.checkpoints.adapters.edits import Edit, Replaced, RowsReplaced
from analysis.checkpoints.adapters.files import Adapter
from analysis.checkpoints.adapters.matching import match_adapter
from analysis.errors import ModelError, NotAModel


class Merge:
    """An adapter matched with a model, to be merged into that model's weights once they are read."""

    def __init__(self, model: PreTrainedModel, adapter: Adapter) -> None:
        """model: one of the same configuration, with or without weights. Raises NotAModel as
        `match_adapter`.
        """
        self._adapter, self._edits = adapter, match_adapter(model, adapter)

    def merge(self, model: PreTrainedModel) -> None:
        """Change the model's weights in place. A head tied to the embedding is untied if one of them changes
        otherwise than the other. Raises NotAModel if a weight becomes NaN or infinite.
        """
        for names in _list_shared(model):
            plans = self._plan(names)
            if not any(plans.values()):
                continue
            self._untie(model, names, plans)
            self.apply(dict(model.named_parameters(remove_duplicate=False)), names, plans)

    def merge_read(self, model: PreTrainedModel, names: Iterable[str]) -> None:
        """The same for parameters that were just read from disk. Ties stay: see `check_streamed`."""
        held = {name: model.get_parameter(name) for name in names}
        groups = defaultdict[int, list[str]](list)
        for name, parameter in held.items():
            groups[id(parameter)].append(name)
        for shared in groups.values():
            self.apply(held, shared, self._plan(shared))

    def check_streamed(self, model: PreTrainedModel) -> None:
        """Raise ModelError if a head would be untied, which weights that stay on disk cannot be."""
        for names in _list_shared(model):
            plans = self._plan(names)
            if any(plan != plans[names[0]] for plan in plans.values()):
                raise ModelError(
                    f"{self._adapter.name} changes only one of {', '.join(names)}, which are one weight on "
                    "disk, so it cannot be decoded from disk; open it in memory"
                )

    def apply(
        self, parameters: Mapping[str, Tensor], names: list[str], plans: Mapping[str, tuple[Edit, ...]]
    ) -> None:
        """Change each tensor among these names once."""
        done: set[int] = set()
        for name in names:
            if id(parameters[name]) in done:
                continue
            done.add(id(parameters[name]))
            with torch.no_grad():
                for edit in plans[name]:
                    edit.apply(parameters[name])
            if plans[name] and not torch.isfinite(parameters[name]).all():
                raise NotAModel(
                    f"{self._adapter.name} makes {name} NaN or infinite; fetch the adapter again, or open "
                    "the model in float32"
                )

    def _plan(self, names: list[str]) -> dict[str, tuple[Edit, ...]]:
        """What is done to a parameter under each of its names.

        What replaces a shared weight itself, and not a copy of its module, holds for all of its names: see
        peft's `save_embedding_layers`, `trainable_token_indices` and `ensure_weight_tying`.
        """
        own = {name: self._edits.get(name, ()) for name in names}
        for name in names:
            for edit in own[name]:
                others = [other for other in names if not any(isinstance(e, type(edit)) for e in own[other])]
                if self._is_shared(name, edit):
                    own |= {other: (edit, *own[other]) for other in others}
        return own

    def _is_shared(self, name: str, edit: Edit) -> bool:
        settings = self._adapter.settings
        if isinstance(edit, RowsReplaced) or settings.tie:
            return True
        module = name.rpartition(".")[0]
        copied = any(module == saved or module.endswith(f".{saved}") for saved in settings.saved)
        return isinstance(edit, Replaced) and not copied

    def _untie(self, model: PreTrainedModel, names: list[str], plans: Mapping[str, tuple[Edit, ...]]) -> None:
        first = names[0]
        for name in names[1:]:
            if plans[name] == plans[first]:
                continue
            owner, _, leaf = name.rpartition(".")
            module, home = model.get_submodule(owner), model.get_submodule(first.rpartition(".")[0])
            if module is home:
                raise NotAModel(
                    f"{self._adapter.name} changes {first} and {name} differently, and they are one module; "
                    "save the adapter again with peft"
                )
            fresh = nn.Parameter(model.get_parameter(name).detach().clone(), requires_grad=False)
            module._parameters[leaf] = fresh
            for tied in (name, first):
                model.all_tied_weights_keys.pop(tied, None)
            model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False


def _list_shared(model: PreTrainedModel) -> list[list[str]]:
    """All parameter names, those of one tensor together."""
    shared: defaultdict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shared[id(parameter)].append(name)
    return list(shared.values())
