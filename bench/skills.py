"""Cost of guards and of probing: `python -m bench.skills [MODEL]`.

In one process, alternately, in CPU seconds, which other load affects little: generation with and without a
guard that never abstains, a forward pass with and without moments of the keys of every layer. Reports the
median of the pairs' ratios.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.batches import make_batches, run_batch
from analysis.running.probing import Where, probe
from analysis.running.prompts import reference_windows
from analysis.skills.answering import answer_prompts
from analysis.unlearning.guards.key_boxes import KeyBox, dense_block, dense_layers
from analysis.unlearning.guards.key_guards import Check, KeyGuard

PROMPTS, LENGTH, NEW_TOKENS, TURNS = 16, 48, 24, 15


def main() -> None:
    """Measure one model and print the table."""
    with lease_model(ModelRef(sys.argv[1] if len(sys.argv) > 1 else "demo/base")) as loaded:
        prompts = _prompts(loaded)
        last = dense_layers(loaded)[-1:]
        rows: list[tuple[Any, ...]] = [
            (f"guard, {check}, {len(layers)} layer(s)", *_measure_guard(loaded, prompts, layers, check))
            for layers in (last, dense_layers(loaded))
            for check in ("prefill", "each_step")
        ]
        rows += [
            (f"probing keys, {where}", *_measure_probing(loaded, prompts, where))
            for where in ("last", "all but first")
        ]
        boxes = 3 * 4 * sum(b.d_ff for b in loaded.anatomy.blocks if b.address.layer in last)
        print(f"{loaded.ref.name}, {torch.get_num_threads()} thread(s), {TURNS} turns")
        print(f"{'':32}  plain ms   with ms  ratio (middle half)")
        for name, plain, changed, ratio, low, high in rows:
            print(f"{name:32} {1e3 * plain:9.1f} {1e3 * changed:9.1f}  {ratio:.3f} ({low:.3f}–{high:.3f})")
        print(f"one box holds {boxes:,} bytes")


def _prompts(loaded: LoadedModel) -> list[list[int]]:
    ids = [token for window in reference_windows(loaded) for token in window]
    return [ids[i * 7 : i * 7 + LENGTH] for i in range(PROMPTS)]


def _measure_guard(
    loaded: LoadedModel, prompts: list[list[int]], layers: tuple[int, ...], check: Check
) -> tuple[float, ...]:
    widths = {layer: dense_block(loaded, layer).d_ff for layer in layers}
    boxes = tuple(  # far from every key: it checks, and never abstains
        KeyBox(layer, torch.full((m,), 1e6), torch.ones(m), 1.0, 30, torch.ones(m))
        for layer, m in widths.items()
    )
    guard = KeyGuard(boxes, 1.0, check)
    return _compare_times(
        lambda: answer_prompts(loaded, prompts, max_new_tokens=NEW_TOKENS, stops=[()] * PROMPTS),
        lambda: answer_prompts(loaded, prompts, [guard], max_new_tokens=NEW_TOKENS, stops=[()] * PROMPTS),
    )


def _measure_probing(loaded: LoadedModel, prompts: list[list[int]], where: Where) -> tuple[float, ...]:
    def plain() -> None:
        for batch in make_batches(loaded, prompts):
            run_batch(loaded, batch)

    return _compare_times(plain, lambda: probe(loaded, prompts, {"key": loaded.anatomy.blocks}, where=where))


def _compare_times(plain: Callable[[], object], changed: Callable[[], object]) -> tuple[float, ...]:
    """CPU seconds of both, and the ratio's median and middle half, over pairs in alternating order."""
    pairs = []
    for turn in range(TURNS + 1):
        seconds = {}
        for work in (plain, changed) if turn % 2 else (changed, plain):
            started = time.process_time()
            work()
            seconds[work] = time.process_time() - started
        pairs.append((seconds[plain], seconds[changed]))
    pairs = pairs[1:]  # the first warms up
    ratios = [b / a for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), middle, low, high


if __name__ == "__main__":
    main()
