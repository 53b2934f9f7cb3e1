"""Where a query's key is taken: at the last token fed, at the last one typed, as the mean over what was
typed, or at the first and the last of these.

Behind a chat template the last token fed is the template's own, whatever was asked; the last one typed, and
the mean, are of the question itself. Without a template both ends are what was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import HeadlampError, SkillError
from analysis.intervening.clamps import ClampSite
from analysis.intervening.interventions import Observe
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH, make_batches, run_batch
from analysis.running.prompts import encode_prompt
from analysis.running.templates import has_template

KeyPlace = Literal["last", "user_last", "user_mean", "both"]
KEY_PLACES: tuple[KeyPlace, ...] = get_args(KeyPlace)
SAMPLES, SAMPLED_TOKENS = ("A cat?", "Thank you.", "7 of 9"), 12
"""Prompts whose common beginning and end are the template's: these, and so many single tokens."""

Take = Callable[[int, BlockAddress, Tensor, Tensor], None]
"""Called with the number of a place, a block, which queries (n,), and their keys (n, m)."""

_known: WeakKeyDictionary[LoadedModel, tuple[int, int]] = WeakKeyDictionary()


def find_surroundings(loaded: LoadedModel) -> tuple[int, int]:
    """How many tokens stand before and behind what is typed: a template's, or those that begin a text."""
    if loaded not in _known:
        _known[loaded] = _find_template(loaded) if has_template(loaded) else (_count_beginning(loaded), 0)
    return _known[loaded]


def _count_beginning(loaded: LoadedModel) -> int:
    bare = loaded.tokenizer.encode(SAMPLES[0], add_special_tokens=False)
    return max(0, len(encode_prompt(loaded, SAMPLES[0])) - len(bare))


def _find_template(loaded: LoadedModel) -> tuple[int, int]:
    samples = list(_sample_prompts(loaded))
    longer = [ids for ids in samples if len(ids) > min(map(len, samples))]  # some texts may be dropped
    samples = longer if len(longer) > 1 else samples or [[0]]
    return _common(samples), _common([ids[::-1] for ids in samples])


def _sample_prompts(loaded: LoadedModel) -> Iterator[list[int]]:
    """Prompts as they are fed; none if the context is too short for the template."""
    step = max(1, len(loaded.vocabulary) // SAMPLED_TOKENS)
    tokens = (loaded.tokenizer.decode([i]).strip() for i in range(step - 1, len(loaded.vocabulary), step))
    for text in (*SAMPLES, *tokens):
        with suppress(HeadlampError):
            yield encode_prompt(loaded, text)


def _common(samples: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all have in common."""
    shortest = min(map(len, samples)) - 1
    return next((i for i in range(shortest) if len({ids[i] for ids in samples}) > 1), shortest)


def list_places(key: KeyPlace) -> tuple[KeyPlace, ...]:
    """The places of a key; only `both` has two. Raises SkillError for one that does not exist."""
    if key not in KEY_PLACES:
        raise SkillError(f"key {key!r} is unknown; choose {', '.join(KEY_PLACES)}")
    return ("last", "user_mean") if key == "both" else (key,)


def mark_places(loaded: LoadedModel, place: KeyPlace, positions: Tensor, lengths: Tensor) -> Tensor:
    """(B, T) which positions a key is taken from; positions (B, T) are −1 at padding, lengths (B,)
    prompts'.
    """
    ends = lengths.to(positions.device)[:, None] - 1
    if place == "last":
        return positions == ends
    before, behind = find_surroundings(loaded)
    ends = (ends - behind).clamp(min=0)
    if place == "user_last":
        return positions == ends
    return (positions >= torch.minimum(ends, torch.full_like(ends, before))) & (positions <= ends)


def reduce_rows(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (r,) that have values (n, m) and the mean (r, m) of each, float32. rows (n,) ascending."""
    found, place, counts = torch.unique_consecutive(rows, return_inverse=True, return_counts=True)
    if len(found) == len(rows):
        return rows, values.float()
    sums = torch.zeros(len(found), values.shape[-1], device=values.device)
    return found, sums.index_add_(0, place, values.float()) / counts[:, None]


def read_keys(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    blocks: Sequence[Block],
    places: Sequence[KeyPlace],
    take: Take,
    *,
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> None:
    """Hand over the keys of prompts (token ids) in some dense blocks, float32, batch by batch."""
    done = 0
    for batch in make_batches(loaded, prompts, size=batch_size):
        lengths = torch.tensor(batch.prompt_lengths)
        watching = [
            _watch(number, blocks, mark_places(loaded, place, batch.positions, lengths), batch.indices, take)
            for number, place in enumerate(places)
        ]
        run_batch(loaded, batch, watching)
        done += len(batch.indices)
        pulse(done, len(prompts))


def _watch(
    number: int, blocks: Sequence[Block], where: Tensor, indices: Sequence[int], take: Take
) -> Observe:
    which = torch.tensor(indices)

    def see(block: Block, site: ClampSite, values: Tensor, rows: Tensor, positions: Tensor) -> None:
        found, keys = reduce_rows(rows, values)
        take(number, block.address, which[found.cpu()], keys)

    return Observe(tuple(blocks), see, ("key",), where)
