"""Memory that quantised checkpoints take: `python -m bench.formats`, or some of them by name.

A model of some 200 million parameters is written in each format. A fresh process opens it dequantised,
decodes a block and continues a text, as in bench.fit: the peak while loading is compared with the dequantised
weights, and the whole peak with the estimate.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.fit import configs, measure
from bench.small_models import write_small
from tests.analysis.checkpoints.quantised.quantised_made import (
    Rewrite,
    compressed_settings,
    fp8_settings,
    quantise_folder,
    to_awq,
    to_bitsandbytes,
    to_compressed,
    to_fp8,
    to_gptq,
    to_mxfp4,
)

RUNS = 2
GROUP = 64
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP, "symmetric": True}
OF_GROUPS = {"bits": 4, "group_size": GROUP}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}

FORMATS: dict[str, tuple[str, Rewrite, Mapping[str, Any]]] = {
    "FP8 in blocks": ("Llama", to_fp8((64, 64)), fp8_settings((64, 64))),
    "FP8 in blocks, experts": ("Mixtral", to_fp8((64, 64)), fp8_settings((64, 64))),
    "FP8 per tensor": ("Llama", to_fp8(None), fp8_settings(None)),
    "MXFP4": ("gpt-oss", to_mxfp4, {"quant_method": "mxfp4"}),
    "GPTQ": ("Llama", to_gptq(GROUP), {"quant_method": "gptq"} | OF_GROUPS),
    "AWQ": ("Llama", to_awq(GROUP), {"quant_method": "awq", "version": "gemm"} | OF_GROUPS),
    "bitsandbytes NF4": ("Llama", to_bitsandbytes(True), NF4),
    "bitsandbytes int8": ("Llama", to_bitsandbytes(False), INT8),
    "compressed-tensors int4": (
        "Llama",
        to_compressed("pack-quantized", INT4),
        compressed_settings("pack-quantized", INT4),
    ),
}
"""Format → family, writer, and what config.json says."""


def config_of(family: str, *, small: bool = False) -> Any:
    """The configuration of bench.fit; gpt-oss of the same size."""
    if family != "gpt-oss":
        return configs(small=small)[family]
    from transformers import GptOssConfig

    layers, width = (1, 64) if small else (8, 512)
    return GptOssConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=width // 8,
        num_local_experts=16,
        num_experts_per_tok=2,
        vocab_size=4000,
        sliding_window=128,
        eos_token_id=2,
        pad_token_id=0,
    )


def main(names: Sequence[str]) -> None:
    """Print a row of the table in docs/memory.md per format and dtype. names: of formats; none: all."""
    print("| format | dtype | on disk | weights | loading / weights | estimate | peak | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names or FORMATS:
        family, rewrite, settings = FORMATS[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for part in ("model", "small"):
                write_small(config_of(family, small=part == "small"), folder / part)
                quantise_folder(folder / part, rewrite, settings)
            stored = (folder / "model" / "model.safetensors").stat().st_size
            for dtype in ("bfloat16", "float32"):
                runs = [measure(folder, dtype) for _ in range(RUNS)]
                print(f"| {name} | {dtype} | {stored / 1e6:.0f} MB | {_row(runs)} |", flush=True)


def _row(runs: list[dict[str, int]]) -> str:
    estimate, weights = runs[0]["estimate"], runs[0]["weights"]
    loading = max(run["loading"] for run in runs) / weights
    peak = sum(run["peak"] for run in runs) / len(runs)
    sizes = f"{weights / 1e6:.0f} MB | {loading:.2f} | {estimate / 1e6:.0f} MB | {peak / 1e6:.0f} MB"
    return f"{sizes} | {estimate / peak:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
