"""The reference text, read with the model once: what × max and a neuron's profile are measured on."""

from __future__ import annotations

from analysis.opening.models import LoadedModel
from pages.shared.jobs.waiting import finished
from pages.shared.resources import store
from workbench.kinds import make_order
from workbench.neurons.profiles import PROFILE, is_profiled


def profiled(loaded: LoadedModel) -> bool:
    """Whether the model has read the reference text. Until then a job does, which the page shows here."""
    return is_profiled(loaded, store()) or finished(make_order(PROFILE, loaded.ref), WHY)


WHY = (
    "The model reads the reference text, once: how strongly each neuron fires is measured on it. "
    "The page goes on by itself afterwards."
)
