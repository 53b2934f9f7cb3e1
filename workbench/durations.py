"""How long work will take: by earlier runs on this model and machine, else by a short measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analysis.opening.models import LoadedModel
from analysis.running.batches import BATCH, takes_padding
from analysis.skills.answering import answer_prompts
from store import Run, Store, list_runs

PROBE_ROWS, PROBE_TOKENS, PROBE_PASSES = 8, 32, 5
"""Size of the batch by which the reading rate is measured, and how often it is read at most."""
PROBE_SECONDS = 0.4
"""After this time no further pass begins."""
READ_SECONDS = 4.0
"""Prompts are timed as many side by side as are read within this time."""
TRY_SECONDS, TRIES = 1.0, 4
"""Where that is quick they are read again within this time, the best of so many tries."""
STEPS = 4
"""Steps of writing by which the time of one is measured, before more are written."""
SHORT = 4
"""Tokens of a prompt that are enough to time the steps behind it, side by side, on a slow model."""
WRITE_SECONDS = 6.0
"""Answers are written for so long at most; those that go on then count as the longest allowed."""
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
    """What answering costs on a model. read: seconds per prompt token, padding included; step: seconds per
    step of writing in a batch; rows: of a full batch; lengths: new tokens of each answer, of as many of the
    prompts as were answered.
    """

    read: float
    step: float
    rows: float
    lengths: tuple[int, ...]


def measure_answer_rates(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[Sequence[str] | None],
    max_new_tokens: int,
    batch: int = BATCH,
) -> AnswerRates | None:
    """Read prompts (token ids) side by side and write answers of up to `max_new_tokens` to them; a slow model
    to the first few alone, and not to the end. batch: rows of a job's steps. None while the model is at work:
    nothing waits for it.

    Other work on the machine comes and goes: what counts is the best reading, and of the steps the lower
    quartile.
    """
    if not loaded.lock.acquire(timeout=LOCK_SECONDS):
        return None
    try:
        pads = takes_padding(loaded)
        _time_answers(loaded, prompts[:1], stops[:1], 1)  # the first pass of a model is slower
        alone = _time_answers(loaded, prompts[:1], stops[:1], 1)
        rows = _count_affordable(alone.read, prompts)
        many, ends = prompts[:rows], stops[:rows]
        first = _time_answers(loaded, many, ends, min(STEPS, max_new_tokens))
        steps = min(max_new_tokens, max(STEPS, int(WRITE_SECONDS / max(first.step, 1e-6))))
        written = first
        if steps > STEPS and max(first.lengths) >= STEPS:
            written = _time_answers(loaded, many, ends, steps)
        again = _repeat_reading(loaded, many, ends, first.read)
        read = min(alone.read, first.read, written.read, *again)
        lengths = tuple(max_new_tokens if length >= steps else length for length in written.lengths)
        side = min(batch, BATCH)
        if pads and rows != side and max_new_tokens > 1:  # the steps of a job have other rows
            some = [ids[:SHORT] for ids in prompts] * -(-side // len(prompts))
            written = _time_answers(loaded, some[:side], [[]] * side, STEPS)
        return AnswerRates(read, max(written.step, read), side if pads else min(side, written.rows), lengths)
    finally:
        loaded.lock.release()


@dataclass(frozen=True)
class _Passes:
    """The passes of a model that answer some prompts. read: seconds per token; step: seconds, the lower
    quartile, 0 without a step; rows: the mean of a pass; lengths: of the answers, in tokens.
    """

    read: float
    step: float
    rows: float
    lengths: tuple[int, ...]


def _time_answers(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], stops: Sequence[Sequence[str] | None], longest: int
) -> _Passes:
    """Time every pass until the next begins, with all that is done between them."""
    begun: list[tuple[float, int, int]] = []

    def note(_: object, given: tuple[object, ...], named: Mapping[str, Any]) -> None:
        begun.append((time.perf_counter(), *named["input_ids"].shape))

    handle = loaded.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        found = answer_prompts(loaded, prompts, stops=stops, max_new_tokens=longest)
    finally:
        handle.remove()
    ends = [start for start, _, _ in begun[1:]] + [time.perf_counter()]
    timed = [(end - start, rows, width) for (start, rows, width), end in zip(begun, ends, strict=True)]
    reads = [one for one in timed if one[2] > 1] or timed[:1]
    steps = sorted(seconds for seconds, _, width in timed if width == 1)
    return _Passes(
        sum(seconds for seconds, _, _ in reads) / sum(rows * width for _, rows, width in reads),
        steps[len(steps) // 4] if steps else 0.0,
        statistics.fmean(rows for _, rows, _ in timed),
        tuple(len(answer.token_ids) for answer in found),
    )


def _count_affordable(token: float, prompts: Sequence[Sequence[int]]) -> int:
    """How many of the first prompts are read side by side in the time that there is, one at least.

    token: seconds per token.
    """
    rows, width = 0, 0
    for ids in prompts[:BATCH]:
        width = max(width, len(ids))
        if rows and token * width * (rows + 1) > READ_SECONDS:
            break
        rows += 1
    return rows


def _repeat_reading(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[Sequence[str] | None],
    token: float,
) -> Iterator[float]:
    """Seconds per token of further tries. token: of the one before."""
    started, last = time.perf_counter(), token * len(prompts) * max(map(len, prompts))
    for _ in range(TRIES - 1):
        if time.perf_counter() - started + last > TRY_SECONDS:
            return
        yield _time_answers(loaded, prompts, stops, 1).read


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
