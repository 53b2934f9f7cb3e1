"""Unlearning results in the format of lm-evaluation-harness's results.json, for other tools.

A group per state of the model: `base`, unchanged, then one per method; its tasks are the skills.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from analysis.recipes.recipes import versions

BASE = "base"
Document = dict[str, Any]


def write_harness_results(unlearned: Mapping[str, Any], model: str, created_at: str) -> Document:
    """The document of `unlearn` as results.json. created_at: of the run, ISO 8601.

    `acc` is the share of right answers on the test, `acc_stderr` the harness's standard error of a mean. A
    perplexity skill has `perplexity_ratio`, changed / base, and no base.
    """
    cells = [(f"{state}/{skill['skill']}", state, skill, value) for state, skill, value in _states(unlearned)]
    subtasks: dict[str, list[str]] = {}
    for task, state, *_ in cells:
        subtasks.setdefault(state, []).append(task)
    tasks = sorted(task for task, *_ in cells)
    return {
        "results": {task: _numbers(task, skill, value) for task, _, skill, value in cells},
        "group_subtasks": subtasks,
        "configs": {task: _config(task, state, unlearned) for task, state, *_ in cells},
        "versions": dict.fromkeys(tasks, None),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {task: _better(skill) for task, _, skill, _ in cells},
        "n-samples": {task: {"original": s["n"], "effective": s["n"]} for task, _, s, _ in cells},
        "config": {"model": model, "model_args": None, "limit": None},
        "date": datetime.fromisoformat(created_at).timestamp(),
        "transformers_version": versions()["transformers"],
    }


def _states(unlearned: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], float | None]]:
    """Each state's skills with the accuracy, None for a perplexity skill, which has no accuracy."""
    for skill in unlearned["methods"][0]["skills"]:
        if skill["before"] is not None:
            yield BASE, skill, skill["before"]
    for method in unlearned["methods"]:
        yield from ((method["method"], skill, skill["after"]) for skill in method["skills"])


def _numbers(task: str, skill: Mapping[str, Any], accuracy: float | None) -> Document:
    own: Document = {"name": task, "alias": f" - {skill['skill']}", "sample_len": skill["n"]}
    if accuracy is None:
        return own | {
            "perplexity_ratio,none": skill["perplexity_ratio"],
            "perplexity_ratio_stderr,none": "N/A",
        }
    n = skill["n"]
    error = math.sqrt(accuracy * (1 - accuracy) / (n - 1)) if n > 1 else "N/A"
    return own | {"acc,none": accuracy, "acc_stderr,none": error}


def _better(skill: Mapping[str, Any]) -> dict[str, bool]:
    return {"perplexity_ratio": False} if skill["after"] is None else {"acc": True}


def _config(task: str, state: str, unlearned: Mapping[str, Any]) -> Document:
    method = next((m for m in unlearned["methods"] if m["method"] == state), None)
    told = {"forget": unlearned["forget"], "split_seed": unlearned["split"]["seed"], "run": unlearned["run"]}
    return {"task": task, "metadata": told | {"parameters": None if method is None else method["parameters"]}}
