"""The devices of this machine: which there are, what is free on them, and how memory is given back."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import infer_auto_device_map
from accelerate.utils import get_balanced_memory
from transformers import PreTrainedModel

from analysis.errors import ModelError

BALANCED = "balanced"
"""All accelerators together, whole layers on each, as accelerate's device map of this name has it."""

SPARE = 0.9
"""Share of the free memory that a model may take."""


@dataclass(frozen=True)
class Memory:
    """Free bytes of this machine: host, and each accelerator."""

    host: int
    accelerators: tuple[int, ...] = ()

    def room(self, device: str) -> int:
        """What a model may take on a device, as `present` names them, in bytes."""
        return int(SPARE * (self.host if device == "cpu" else sum(self._of(device))))

    def _of(self, device: str) -> tuple[int, ...]:
        if device == BALANCED:
            return self.accelerators
        number = int(device.rpartition(":")[2]) if ":" in device else 0
        return self.accelerators[number : number + 1]


def present() -> list[str]:
    """The devices a model can be opened on here."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *gpus, *mps, *([BALANCED] if len(gpus) > 1 else [])]


def check_device(name: str) -> None:
    """Raises ModelError for a device that is not here, saying which are."""
    here = present()
    if name in here or (name == "cuda" and "cuda:0" in here):
        return
    if name == BALANCED:
        raise ModelError(
            f"device {name!r} spreads a model over several accelerators, and this machine has "
            f"{len(free_memory().accelerators)}; choose {', '.join(here)}"
        )
    raise ModelError(f"device {name!r} is not here; this machine has {', '.join(here)}")


def best_device() -> str:
    """What `auto` means. Never MPS, on which nothing here has been measured; `mps` asks for it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def placement(device: str, empty: PreTrainedModel) -> dict[str, Any] | None:
    """Where each module's weights go, as accelerate's device map; None where all go to the CPU.

    empty: the model without weights. Raises ModelError where all accelerators together are too small.
    """
    check_device(device)
    if device == "cpu":
        return None
    if device != BALANCED:
        return {"": device}
    free = {number: int(SPARE * count) for number, count in enumerate(free_memory().accelerators)}
    whole = empty._no_split_modules
    most = get_balanced_memory(empty, max_memory=free, no_split_module_classes=whole)
    found: dict[str, Any] = infer_auto_device_map(empty, max_memory=most, no_split_module_classes=whole)
    if {"cpu", "disk"} & set(found.values()):
        size = sum(p.numel() * p.element_size() for p in empty.parameters())
        raise ModelError(
            f"the weights take {size / 1e9:.2f} GB in whole layers, and {len(free)} accelerators have "
            f"{sum(free.values()) / 1e9:.2f} GB free together; choose the device cpu, or decode from disk"
        )
    return found


def free_memory() -> Memory:
    """What is free now; of the host, at most what this process's control group still allows."""
    host = psutil.virtual_memory().available
    limit, used = (_number(CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        host = min(host, max(limit - used + _page_cache(), 0))
    gpus = range(torch.cuda.device_count())
    accelerators = [torch.cuda.mem_get_info(gpu)[0] + _cached(gpu) for gpu in gpus]
    if torch.backends.mps.is_available():
        accelerators.append(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return Memory(host, tuple(accelerators))


CGROUP = Path("/sys/fs/cgroup")


def _cached(gpu: int) -> int:
    """Bytes that torch keeps of a GPU for its next tensors."""
    return torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def _page_cache() -> int:
    """Bytes of files that the control group counts as used though they go when memory is needed."""
    try:
        lines = (CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def give_back() -> None:
    """Return to the machine what nothing uses any more: dead tensors, and what allocators kept of them."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA was never used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    with suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
