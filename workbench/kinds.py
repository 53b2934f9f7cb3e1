"""What long work consists of: an order that anybody can carry out, and the kinds of units it is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef, settled
from analysis.pulse import Pulse
from store import Run, RunSpec
from workbench.runs import UnitResult


class Stopped(Exception):
    """This work was cancelled; raised from a pulse. What was stored stays."""


@dataclass(frozen=True)
class Kind:
    """A kind of long work. parameters: the names an order must give; title: one line for people.

    compute maps units: a pure function of model, parameters and indices, in any process. together: where its
    units come out of one pass, what that pass counts ("windows"); they are then not spread over processes.
    """

    name: str
    unit: str
    parameters: tuple[str, ...]
    title: Callable[[Mapping[str, Any]], str]
    spec: Callable[[LoadedModel, Mapping[str, Any]], RunSpec]
    compute: Callable[
        [LoadedModel, Mapping[str, Any], Sequence[int], Pulse], Iterator[tuple[int, UnitResult]]
    ]
    together: str = ""


@dataclass(frozen=True)
class Order:
    """A question with everything needed to answer it, in any process and at any later time."""

    kind: str
    model: ModelRef
    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for two orders exactly where they ask the same of the same model."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """As JSON; `read_order` reads it."""
        return {"kind": self.kind, "model": asdict(self.model), "parameters": dict(self.parameters)}


def make_order(kind: Kind, model: ModelRef, **parameters: Any) -> Order:
    """An order for a model wherever it will be carried out: folders are whole paths, the device is named."""
    if set(parameters) != set(kind.parameters):
        raise ValueError(f"{kind.name} takes {', '.join(kind.parameters)}, not {', '.join(parameters)}")
    return Order(kind.name, settled(model), parameters)


def read_order(document: Mapping[str, Any]) -> Order:
    """The order that `Order.document` wrote. HeadlampError where it is another version's."""
    try:
        return Order(document["kind"], ModelRef(**document["model"]), dict(document["parameters"]))
    except (KeyError, TypeError, ValueError) as error:
        raise HeadlampError(
            f"this job was asked for by another version of Headlamp ({error}); ask for it again"
        ) from error


def order_of(run: Run, kinds: Mapping[str, Kind]) -> Order:
    """What would make a stored run again. HeadlampError for a kind that is answered where it is asked."""
    kind = kinds.get(run.kind)
    if kind is None or any(name not in run.parameters for name in kind.parameters):
        raise HeadlampError(
            f"a {run.kind} run is not a job: ask for the same again where it was asked, and it goes on"
        )
    ref = ModelRef(run.model_name, device=run.device, dtype=run.dtype)
    return make_order(kind, ref, **{name: run.parameters[name] for name in kind.parameters})
