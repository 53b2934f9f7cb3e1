"""lm-evaluation-harness as a run: one unit per name or task file, keyed by the model's changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.errors import HarnessError
from analysis.harness import measuring
from analysis.harness.measuring import check_harness, measure_tasks, open_harness_tasks
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from analysis.running.batches import BATCH
from store import RunSpec, Store, get_run, read_unit
from workbench.generating.requests import name_change
from workbench.neurons.profiles import digest_reference, resolve_clamps
from workbench.runs import Progress, UnitResult, run_missing_units, run_spec, time_units

_BY_TASK = ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better")
"""Per-task entries of the harness's results, beside the count of documents."""


@dataclass(frozen=True)
class HarnessQuestion:
    """Tasks by name or YAML file, and how they are measured.

    limit: documents of each task, 0 for all. shots: answered examples before each; None: the task's own.
    batch_size only affects rounding. Raises HarnessError for no task, or a duplicate.
    """

    tasks: tuple[str, ...]
    limit: int = 0
    shots: int | None = None
    chat_template: bool = False
    batch_size: int = BATCH
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise HarnessError("name at least one task, and each once; --task takes a name or a .yaml file")


@dataclass(frozen=True)
class HarnessAnswer:
    """The answer to a question. document: the harness's results.json, with `refused`, `run` and `cached`."""

    run: str
    document: dict[str, Any]
    cached: bool


def ask_harness(
    loaded: LoadedModel,
    store: Store,
    question: HarnessQuestion,
    changes: Sequence[Change] = (),
    progress: Progress = lambda done, total: None,
) -> HarnessAnswer:
    """Measure a changed model; stored tasks are not measured again. Raises HarnessError."""
    check_harness()
    clamps = tuple(resolve_clamps(loaded, store, changes))
    spec = harness_spec(loaded, question, clamps)
    done = run_missing_units(
        store, spec, lambda missing: time_units(_units(loaded, question, clamps, missing, progress))
    )
    units = [read_unit(store, spec.key, index).payload for index in range(spec.units)]
    document = _merge(units) | _frame(loaded, question, get_run(store, spec.key).created_at)
    return HarnessAnswer(spec.key, document | {"run": spec.key, "cached": done.cached}, done.cached)


def harness_spec(loaded: LoadedModel, question: HarnessQuestion, changes: Sequence[Change]) -> RunSpec:
    """The run that answers a question: its tasks by their content, and every change by all it holds."""
    parameters = {
        "tasks": [{"name": Path(name).stem, "digest": _digest(name, question)} for name in question.tasks],
        "limit": question.limit,
        "shots": question.shots,
        "chat_template": question.chat_template,
        "changes": [name_change(change) for change in changes],
        "reference": digest_reference(),
        "lm_eval": check_harness(),
    }
    units, seed = len(question.tasks), question.seed
    return run_spec(loaded, "harness", measuring.METHOD_VERSION, parameters, units=units, seed=seed)


def _digest(name: str, question: HarnessQuestion) -> str:
    with open_harness_tasks(name, **_how(question)) as tasks:
        return str(tasks.digest)


def _how(question: HarnessQuestion) -> dict[str, Any]:
    return {"limit": question.limit, "shots": question.shots, "seed": question.seed}


def _units(
    loaded: LoadedModel,
    question: HarnessQuestion,
    changes: Sequence[Change],
    units: Sequence[int],
    progress: Progress,
) -> Iterator[tuple[int, UnitResult]]:
    for index in units:
        name = question.tasks[index]
        with open_harness_tasks(name, **_how(question)) as tasks:
            found = measure_tasks(
                loaded,
                tasks,
                changes,
                limit=question.limit,
                chat_template=question.chat_template,
                batch_size=question.batch_size,
                pulse=progress,
            )
        payload = {"document": found.document, "refused": found.refused}
        yield index, UnitResult(Path(name).stem, payload=json.loads(json.dumps(payload)))


def _merge(units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge documents. Raises HarnessError if two contain a task of the same name."""
    found: dict[str, Any] = {}
    for unit in units:
        both = set(found.get("results", ())) & set(unit["document"]["results"])
        if both:
            raise HarnessError(f"the task {min(both)} is in two of those named; name one of them")
        for part in (*_BY_TASK, "n-samples"):
            if part in unit["document"]:
                found[part] = found.get(part, {}) | unit["document"][part]
        found["refused"] = found.get("refused", {}) | unit["refused"]
    return found


def _frame(loaded: LoadedModel, question: HarnessQuestion, created_at: str) -> dict[str, Any]:
    """The metadata the harness writes beside its numbers."""
    return {
        "config": {
            "model": loaded.ref.name,
            "model_args": {"fingerprint": loaded.fingerprint, "dtype": loaded.dtype},
            "batch_size": question.batch_size,
            "device": loaded.ref.device,
            "limit": question.limit or None,
            "bootstrap_iters": measuring.DRAWS,
            "fewshot_seed": question.seed,
        },
        "date": datetime.fromisoformat(created_at).timestamp(),
        "transformers_version": versions()["transformers"],
        "lm_eval_version": check_harness(),
    }
