"""lm-evaluation-harness on a short lead: what it would do beside measuring, it does not here."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.utils
import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment

from analysis.errors import HarnessError

FEWSHOT_SEED = 1234
"""The harness's own; a seed of ours is added, so that 0 gives its numbers."""

_ONE_PROCESS = "DISABLE_MULTIPROC"
"""What tells the harness to draw its bootstraps here, not in copies of a process that holds a model."""


@contextmanager
def contained(seed: int) -> Iterator[None]:
    """Templates in a sandbox, draws from known seeds, no count sent to the Hub, no bars, no other process."""
    with ExitStack() as until:
        for one in (_sandboxed(), _seeded(seed), _quiet(), _in_one_process()):
            until.enter_context(one)
        until.enter_context(_held(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False))
        yield


@contextmanager
def no_metric_code() -> Iterator[None]:
    """Metrics of the package `evaluate` are programs that it fetches; here it fetches none."""
    import evaluate

    def refuse(path: str, *_: Any, **__: Any) -> None:
        raise HarnessError(
            f"this task wants the metric {path!r} of the Hub, which is code; choose another task"
        )

    with _held(evaluate, "load", refuse):
        yield


@contextmanager
def _held(place: Any, name: str, value: object) -> Iterator[None]:
    own = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, own)


@contextmanager
def _sandboxed() -> Iterator[None]:
    """A template sees the document, and nothing of Python behind it."""
    own = lm_eval.utils.env
    made = ImmutableSandboxedEnvironment(undefined=own.undefined, keep_trailing_newline=True)
    made.filters.update(own.filters)
    with _held(lm_eval.utils, "env", made):
        yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(FEWSHOT_SEED + seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    level, shown = logger.level, datasets.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with _held(lm_eval.api.task, "tqdm", _unbarred):
            yield
    finally:
        logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


def _unbarred(items: Iterable[Any], *_: Any, **__: Any) -> Iterable[Any]:
    return items


@contextmanager
def _in_one_process() -> Iterator[None]:
    own = os.environ.get(_ONE_PROCESS)
    os.environ[_ONE_PROCESS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_ONE_PROCESS)
        if own is not None:
            os.environ[_ONE_PROCESS] = own
