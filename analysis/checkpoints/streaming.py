"""Streaming of weights from disk, layer by layer, to decode models larger than memory.

The model is built without weights. A requested parameter is read from safetensors together with
its layer, using transformers' own conversion of checkpoint names and layouts; the previous layer is released.
In memory at once: the LM head, one layer, and all small parameters.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    convert_and_load_state_dict_in_model,
)
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging as transformers_logging

from analysis.checkpoints.adapters.files import Adapter
from analysis.checkpoints.adapters.merging import Merge
from analysis.checkpoints.loading import refuse_overflow, wrap_checkpoint
from analysis.checkpoints.matching import Matched, match_checkpoint, untie_stored_twice
from analysis.checkpoints.reading import Checkpoint
from analysis.checkpoints.rehearsal import make_placeholder
from analysis.checkpoints.stored import AGAIN, Source
from analysis.errors import ModelError

transformers_logging.disable_progress_bar()
"""It would draw one progress bar per layer."""

SMALL = 1_000_000
"""Largest parameter that stays in memory once read: norms, biases, routers."""

_LAYER = re.compile(r"^(.*?\.\d+)\.")


@dataclass
class _Group:
    """Parameters read together: one layer's, or one outside all layers. keys: checkpoint key → its files."""

    keys: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


class StreamedParameters(Mapping[str, Tensor]):
    """Every parameter by its name, read on access; one layer is in memory at a time.

    Returned tensors stay valid while referenced. Thread-safe.
    """

    def __init__(
        self, model: PreTrainedModel, checkpoint: Checkpoint, adapter: Adapter | None = None
    ) -> None:
        """adapter: one that is merged into each parameter once that is read. Raises ModelError."""
        self.checkpoint = checkpoint
        self._merge = None if adapter is None else Merge(model, adapter)
        self._model = model
        self._lock = threading.RLock()
        self._loading = LoadStateDictConfig(
            device_map={"": "cpu"},
            dtype=model.dtype,
            dtype_plan=model._get_dtype_plan(model.dtype),
            weight_mapping=get_model_conversion_mapping(model),
        )
        for module in model.modules():  # buffers that are not stored, as loading makes them: in float32
            model._init_weights(module)
        matched = match_checkpoint(model, checkpoint.keys(), self._loading.weight_mapping or [])
        self._untie(matched)
        self._empty = dict(model.named_parameters(remove_duplicate=False))
        self._groups = self._grouped(matched, checkpoint.keys())
        self._of = {name: key for key, group in self._groups.items() for name in group.names}
        self._tied: list[list[str]] = []
        self._join_tied()
        self._held: set[str] = set()
        self._keep_loose = self._rehearsing = False
        if self._merge is not None:
            self._merge.check_streamed(model)

    def __getitem__(self, name: str) -> Tensor:
        with self._in_memory(self._of[name]):
            parameter: Tensor = self._model.get_parameter(name)
            return parameter

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the body runs, the model can be run: each layer is read when it is needed."""
        with ExitStack() as stack:
            for key, module in self._layers():
                handle = module.register_forward_pre_hook(lambda *_, key=key: self.hold(key))
                stack.callback(handle.remove)
            self._keep_loose = True
            for key in self._groups:
                if not is_layer(key):
                    self.hold(key)
            try:
                yield
            finally:
                self._keep_loose = False
                self._let_go(set(self._held))

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """While the body runs, placeholder numbers stand in for all weights: nothing is read."""
        self._rehearsing = True
        try:
            yield
        finally:
            self._rehearsing = False
            self._let_go(set(self._groups), also_small=True)

    def files_of(self, names: Iterable[str]) -> dict[str, set[Path]]:
        """The groups that hold some parameters, and the files of each."""
        groups = {self._of[name] for name in names}
        return {group: set(chain.from_iterable(self._groups[group].keys.values())) for group in groups}

    def hold(self, group: str) -> None:
        """Read a group unless it is in memory, and release the previous layer."""
        with self._in_memory(group):
            pass

    @contextmanager
    def _in_memory(self, group: str) -> Iterator[None]:
        """Keep a group in memory while the body runs.

        Slow steps, such as downloads, are done before other threads are locked out.
        """
        with ExitStack() as stack:
            tensors = None if group in self._held else stack.enter_context(self._reading(group))
            stack.enter_context(self._lock)
            if group not in self._held:
                tensors = stack.enter_context(self._reading(group)) if tensors is None else tensors
                if is_layer(group):
                    self._let_go({key for key in self._held if is_layer(key) or not self._keep_loose})
                self._take(self._groups[group], tensors)
                self._held.add(group)
            yield

    def _reading(self, group: str) -> AbstractContextManager[Mapping[str, Source]]:
        if self._rehearsing:
            return nullcontext({})
        return self.checkpoint.reading(group, self._groups[group].keys)

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        return ((key, self._model.get_submodule(key)) for key in self._groups if is_layer(key))

    def _take(self, group: _Group, tensors: Mapping[str, Source]) -> None:
        if self._rehearsing:
            self._make_up(group)
        else:
            state = wrap_checkpoint(self._model, tensors, self._loading.weight_mapping or [])
            convert_and_load_state_dict_in_model(self._model, state, self._loading)
        for names in self._tied:
            self._tie(names)
        for name in group.names:
            if self._model.get_parameter(name).requires_grad_(False).is_meta:
                raise ModelError(_explain_missing(name))
        if self._merge is not None and not self._rehearsing:
            self._merge.merge_read(self._model, group.names)
        where = self._model.config.name_or_path
        refuse_overflow(where, {name: self._model.get_parameter(name) for name in group.names})

    def _make_up(self, group: _Group) -> None:
        for name in group.names:
            if (like := self._model.get_parameter(name)).is_meta:
                self._put(name, nn.Parameter(make_placeholder(name, like), requires_grad=False))

    def _put(self, name: str, parameter: nn.Parameter) -> None:
        owner, _, leaf = name.rpartition(".")
        self._model.get_submodule(owner)._parameters[leaf] = parameter

    def _tie(self, names: list[str]) -> None:
        """Assign one tensor to all names of a parameter."""
        read = [p for name in names if not (p := self._model.get_parameter(name)).is_meta]
        for name in names if read else ():
            self._put(name, read[0])

    def _let_go(self, groups: set[str], *, also_small: bool = False) -> None:
        for group in groups:
            for name in self._groups[group].names:
                if also_small or self._empty[name].numel() >= SMALL:
                    self._put(name, self._empty[name])
        self._held -= groups

    def _untie(self, matched: Matched) -> None:
        keys = {name: key for key, name in matched.names.items()}
        dtype = self._model.dtype
        untie_stored_twice(
            self._model, keys, lambda one, other: self.checkpoint.equal(keys[one], keys[other], dtype)
        )

    def _grouped(self, matched: Matched, files: Mapping[str, tuple[Path, ...]]) -> dict[str, _Group]:
        groups: defaultdict[str, _Group] = defaultdict(_Group)
        for key, name in matched.names.items():
            layer = _LAYER.match(name)
            groups[layer.group(1) if layer else name].keys[key] = files[key]
        for name in self._empty:
            layer = _LAYER.match(name)
            group = layer.group(1) if layer else name
            if group in groups:
                groups[group].names.append(name)
        return dict(groups)

    def _join_tied(self) -> None:
        """Read a parameter with several names once, under whichever name the checkpoint has."""
        same: defaultdict[int, list[str]] = defaultdict(list)
        for name, parameter in self._empty.items():
            same[id(parameter)].append(name)
        for names in same.values():
            stored = [name for name in names if name in self._of]
            if not stored:
                raise ModelError(_explain_missing(names[0]))
            home = self._of[stored[0]]
            for name in names[1:]:
                if self._of.get(name, home) != home and not is_layer(self._of[name]):
                    del self._groups[self._of[name]]
            for name in names:
                self._of[name] = home
                if name not in self._groups[home].names:
                    self._groups[home].names.append(name)
            if len(names) > 1:
                self._tied.append(names)


def _explain_missing(name: str) -> str:
    what = "its config.json describes more than its files hold, or a part of it is missing"
    return f"{name} is not in the checkpoint: {what}{AGAIN}"


def is_layer(group: str) -> bool:
    """Whether a group holds a layer's parameters."""
    return group.rsplit(".", 1)[-1].isdigit()
