"""Cost of the map and of a search: `python -m bench.neuron_map [MODEL] [TIMES]`, default a fetched SmolLM2.

One block's vectors at down, on one thread. The map, in float32 and in bfloat16, against the bare float32
product of the same vectors and head into memory that is already there, which is the least that mapping takes;
the search for a word of three forms, that needs no map, against the same. Each is measured in turn with what
it is compared to; printed are the median and the smallest of the ratios of CPU times.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix
from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.neurons.precision import supports_bfloat16
from analysis.neurons.vocabulary_scan import PRODUCTS
from analysis.neurons.word_search import score_word
from analysis.opening.leases import lease_model
from analysis.opening.models import ModelRef

DEFAULT, TIMES = ".cache/smollm2/safetensors", 11
TILE = 512, 8192


def multiply(vectors: Tensor, head: HeadMatrix, space: Tensor) -> None:
    """The bare product in float32, tile by tile into the same memory."""
    for start in range(0, head.vocab, TILE[1]):
        rows = head.rows[start : start + TILE[1]]
        for first in range(0, len(vectors), TILE[0]):
            part = vectors[first : first + TILE[0]]
            torch.mm(part, rows.T, out=space[: len(part) * len(rows)].view(len(part), -1))


def measure_ratio(work: Callable[[], object], bare: Callable[[], object], times: int) -> tuple[float, float]:
    """Median of work's CPU time over bare's, and its smallest, taken in turn."""
    ratios = []
    for _ in range(times):
        began = time.process_time()
        bare()
        between = time.process_time()
        work()
        ratios.append((time.process_time() - between) / (between - began))
    return statistics.median(ratios), min(ratios)


def main() -> None:
    """Print a row for the map in each product, and one for the search."""
    model = sys.argv[1] if len(sys.argv) > 1 else DEFAULT
    times = int(sys.argv[2]) if len(sys.argv) > 2 else TIMES
    torch.set_num_threads(1)
    with lease_model(ModelRef(model)) as loaded, torch.inference_mode():
        head = loaded.head
        block = loaded.anatomy.blocks[len(loaded.anatomy.blocks) // 2]
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, "down")
        space = torch.empty(TILE[0] * TILE[1])
        print(f"{model}: {len(vectors)} neurons × {head.rows.shape[1]} × {head.tokens} tokens, one thread")
        print(f"{'':24} median  smallest")
        for product in PRODUCTS:
            decode_vectors(vectors, head, product=product)
            native = "" if product == "float32" or supports_bfloat16() else "  (not native here)"
            found = measure_ratio(
                lambda product=product: decode_vectors(vectors, head, product=product),  # type: ignore[misc]
                lambda: multiply(vectors, head, space),
                times,
            )
            print(f"map, {product:19} {found[0]:6.2f} {found[1]:9.2f}  × the bare float32 product{native}")
        found = measure_ratio(
            lambda: score_word(vectors, head, (5, 6, 7)), lambda: multiply(vectors, head, space), times
        )
        print(f"search, 3 forms          {found[0]:6.3f} {found[1]:9.3f}  × the same")


if __name__ == "__main__":
    main()
