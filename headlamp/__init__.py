"""Headlamp in Python: decode a language model's neurons, clamp them, and keep the evidence.

    import headlamp

    with headlamp.open("demo/base") as model:
        dogs = model.find("dog")
        dogs.table(), dogs.figure()

Answers come from the same use cases and the same database as the app's and the command line's. Nothing heavy
is imported until the first function is asked for.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from headlamp.locating import NameTaken, put_house_first, warn_of_hidden

if TYPE_CHECKING:
    from analysis.errors import HeadlampError
    from analysis.version import VERSION as __version__
    from headlamp.answers import Answer, NeuronFacts, TextPair, WordNeurons
    from headlamp.measured import DoseCurves, ExpertTable, Levers, Removed, Saved, Unlearned
    from headlamp.models import Model, open
    from headlamp.notebook import KeptFinding, Notebook, findings

__all__ = [
    "Answer",
    "DoseCurves",
    "ExpertTable",
    "HeadlampError",
    "KeptFinding",
    "Levers",
    "Model",
    "NameTaken",
    "NeuronFacts",
    "Notebook",
    "Removed",
    "Saved",
    "TextPair",
    "Unlearned",
    "WordNeurons",
    "__version__",
    "findings",
    "open",
]

put_house_first()

# Threads that wait for each other sleep, and do not spin: on a machine that does other work too, spinning
# made forgetting four times as slow. Read by torch while it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "HeadlampError": ("analysis.errors", "HeadlampError"),
    "__version__": ("analysis.version", "VERSION"),
    **{name: ("headlamp.answers", name) for name in ("Answer", "NeuronFacts", "TextPair", "WordNeurons")},
    **{
        name: ("headlamp.measured", name)
        for name in ("DoseCurves", "ExpertTable", "Levers", "Removed", "Saved", "Unlearned")
    },
    **{name: ("headlamp.models", name) for name in ("Model", "open")},
    **{name: ("headlamp.notebook", name) for name in ("KeptFinding", "Notebook", "findings")},
}
"""Public name → its module and its name there."""


def __getattr__(name: str) -> Any:
    """A public name, its module imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_of_hidden()
    module, own = _HOMES[name]
    found = globals()[name] = getattr(import_module(module), own)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
