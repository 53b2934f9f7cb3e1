"""Cost of profiling experts: `python -m bench.experts [REPEATS]`, default 7.

Random mixture-of-experts models are written to a temporary folder. Each reads one text with and without
profiling, alternately, in one process: the medians, and the median ratio of neighbours. Then each once more
in a fresh process: the peak of resident memory.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fit import read_status as status

TOKENS, WINDOW = 4096, 1024


def configs() -> dict[str, Any]:
    """name → configuration of a few hundred megabytes."""
    from transformers import MixtralConfig, Qwen3MoeConfig

    mixtral = MixtralConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_local_experts=8,
        vocab_size=4000,
    )
    qwen = Qwen3MoeConfig(
        hidden_size=512,
        moe_intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        num_experts=64,
        num_experts_per_tok=8,
        vocab_size=4000,
    )
    return {"Mixtral, 8 experts": mixtral, "Qwen3-MoE, 64 experts": qwen}


def windows() -> list[list[int]]:
    """The same tokens for every model."""
    return [[(start + i) * 7919 % 3990 + 5 for i in range(WINDOW)] for start in range(0, TOKENS, WINDOW)]


def run_plain(loaded: Any, ids: list[list[int]]) -> None:
    """One forward pass as profiling runs it, with no hooks."""
    import torch

    fed = torch.tensor(ids)
    positions = torch.arange(fed.shape[1]).expand(len(fed), -1)
    with torch.inference_mode():
        loaded.model(input_ids=fed, position_ids=positions, use_cache=False, logits_to_keep=1)


def run_profiled(loaded: Any, ids: list[list[int]]) -> None:
    """The same pass with profiling."""
    from analysis.super_experts.profiling import profile_batch

    profile_batch(loaded, ids)


WAYS = {"plain": run_plain, "profiled": run_profiled}


def times(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each variant over the whole text, alternately."""
    from analysis.opening.leases import lease_model
    from analysis.opening.models import ModelRef

    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with lease_model(ModelRef(str(folder), dtype="float32")) as loaded:
        for run in WAYS.values():
            run(loaded, windows()[:1])
        for _ in range(repeats):
            for way, run in WAYS.items():
                started = time.perf_counter()
                for window in windows():
                    run(loaded, [window])
                found[way].append(time.perf_counter() - started)
    return found


def memory(folder: Path, way: str) -> None:
    """Print the peak resident memory, in bytes, after opening the model, for one variant in this process."""
    from analysis.opening.leases import lease_model
    from analysis.opening.models import ModelRef

    with lease_model(ModelRef(str(folder), dtype="float32")) as loaded:
        WAYS[way](loaded, [windows()[0][:16]])
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
        for window in windows():
            WAYS[way](loaded, [window])
    print(json.dumps(status("VmHWM")))


def in_a_process(folder: Path, way: str) -> int:
    """Run `memory` in a process of its own and return what it printed."""
    command = [sys.executable, "-m", "bench.experts", "--memory", str(folder), way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    if "--memory" in sys.argv:
        memory(Path(sys.argv[-2]), sys.argv[-1])
        return
    from bench.small_models import write_small

    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{TOKENS} tokens in windows of {WINDOW}, {repeats} repeats")
    for name, config in configs().items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_small(config, Path(temporary) / "model")
            took = times(folder, repeats)
            ratios = [b / a for a, b in zip(took["plain"], took["profiled"], strict=True)]
            held = {way: in_a_process(folder, way) for way in WAYS}
        a, b = (statistics.median(took[way]) for way in WAYS)
        print(
            f"{name:22} plain {a:.2f} s  profiled {b:.2f} s  ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})  peak {held['plain'] / 1e6:.0f} and "
            f"{held['profiled'] / 1e6:.0f} MB, ratio {held['profiled'] / held['plain']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
