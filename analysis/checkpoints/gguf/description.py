"""What is said of a GGUF file's weights: their types, and what transformers leaves out."""

from __future__ import annotations

import re
from collections import Counter

from analysis.checkpoints.gguf.contents import GgufHeader
from analysis.checkpoints.gguf.converted import PLAIN

REDUNDANT = re.compile(
    r"(blk\.\d+\.)?(rope_freqs|rope_factors_long|rope_factors_short|attn_rot_embd)\.weight"
)
"""Tensors of rotary embeddings, which transformers leaves out and computes from the configuration."""


def describe_weights(header: GgufHeader) -> str:
    """How the file stores its weights, such as "dequantised from Q4_K (with Q6_K, F32)": the type of most
    numbers, quantised ones first, and the others; and what transformers leaves out.
    """
    counts: Counter[str] = Counter()
    for tensor in header.tensors.values():
        counts[tensor.kind] += tensor.numel
    kinds = [kind for kind, _ in counts.most_common()]
    packed = [kind for kind in kinds if kind not in PLAIN]
    first = packed[0] if packed else kinds[0] if kinds else "nothing"
    others = [kind for kind in kinds if kind != first]
    what = f"dequantised from {first}" if packed else f"read from GGUF in {first}"
    left = list_left_out(header)
    return (
        what
        + (f" (with {', '.join(others)})" if others else "")
        + (f", without its {' and '.join(left)}, which transformers does not apply" if left else "")
    )


def list_left_out(header: GgufHeader) -> list[str]:
    """What the file says of rotary embeddings and transformers leaves out, for people to read."""
    found = sorted({name.split(".")[-2] for name in header.tensors if REDUNDANT.fullmatch(name)})
    scaling = header.value(f"{header.architecture}.rope.scaling.type")
    if isinstance(scaling, str) and scaling != "none" and header.architecture != "gpt-oss":
        found.append(f"rope scaling {scaling}")
    return found
