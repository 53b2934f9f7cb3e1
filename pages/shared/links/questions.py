"""Stored questions as the parameters of the page that asks them; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analysis.unlearning.methods import name_method
from pages.shared import state
from pages.shared.links.stored import StoredExperts, StoredSkill, StoredUnlearning
from workbench.records import read_odd_record

View = dict[str, Any]


def make_unlearn_view(asked: object) -> View:
    """The Unlearn page's parameters for a stored question of forgetting a skill."""
    stored = read_odd_record(StoredUnlearning, asked)
    view: View = {
        state.FORGET: stored.forget.name,
        state.RETAIN: list_names(stored.retain) or [""],
        state.METHODS: [name_method(one) for one in stored.methods],
        state.BOXES: ",".join(map(str, stored.layers)) if isinstance(stored.layers, tuple) else stored.layers,
        state.CHECK: stored.check,
        state.SHARES: ", ".join(f"{share:g}" for share in stored.shares),
        state.SPLIT: stored.split_seed,
        state.SEED: stored.seed,
        state.EXAMPLES: stored.limit,
        state.ANSWER: stored.max_new_tokens,
        state.TESTS: stored.tests,
        state.CONTROLS: str(stored.controls).lower(),
        state.ROBUSTNESS: str(stored.robustness).lower(),
        state.NEAR: list_names(stored.near),
        state.UNLISTED: list_names(stored.unlisted),
        state.MEASURE: stored.measure,
        state.KEY_PLACE: stored.key or "usual",
        state.WRAP: {True: "on", False: "off", None: "usual"}[stored.wrap],
        state.RELEASED: str(stored.as_released).lower(),
    }
    if stored.mmlu:
        view[state.UTILITY] = list_names(stored.mmlu)
    if stored.rivals is not None:
        view[state.RIVALS] = str(stored.rivals).lower()
    return view


def make_pruning_view(asked: object) -> View:
    """The Experts page's parameters for a stored question of pruning."""
    stored = read_odd_record(StoredExperts, asked)
    return {
        state.PRUNE: ", ".join(stored.pruned),
        state.DRAWS: stored.draws,
        state.CALIBRATION: stored.shared_text,
        **make_window_view(stored),
    }


def make_window_view(stored: StoredExperts) -> View:
    """The Experts page's length of a window, where one was asked for."""
    return {} if stored.chosen_window is None else {state.WINDOW: stored.chosen_window}


def list_names(skills: Iterable[StoredSkill]) -> list[str]:
    """The names of skills."""
    return [one.name for one in skills]
