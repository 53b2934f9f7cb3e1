"""Tiny quantised checkpoints, written with the libraries' own code, and transformers' own loading of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from bitsandbytes import functional
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.mxfp4 import MXFP4PackedCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CompressedTensorsConfig,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    FineGrainedFP8Config,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mxfp4Config,
    PreTrainedModel,
)
from transformers.integrations.finegrained_fp8 import Fp8Quantize

from tests.analysis.conftest import tiny_tokenizer

Rewrite = Callable[[str, Tensor], Mapping[str, Tensor] | None]
"""A tensor of an unquantised checkpoint → the tensors that stand for it; None: it stays."""

Writer = Callable[[Path], Path]

VOCAB = 97
TWIN = "unquantised"
"""Folder within a checkpoint's, of the same model with the numbers that its own stand for."""
PROJECTION = re.compile(r"_proj(_with_mqa)?\.weight$|_proj$")

CONV1D = re.compile(r"\.h\.\d+\.(attn|mlp)\.c_\w+\.weight$")
"""Weights of GPT-2, stored as (inputs, outputs)."""


def make_llama(seed: int = 0) -> PreTrainedModel:
    """Two layers of width 64, and 128 in between."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return _disturbed(LlamaForCausalLM, config, seed)


def make_gpt2(seed: int = 0) -> PreTrainedModel:
    """Two layers of width 64 whose weights are stored as (inputs, outputs)."""
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=64, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    return _disturbed(GPT2LMHeadModel, config, seed)


def make_deepseek(seed: int = 0) -> PreTrainedModel:
    """One dense layer and one with experts; its configuration also names a layer that predicts further
    tokens.
    """
    config = DeepseekV3Config(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=None,
        kv_lora_rank=24,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        max_position_embeddings=64,
        num_nextn_predict_layers=1,
    )
    return _disturbed(DeepseekV3ForCausalLM, config, seed)


def make_gpt_oss(seed: int = 0) -> PreTrainedModel:
    """Two layers of width 64 with 4 experts."""
    config = GptOssConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=2,
        sliding_window=16,
        tie_word_embeddings=False,
    )
    return _disturbed(GptOssForCausalLM, config, seed)


def _disturbed(kind: Any, config: Any, seed: int) -> PreTrainedModel:
    """A model whose norms and biases are off their defaults, which would hide errors."""
    torch.manual_seed(seed)
    model: PreTrainedModel = kind(config).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    return model


def write_quantised(
    folder: Path,
    model: PreTrainedModel,
    rewrite: Rewrite,
    settings: Mapping[str, Any],
    dtype: Any = torch.bfloat16,
) -> Path:
    """The model in a folder, its tensors rewritten, and its config.json with the settings."""
    model.to(dtype).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return quantise_folder(folder, rewrite, settings, model)


def quantise_folder(
    folder: Path, rewrite: Rewrite, settings: Mapping[str, Any], model: PreTrainedModel | None = None
) -> Path:
    """Rewrite the tensors of an unquantised checkpoint in place, and add the settings to its config.json.

    model: gets a layer that predicts further tokens, where its configuration names one.
    """
    path = folder / "model.safetensors"
    plain = load_file(path)
    written: dict[str, Tensor] = {}
    for key, tensor in (plain | ({} if model is None else _further_layer(plain, model))).items():
        parts = rewrite(key, tensor)
        written |= {key: tensor} if parts is None else parts
    save_file({k: part.contiguous().clone() for k, part in written.items()}, path, metadata={"format": "pt"})
    config = folder / "config.json"
    stored = json.loads(config.read_text())
    config.write_text(json.dumps(stored | ({"quantization_config": dict(settings)} if settings else {})))
    return folder


def _further_layer(weights: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """The layer that predicts further tokens, where the configuration names one: as the last, with more."""
    if not getattr(model.config, "num_nextn_predict_layers", 0):
        return {}
    last = "model.layers.1."
    found = {
        k.replace(last, "model.layers.2."): tensor for k, tensor in weights.items() if k.startswith(last)
    }
    width = model.config.hidden_size
    return found | {"model.layers.2.eh_proj.weight": torch.ones(width, 2 * width, dtype=torch.bfloat16)}


def to_fp8(blocks: tuple[int, int] | None, scales: str = "float") -> Rewrite:
    """Quantise projections as transformers does; blocks: None for one scale per tensor."""
    settings = SimpleNamespace(weight_block_size=blocks, scale_fmt=scales)
    quantising: Any = Fp8Quantize(SimpleNamespace(quantization_config=settings))

    def rewrite(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        if not PROJECTION.search(key):
            return None
        found: dict[str, Tensor] = quantising._quantize_one(key, tensor)
        scale = key + "_scale_inv"
        if blocks is None:
            found[scale] = found[scale].reshape(())
            found[key.removesuffix("weight") + "activation_scale"] = torch.tensor(0.5)
        return found

    return rewrite


def fp8_settings(blocks: tuple[int, int] | None) -> dict[str, Any]:
    """What config.json says of such weights."""
    return {
        "quant_method": "fp8",
        "activation_scheme": "static" if blocks is None else "dynamic",
        "weight_block_size": blocks,
    }


def to_mxfp4(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
    """Quantise stacked experts (experts, inputs, outputs) with compressed-tensors' own packing, in gpt-oss's
    layout.
    """
    if not key.endswith("experts.gate_up_proj") and not key.endswith("experts.down_proj"):
        return None
    experts, inputs, outputs = tensor.shape
    rows = tensor.float().transpose(1, 2).reshape(-1, inputs)
    largest = rows.view(len(rows), -1, 32).abs().amax(-1)
    weights = QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32, symmetric=True)
    found = MXFP4PackedCompressor.compress(
        {"weight": rows, "weight_scale": (largest.log2().floor() - 2).exp2()},
        QuantizationScheme(targets=["Linear"], weights=weights),
    )
    return {
        f"{key}_blocks": found["weight_packed"].view(experts, outputs, inputs // 32, 16),
        f"{key}_scales": found["weight_scale"].view(experts, outputs, inputs // 32),
    }


def to_integers(key: str, tensor: Tensor, group: int, bits: int = 4) -> tuple[Tensor, Tensor, Tensor] | None:
    """Integers (inputs, outputs), zeros and float16 scales (groups, outputs) of a projection, by their range
    in each group.
    """
    if not PROJECTION.search(key):
        return None
    grouped = tensor.float().T.unflatten(0, (-1, group))
    low, high = grouped.amin(1).clamp(max=0), grouped.amax(1).clamp(min=0)
    scales = ((high - low) / (2**bits - 1)).half().clamp(min=1e-4)
    zeros = (-low / scales.float()).round().clamp(0, 2**bits - 1)
    integers = (grouped / scales.float()[:, None] + zeros[:, None]).round().clamp(0, 2**bits - 1)
    return integers.flatten(0, 1).int(), zeros.int(), scales


def pack(integers: Tensor, bits: int) -> Tensor:
    """Words (…, n · bits / 32) of integers (…, n): one long number in base 2, the first integer lowest."""
    digits = (integers.numpy()[..., None] >> np.arange(bits)) & 1
    packed = np.packbits(digits.astype(bool).reshape(*integers.shape[:-1], -1), -1, bitorder="little")
    return torch.from_numpy(packed).view(torch.int32)


def to_gptq(group: int, bits: int = 4) -> Rewrite:
    """GPTQ as AutoGPTQ packs it: inputs into words, zeros less 1."""

    def rewrite(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        found = to_integers(key, tensor, group, bits)
        if found is None:
            return None
        (integers, zeros, scales), stem = found, key.removesuffix("weight")
        return {
            f"{stem}qweight": pack(integers.T, bits).T,
            f"{stem}qzeros": pack((zeros - 1) % 2**bits, bits),
            f"{stem}scales": scales,
            f"{stem}g_idx": torch.arange(len(integers), dtype=torch.int32) // group,
        }

    return rewrite


def to_awq(group: int) -> Rewrite:
    """AWQ as AutoAWQ packs it: outputs into words, the even ones first."""

    def rewrite(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        found = to_integers(key, tensor, group)
        if found is None:
            return None
        (integers, zeros, scales), stem = found, key.removesuffix("weight")
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        qweight, qzeros = (
            pack(numbers.unflatten(1, (-1, 8))[..., order].flatten(1), 4) for numbers in (integers, zeros)
        )
        return {f"{stem}qweight": qweight, f"{stem}qzeros": qzeros, f"{stem}scales": scales}

    return rewrite


def in_groups(group: int) -> Rewrite:
    """What those integers stand for: (integer − zero) · scale."""

    def rewrite(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        found = to_integers(key, tensor, group)
        if found is None:
            return None
        integers, zeros, scales = (numbers.double() for numbers in found)
        wide_zeros, wide_scales = (n.repeat_interleave(group, 0) for n in (zeros, scales))
        return {key: ((integers - wide_zeros) * wide_scales).T.float()}

    return rewrite


def to_bitsandbytes(four_bit: bool, nested: bool = False, kind: str = "nf4") -> Rewrite:
    """Quantise projections with bitsandbytes."""

    def rewrite(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        if not PROJECTION.search(key) and not CONV1D.search(key):
            return None
        tensor = tensor.T.contiguous() if CONV1D.search(key) else tensor
        if four_bit:
            packed, state = functional.quantize_4bit(
                tensor, blocksize=64, compress_statistics=nested, quant_type=kind
            )
            return {key: packed} | {f"{key}.{k}": v for k, v in state.as_dict(packed=True).items()}
        numbers, largest, _ = functional.int8_vectorwise_quant(tensor.half())
        stem = key.removesuffix("weight")
        layout = torch.tensor(0, dtype=torch.uint8)
        return {key: numbers, f"{stem}SCB": largest, f"{stem}weight_format": layout}

    return rewrite


def compress(weight: Tensor, layout: str, weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors compressed-tensors saves of a matrix (rows, columns), by their names in its module."""
    scheme = QuantizationScheme(**compressed_settings(layout, weights)["config_groups"]["group_0"])
    args = scheme.weights
    size = {"channel": weight.shape[1], "tensor": weight.numel()}.get(str(args.strategy), args.group_size)
    grouped = weight.reshape(-1, size) if args.strategy == "tensor" else weight.unflatten(1, (-1, size or 1))
    if args.strategy == "block":
        high, wide = args.block_structure
        grouped = weight.unflatten(0, (-1, high)).unflatten(2, (-1, wide)).transpose(1, 2).flatten(2)
    low, top = grouped.float().amin(-1), grouped.float().amax(-1)
    whole = {}
    if args.strategy == "tensor_group":
        whole = {"global_scale": generate_gparam(low.amin(), top.amax())}
    scale, zeros = calculate_qparams(low, top, args, **whole)
    scale = scale if args.num_bits == 4 and args.type == "float" else scale.to(weight.dtype)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zeros}
    state |= {f"weight_{name}": value.reshape(1) for name, value in whole.items()}
    return dict(BaseCompressor.get_value_from_registry(layout).compress(state, scheme))


