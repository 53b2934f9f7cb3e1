"""The page docs/models.md, from the outcomes of `make contract`."""

from __future__ import annotations

from collections.abc import Sequence

import transformers

from tests.contract.outcomes import Outcome
from tests.contract.overrides import WITHOUT_FFN

_HEAD = """# Models

Headlamp knows no list of architectures. It finds a model's FFN blocks, its LM head and the norm before it
from one probe run, recomputes them from what it found, and refuses the model with a reason where the numbers
differ. So an architecture that is not listed may well work: try `python -m workbench inspect MODEL`.

This page is written by `make contract` (transformers {version}). It builds a tiny random float32 model of
every entry of transformers' causal-LM mapping, and of its mapping for images and text, of which the text
model is opened, and puts each through these checks, with weights edited on a copy as the other way to every
number:

- saved in its family's own layout and opened again, in float32 and in bfloat16, it holds to the bit what
  transformers itself loads
- every weight that is called like an FFN's lies in a block that was found; head, final norm and blocks
  recomputed in float64 give the model's own numbers; decoding equals a float64 einsum
- a clamp that changes nothing changes no bit; set, add, scale and ablate at key, gate and up, in dense blocks
  and in experts, equal an edit of the weights; the gate is the one that bends
- ablating a whole block leaves only its bias, and ablating an expert equals zeroing its slice
- row 0 is untouched by a clamp on row 1: no bit of it, or at most 1e-6 of the largest logit where experts
  are computed in groups whose sizes change with the other row's routing
- an observer changes no bit, and sees what the block writes with

**{supported} of {built} that could be built are supported, {share} of those that have an FFN.** Supported
means every check. Where the last column of the first table says something, the model is read and clamped
rightly over a whole text, but does not continue one as the app has it do: told positions, one token at a time
from a cache. Random weights say nothing about a checkpoint's own files.

## Formats of weights

Quantised weights are dequantised while they are read, each straight into its parameter: results, run keys and
findings say from what. A tiny checkpoint of every format below, written with the libraries' own writers, is

- opened in float32 and in bfloat16, and holds to the bit what it is compared with: transformers' own loading,
  dequantised, or, for GPTQ and AWQ, which transformers reads through a GPU's kernels only, the integers,
  zeros and scales of the published layout, multiplied in float64
- decoded, and its labels are those of a float64 product; run, and its logits are those of the other model;
  read from disk layer by layer, with the same parameters and labels
- put through every check above (contract), one per layout of blocks

The DeepSeek checkpoints have a layer behind the last one that predicts further tokens, which is left out. Of
compressed-tensors, `pack-quantized` of 1 to 8 bits, `int-quantized`, `float-quantized`, `naive-quantized`,
`mxfp4-pack-quantized`, `mxfp8-quantized` and `nvfp4-pack-quantized` are compared with the library's own
decompression in `tests/analysis/checkpoints/quantised`, as are FP8 experts of packed FP4, GPTQ of 2, 3, 4 and
8 bits, and nested scales of bitsandbytes. Scales of activations are left out: only a GPU's kernels round what
weights are applied to.

{formats}

Refused by name: AWQ for GEMV and Marlin, GPTQ for Marlin and other kernels, sparse formats and
`mxfp6-pack-quantized` of compressed-tensors, groups in an order of their own there (`weight_g_idx`), 8-bit
layouts of bitsandbytes for one kind of GPU, and every other method (AQLM, HQQ, MLX, Quark, SpQR, torchao …):
use the model in one of the formats above.

From GGUF files, the architectures are those that transformers converts, each as far as its tensors find their
place; any other is refused with transformers' reason. Of these, bloom, falcon, gemma2, gemma3, gpt2, lfm2,
llama, nemotron, phi3, qwen2, qwen2moe, qwen3, qwen3moe, qwen35, stablelm and starcoder2 are compared with
transformers' own loading, tensor by tensor, in `tests/analysis/checkpoints/gguf`.

Clamps in × residual (docs/methods.md §2) need one thing more, the residual that a block's output is added to.
It is not found, and such clamps are refused by name, in doge, hy_v4, xlm, zamba, in the experts of afmoe,
axk2, beam, deepseek_v4, inkling_text, inkling2_text, kolibri1 and zaya, and in the routed experts of
longcat_flash.

A listed family may have checkpoints that are refused: the head must read states as wide as those the blocks
write, which it does not in ELECTRA, RemBERT and OPT-350m as released. Layers that share one block's weights
(Zamba) are blocks with addresses of their own; a block that runs several times in one pass (HRM) is held each
time.
"""


def table(outcomes: Sequence[Outcome], formats: str = "") -> str:
    """The whole page. formats: its table of formats."""
    supported = [o for o in outcomes if o.status == "supported"]
    built = [o for o in outcomes if o.status != "not built"]
    with_ffn = [o for o in built if o.entry not in WITHOUT_FFN]
    rows = [(o.entry, o.architecture, o.blocks, o.stuck) for o in supported]
    parts = [
        _HEAD.format(
            version=transformers.__version__,
            formats=formats,
            supported=len(supported),
            built=len(built),
            share=f"{len(supported) / max(len(with_ffn), 1):.1%}",
        ),
        _section(
            "Supported",
            ("entry", "architecture", "blocks", "text"),
            rows,
        ),
        _section(
            "Not supported", ("entry", "architecture", "why"), _reasons(outcomes, ("refused", "broken"))
        ),
        _section("Not built", ("entry", "architecture", "why"), _reasons(outcomes, ("not built",))),
    ]
    return "\n".join(parts)


def _reasons(outcomes: Sequence[Outcome], statuses: tuple[str, ...]) -> list[tuple[str, str, str]]:
    return [(o.entry, o.architecture, o.reason) for o in outcomes if o.status in statuses]


def _section(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"## {title}", "", _row(columns), _row(("---",) * len(columns))]
    return "\n".join([*lines, *(_row(row) for row in rows), ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
