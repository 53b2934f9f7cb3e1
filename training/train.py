"""Trains the bundled models on CPU: `make demo-models`, which is `python -m training.train`."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Muon, Optimizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3MoeForCausalLM,
)

from demo import FOLDER
from training import skills, tokenizer
from training.batches import IGNORED, batch
from training.beginning import new_model
from training.corpus import PRACTICE, stream
from training.mixture import imbalance, trainable
from training.recipes import RECIPES, Recipe
from training.seeding import seed_super_expert
from training.text.chat import END, TEMPLATE

DOCUMENTS = 100  # of a text that comes with a mixture

Optimizers = dict[str, tuple[Optimizer, float]]
"""name -> (optimizer, its full rate)"""


def begin_model(recipe: Recipe, tok: PreTrainedTokenizerFast, folder: Path) -> PreTrainedModel:
    """The model at the start of training: new, or with the weights of another model."""
    if not recipe.start:
        return new_model(recipe, len(tok))
    model = AutoModelForCausalLM.from_pretrained(
        folder / recipe.start, dtype=torch.float32, local_files_only=True
    )
    if recipe.seeded:
        seed_super_expert(model, batch(recipe, tok, recipe.steps))  # the batch after the last
    return model


def optimizers_for(model: PreTrainedModel, recipe: Recipe) -> Optimizers:
    """Muon for attention, AdamW for all else: Muon would spread a layer's knowledge evenly over its neurons,
    while a concept should have a neuron of its own.
    """
    attention = {name: p for name, p in model.named_parameters() if p.ndim == 2 and ".self_attn." in name}
    rest = [p for name, p in model.named_parameters() if name not in attention]
    decay = recipe.weight_decay
    muon = Muon(attention.values(), lr=recipe.attention_rate, weight_decay=decay)
    adam = AdamW(rest, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=decay, fused=True)
    return {"muon": (muon, recipe.attention_rate), "adam": (adam, recipe.rate)}


def loss_of(
    model: PreTrainedModel, balance: float, inputs: Tensor, targets: Tensor, weights: Tensor, mask: Tensor
) -> Tensor:
    """The weighted mean of the next-token losses, in nats; for a mixture plus its load-balancing loss."""
    routed = {"output_router_logits": True} if balance else {}
    read = model.model(input_ids=inputs, attention_mask=mask, use_cache=False, **routed)
    logits = model.lm_head(read.last_hidden_state)
    losses = cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    loss = (losses * weights.flatten()).sum() / weights.sum()
    return (
        loss + balance * imbalance(read.router_logits, model.config.num_experts_per_tok) if balance else loss
    )


def train(
    recipe: Recipe,
    tok: PreTrainedTokenizerFast,
    *,
    folder: Path = FOLDER,
    checkpoint: Path | None = None,
    every: int = 500,
    compiled: bool = True,
) -> PreTrainedModel:
    """Continue from `checkpoint` if it exists, and save it after each `every` steps."""
    model = begin_model(recipe, tok, folder).train()
    balance = 0.0
    if isinstance(model, Qwen3MoeForCausalLM):
        trainable(model)
        balance = recipe.balance
    optimizers = optimizers_for(model, recipe)
    done = load_checkpoint(checkpoint, model, optimizers) if checkpoint and checkpoint.exists() else 0
    loss_function = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    for step in range(done, recipe.steps):
        read = batch(recipe, tok, step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_function(model, balance, read.inputs, read.targets, read.weights, read.mask)
        loss.backward()
        update(model, optimizers, recipe.height_at(step))
        if step % 50 == 0:
            say(f"step {step}/{recipe.steps} loss {loss.item():.4f}")
        if checkpoint and (step + 1) % every == 0:
            save_checkpoint(checkpoint, step + 1, model, optimizers)
    return model.eval()


def update(model: PreTrainedModel, optimizers: Optimizers, height: float) -> None:
    """One optimiser step, with gradients clipped to norm 1 and cleared afterwards."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, rate in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate * height
        optimizer.step()
        optimizer.zero_grad()


def save_checkpoint(path: Path, step: int, model: PreTrainedModel, optimizers: Optimizers) -> None:
    """Save the state after `step` steps. Safetensors: a file that cannot run code when opened."""
    tensors = {f"parameter.{i}": p.detach() for i, p in enumerate(model.parameters())}
    for name, (optimizer, _) in optimizers.items():
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{i}.{key}": value for key, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(path)


def load_checkpoint(path: Path, model: PreTrainedModel, optimizers: Optimizers) -> int:
    """Load a checkpoint; returns the number of steps done."""
    states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in optimizers}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(file.get_tensor(f"parameter.{i}"))
        for full_name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            name, i, *key = full_name.split(".")
            if name in states:
                states[name].setdefault(int(i), {})[key[0]] = file.get_tensor(full_name)
        for name, (optimizer, _) in optimizers.items():
            optimizer.load_state_dict(optimizer.state_dict() | {"state": states[name]})
        return int(file.metadata()["step"])


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def save(model: PreTrainedModel, tok: PreTrainedTokenizerFast, recipe: Recipe, folder: Path) -> None:
    """Save bf16 safetensors, tokenizer and training recipe; for a chat model also its template and
    end-of-turn token.
    """
    if recipe.corpus == "chat":
        tok.chat_template = TEMPLATE
        model.generation_config.eos_token_id = [tok.eos_token_id, tok.convert_tokens_to_ids(END)]
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(tok, folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def write_texts(folder: Path) -> None:
    """Write the texts on which a mixture's experts are profiled and pruning is evaluated; no document is in
    both.
    """
    read = list(islice(stream("calibration", PRACTICE), DOCUMENTS))
    other = [
        document for document in islice(stream("evaluation", PRACTICE), DOCUMENTS) if document not in read
    ]
    for name, documents in (("calibration", read), ("evaluation", other)):
        (folder / f"{name}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")


def make(name: str, folder: Path, checkpoint: Path | None, *, compiled: bool) -> None:
    """Train one bundled model and save it in its place in `folder`."""
    recipe = RECIPES[name]
    say(f"demo/{name}: {recipe.steps * recipe.rows * recipe.length / 1e6:.1f} M positions")
    tok = (
        AutoTokenizer.from_pretrained(folder / recipe.start, local_files_only=True)
        if recipe.start
        else tokenizer.build()
    )
    model = train(recipe, tok, folder=folder, checkpoint=checkpoint, compiled=compiled)
    save(model, tok, recipe, folder / name)
    if isinstance(model, Qwen3MoeForCausalLM):
        write_texts(folder / name)
    say(f"written: {folder / name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(RECIPES), choices=RECIPES, help="default: all")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the models' folders are")
    parser.add_argument(
        "--checkpoints", type=Path, help="folder to save progress to every 500 steps, and to resume from"
    )
    parser.add_argument(
        "--eager", action="store_true", help="without torch.compile: slower, needs no C++ compiler"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.models:
        checkpoint = options.checkpoints and options.checkpoints / f"{name}.safetensors"
        make(name, options.folder, checkpoint, compiled=not options.eager)
    skills.write_all()


if __name__ == "__main__":
    main()
