"""The reference text: the profile that × max and the neurons' statistics are measured on."""

from __future__ import annotations

from analysis.opening.models import LoadedModel
from pages.shared.jobs.timing import estimate_reading
from pages.shared.jobs.waiting import ensure_done
from pages.shared.resources import get_store
from workbench.kinds import make_order
from workbench.neurons.profiles import PROFILE, count_reference_tokens, is_profiled


def ensure_profiled(loaded: LoadedModel) -> bool:
    """Whether the model has been profiled on the reference text. Until then the page shows that job."""
    if is_profiled(loaded, get_store()):
        return True
    takes = estimate_reading(loaded, count_reference_tokens(loaded))
    return ensure_done(make_order(PROFILE, loaded.ref), f"{WHY}{takes}")


WHY = (
    "The model reads the reference text, once, to measure each neuron's activations. The page continues "
    "automatically."
)
