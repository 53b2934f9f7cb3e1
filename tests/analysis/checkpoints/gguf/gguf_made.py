"""Tiny GGUF files of many architectures and quantisations, written by gguf's own writer, and what
transformers loads from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, GgufConfig

from demo import BUNDLED

WIDTH, WIDER, HEADS, KV_HEADS, LAYERS, CONTEXT = 256, 512, 4, 2, 2, 128
EXPERTS, ROUTED = 4, {"qwen3moe": 768, "qwen2moe": 1408}
"""Experts per block and their width, which transformers does not read from the file."""
SHARED = 5632
VOCAB = 300
QUANTISED = sorted(
    kind.name
    for kind in GGMLQuantizationType
    if kind.name not in {"F32", "F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K", "NVFP4", "Q1_0"}
)
"""Every type that transformers dequantises, F16 and BF16 among them."""
Shapes = dict[str, tuple[int, ...]]
TEMPLATE = "{% for message in messages %}<|user|>{{ message['content'] }}<|end|>{% endfor %}<|assistant|>"


def llama_shapes(**more: tuple[int, ...]) -> Shapes:
    """Tensors of a block, and of the whole model."""
    kv = WIDTH // HEADS * KV_HEADS
    block: Shapes = {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (WIDTH, WIDTH),
        "attn_k.weight": (kv, WIDTH),
        "attn_v.weight": (kv, WIDTH),
        "attn_output.weight": (WIDTH, WIDTH),
        "ffn_norm.weight": (WIDTH,),
        "ffn_gate.weight": (WIDER, WIDTH),
        "ffn_up.weight": (WIDER, WIDTH),
        "ffn_down.weight": (WIDTH, WIDER),
    }
    return block | {name.replace("__", "."): shape for name, shape in more.items()}


def without(shapes: Shapes, *names: str) -> Shapes:
    """The shapes but for some."""
    return {name: shape for name, shape in shapes.items() if name.split(".")[0] not in names}


def moe_shapes(kind: str) -> Shapes:
    """A block of experts."""
    wide = ROUTED[kind]
    return without(llama_shapes(), "ffn_gate", "ffn_up", "ffn_down") | {
        "ffn_gate_inp.weight": (EXPERTS, WIDTH),
        "ffn_gate_exps.weight": (EXPERTS, wide, WIDTH),
        "ffn_up_exps.weight": (EXPERTS, wide, WIDTH),
        "ffn_down_exps.weight": (EXPERTS, WIDTH, wide),
    }


def biased(kv: int = WIDTH // HEADS * KV_HEADS) -> Shapes:
    """Biases of queries, keys and values."""
    return {"attn_q.bias": (WIDTH,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}


def biases(*names: str) -> Shapes:
    """Biases as wide as the model."""
    return {f"{name}.bias": (WIDTH,) for name in names}


def gpt2_shapes() -> Shapes:
    """GPT-2 in llama.cpp's layout, transposed against transformers' own."""
    both: Shapes = {}
    for name, rows, columns in (
        ("attn_qkv", 3 * WIDTH, WIDTH),
        ("attn_output", WIDTH, WIDTH),
        ("ffn_up", 4 * WIDTH, WIDTH),
        ("ffn_down", WIDTH, 4 * WIDTH),
    ):
        both |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in ("attn_norm", "ffn_norm"):
        both |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    return both


BLOCKS: dict[str, Callable[[], Shapes]] = {
    "llama": llama_shapes,
    "qwen2": lambda: llama_shapes() | biased(),
    "qwen3moe": lambda: moe_shapes("qwen3moe") | {"attn_q_norm.weight": (64,), "attn_k_norm.weight": (64,)},
    "qwen2moe": lambda: (
        moe_shapes("qwen2moe")
        | biased()
        | {
            "ffn_gate_inp_shexp.weight": (WIDTH,),
            "ffn_gate_shexp.weight": (SHARED, WIDTH),
            "ffn_up_shexp.weight": (SHARED, WIDTH),
            "ffn_down_shexp.weight": (WIDTH, SHARED),
        }
    ),
    "gpt2": gpt2_shapes,
    "gemma2": lambda: llama_shapes(post_attention_norm__weight=(WIDTH,), post_ffw_norm__weight=(WIDTH,)),
    "gemma3": lambda: llama_shapes(
        post_attention_norm__weight=(WIDTH,),
        post_ffw_norm__weight=(WIDTH,),
        attn_q_norm__weight=(WIDTH // HEADS,),
        attn_k_norm__weight=(WIDTH // HEADS,),
    ),
    "qwen3": lambda: llama_shapes(
        attn_q__weight=(HEADS * 128, WIDTH),  # transformers does not read the width of a head here
        attn_k__weight=(KV_HEADS * 128, WIDTH),
        attn_v__weight=(KV_HEADS * 128, WIDTH),
        attn_output__weight=(WIDTH, HEADS * 128),
        attn_q_norm__weight=(128,),
        attn_k_norm__weight=(128,),
    ),
    "stablelm": lambda: llama_shapes() | biases("attn_norm", "ffn_norm"),
    "starcoder2": lambda: (
        without(llama_shapes(), "ffn_gate")
        | biased()
        | biases("attn_norm", "ffn_norm", "attn_output", "ffn_down")
        | {"ffn_up.bias": (WIDER,)}
    ),
    "nemotron": lambda: without(llama_shapes(), "ffn_gate") | biases("attn_norm", "ffn_norm"),
    "bloom": gpt2_shapes,
    "falcon": lambda: {
        "attn_norm.weight": (WIDTH,),
        "attn_norm.bias": (WIDTH,),
        "attn_qkv.weight": (WIDTH + 2 * WIDTH // HEADS, WIDTH),
        "attn_output.weight": (WIDTH, WIDTH),
        "ffn_up.weight": (4 * WIDTH, WIDTH),
        "ffn_down.weight": (WIDTH, 4 * WIDTH),
    },
    "phi3": lambda: (
        without(llama_shapes(), "attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up")
        | {
            "attn_qkv.weight": (WIDTH + 2 * WIDTH // HEADS * KV_HEADS, WIDTH),
            "ffn_up.weight": (2 * WIDER, WIDTH),
        }
    ),
}
"""Architecture → the tensors of one block."""
ARCHITECTURES = [*BLOCKS, "lfm2", "qwen35"]


def list_shapes(architecture: str, *, tied: bool) -> Shapes:
    """Every tensor of a file and its shape."""
    if architecture in {"lfm2", "qwen35"}:
        return {"lfm2": lfm2_shapes, "qwen35": qwen35_shapes}[architecture]() | (
            {} if tied else {"output.weight": (VOCAB, WIDTH)}
        )
    found: Shapes = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    if architecture in {"gpt2", "bloom", "falcon", "nemotron", "stablelm", "starcoder2"}:
        found["output_norm.bias"] = (WIDTH,)
    if architecture == "gpt2":
        found["position_embd.weight"] = (1024, WIDTH)
    if architecture == "bloom":
        found |= {"token_embd_norm.weight": (WIDTH,), "token_embd_norm.bias": (WIDTH,)}
    if not tied:
        found["output.weight"] = (VOCAB, WIDTH)
    for layer in range(LAYERS):
        found |= {
            f"blk.{layer}.{name}": shape for name, shape in BLOCKS.get(architecture, llama_shapes)().items()
        }
    return found


def lfm2_shapes() -> Shapes:
    """A block of convolution, then one of attention."""
    shared = without(llama_shapes(), "attn_q", "attn_k", "attn_v", "attn_output")
    conv: Shapes = {
        "shortconv.conv.weight": (WIDTH, 3),
        "shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
        "shortconv.out_proj.weight": (WIDTH, WIDTH),
    }
    attention = llama_shapes() | {"attn_q_norm.weight": (64,), "attn_k_norm.weight": (64,)}
    found: Shapes = {"token_embd.weight": (VOCAB, WIDTH), "token_embd_norm.weight": (WIDTH,)}
    found |= {f"blk.0.{name}": shape for name, shape in (shared | conv).items()}
    return found | {f"blk.1.{name}": shape for name, shape in attention.items()}


def qwen35_shapes() -> Shapes:
    """A block of linear attention, one of attention, and one that predicts a further token, which is left
    out.
    """
    keys, values, heads = 128, 128, 4
    linear = without(llama_shapes(), "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm") | {
        "post_attention_norm.weight": (WIDTH,),
        "attn_qkv.weight": (keys + values, WIDTH),
        "attn_gate.weight": (values, WIDTH),
        "ssm_alpha.weight": (heads, WIDTH),
        "ssm_beta.weight": (heads, WIDTH),
        "ssm_conv1d.weight": (keys + values, 4),
        "ssm_norm.weight": (values // heads,),
        "ssm_out.weight": (WIDTH, values),
        "ssm_a": (heads,),
        "ssm_dt.bias": (heads,),
    }
    attention = without(llama_shapes(), "ffn_norm") | {
        "attn_q.weight": (2 * WIDTH, WIDTH),
        "post_attention_norm.weight": (WIDTH,),
        "attn_q_norm.weight": (64,),
        "attn_k_norm.weight": (64,),
    }
    found: Shapes = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    found |= {f"blk.0.{name}": shape for name, shape in linear.items()}
    found |= {f"blk.1.{name}": shape for name, shape in attention.items()}
    return found | {"blk.2.nextn.eh_proj.weight": (WIDTH, 2 * WIDTH)}


def pack(numbers: np.ndarray[Any, Any], kind: str, seed: int) -> np.ndarray[Any, Any]:
    """Numbers in a quantisation; random blocks where gguf has no quantiser."""
    to = GGMLQuantizationType[kind]
    try:
        return gguf.quantize(numbers, to)
    except NotImplementedError:
        block, size = GGML_QUANT_SIZES[to]
        shape = (*numbers.shape[:-1], numbers.shape[-1] // block * size)
        # below 0x30 every pair of bytes is a small float16, scales among them
        return np.random.default_rng(seed).integers(0, 0x30, shape, dtype=np.uint8)


def write_gguf(
    path: Path,
    architecture: str = "llama",
    kind: str = "F32",
    *,
    tied: bool = True,
    kinds: Mapping[str, str] | None = None,
    extra: Mapping[str, tuple[int, ...]] | None = None,
    metadata: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    tokenizer: bool = True,
) -> Path:
    """Write a random model. kind: of matrices whose rows allow it; kinds: of tensors by name; extra: more
    tensors.
    """
    writer = gguf.GGUFWriter(path, architecture)
    _describe(writer, architecture)
    if tokenizer:
        (
            write_bytes_tokenizer
            if architecture in {"gpt2", "qwen2", "lfm2", "qwen35"}
            else write_demo_tokenizer
        )(writer)
    metadata(writer)
    random = np.random.default_rng(0)
    for number, (name, shape) in enumerate(
        (list_shapes(architecture, tied=tied) | dict(extra or {})).items()
    ):
        numbers = (
            random.standard_normal(shape, np.float32) * 0.05
            + ("norm.weight" in name)
            - (name[-5:] == "ssm_a")
        )
        wanted = (kinds or {}).get(name, kind if len(shape) > 1 and "conv" not in name else "F32")
        if shape[-1] % GGML_QUANT_SIZES[GGMLQuantizationType[wanted]][0]:
            wanted = "F32"
        writer.add_tensor(name, pack(numbers, wanted, number), raw_dtype=GGMLQuantizationType[wanted])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: gguf.GGUFWriter, architecture: str) -> None:
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS + (architecture == "qwen35"))
    writer.add_feed_forward_length(WIDER if architecture != "gpt2" else 4 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([0, KV_HEADS] if architecture == "lfm2" else KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    if architecture == "llama":
        writer.add_rope_dimension_count(WIDTH // HEADS)
    if architecture in {"qwen3moe", "gemma2", "gemma3"}:
        writer.add_key_length(WIDTH // HEADS)
    if architecture in ROUTED:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(2)
    if architecture == "lfm2":
        writer.add_shortconv_l_cache(3)
    if architecture == "qwen35":
        _describe_qwen35(writer)
    if architecture not in {"gpt2", "lfm2", "qwen35"}:
        writer.add_vocab_size(VOCAB)


def _describe_qwen35(writer: gguf.GGUFWriter) -> None:
    writer.add_key_length(WIDTH // HEADS)
    for name, value in {
        "ssm.time_step_rank": 4,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 32,
        "ssm.group_count": 2,
        "ssm.inner_size": 128,
        "full_attention_interval": 2,
        "nextn_predict_layers": 1,
        "rope.dimension_count": 16,
    }.items():
        writer.add_uint32(f"qwen35.{name}", value)
    writer.add_array("qwen35.rope.dimension_sections", [3, 3, 2, 0])


def write_demo_tokenizer(writer: gguf.GGUFWriter) -> None:
    """The first tokens of the bundled vocabulary, and the merges among them."""
    stored = json.loads((BUNDLED["demo/base"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = [token for token, number in stored["vocab"].items() if number < VOCAB]
    tokens[:3] = ["<unk>", "<s>", "</s>"]  # as transformers names them, whatever the file says
    known = set(tokens)
    merges = [pair for pair in stored["merges"] if {*pair, "".join(pair)} <= known]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([3 if number < 6 else 6 if token.startswith("<0x") else 1
                            for number, token in enumerate(tokens)])  # fmt: skip
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


def write_bytes_tokenizer(writer: gguf.GGUFWriter) -> None:
    """A vocabulary of single bytes, some pairs, and an end token."""
    letters = sorted(ByteLevel.alphabet())
    pairs = [(first, second) for first in "taeio" for second in "nrsthe"]
    tokens = [*letters, *(first + second for first, second in pairs)]
    tokens += [f"<|{number}|>" for number in range(len(tokens), VOCAB)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_eos_token_id(VOCAB - 1)
    writer.add_add_bos_token(False)


def load_plain(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model as transformers loads it from the same file."""
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=dtype, quantization_config=GgufConfig(dequantize=True)
    ).eval()
