"""How long work will take: by earlier runs on this model and machine, else by a short measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analysis.opening.models import LoadedModel
from analysis.running.batches import BATCH
from analysis.skills.answering import answer_prompts
from store import Run, Store, list_runs

PROBE_ROWS, PROBE_TOKENS, PROBE_PASSES = 8, 32, 5
"""Size of the batch by which the reading rate is measured, and how often it is read at most."""
PROBE_SECONDS = 0.4
"""After this time no further pass begins."""
STEPS = 4
"""Steps of writing by which the time of one is measured."""
SHORT = 4
"""Tokens of a prompt that are enough to time the steps behind it, side by side, on a slow model."""
ANSWER_SECONDS = 4.0
"""Answers that would take longer than this are not written to the end: they count as the longest allowed."""
FULL_SECONDS, PROBE_TRIES = 0.4, 2
"""A model that reads a batch within this time is timed by a whole one, the better of so many tries."""
LOCK_SECONDS = 0.1
"""How long a measurement waits for a model that is at work."""


def find_usual_seconds(loaded: LoadedModel, store: Store, kind: str, **alike: Any) -> float | None:
    """The median time of earlier runs of a kind on this model, device and dtype; None without one.

    alike: parameters that these runs share.
    """
    seconds = [
        run.seconds
        for run in list_runs(store, kind=kind, model_fingerprint=loaded.fingerprint)
        if run.finished and is_alike(loaded, run) and _agrees(run.parameters, alike)
    ]
    return statistics.median(seconds) if seconds else None


def find_seconds_per_unit(loaded: LoadedModel, store: Store, kind: str, **alike: Any) -> float | None:
    """The median time of a unit in earlier runs of a kind, as `find_usual_seconds`; None without one."""
    seconds = [
        run.seconds / run.units
        for run in list_runs(store, kind=kind, model_fingerprint=loaded.fingerprint)
        if run.finished and run.units and is_alike(loaded, run) and _agrees(run.parameters, alike)
    ]
    return statistics.median(seconds) if seconds else None


def is_alike(loaded: LoadedModel, run: Run) -> bool:
    """Whether a run was made on this device in this dtype, so that its time says something."""
    return (run.device, run.dtype) == (loaded.ref.device, loaded.dtype)


def measure_reading_rate(loaded: LoadedModel) -> float | None:
    """Tokens per second (> 0) that the model reads at its best in batches of up to 8 × 32; a large model, for
    which that takes long, reads one row once. None while the model is at work: nothing waits for it.
    """
    length = min(PROBE_TOKENS, loaded.anatomy.context)
    started, best = time.perf_counter(), _read_tokens(loaded, 1, length)
    for _ in range(PROBE_PASSES):
        if time.perf_counter() - started > PROBE_SECONDS:
            break
        rate = _read_tokens(loaded, PROBE_ROWS, length)
        best = None if best is None or rate is None else max(best, rate)
    return best


@dataclass(frozen=True)
class AnswerRates:
    """What answering costs on a model. read: seconds per prompt token, padding
    included; step: seconds per new token of `rows`
    answers side by side; lengths: new tokens of each prompt's answer.
    """

    read: float
    step: float
    rows: int
    lengths: tuple[int, ...]


def measure_answer_rates(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[Sequence[str] | None],
    max_new_tokens: int,
) -> AnswerRates | None:
    """Time some prompts (token ids) side by side: read, then answered up to `max_new_tokens` each where that
    is quick. None while the model is at work: nothing waits for it.
    """
    if not loaded.lock.acquire(timeout=LOCK_SECONDS):
        return None
    try:
        _time_answers(loaded, prompts[:1], stops[:1], 1)  # the first pass of a model is slower
        reading = _time_answers(loaded, prompts, stops, 1)[0]
        rows = len(prompts)
        # where side by side is what counts, as many rows as a job has
        copies = max(1, BATCH // rows) if reading * BATCH / rows < FULL_SECONDS else 1
        many: list[Sequence[int]] = [*prompts] * copies
        ends = [*stops] * copies
        if copies > 1:
            reading = min(_time_answers(loaded, many, ends, 1)[0] for _ in range(PROBE_TRIES))
        token = reading / (len(many) * max(map(len, many)))  # with the padding
        step, lengths = _time_writing(loaded, many, ends, reading, max_new_tokens)
        if copies == 1 and rows < BATCH:
            many = [ids[:SHORT] for ids in prompts] * (BATCH // rows)
            first = _time_answers(loaded, many, [[]] * len(many), 1)[0]
            step = _time_writing(loaded, many, [[]] * len(many), first, STEPS)[0]
        return AnswerRates(token, max(step, token * len(many)), len(many), lengths[:rows])
    finally:
        loaded.lock.release()


def _time_answers(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], stops: Sequence[Sequence[str] | None], longest: int
) -> tuple[float, tuple[int, ...]]:
    """Seconds for answers of at most so many tokens, and the length of each."""
    started = time.perf_counter()
    found = answer_prompts(loaded, prompts, stops=stops, max_new_tokens=longest)
    return time.perf_counter() - started, tuple(len(answer.token_ids) for answer in found)


def _time_writing(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[Sequence[str] | None],
    reading: float,
    longest: int,
) -> tuple[float, tuple[int, ...]]:
    """Seconds per step behind the first, and each answer's length: as written, or the longest where that is
    slow. reading: seconds of the first step.
    """
    first = min(STEPS, longest)
    took, lengths = _time_answers(loaded, prompts, stops, first)
    step = (took - reading) / max(1, max(lengths) - 1)
    if max(lengths) < first or first == longest:
        return step, lengths
    if step * longest > ANSWER_SECONDS:
        return step, tuple(longest if length >= first else length for length in lengths)
    took, lengths = _time_answers(loaded, prompts, stops, longest)
    return (took - reading) / max(1, max(lengths) - 1), lengths


def _read_tokens(loaded: LoadedModel, rows: int, length: int) -> float | None:
    """Tokens per second of one pass over arbitrary tokens, under the model's lock: what a job has attached
    must not see them. None if the lock is not free.
    """
    place = next(loaded.model.parameters()).device
    ids = torch.arange(rows * length, device=place).view(rows, length) % len(loaded.vocabulary)
    if not loaded.lock.acquire(timeout=LOCK_SECONDS):
        return None
    try:
        with torch.inference_mode():
            started = time.perf_counter()
            loaded.model(input_ids=ids, use_cache=False).logits[0, -1, 0].item()  # waits for an accelerator
            return rows * length / max(time.perf_counter() - started, 1e-6)
    finally:
        loaded.lock.release()


def _agrees(parameters: Mapping[str, Any], alike: Mapping[str, Any]) -> bool:
    return all(parameters.get(name) == value for name, value in alike.items())