def compressed_settings(layout: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of such weights."""
    group = {"targets": ["Linear"], "weights": dict(weights), "format": layout}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


def to_compressed(layout: str, weights: Mapping[str, Any]) -> Rewrite:
    """Quantise projections with compressed-tensors, each with a scale of activations."""

    def rewrite(key: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        if not PROJECTION.search(key):
            return None
        stem = key.removesuffix("weight")
        found = {stem + name: part for name, part in compress(tensor, layout, weights).items()}
        return found | {f"{stem}input_scale": torch.ones(1)}

    return rewrite


def load_plain(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """transformers' own loading, dequantised; it leaves what is not quantised in the stored dtype.

    It has no code for GPTQ and AWQ, of which the writer made an unquantised twin.
    """
    twin = folder / TWIN
    if twin.is_dir():
        return AutoModelForCausalLM.from_pretrained(twin, dtype=dtype).eval()  # type: ignore[no-any-return]
    method = json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"]
    dequantising = {
        "fp8": FineGrainedFP8Config,
        "mxfp4": Mxfp4Config,
        "compressed-tensors": CompressedTensorsConfig,
    }.get(method)
    options = {} if dequantising is None else {"quantization_config": dequantising(dequantize=True)}
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)
    if method == "bitsandbytes":
        model.dequantize(dtype)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.eval()


def _writer(
    model: Callable[[], PreTrainedModel],
    rewrite: Rewrite,
    settings: Mapping[str, Any],
    twin: Rewrite | None = None,
) -> Writer:
    """twin: what the numbers stand for, where transformers has no code of its own to read them."""

    def write(folder: Path) -> Path:
        if twin is not None:
            write_quantised(folder / TWIN, model().bfloat16(), twin, {}, dtype=torch.float32)
        return write_quantised(folder, model(), rewrite, settings)

    return write


_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": False, "sym": False}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm", "zero_point": True}
_NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
_FP4 = _NF4 | {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True}
_PACKED = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 8, "symmetric": True}
_PER_ROW = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
_INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}


WRITERS: dict[str, Writer] = {
    "FP8 in blocks, Llama": _writer(make_llama, to_fp8((16, 16)), fp8_settings((16, 16))),
    "FP8 in blocks, DeepSeek": _writer(make_deepseek, to_fp8((16, 16)), fp8_settings((16, 16))),
    "FP8 per tensor, Llama": _writer(make_llama, to_fp8(None), fp8_settings(None)),
    "MXFP4, gpt-oss": _writer(make_gpt_oss, to_mxfp4, {"quant_method": "mxfp4"}),
    "GPTQ, DeepSeek": _writer(make_deepseek, to_gptq(8), _GPTQ, in_groups(8)),
    "AWQ, Llama": _writer(make_llama, to_awq(8), _AWQ, in_groups(8)),
    "bitsandbytes NF4, Llama": _writer(make_llama, to_bitsandbytes(True), _NF4),
    "bitsandbytes FP4, Llama": _writer(make_llama, to_bitsandbytes(True, nested=True, kind="fp4"), _FP4),
    "bitsandbytes int8, Llama": _writer(make_llama, to_bitsandbytes(False), _INT8),
    "compressed-tensors int4, DeepSeek": _writer(
        make_deepseek,
        to_compressed("pack-quantized", _PACKED),
        compressed_settings("pack-quantized", _PACKED),
    ),
    "compressed-tensors FP8, DeepSeek": _writer(
        make_deepseek,
        to_compressed("float-quantized", _PER_ROW),
        compressed_settings("float-quantized", _PER_ROW),
    ),
}
"""Format and family → writes such a checkpoint into a folder."""

write_gpt2 = _writer(make_gpt2, to_bitsandbytes(False), _INT8)
"""Writes a GPT-2 in bitsandbytes int8 into a folder."""

SAID = {
    "FP8 in blocks": "dequantised from FP8 in blocks of 16 × 16",
    "FP8 per tensor": "dequantised from FP8 with a scale per tensor",
    "MXFP4": "dequantised from MXFP4",
    "GPTQ": "dequantised from GPTQ with 4 bits in groups of 8",
    "AWQ": "dequantised from AWQ with 4 bits in groups of 8",
    "bitsandbytes NF4": "dequantised from bitsandbytes NF4",
    "bitsandbytes FP4": "dequantised from bitsandbytes FP4 with nested scales",
    "bitsandbytes int8": "dequantised from bitsandbytes int8",
    "compressed-tensors int4": "dequantised from compressed-tensors pack-quantized (int4)",
    "compressed-tensors FP8": "dequantised from compressed-tensors float-quantized (float8)",
}
"""Format → what is said of its weights."""
