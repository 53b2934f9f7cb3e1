"""lm-evaluation-harness on a changed model: its tasks, prompts and metrics with our forward pass.

Without changes the numbers equal those of its own command, up to rounding; rows of the head beyond
the tokenizer's tokens are left out, as everywhere here. A document that a guard refuses is wrong: a metric
where higher is better is 0, a choice is wrong, and it has no perplexity (METHODS §4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from analysis.errors import HarnessError, HeadlampError, first_line
from analysis.intervening.interventions import Change, check_changes
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH

METHOD_VERSION = "1"
DRAWS = 100_000
"""Bootstrap draws for standard errors without a formula, as in the harness."""

WORST = -1e9
"""log p of the choices that a refused document did not take."""


@dataclass(frozen=True)
class HarnessResult:
    """The results of one task name or file. document: the harness's own results, group by group.

    refused: documents of each task that a guard refused.
    """

    document: dict[str, Any]
    refused: dict[str, int]


def check_harness() -> str:
    """The installed version of lm-evaluation-harness. Raises HarnessError if it is missing."""
    if find_spec("lm_eval") is None:
        raise HarnessError(
            "this needs the package lm_eval, lm-evaluation-harness: pip install -r requirements-evaluate.txt"
        )
    return version("lm_eval")


@contextmanager
def open_harness_tasks(
    name: str, *, limit: int = 0, shots: int | None = None, seed: int = 0
) -> Iterator[Any]:
    """The tasks of a name or a YAML file (`harness.tasks.Tasks`), contained while the body runs.

    limit: documents of each task, 0 for all. shots: answered examples; the task's own where None. Raises
    HarnessError.
    """
    check_harness()
    opened = import_module("analysis.harness.tasks").open_tasks
    with opened(name, limit=limit, shots=shots, seed=seed) as tasks:
        yield tasks


def measure_tasks(
    loaded: LoadedModel,
    tasks: Any,
    changes: Sequence[Change] = (),
    *,
    limit: int = 0,
    chat_template: bool = False,
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> HarnessResult:
    """Measure tasks on a changed model. Raises HarnessError, and what the changes raise."""
    check_changes(loaded, changes)
    model = import_module("analysis.harness.model").ChangedModel
    heard = _RecordingPulse(pulse)
    lm = model(loaded, changes, batch_size, heard)
    for name, task in tasks.found["tasks"].items():
        _judge_refused(name, task, lm.refused)
    try:
        found = import_module("lm_eval.evaluator").evaluate(
            lm,
            tasks.found,
            limit=limit or None,
            bootstrap_iters=DRAWS,
            log_samples=False,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,
        )
    except HeadlampError:
        raise
    except Exception as error:  # the edge to the harness: templates, filters and metrics fail in many ways
        if heard.raised is error:
            raise
        raise HarnessError(
            f"the harness failed on {', '.join(tasks.found['tasks'])[:200]}: {type(error).__name__}: "
            f"{first_line(error)}; correct the task, or choose another"
        ) from error
    refused = {name: sum(task == name for task, _ in lm.refused) for name in tasks.found["tasks"]}
    return HarnessResult(_document(found), refused)


class _RecordingPulse:
    """A pulse that remembers what it raised, so that a cancellation is not reported as a harness failure."""

    def __init__(self, pulse: Pulse) -> None:
        self.pulse, self.raised = pulse, None  # type: tuple[Pulse, BaseException | None]

    def __call__(self, done: int, total: int) -> None:
        try:
            self.pulse(done, total)
        except BaseException as error:
            self.raised = error
            raise


def _judge_refused(name: str, task: Any, refused: set[tuple[str, int]]) -> None:
    """Make a task count refused answers as wrong, whatever its metric."""
    current: list[int] = []
    own_iterator, own_results = task.doc_iterator, task.process_results

    def doc_iterator(*arguments: Any, **named: Any) -> Iterator[tuple[int, Any]]:
        for number, document in own_iterator(*arguments, **named):
            current[:] = [number]
            yield number, document

    def process_results(document: Any, results: Sequence[Any]) -> dict[str, Any]:
        if not current or (name, current[0]) not in refused:
            return own_results(document, results)  # type: ignore[no-any-return]
        return _as_wrong(task, lambda given: own_results(document, given), results)

    task.doc_iterator, task.process_results = doc_iterator, process_results


def _as_wrong(
    task: Any, judge: Callable[[Sequence[Any]], Mapping[str, Any]], results: Sequence[Any]
) -> dict[str, Any]:
    """A task's result for the worst possible answer, none of it counted as right."""
    better = task.higher_is_better()
    kind = task.OUTPUT_TYPE
    if kind == "multiple_choice":
        given = [_choosing(index, len(results)) for index in range(len(results))]
        found = min((dict(judge(one)) for one in given), key=lambda one: _score(one, better))
    elif kind == "loglikelihood_rolling":
        return {}
    else:
        found = dict(judge(results))
    return {
        metric: 0.0 if better.get(metric, True) and _is_number(value) else value
        for metric, value in found.items()
        if not (kind == "loglikelihood" and "perplexity" in metric)
    }


def _choosing(index: int, count: int) -> list[tuple[float, bool]]:
    return [(0.0 if number == index else WORST, False) for number in range(count)]


def _score(found: Mapping[str, Any], better: Mapping[str, bool]) -> float:
    """The sum of an answer's numeric metrics."""
    numbers = {metric: float(value) for metric, value in found.items() if _is_number(value)}
    return sum(value if better.get(metric, True) else -value for metric, value in numbers.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or getattr(value, "shape", None) == ()


def _document(found: Mapping[str, Any]) -> dict[str, Any]:
    plain = import_module("analysis.harness.tasks").plain_config
    kept = {key: value for key, value in found.items() if key not in ("samples", "configs")}
    whole: dict[str, Any] = plain(kept | {"configs": {k: plain(v) for k, v in found["configs"].items()}})
    return whole
