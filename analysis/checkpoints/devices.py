"""This machine's devices: which exist, how much memory is free, and how memory is released."""

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
"""All accelerators together, whole layers on each: the name of accelerate's device map."""

SPARE = 0.9
"""Share of the free memory that a model may take."""


@dataclass(frozen=True)
class FreeMemory:
    """Free bytes of this machine: host, and each accelerator."""

    host: int
    accelerators: tuple[int, ...] = ()

    def room(self, device: str) -> int:
        """Bytes a model may take on a device named as in `list_devices`."""
        return int(SPARE * (self.host if device == "cpu" else sum(self._of(device))))

    def _of(self, device: str) -> tuple[int, ...]:
        if device == BALANCED:
            return self.accelerators
        number = int(device.rpartition(":")[2]) if ":" in device else 0
        return self.accelerators[number : number + 1]


def list_devices() -> list[str]:
    """The devices on which a model can be opened here."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *gpus, *mps, *([BALANCED] if len(gpus) > 1 else [])]


def check_device(name: str) -> None:
    """Raise ModelError for a device this machine does not have, listing those it has."""
    here = list_devices()
    if name in here or (name == "cuda" and "cuda:0" in here):
        return
    if name == BALANCED:
        raise ModelError(
            f"device {name!r} spreads a model over several accelerators, and this machine has "
            f"{len(read_free_memory().accelerators)}; choose {', '.join(here)}"
        )
    raise ModelError(f"device {name!r} is not available; this machine has {', '.join(here)}")


def choose_device() -> str:
    """The device that `auto` selects. Never MPS, which is unmeasured here; choose `mps` explicitly."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def place_modules(device: str, empty: PreTrainedModel) -> dict[str, Any] | None:
    """The device of each module's weights, as accelerate's device map; None: all on the CPU.

    empty: the model without weights. Raises ModelError if all accelerators together are too small.
    """
    check_device(device)
    if device == "cpu":
        return None
    if device != BALANCED:
        return {"": device}
    free = {number: int(SPARE * count) for number, count in enumerate(read_free_memory().accelerators)}
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


def read_free_memory() -> FreeMemory:
    """Free memory now; for the host, capped by what this process's control group still allows."""
    host = psutil.virtual_memory().available
    limit, used = (_number(CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        host = min(host, max(limit - used + _page_cache(), 0))
    gpus = range(torch.cuda.device_count())
    accelerators = [torch.cuda.mem_get_info(gpu)[0] + _read_cached(gpu) for gpu in gpus]
    if torch.backends.mps.is_available():
        accelerators.append(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return FreeMemory(host, tuple(accelerators))


CGROUP = Path("/sys/fs/cgroup")


def _read_cached(gpu: int) -> int:
    """GPU memory that torch's allocator keeps for its next tensors, in bytes."""
    return torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def _page_cache() -> int:
    """Page cache that the control group counts as used although it is reclaimable, in bytes."""
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


def free_unused() -> None:
    """Release unused memory: unreachable tensors, and what allocators cached."""
    gc.collect()
    torch.cuda.empty_cache()  # no-op if CUDA was never used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    with suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
