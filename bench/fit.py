"""Accuracy of the memory estimate, and cost of loading: `python -m bench.fit`.

Three models of different families are written to a temporary folder. For each, a fresh process opens it,
decodes a block and continues a text of the whole context; its additional peak is compared with
the estimate. The baseline is taken after opening and running a small model of the same family and dtype, so
that the libraries' own memory is not counted. Fragmentation varies between runs: the ratio uses the median,
loading the worst case.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

CONTEXT = 512
RUNS = 3


def configs(*, small: bool = False) -> dict[str, Any]:
    """name → configuration of some 210 million parameters, or of very few."""
    from transformers import GPT2Config, LlamaConfig, MixtralConfig

    layers, width = (1, 64) if small else (12, 1024)
    llama = LlamaConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=4000,
    )
    gpt2 = GPT2Config(
        n_embd=width, n_layer=layers + 4, n_head=16, vocab_size=4000, bos_token_id=1, eos_token_id=2
    )
    layers, width = (1, 64) if small else (16, 512)
    mixtral = MixtralConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_local_experts=8,
        vocab_size=4000,
    )
    return {"Llama": llama, "GPT-2": gpt2, "Mixtral": mixtral}


def child(folder: Path, dtype: str) -> None:
    """Print the estimate, and the bytes that opening and running took."""
    from analysis.checkpoints.devices import free_unused
    from analysis.neurons.decoding import decode_vectors, read_block_vectors
    from analysis.opening.leases import lease_model
    from analysis.opening.memory import estimate_folder
    from analysis.opening.models import ModelRef
    from analysis.running.generation import Sampling, generate_steps

    def run(ref: ModelRef, length: int) -> int:
        with lease_model(ref) as loaded:
            opened = read_status("VmHWM")
            vectors = read_block_vectors(loaded.anatomy, loaded.anatomy.blocks[0], loaded.parameters, "up")
            decode_vectors(vectors, loaded.head)
            del vectors
            for _ in generate_steps(loaded, [7] * length, [], Sampling(max_new_tokens=2)):
                pass
        return opened

    of = estimate_folder(folder / "model", dtype, CONTEXT)
    run(ModelRef(str(folder / "small"), dtype=dtype), 4)
    free_unused()
    before = read_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    opened = run(ModelRef(str(folder / "model"), dtype=dtype), CONTEXT - 2)
    took = {"loading": opened - before, "peak": read_status("VmHWM") - before}
    print(json.dumps({"estimate": of.peak, "weights": of.weights} | took))


def read_status(field: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def main() -> None:
    if "--child" in sys.argv:
        child(Path(sys.argv[-2]), sys.argv[-1])
        return
    from bench.small_models import write_small

    print(f"{'model':8} {'dtype':9} estimate  measured (least to most)  ratio  loading / weights")
    for name, config in configs().items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_small(config, folder / "model")
            write_small(configs(small=True)[name], folder / "small")
            for dtype in ("float32", "bfloat16"):
                print(f"{name:8} {dtype:9} {_row([measure(folder, dtype) for _ in range(RUNS)])}", flush=True)


def measure(folder: Path, dtype: str) -> dict[str, int]:
    """What `child` prints in a fresh process, in bytes. folder: holds the models `model` and `small`."""
    command = [sys.executable, "-m", "bench.fit", "--child", str(folder), dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(runs: list[dict[str, int]]) -> str:
    estimate = runs[0]["estimate"]
    least, peak, most = (choose([run["peak"] for run in runs]) for choose in (min, median, max))
    loading = max(run["loading"] for run in runs) / runs[0]["weights"]
    measured = f"{peak / 1e6:5.0f} MB ({least / 1e6:.0f} to {most / 1e6:.0f})"
    return f"{estimate / 1e6:5.0f} MB  {measured:24}  {estimate / peak:.2f}   {loading:.2f}"


if __name__ == "__main__":
    main()
