"""The reference text: the profile that × max and the neurons' statistics are measured on."""

from __future__ import annotations

from analysis.opening.models import LoadedModel
from pages.shared.jobs.waiting import ensure_done
from pages.shared.resources import get_store
from workbench.kinds import make_order
from workbench.neurons.profiles import PROFILE, is_profiled


def ensure_profiled(loaded: LoadedModel) -> bool:
    """Whether the model has been profiled on the reference text. Until then the page shows that job."""
    return is_profiled(loaded, get_store()) or ensure_done(make_order(PROFILE, loaded.ref), WHY)


WHY = (
    "The model reads the reference text, once, to measure each neuron's activations. The page continues "
    "automatically."
)
