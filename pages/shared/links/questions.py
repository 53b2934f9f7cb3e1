"""Stored questions as the parameters of the page that asks them; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.running.calibration import LONGEST
from analysis.unlearning.methods import name_method
from pages.shared import state

View = dict[str, Any]


def make_unlearn_view(asked: Mapping[str, Any]) -> View:
    """The Unlearn page's parameters for a question of forgetting a skill."""
    layers = asked.get("layers")
    shares = ", ".join(f"{share:g}" for share in read_items(asked.get("shares")) if _is_number(share))
    view: View = {
        state.FORGET: read_named(asked.get("forget")),
        state.RETAIN: [read_named(one) for one in read_items(asked.get("retain"))] or [""],
        state.METHODS: [name_method(str(one)) for one in read_items(asked.get("methods"))],
        state.BOXES: ",".join(map(str, layers)) if isinstance(layers, list) else layers,
        state.CHECK: asked.get("check"),
        state.SHARES: shares,
        state.SPLIT: asked.get("split_seed"),
        state.SEED: asked.get("seed"),
        state.EXAMPLES: asked.get("limit"),
        state.ANSWER: asked.get("max_new_tokens"),
        state.TESTS: asked.get("tests"),
        state.CONTROLS: str(asked.get("controls")).lower(),
        state.ROBUSTNESS: str(asked.get("robustness")).lower(),
        state.NEAR: [read_named(one) for one in read_items(asked.get("near"))],
        state.UNLISTED: [read_named(one) for one in read_items(asked.get("unlisted"))],
        state.MEASURE: asked.get("measure", "box"),  # as it was before there was a choice
        state.KEY_PLACE: asked.get("key") or "usual",
        state.WRAP: {"True": "on", "False": "off"}.get(str(asked.get("wrap")), "usual"),
        state.RELEASED: str(asked.get("as_released")).lower(),
    }
    if utility := [read_named(one) for one in read_items(asked.get("mmlu"))]:
        view[state.UTILITY] = utility
    if isinstance(asked.get("rivals"), bool):
        view[state.RIVALS] = str(asked["rivals"]).lower()
    return view


def make_pruning_view(asked: Mapping[str, Any]) -> View:
    """The Experts page's parameters for a question of pruning."""
    pruned = next(iter(read_items(next(iter(read_items(asked.get("groups"))), None))), None)
    return {
        state.PRUNE: ", ".join(map(str, read_items(pruned))),
        state.DRAWS: asked.get("draws"),
        state.CALIBRATION: asked.get("text") if asked.get("split") is True else None,
        **make_window_view(asked),
    }


def make_window_view(asked: Mapping[str, Any]) -> View:
    """The Experts page's length of a window, where one was asked for."""
    window = asked.get("window")
    chosen = isinstance(window, int) and not isinstance(window, bool) and window != LONGEST
    return {state.WINDOW: window} if chosen else {}


def read_named(source: object) -> str:
    """The name of a skill in a stored question."""
    return str(source.get("name", "")) if isinstance(source, Mapping) else ""


def read_items(value: object) -> list[Any]:
    """A list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
