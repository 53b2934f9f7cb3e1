"""Trains `demo/base` on CPU: `make demo-models`, which is `python -m demo.train`. RECIPE has the sizes.

Batch number s is a pure function of (seed, s): a run that was cut off resumes from its checkpoint and reads
exactly what an uncut run would have read."""

import argparse
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo import skills, tokenizer
from demo.corpus import BROAD, FOCUSED, PRACTICE, SEED, document

FOLDER = Path(__file__).parent / "base"
IGNORED = -100  # cross_entropy's own mark for positions without a loss
ANSWER = re.compile(r"^(?:Answer:|Réponse :|Respuesta:|#[^:\n]*:|#)( [^\n]+)", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. steps × rows × length positions are read."""

    seed: int = SEED
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 1024
    rows: int = 16
    length: int = 256
    steps: int = 5600
    rate_line: tuple[tuple[int, float], ...] = (
        (0, 0.005),
        (199, 1.0),
        (3000, 1.0),
        (4000, 0.5),
        (5000, 0.25),
        (5600, 0.0),
    )
    rate: float = 2e-3
    weight_decay: float = 0.1
    answer_weight: float = 5.0  # a token of an answer counts so much more than one of free text

    def rate_at(self, step: int) -> float:
        """`rate` times the height of `rate_line`, (step, height) corners joined by straight lines."""
        ends = zip(self.rate_line, self.rate_line[1:], strict=False)
        (x0, y0), (x1, y1) = next(pair for pair in ends if pair[1][0] > step)
        return self.rate * (y0 + (y1 - y0) * (step - x0) / (x1 - x0))


RECIPE = Recipe()
STAGES = ((4000, PRACTICE), (2000, FOCUSED), (0, BROAD))
"""(from this step on, documents of these kinds), the last stage first."""


def new_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings; ids of <pad>, <bos>, <eos> as in the tokenizer."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        rms_norm_eps=1e-5,
        initializer_range=0.02,
    )
    return LlamaForCausalLM(config)


def encode(recipe: Recipe, tok: PreTrainedTokenizerFast, text: str) -> tuple[list[int], list[float]]:
    """(ids, weights) of one document, <bos> and <eos> included; a weight is that of predicting its token."""
    encoded = tok(text, return_offsets_mapping=True)
    spans = [match.span(1) for match in ANSWER.finditer(text)]
    inside = [any(start <= first < end for start, end in spans) for first, _ in encoded.offset_mapping]
    weights = [recipe.answer_weight if answer else 1.0 for answer in inside]
    return encoded.input_ids + [tok.eos_token_id], weights + [1.0]


def batch(recipe: Recipe, tok: PreTrainedTokenizerFast, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """(inputs, targets, weights), each (rows, length): whole documents, packed first-fit into rows."""
    rng = Random(f"batch-{recipe.seed}-{step}")
    kinds = next(kinds for first, kinds in STAGES if step >= first)
    rows: list[tuple[list[int], list[float]]] = [([], []) for _ in range(recipe.rows)]
    misses = 0
    while misses < 12:  # so many documents in a row fit nowhere: the rows are nearly full
        ids, weights = encode(recipe, tok, document(rng, kinds))
        row = next((r for r in rows if len(r[0]) + len(ids) <= recipe.length + 1), None)
        misses += row is None
        if row is not None:
            row[0].extend(ids)
            row[1].extend(weights)
    whole = torch.full((recipe.rows, recipe.length + 1), IGNORED)
    weight = torch.zeros(recipe.rows, recipe.length + 1)
    for i, (ids, weights) in enumerate(rows):
        whole[i, : len(ids)] = torch.tensor(ids)
        weight[i, : len(ids)] = torch.tensor(weights)
    return whole[:, :-1].clamp_min(0), whole[:, 1:].contiguous(), weight[:, 1:].contiguous()


def optimizer_for(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.rate,
        betas=(0.9, 0.95),
        fused=True,
    )


def loss_of(model: LlamaForCausalLM, inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the next-token losses, in nats."""
    logits = model(input_ids=inputs, use_cache=False).logits
    losses = cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return (losses * weights.flatten()).sum() / weights.sum()


def train(
    recipe: Recipe,
    tok: PreTrainedTokenizerFast,
    *,
    checkpoint: Path | None = None,
    every: int = 500,
    compiled: bool = True,
) -> LlamaForCausalLM:
    """Go on from `checkpoint` where it exists, and write it after each `every` steps."""
    model = new_model(recipe, len(tok)).train()
    optimizer = optimizer_for(model, recipe)
    done = load_checkpoint(checkpoint, model, optimizer) if checkpoint and checkpoint.exists() else 0
    loss_function = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    for step in range(done, recipe.steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_function(model, *batch(recipe, tok, step))
        loss.backward()
        update(model, optimizer, recipe.rate_at(step))
        if step % 50 == 0:
            say(f"step {step}/{recipe.steps} loss {loss.item():.4f} rate {recipe.rate_at(step):.2e}")
        if checkpoint and (step + 1) % every == 0:
            save_checkpoint(checkpoint, step + 1, model, optimizer)
    return model.eval()


def update(model: LlamaForCausalLM, optimizer: torch.optim.AdamW, rate: float) -> None:
    """One step along the gradients, whose norm is clipped to 1; they are gone afterwards."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def save_checkpoint(path: Path, step: int, model: LlamaForCausalLM, optimizer: torch.optim.AdamW) -> None:
    """`step` steps are done. Safetensors: a file that cannot run code when it is opened."""
    tensors = {f"parameter.{i}": p.detach() for i, p in enumerate(model.parameters())}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(path)


def load_checkpoint(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW) -> int:
    """The number of steps that are done."""
    adam: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(file.get_tensor(f"parameter.{i}"))
        for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            if name.startswith("adam."):
                _, i, key = name.split(".")
                adam.setdefault(int(i), {})[key] = file.get_tensor(name)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": adam})
        return int(file.metadata()["step"])


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def save(model: LlamaForCausalLM, tok: PreTrainedTokenizerFast, recipe: Recipe, folder: Path) -> None:
    """bf16 safetensors, tokenizer, and the recipe that made them."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(tok, folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write")
    parser.add_argument(
        "--checkpoint", type=Path, help="file to save progress to every 500 steps, and to resume from"
    )
    parser.add_argument(
        "--eager", action="store_true", help="without torch.compile: slower, needs no C++ compiler"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = RECIPE
    say(f"{recipe.steps * recipe.rows * recipe.length / 1e6:.1f} M positions, about an hour")
    tok = tokenizer.build()
    model = train(recipe, tok, checkpoint=options.checkpoint, compiled=not options.eager)
    save(model, tok, recipe, options.out)
    skills.write_all()
    say(f"written: {options.out}")


if __name__ == "__main__":
    main()
