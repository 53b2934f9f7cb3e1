"""Kinds of jobs and their orders: what any process needs to carry one out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef, resolve_ref
from analysis.pulse import Pulse
from store import Run, RunSpec
from workbench.records import read_odd_record
from workbench.runs import UnitResult


class Stopped(Exception):
    """The job was cancelled; raised from a pulse. Stored units stay."""


def accept(loaded: LoadedModel, asked: Mapping[str, Any]) -> None:
    """Refuse nothing: the check of a kind whose run's key says all that can be known before."""


@dataclass(frozen=True)
class Kind:
    """A kind of job. parameters: the names an order must give; defaults: those it may give besides, and the
    value where it does not, as in orders of earlier versions; title: one line for users.

    check: raises a HeadlampError for what can be known to fail before anything is measured.

    compute maps units: a pure function of model, parameters and indices, in any process. together: if all
    units result from one pass, what that pass counts ("windows"); they are then not distributed.
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
    check: Callable[[LoadedModel, Mapping[str, Any]], None] = accept
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, names: Iterable[str]) -> bool:
        """Whether an order may give exactly these parameters."""
        return set(self.parameters) <= set(names) <= {*self.parameters, *self.defaults}


@dataclass(frozen=True)
class Order:
    """A question with everything needed to answer it, in any process and at any later time."""

    kind: str
    model: ModelRef
    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Equal for two orders exactly if they ask the same of the same model."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """As JSON; `read_order` reads it."""
        return {"kind": self.kind, "model": asdict(self.model), "parameters": dict(self.parameters)}


def make_order(kind: Kind, model: ModelRef, **parameters: Any) -> Order:
    """An order that is valid anywhere: folders become absolute paths, the device is resolved.

    A parameter at its default is left out, so that the order is the same as before there was one.
    """
    if not kind.takes(parameters):
        raise ValueError(f"{kind.name} takes {', '.join(kind.parameters)}, not {', '.join(parameters)}")
    parameters = {
        name: value
        for name, value in parameters.items()
        if name not in kind.defaults or value != kind.defaults[name]
    }
    return Order(kind.name, resolve_ref(model), parameters)


def read_order(document: Mapping[str, Any]) -> Order:
    """The order written by `Order.document`. HeadlampError if it comes from another version."""
    try:
        return Order(document["kind"], ModelRef(**document["model"]), dict(document["parameters"]))
    except (KeyError, TypeError, ValueError) as error:
        raise HeadlampError(
            f"this job was requested by another version of Headlamp ({error}); request it again"
        ) from error


@dataclass(frozen=True)
class _OrderModel:
    name: str = ""


@dataclass(frozen=True)
class _NamedOrder:
    model: _OrderModel = _OrderModel()


def name_order_model(document: Mapping[str, Any]) -> str:
    """The name of the model of a stored order, of any version; empty where it has none."""
    return read_odd_record(_NamedOrder, document).model.name


def rebuild_order(run: Run, kinds: Mapping[str, Kind]) -> Order:
    """The order that would compute a stored run again. HeadlampError for a kind that is not a job."""
    kind = kinds.get(run.kind)
    if kind is None or any(name not in run.parameters for name in kind.parameters):
        raise HeadlampError(
            f"a {run.kind} run is not a job: repeat the request where it was made to resume it"
        )
    ref = ModelRef(run.model_name, device=run.device, dtype=run.dtype)
    names = (*kind.parameters, *(name for name in kind.defaults if name in run.parameters))
    return make_order(kind, ref, **{name: run.parameters[name] for name in names})
