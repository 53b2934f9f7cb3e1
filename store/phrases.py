"""Numbers and clamps in words, for the first sentence and the title of a finding."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_CLAMP = re.compile(
    r"(?P<address>[^:\s]+):(?P<site>key|up|gate):(?P<mode>set|add|scale|ablate|mean)"
    r"(?::(?P<number>[-+]?[\d.]+(?:e[-+]?\d+)?)(?P<unit>[rx]?))?@(?P<scope>[\w-]+)"
)
SMALLEST = 1e-7
"""Smaller probabilities are only said to be under it."""
_SCOPES = {
    "last": "",
    "all": " everywhere",
    "prompt": " in the prompt",
    "generated": " in the generated text",
}
_UNITS = {"r": " × residual", "x": " × its largest activation", "": ""}
_MODES = {
    "set": "holding {neuron} at {value}",
    "add": "adding {value} to {neuron}",
    "scale": "scaling {neuron} by {value}",
    "ablate": "ablating {neuron}",
    "mean": "setting {neuron} to its mean",
}
MOST_NAMED = 3
"""Changes named one by one; of more only the number is said."""


def format_share(probability: float) -> str:
    """A probability for a sentence: `93 %`, `0.3 %`, `0.0004 %`; never rounded to 0 or 100 %."""
    percent = 100 * probability
    if probability <= 0:
        return "0 %"
    if probability < SMALLEST:
        return f"under {100 * SMALLEST:.5f} %"
    if probability < 1e-3:
        return f"{percent:.{-math.floor(math.log10(percent))}f} %"
    if probability < 0.1:
        return f"{percent:.1f} %"
    return f"{percent:.0f} %" if percent < 99.5 or percent >= 100 else f"{min(percent, 99.9):.1f} %"


def describe_changes(changes: Sequence[str]) -> str:
    """`Holding L29.N808 at 2.83 × residual` for clamps as they are typed; a text it cannot read stays. The
    scope `last` is not said.
    """
    if not changes:
        return "Without any change"
    if len(changes) > MOST_NAMED:
        return f"With {len(changes)} changes"
    said = [_describe_change(one) for one in changes]
    held = [one.removeprefix("holding ") for one in said]
    if len(said) > 1 and all(one.startswith("holding ") for one in said):
        said = [f"holding {held[0]}", *held[1:]]
    text = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return text[:1].upper() + text[1:]


def _describe_change(change: str) -> str:
    if change.endswith(":prune"):
        return f"pruning {change.removesuffix(':prune')}"
    match = _CLAMP.fullmatch(change)
    if match is None:
        return f"changing {change}"
    neuron = match["address"] if match["site"] == "key" else f"the {match['site']} of {match['address']}"
    value = ""
    if match["number"] is not None:
        number = float(match["number"])
        value = f"{number:.3g}".replace("-", "−", int(number < 0)) + _UNITS[match["unit"]]
    scope = _SCOPES.get(match["scope"], f" at positions {match['scope']}")
    return _MODES[match["mode"]].format(neuron=neuron, value=value) + scope
