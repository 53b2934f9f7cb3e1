"""Texts about decoded neurons, shared by several pages."""

from __future__ import annotations

from pages.shared.tokens import show_token
from workbench.neurons.rows import DecodedNeuron

SMALL = 50_000
"""Largest number of neurons decoded without asking: a matter of seconds."""
SHOWN_TOKENS = 5
SITE_HELP = (
    "up: row of the up projection, what the neuron reads (used in the paper). gate: row of the gate's. "
    "down: column of the down projection, what the neuron writes."
)
NORM_HELP = (
    "Normalisation of a vector before the head. none: none. unit: divided by its length. final: through "
    "the model's final norm. through: times the block's own norm weights."
)


def join_top_tokens(neuron: DecodedNeuron, end: str = "top") -> str:
    """The first few top tokens of a neuron in one cell."""
    return "  ".join(show_token(score.token) for score in getattr(neuron, end)[:SHOWN_TOKENS])
