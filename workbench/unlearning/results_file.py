"""Unlearning results in the format of lm-evaluation-harness's results.json, for other tools.

A group per state of the model: `base`, unchanged, then one per method; its tasks are the skills.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from analysis.recipes.recipes import versions
from analysis.unlearning.results import SkillResult
from workbench.unlearning.answers import UnlearningAnswer

BASE = "base"
Document = dict[str, Any]


def write_harness_results(found: UnlearningAnswer, model: str, created_at: str) -> Document:
    """An answer as results.json. created_at: of the run, ISO 8601.

    `acc` is the share of right answers on the test, `acc_stderr` the harness's standard error of a mean. A
    perplexity skill has `perplexity_ratio`, changed / base, and no base.
    """
    cells = [(f"{state}/{skill.skill}", state, skill, value) for state, skill, value in _states(found)]
    subtasks: dict[str, list[str]] = {}
    for task, state, *_ in cells:
        subtasks.setdefault(state, []).append(task)
    tasks = sorted(task for task, *_ in cells)
    counts = {task: skill.change.n for task, _, skill, _ in cells}
    return {
        "results": {task: _numbers(task, skill, value) for task, _, skill, value in cells},
        "group_subtasks": subtasks,
        "configs": {task: _config(task, state, found) for task, state, *_ in cells},
        "versions": dict.fromkeys(tasks, None),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {task: _better(skill) for task, _, skill, _ in cells},
        "n-samples": {task: {"original": n, "effective": n} for task, n in counts.items()},
        "config": {"model": model, "model_args": None, "limit": None},
        "date": datetime.fromisoformat(created_at).timestamp(),
        "transformers_version": versions()["transformers"],
    }


def _states(found: UnlearningAnswer) -> Iterator[tuple[str, SkillResult, float | None]]:
    """Each state's skills with the accuracy, None for a perplexity skill, which has no accuracy."""
    for skill in found.methods[0].skills:
        if skill.change.before is not None:
            yield BASE, skill, skill.change.before
    for method in found.methods:
        yield from ((method.method, skill, skill.change.after) for skill in method.skills)


def _numbers(task: str, skill: SkillResult, accuracy: float | None) -> Document:
    n = skill.change.n
    own: Document = {"name": task, "alias": f" - {skill.skill}", "sample_len": n}
    if accuracy is None:
        return own | {
            "perplexity_ratio,none": skill.change.perplexity_ratio,
            "perplexity_ratio_stderr,none": "N/A",
        }
    error = math.sqrt(accuracy * (1 - accuracy) / (n - 1)) if n > 1 else "N/A"
    return own | {"acc,none": accuracy, "acc_stderr,none": error}


def _better(skill: SkillResult) -> dict[str, bool]:
    return {"perplexity_ratio": False} if skill.change.after is None else {"acc": True}


def _config(task: str, state: str, found: UnlearningAnswer) -> Document:
    method = next((one for one in found.methods if one.method == state), None)
    told = {"forget": found.forget, "split_seed": found.split.seed, "run": found.run}
    return {"task": task, "metadata": told | {"parameters": None if method is None else method.parameters}}
