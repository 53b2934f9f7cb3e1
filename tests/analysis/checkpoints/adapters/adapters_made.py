"""Random LoRA adapters of tiny models, made by peft, and what peft itself makes of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.analysis.conftest import tiny_model, tiny_tokenizer

IDS = torch.tensor([[1, 5, 9, 40, 7, 96, 3]])


def made_base(folder: Path, family: str = "llama", **changed: Any) -> Path:
    """A tiny model of a family, with its tokenizer, in a folder."""
    tiny_model(family, **changed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def made_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """A LoRA adapter for the model in a folder; every number that was trained is random."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given: dict[str, Any] = {"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"} | settings
        config = LoraConfig(**given)
        model = get_peft_model(opened(base), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.2
        model.save_pretrained(str(folder))
    return folder


def opened(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def peft_logits(base: Path, adapter: Path, *, merged: bool = True) -> Tensor:
    """(T, V) logits of the model with the adapter, as peft merges it or as it runs it beside the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(opened(base), adapter).eval()
        found = model.merge_and_unload() if merged else model
        with torch.inference_mode():
            return found(IDS).logits[0]


def logits(model: PreTrainedModel) -> Tensor:
    """(T, V) logits of a model that is open."""
    with torch.inference_mode():
        return model(IDS).logits[0]
