"""What identifies a loaded copy of a model: source, device and dtype."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from analysis.checkpoints.devices import choose_device
from analysis.checkpoints.sources import is_hub_file, local_path, split_adapter
from demo import BUNDLED

Shards = Literal["local", "keep", "delete"]


@dataclass(frozen=True)
class ModelRef:
    """Model name, device and dtype: everything that identifies one loaded copy."""

    name: str
    """A bundled name, folder, GGUF file or Hub id; BASE+ADAPTER with a LoRA adapter merged into it."""
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"
    streamed: bool = False
    """Whether weights stay on disk and are read on demand, to decode a model larger than memory."""
    shards: Shards = "local"
    """For a streamed Hub model: whether missing shards may be fetched on demand, and kept or deleted after
    use."""

    @property
    def resolved_dtype(self) -> str:
        """`auto` is float32 on the CPU and bfloat16 on an accelerator."""
        if self.dtype != "auto":
            return self.dtype
        return "float32" if self.device == "cpu" else "bfloat16"


def resolve_ref(ref: ModelRef) -> ModelRef:
    """The same model with everything resolved: absolute path, actual device and dtype."""
    device = ref.device
    if device == "auto":
        device = "cpu" if ref.streamed else choose_device()
    base, adapter = split_adapter(ref.name)
    path = None if base in BUNDLED else local_path(base)
    at_hub = ref.streamed and path is None and base not in BUNDLED and not is_hub_file(base)
    shards: Shards = ref.shards if at_hub else "local"
    name = str(path or base) + ("" if adapter is None else f"+{local_path(adapter) or adapter}")
    ref = replace(ref, name=name, device=device, shards=shards)
    return replace(ref, dtype=ref.resolved_dtype)
