"""Containment of lm-evaluation-harness: no side effects beyond measuring."""

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
"""The harness's own seeds; ours is added, so that 0 reproduces its numbers."""

_ONE_PROCESS = "DISABLE_MULTIPROC"
"""Makes the harness bootstrap in this process, not in copies of a process that holds a model."""


@contextmanager
def contain_harness(seed: int) -> Iterator[None]:
    """Render templates in a sandbox, seed all draws, report nothing to the Hub, show no bars, start no
    process.
    """
    with ExitStack() as until:
        for one in (_sandbox_templates(), _seed_draws(seed), _quiet(), _in_one_process()):
            until.enter_context(one)
        until.enter_context(_set_attribute(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False))
        yield


@contextmanager
def forbid_metric_code() -> Iterator[None]:
    """Metrics of the package `evaluate` are downloaded programs; here none is downloaded."""
    import evaluate

    def refuse(path: str, *_: Any, **__: Any) -> None:
        raise HarnessError(
            f"this task needs the metric {path!r} from the Hub, which is code; choose another task"
        )

    with _set_attribute(evaluate, "load", refuse):
        yield


@contextmanager
def _set_attribute(place: Any, name: str, value: object) -> Iterator[None]:
    own = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, own)


@contextmanager
def _sandbox_templates() -> Iterator[None]:
    """Templates see the document and no Python objects behind it."""
    own = lm_eval.utils.env
    made = ImmutableSandboxedEnvironment(undefined=own.undefined, keep_trailing_newline=True)
    made.filters.update(own.filters)
    with _set_attribute(lm_eval.utils, "env", made):
        yield


@contextmanager
def _seed_draws(seed: int) -> Iterator[None]:
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
        with _set_attribute(lm_eval.api.task, "tqdm", _hide_bar):
            yield
    finally:
        logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


def _hide_bar(items: Iterable[Any], *_: Any, **__: Any) -> Iterable[Any]:
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
