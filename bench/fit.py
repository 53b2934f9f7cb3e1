"""How good the memory estimate is: `python -m bench.fit`.

Three models of different families are written to a temporary folder. For each, a fresh process opens it and
continues a text of the whole context; its peak beyond what it took before is set beside the estimate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONTEXT = 512


def configs() -> dict[str, Any]:
    """name → configuration of a few hundred megabytes."""
    from transformers import GPT2Config, LlamaConfig, MixtralConfig

    llama = LlamaConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=4000,
    )
    gpt2 = GPT2Config(n_embd=768, n_layer=10, n_head=12, vocab_size=4000, bos_token_id=1, eos_token_id=2)
    mixtral = MixtralConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_local_experts=8,
        vocab_size=4000,
    )
    return {"Llama": llama, "GPT-2": gpt2, "Mixtral": mixtral}


def child(folder: Path, dtype: str) -> None:
    """Print the estimate, and the bytes that opening and running really took."""
    from analysis.fit import needs
    from analysis.generation import Sampling, paired_steps
    from analysis.models import ModelRef, leased

    def run(ref: ModelRef, length: int) -> int:
        with leased(ref) as loaded:
            opened = _status("VmHWM")
            for _ in paired_steps(loaded, [7] * length, [], Sampling(max_new_tokens=2)):
                pass
        return opened

    run(ModelRef("demo/base"), 4)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    opened = run(ModelRef(str(folder), dtype=dtype), CONTEXT - 2)
    of = needs(folder, dtype, CONTEXT)
    took = {"loading": opened - before, "peak": _status("VmHWM") - before}
    print(json.dumps({"estimate": of.peak, "weights": of.weights} | took))


def _status(field: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def main() -> None:
    if "--child" in sys.argv:
        child(Path(sys.argv[-2]), sys.argv[-1])
        return
    from bench.small_models import write_small

    print(f"{'model':8} {'dtype':9} estimate  measured  ratio   loading / weights")
    for name, config in configs().items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_small(config, Path(temporary) / "model")
            for dtype in ("float32", "bfloat16"):
                command = [sys.executable, "-m", "bench.fit", "--child", str(folder), dtype]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{name:8} {dtype:9} {found['estimate'] / 1e6:5.0f} MB  {found['peak'] / 1e6:5.0f} MB"
                    f"  {found['estimate'] / found['peak']:.2f}    {found['loading'] / found['weights']:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
