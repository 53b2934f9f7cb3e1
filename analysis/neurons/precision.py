"""Which product decoding takes: bfloat16 where the CPU multiplies it natively, and it saves time."""

from __future__ import annotations

import torch

from analysis.anatomy.anatomy import Anatomy
from analysis.neurons.vocabulary_scan import Product

LEAST_WIDTH = 256
"""Smallest hidden size at which the product takes long enough for its precision to matter."""


def supports_bfloat16() -> bool:
    """Whether this CPU has instructions for products in bfloat16 (AVX-512 BF16 or AMX)."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(native and torch.backends.mkldnn.is_available())


def choose_product(anatomy: Anatomy, device: str) -> Product:
    """The product for a model on a device: float32, but for wide models on a CPU that has bfloat16."""
    fits = device == "cpu" and anatomy.d_model >= LEAST_WIDTH
    return "bfloat16" if fits and supports_bfloat16() else "float32"
