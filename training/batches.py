"""Batches of the corpus for training.

Batch number s is a pure function of (seed, s): an interrupted run resumes from its checkpoint and reads
exactly the same batches."""

import re
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.corpus import document
from training.recipes import CORPORA, Recipe

IGNORED = -100  # cross_entropy's index for positions without a loss
ANSWER = re.compile(
    r"(?:<\|assistant\|>|^(?:Answer:|Réponse :|Respuesta:|#[^:\n]*:|#(?![^\n]*[?:]$)))"
    r"( (?:(?!<\|)[^\n])+(?:<\|end\|>)?)",
    re.MULTILINE,
)


def encode(
    recipe: Recipe, tok: PreTrainedTokenizerFast, text: str, free: float = 1.0
) -> tuple[list[int], list[float]]:
    """(ids, weights) of one document, <bos> and <eos> included; a weight applies to the prediction of its
    token and is `free` outside answers.
    """
    encoded = tok(text, return_offsets_mapping=True)
    spans = [match.span(1) for match in ANSWER.finditer(text)]
    inside = [any(start <= first < end for start, end in spans) for first, _ in encoded.offset_mapping]
    weights = [recipe.answer_weight if answer else free for answer in inside]
    return encoded.input_ids + [tok.eos_token_id], weights + [free]


@dataclass(frozen=True)
class Batch:
    """Each (rows, length): input and target ids, the targets' weights, the document index of each input."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    documents: Tensor

    @property
    def mask(self) -> Tensor:
        """(rows, 1, length, length), bool: a token sees its own document up to itself."""
        return (self.documents[:, :, None] == self.documents[:, None, :]).tril()[:, None]


def batch(recipe: Recipe, tok: PreTrainedTokenizerFast, step: int) -> Batch:
    """Pack whole documents first-fit into rows."""
    rng = Random(f"batch-{recipe.seed}-{step}")
    _, kinds, free = next(stage for stage in CORPORA[recipe.corpus] if step >= stage[0])
    rows: list[list[tuple[list[int], list[float]]]] = [[] for _ in range(recipe.rows)]
    left = [recipe.length + 1] * recipe.rows
    misses = 0
    while misses < 12:  # several documents in a row did not fit: the rows are nearly full
        ids, weights = encode(recipe, tok, document(rng, kinds), free)
        row = next((i for i, room in enumerate(left) if len(ids) <= room), None)
        misses += row is None
        if row is not None:
            rows[row].append((ids, [0.0, *weights[1:]]))  # <bos> cannot be predicted from what precedes it
            left[row] -= len(ids)
    shape = (recipe.rows, recipe.length + 1)
    whole, weight, number = torch.full(shape, IGNORED), torch.zeros(shape), torch.full(shape, -1)
    for i, packed in enumerate(rows):
        used = recipe.length + 1 - left[i]
        whole[i, :used] = torch.tensor([t for ids, _ in packed for t in ids])
        weight[i, :used] = torch.tensor([w for _, weights in packed for w in weights])
        number[i, :used] = torch.tensor([n for n, (ids, _) in enumerate(packed) for _ in ids])
    return Batch(
        whole[:, :-1].clamp_min(0), whole[:, 1:].contiguous(), weight[:, 1:].contiguous(), number[:, :-1]
    )
