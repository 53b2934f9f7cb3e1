"""Weights read from disk when they are needed, and let go: how a model larger than memory is decoded.

The model is built without weights. Whoever asks for a parameter gets it read from safetensors together with
its layer, by transformers' own conversion of checkpoint names and layouts; the layer held before is let go.
In memory at once: the LM head, one layer, and whatever is small. Files are read, never mapped: a mapped file
stays resident page by page, and whoever rewrites it changes the weights in use.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
)
from transformers.modeling_utils import LoadStateDictConfig

from analysis.errors import ModelError
from analysis.fingerprint import stamp

os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
"""Else threads of transformers read all tensors ahead of their conversion, and hold weights twice."""

SMALL = 1_000_000
"""Entries of a parameter that stays in memory once it was read: norms, biases, routers."""

_LAYER = re.compile(r"^(.*?\.\d+)\.")


@dataclass
class _Group:
    """Parameters read together: a layer's, or one that is in no layer. keys: checkpoint key → file."""

    keys: dict[str, Path] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


class StreamedParameters(Mapping[str, Tensor]):
    """Every parameter by its name, read when it is asked for; one layer is held at a time.

    What is handed out stays valid while somebody holds it: letting go only ends the model's own hold.
    """

    def __init__(self, model: PreTrainedModel, folder: Path) -> None:
        self._model = model
        self._loading = LoadStateDictConfig(
            device_map={"": "cpu"}, dtype=model.dtype, weight_mapping=get_model_conversion_mapping(model)
        )
        self._empty = dict(model.named_parameters(remove_duplicate=False))
        self._stamp = stamp(folder)
        self._folder = folder
        self._groups = self._grouped(checkpoint_keys(folder))
        self._of = {name: key for key, group in self._groups.items() for name in group.names}
        self._tied: list[list[str]] = []
        self._join_tied()
        self._held: set[str] = set()
        self._keep_loose = False

    def __getitem__(self, name: str) -> Tensor:
        self.hold(self._of[name])
        parameter: Tensor = self._model.get_parameter(name)
        return parameter

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The model can be run while the body lasts: each layer is read when its turn comes."""
        with ExitStack() as stack:
            for key, module in self._layers():
                handle = module.register_forward_pre_hook(lambda *_, key=key: self.hold(key))
                stack.callback(handle.remove)
            self._keep_loose = True
            for key in self._groups:
                if not _is_layer(key):
                    self.hold(key)
            try:
                yield
            finally:
                self._keep_loose = False
                self._let_go(set(self._held))

    def hold(self, group: str) -> None:
        """Read a group unless it is in memory; the layer that was held before goes."""
        if group in self._held:
            return
        if _is_layer(group):
            self._let_go({key for key in self._held if _is_layer(key) or not self._keep_loose})
        self._read(self._groups[group])
        self._held.add(group)

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        return ((key, self._model.get_submodule(key)) for key in self._groups if _is_layer(key))

    def _read(self, group: _Group) -> None:
        if stamp(self._folder) != self._stamp:
            raise ModelError(f"{self._folder} was changed while it was read; open it again when that is done")
        with slices(group.keys) as state:
            convert_and_load_state_dict_in_model(self._model, state, self._loading)
        for names in self._tied:
            self._tie(names)
        for name in group.names:
            if self._model.get_parameter(name).is_meta:
                raise ModelError(f"{name} is not in the checkpoint; fetch or convert the model again")

    def _tie(self, names: list[str]) -> None:
        """Give every name of one parameter the tensor that was read under one of them."""
        read = [p for name in names if not (p := self._model.get_parameter(name)).is_meta]
        for name in names if read else ():
            owner, _, leaf = name.rpartition(".")
            self._model.get_submodule(owner)._parameters[leaf] = read[0]

    def _let_go(self, groups: set[str]) -> None:
        for group in groups:
            for name in self._groups[group].names:
                owner, _, leaf = name.rpartition(".")
                module = self._model.get_submodule(owner)
                if self._empty[name].numel() >= SMALL:
                    module._parameters[leaf] = self._empty[name]
        self._held -= groups

    def _grouped(self, index: Mapping[str, Path]) -> dict[str, _Group]:
        groups: defaultdict[str, _Group] = defaultdict(_Group)
        mapping = self._loading.weight_mapping or []
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        prefix = self._model.base_model_prefix
        for key, path in index.items():
            name, _ = rename_source_key(key, renamings, converters, prefix, self._empty)
            layer = _LAYER.match(name)
            groups[layer.group(1) if layer else name].keys[key] = path
        for name in self._empty:
            layer = _LAYER.match(name)
            group = layer.group(1) if layer else name
            if group in groups:
                groups[group].names.append(name)
        return dict(groups)

    def _join_tied(self) -> None:
        """One parameter under several names is read once, from whichever of them the checkpoint has."""
        same: defaultdict[int, list[str]] = defaultdict(list)
        for name, parameter in self._empty.items():
            same[id(parameter)].append(name)
        for names in same.values():
            stored = [name for name in names if name in self._of]
            if not stored:
                raise ModelError(f"{names[0]} is not in the checkpoint; fetch or convert the model again")
            home = self._of[stored[0]]
            for name in names[1:]:
                if self._of.get(name, home) != home and not _is_layer(self._of[name]):
                    del self._groups[self._of[name]]
            for name in names:
                self._of[name] = home
                if name not in self._groups[home].names:
                    self._groups[home].names.append(name)
            if len(names) > 1:
                self._tied.append(names)


def _is_layer(group: str) -> bool:
    return group.rsplit(".", 1)[-1].isdigit()


@contextmanager
def slices(keys: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """The tensors of some checkpoint keys, each read into memory of its own when it is indexed."""
    with ExitStack() as stack:
        files = {path: stack.enter_context(_opened(path)) for path in set(keys.values())}
        yield {key: files[path].get_slice(key) for key, path in keys.items()}


def checkpoint_keys(folder: Path) -> dict[str, Path]:
    """Checkpoint key → its file, of a single-file or a sharded checkpoint."""
    listed = folder / "model.safetensors.index.json"
    if listed.is_file():
        shards = json.loads(listed.read_text(encoding="utf-8"))["weight_map"]
        return {key: folder / Path(name).name for key, name in shards.items()}
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with _opened(path) as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def _opened(path: Path) -> Any:
    """A safetensors file whose tensors are read, not mapped. Raises ModelError for a damaged one."""
    try:
        return safe_open(path, framework="pt", backend="pread")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} could not be loaded: {error}; fetch or convert the model again") from error


def empty_model(config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a config without weights; its buffers are real."""
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    return model.eval().requires_grad_(False)
