"""A sweep against the same clamps one by one: `python -m bench.sweep FOLDER`.

The full grid × NEURONS of the middle layer × PROMPTS of LENGTH tokens, scope `last`: read as rows that share
what lies before them, and as single steps of `generate` with one clamp each, SAMPLE of them in every round,
whose time is scaled to all. Both in turn, ROUNDS times; printed are medians, their ratio, and how far the
word's log-odds differ between the two.
"""

from __future__ import annotations

import random
import sys
import time
from itertools import product
from statistics import median

import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import Clamp, Scope
from analysis.levers.grids import FULL, hold
from analysis.levers.readings import WordReader
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import CHANGED, Sampling, generate_steps
from analysis.running.prompts import reference_windows

NEURONS, PROMPTS, LENGTH = 16, 3, 40
ROUNDS, SAMPLE = 3, 24


def step_alone(loaded: LoadedModel, ids: list[int], clamp: Clamp, token: int) -> float:
    """The log-odds of a token after one step of `generate` with one clamp."""
    (step,) = generate_steps(loaded, ids, [clamp], Sampling(max_new_tokens=1))
    log_p = step.log_probabilities[CHANGED].double()[token]
    return float(log_p - torch.log1p(-log_p.exp()))


def main() -> None:
    """Measure and print."""
    loaded = load_model(ModelRef(sys.argv[1], dtype="float32"))
    prompts = [window[:LENGTH] for window in reference_windows(loaded) if len(window) > LENGTH][:PROMPTS]
    block = loaded.anatomy.blocks[len(loaded.anatomy.blocks) // 2]
    neurons = [NeuronAddress(block.address, index * block.d_ff // NEURONS) for index in range(NEURONS)]
    clamps = [hold(*pair, scope=Scope("last")) for pair in product(neurons, FULL)]
    token = prompts[0][1]
    draw, together, alone, gaps = random.Random(0), [], [], list[float]()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found = [
            WordReader(loaded, ids, [(token,)], Scope("last")).read([(c,) for c in clamps]).log_odds
            for ids in prompts
        ]
        together.append(time.perf_counter() - started)
        sample = draw.sample(list(product(range(PROMPTS), range(len(clamps)))), SAMPLE)
        started = time.perf_counter()
        said = [step_alone(loaded, prompts[text], clamps[at], token) for text, at in sample]
        alone.append((time.perf_counter() - started) * len(clamps) * PROMPTS / SAMPLE)
        pairs = zip(sample, said, strict=True)
        gaps += [abs(float(found[text][at]) - one) for (text, at), one in pairs]
    what = f"{len(clamps)} clamps × {PROMPTS} prompts of {LENGTH} tokens"
    print(f"{block.address} of {loaded.anatomy.layers}, {what}")
    print(f"together {median(together):.2f} s; one by one {median(alone):.0f} s ({SAMPLE} of them, scaled)")
    ratios = [b / a for a, b in zip(together, alone, strict=True)]
    print(f"one by one takes {median(ratios):.1f} × as long ({min(ratios):.1f} to {max(ratios):.1f})")
    print(f"difference of the log-odds: median {median(gaps):.1e}, largest {max(gaps):.1e}")


if __name__ == "__main__":
    main()
