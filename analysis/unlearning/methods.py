"""The methods of unlearning, a record each. A fourth is one more record, and the file that fits it."""

from __future__ import annotations

from analysis.errors import SkillError
from analysis.unlearning.edits import neuron_adjust, selective_prune
from analysis.unlearning.edits.neuron_shares import (
    draw_adjust,
    draw_prune_control,
    propose_adjust,
    propose_prune,
)
from analysis.unlearning.guarding import check_layers, fit_described_guard, list_guard_fits, why_no_guard
from analysis.unlearning.guards import key_boxes
from analysis.unlearning.records import UnlearningMethod
from analysis.unlearning.sharing import fit_share, list_share_fits

_RECORDS = (
    UnlearningMethod(
        name="ksd",
        title="KSD",
        version=key_boxes.METHOD_VERSION,
        fit=fit_described_guard,
        list_fits=list_guard_fits,
        control="shuffled skills",
        refits=True,
        abstains=True,
        fewest_probes=key_boxes.FEWEST_PROBES,
        why_not=why_no_guard,
        check=check_layers,
        scripted=True,
    ),
    UnlearningMethod(
        name="na",
        title="Neuron Adjust",
        version=neuron_adjust.METHOD_VERSION,
        fit=fit_share(propose_adjust, draw_adjust),
        list_fits=list_share_fits,
        control="random neurons",
        retains=True,
    ),
    UnlearningMethod(
        name="sp",
        title="Selective pruning",
        version=selective_prune.METHOD_VERSION,
        fit=fit_share(propose_prune, draw_prune_control),
        list_fits=list_share_fits,
        control="random neurons",
        retains=True,
        baked=True,
    ),
)

METHODS: dict[str, UnlearningMethod] = {record.name: record for record in _RECORDS}
"""By name, in the order in which they are offered."""


def find_method(name: str) -> UnlearningMethod:
    """A method by name. Raises SkillError naming those there are."""
    if name not in METHODS:
        raise SkillError(f"method {name!r}: choose of {', '.join(METHODS)}")
    return METHODS[name]


def list_methods() -> tuple[str, ...]:
    """The names of all methods."""
    return tuple(METHODS)


def name_method(name: str) -> str:
    """A method's title; the name itself of one that this version does not have."""
    return METHODS[name].title if name in METHODS else name
