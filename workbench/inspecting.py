"""Inspection of a model: anatomy, size, and memory needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from analysis.opening.memory import MemoryFit, check_memory, check_memory_at_hub
from analysis.opening.models import LoadedModel
from analysis.running.configured import list_settings
from workbench.models import ListedBlock, ModelFacts, list_blocks, measure_model
from workbench.records import write_record

_NEEDS = (
    "dtype",
    "context",
    "weights",
    "head",
    "head_copy",
    "decoding",
    "activations",
    "peak",
    "streamed_peak",
)
_SHOWN = ("architecture", "layers", "d_model", "vocab", "tied", "neurons", "bytes")


@dataclass(frozen=True)
class Inspection:
    """A model's facts and FFN blocks; `bytes`: its weights in the open dtype. device: the one `check_memory`
    refers to.

    made_up: whether its parts were proven on placeholder weights, its own being at the Hub. settings: what
    its generation_config holds that changes its text, and is applied only on demand.
    """

    name: str
    revision: str | None
    fingerprint: str
    path: str
    dtype: str
    device: str
    made_up: bool
    settings: dict[str, Any]
    facts: ModelFacts
    blocks: tuple[ListedBlock, ...]
    fit: MemoryFit

    def document(self) -> dict[str, Any]:
        """What `inspect --json` prints."""
        model = {name: getattr(self, name) for name in ("name", "revision", "fingerprint", "path")}
        known = {"model": model} | {name: getattr(self.facts, name) for name in _SHOWN}
        known |= {"generation_config": self.settings, "blocks": list(map(write_record, self.blocks))}
        needs, memory = self.fit.needs, self.fit.memory
        return known | {
            "weights": self.facts.weights or None,
            "notes": list(self.facts.notes),
            "fit": {"verdict": self.fit.verdict, "reason": self.fit.reason, "device": self.device}
            | {name: getattr(needs, name) for name in _NEEDS}
            | {"free": {"host": memory.host, "accelerators": list(memory.accelerators)}},
        }


def inspect_model(loaded: LoadedModel, context: int | None = None, device: str = "cpu") -> Inspection:
    """Inspect an open model; that it is open proves that its anatomy reproduces its numbers.

    context, device: for the memory estimate: number of tokens, and device. Of a model whose shards are at the
    Hub, only their headers are fetched.
    """
    remote, wanted = loaded.at_hub, (loaded.dtype, context, device)
    return Inspection(
        name=loaded.ref.name,
        revision=loaded.ref.revision,
        fingerprint=loaded.fingerprint,
        path=str(loaded.path),
        dtype=loaded.dtype,
        device=device,
        made_up=remote is not None,
        settings=json.loads(json.dumps(list_settings(loaded), default=str)),
        facts=measure_model(loaded),
        blocks=list_blocks(loaded.anatomy),
        fit=check_memory(loaded.path, *wanted) if remote is None else check_memory_at_hub(remote, *wanted),
    )
