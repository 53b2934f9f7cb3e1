"""Tiny random models of every family this version promises, in memory and as folders on disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from analysis.anatomy.structure import find_anatomy
from analysis.opening.models import LoadedModel, ModelRef

VOCAB = 97
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "num_experts": 4, "decoder_sparse_step": 1}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "llama": ("LlamaConfig", COMMON),
    "mistral": ("MistralConfig", COMMON),
    "qwen2": ("Qwen2Config", COMMON),
    "qwen3": ("Qwen3Config", COMMON),
    "gemma": ("GemmaConfig", COMMON),
    "gemma2": ("Gemma2Config", COMMON),
    "phi3": ("Phi3Config", COMMON),
    "mixtral": ("MixtralConfig", COMMON | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": ("Qwen2MoeConfig", COMMON | MOE | {"shared_expert_intermediate_size": 40}),
}
DENSE = [name for name in FAMILIES if name not in ("mixtral", "qwen2_moe")]


def tiny_model(family: str, seed: int = 0, **changed: Any) -> PreTrainedModel:
    """A random float32 model of a family; every weight, norm and bias is off its default."""
    class_name, settings = FAMILIES[family]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(getattr(transformers, class_name)(**settings | changed)).eval()
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data = noise * 0.3 if parameter.dim() > 1 else parameter.data + noise * 0.1
    return model.requires_grad_(False)


def tiny_tokenizer(words: list[str] | None = None) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of VOCAB entries: special tokens, then words with their leading space."""
    named = ["<pad>", "<s>", "</s>", "<unk>", "a", " dog", "dog", " Dog", " cat", " the", " is", " my"]
    named += words or ["<script>alert(1)</script>", " <b>x</b>", " $x$"]
    named += [f" w{i}" for i in range(VOCAB - len(named))]
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(named)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_pattern(), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _pattern() -> Any:
    from tokenizers import Regex

    return Regex(r" ?[^ ]+")


def loaded_from(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None = None) -> LoadedModel:
    """A LoadedModel around a model that was built in memory."""
    return LoadedModel(
        ModelRef("tiny", dtype="float32"),
        Path("."),
        model,
        tokenizer or tiny_tokenizer(),
        find_anatomy(model),
        "0" * 64,
    )


def lock_is_free(loaded: LoadedModel) -> bool:
    """Whether another thread could take the model's lock now; this one could take it twice."""

    def attempt() -> bool:
        taken = loaded.lock.acquire(blocking=False)
        if taken:
            loaded.lock.release()
        return taken

    with ThreadPoolExecutor(1) as other:
        return other.submit(attempt).result()


@pytest.fixture
def tiny() -> Callable[[str], LoadedModel]:
    """tiny(family) → a freshly built LoadedModel."""
    return lambda family: loaded_from(tiny_model(family))


@pytest.fixture
def llama() -> LoadedModel:
    """A tiny random Llama of 2 layers with 56 neurons each, context 64."""
    return loaded_from(tiny_model("llama"))


@pytest.fixture
def tiny_of() -> Callable[[str], LoadedModel]:
    """tiny_of(family) → a tiny random model."""
    return lambda family: loaded_from(tiny_model(family))


@pytest.fixture
def llama_folder(tmp_path: Path) -> Path:
    """A tiny Llama with its tokenizer, saved as safetensors."""
    folder = tmp_path / "tiny-llama"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
