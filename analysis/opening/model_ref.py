"""What names a model: where it is from, on which device, how precise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from analysis.checkpoints.devices import best_device
from analysis.checkpoints.sources import local_folder
from demo import BUNDLED

Shards = Literal["local", "keep", "delete"]


@dataclass(frozen=True)
class ModelRef:
    """Which model, where and how precise: everything that names one loaded copy."""

    name: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"
    streamed: bool = False
    """Whether weights stay on disk and are read when needed: for decoding a model larger than memory."""
    shards: Shards = "local"
    """Of a streamed Hub model that is not here: whether its shards may be fetched when they are needed, to be
    kept, or to be deleted after use."""

    @property
    def resolved_dtype(self) -> str:
        """`auto` is float32 on the CPU and bfloat16 on an accelerator."""
        if self.dtype != "auto":
            return self.dtype
        return "float32" if self.device == "cpu" else "bfloat16"


def settled(ref: ModelRef) -> ModelRef:
    """The same model named so that it means the same anywhere: whole folder path, real device, real dtype."""
    device = ref.device
    if device == "auto":
        device = "cpu" if ref.streamed else best_device()
    folder = None if ref.name in BUNDLED else local_folder(ref.name)
    at_hub = ref.streamed and folder is None and ref.name not in BUNDLED
    shards: Shards = ref.shards if at_hub else "local"
    ref = replace(ref, name=str(folder or ref.name), device=device, shards=shards)
    return replace(ref, dtype=ref.resolved_dtype)
