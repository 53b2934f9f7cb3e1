"""What a model is: its anatomy, its size, and how much memory it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.fit import Fit, fit
from analysis.models import LoadedModel
from workbench.models import block_facts, model_facts

_NEEDS = ("dtype", "context", "weights", "head", "activations", "peak", "streamed_peak")
_SHOWN = ("architecture", "layers", "d_model", "vocab", "tied", "neurons", "bytes")


@dataclass(frozen=True)
class Inspection:
    """A model's facts and FFN blocks; `bytes`: its weights in the open dtype."""

    name: str
    revision: str | None
    fingerprint: str
    path: str
    dtype: str
    device: str
    facts: dict[str, Any]
    blocks: list[dict[str, Any]]
    fit: Fit

    def document(self) -> dict[str, Any]:
        """What `inspect --json` prints."""
        model = {name: getattr(self, name) for name in ("name", "revision", "fingerprint", "path")}
        known = {"model": model} | {name: self.facts[name] for name in _SHOWN} | {"blocks": self.blocks}
        needs, memory = self.fit.needs, self.fit.memory
        return known | {
            "fit": {"verdict": self.fit.verdict, "reason": self.fit.reason}
            | {name: getattr(needs, name) for name in _NEEDS}
            | {"free": {"host": memory.host, "accelerators": list(memory.accelerators)}}
        }


def inspect_model(loaded: LoadedModel, context: int | None = None) -> Inspection:
    """The inspection of an open model; that it is open proves that its anatomy reproduces its own numbers."""
    return Inspection(
        name=loaded.ref.name,
        revision=loaded.ref.revision,
        fingerprint=loaded.fingerprint,
        path=str(loaded.path),
        dtype=loaded.dtype,
        device=loaded.ref.device,
        facts=model_facts(loaded),
        blocks=block_facts(loaded.anatomy),
        fit=fit(loaded.path, loaded.dtype, context),
    )
