"""Batches of prompts, padded on the left with explicit positions, so that a row's output does not depend on
the others.

Padding is masked, so any token can fill it and a tokenizer without a pad token works. A model that reads
its padding all the same is detected once; then only prompts of equal length share a batch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from analysis.anatomy.contract import agree
from analysis.errors import HeadlampError
from analysis.intervening.interventions import Change, Intervention, intervene
from analysis.intervening.steps import Reach
from analysis.opening.models import LoadedModel
from analysis.running.continuing import check_continues

BATCH = 32
_FILLER = 0
"""The token id used as padding; it is masked, so any would do."""

_known: WeakKeyDictionary[LoadedModel, bool] = WeakKeyDictionary()
_table = threading.Lock()


@dataclass(frozen=True)
class Batch:
    """Sequences side by side. ids, positions (B, T): positions are −1 at padding, which is on the left.

    prompt_lengths: where each row's answer begins. examples: a number per row, determined by its prompt.
    indices: which of the given sequences each row is.
    """

    ids: Tensor
    positions: Tensor
    prompt_lengths: tuple[int, ...]
    examples: tuple[int, ...]
    indices: tuple[int, ...]

    @property
    def mask(self) -> Tensor | None:
        """(B, T) 1 where there is a token; None where there is no padding at all."""
        real = (self.positions >= 0).long()
        return None if bool(real.all()) else real


def make_batches(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int] | None = None,
    size: int = BATCH,
) -> Iterator[Batch]:
    """Group sequences (token ids) into batches of similar length, longest last; each sequence once.

    prompt_lengths: how many leading tokens of each sequence are the prompt; None: all.
    """
    if not 1 <= size <= 4096:
        raise HeadlampError(f"batch size {size}: choose 1 to 4096")
    check_continues(loaded)
    lengths = [len(s) for s in sequences] if prompt_lengths is None else list(prompt_lengths)
    order = sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i))
    for indices in _group_lengths(loaded, sequences, order, size):
        yield _batch(loaded, [sequences[i] for i in indices], [lengths[i] for i in indices], indices)


def example_number(prompt: Sequence[int]) -> int:
    """A number in [0, 2⁶²) determined by a prompt's token ids."""
    digest = hashlib.sha256(",".join(map(str, prompt)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def run_batch(
    loaded: LoadedModel, batch: Batch, interventions: Sequence[Intervention] = (), last_only: bool = True
) -> tuple[Tensor, Reach]:
    """(B, T or 1, V) logits of a batch in the model's dtype, without the head's padding rows, −∞ at holes."""
    logits, reach = _run(loaded, batch, interventions, last_only)
    return loaded.vocabulary.restrict(logits), reach


def _run(
    loaded: LoadedModel, batch: Batch, interventions: Sequence[Intervention] = (), last_only: bool = True
) -> tuple[Tensor, Reach]:
    """(B, T or 1, V) logits of a batch without the head's padding rows; all finite at the last position."""
    with _reached(loaded, batch, interventions) as reach, torch.inference_mode():
        positions = batch.positions.clamp(min=0)
        logits = loaded.model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=positions,
            use_cache=False,
            **({"logits_to_keep": 1} if last_only else {}),
        ).logits
    return require_finite(loaded, logits[..., : len(loaded.vocabulary)], interventions), reach


def require_finite(loaded: LoadedModel, logits: Tensor, interventions: Sequence[Intervention]) -> Tensor:
    """Return the logits if they are finite. Raises HeadlampError, naming the model or the change as the
    cause.
    """
    if not bool(torch.isfinite(logits[:, -1]).all()):
        changed = any(isinstance(item, Change) for item in interventions)
        who = "the interventions drove the model" if changed else f"{loaded.ref.name} itself runs"
        raise HeadlampError(f"{who} to NaN or infinity in {loaded.dtype}; use smaller values, or float32")
    return logits


def _reached(loaded: LoadedModel, batch: Batch, interventions: Sequence[Intervention]) -> Any:
    return intervene(
        loaded,
        interventions,
        positions=batch.positions,
        prompt_length=batch.prompt_lengths,
        examples=batch.examples,
    )


def _batch(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], lengths: Sequence[int], indices: Sequence[int]
) -> Batch:
    width = max(len(s) for s in sequences)
    ids = torch.tensor([[_FILLER] * (width - len(s)) + list(s) for s in sequences], device=loaded.device)
    start = torch.tensor([width - len(s) for s in sequences], device=loaded.device)[:, None]
    positions = (torch.arange(width, device=loaded.device)[None] - start).clamp(min=-1)
    examples = tuple(example_number(s[:n]) for s, n in zip(sequences, lengths, strict=True))
    return Batch(ids, positions, tuple(lengths), examples, tuple(indices))


def _group_lengths(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], order: Sequence[int], size: int
) -> Iterator[list[int]]:
    """Which sequences share a batch."""
    pads = size > 1 and len({len(s) for s in sequences}) > 1 and takes_padding(loaded)
    shared: list[int] = []
    for index in order:
        other_length = bool(shared) and len(sequences[index]) != len(sequences[shared[0]])
        if shared and (len(shared) == size or (other_length and not pads)):
            yield shared
            shared = []
        shared.append(index)
    if shared:
        yield shared


def takes_padding(loaded: LoadedModel) -> bool:
    """Whether left padding leaves a row's logits unchanged; tried once per model."""
    with _table:
        known = _known.get(loaded)
    if known is None:
        known = _takes_padding(loaded)
        with _table:
            _known[loaded] = known
    return known


def _takes_padding(loaded: LoadedModel) -> bool:
    size = len(loaded.vocabulary)
    short, long = [(5 * i + 1) % size for i in range(4)], [(3 * i + 2) % size for i in range(9)]
    alone = _batch(loaded, [short], [4], [0])
    both = _batch(loaded, [short, long], [4, 9], [0, 1])
    try:
        padded = _run(loaded, both)[0][:1]
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False  # whatever it raised, it takes no mask
    return agree(padded, _run(loaded, alone)[0])
