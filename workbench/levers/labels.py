"""Neurons whose label is a word: the first half of a shortlist (METHODS §2, "Levers")."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from analysis.errors import UnknownWord
from analysis.neurons.decoding import NeuronNorm, read_block_vectors
from analysis.neurons.word_search import score_word
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import find_word_tokens
from analysis.pulse import Pulse

_READ: dict[str, tuple[Site, NeuronNorm, int]] = {
    "down": ("down", "none", 1),
    "final": ("down", "final", 2),
    "up": ("up", "none", 2),
    "gate": ("gate", "none", 2),
}
"""Label → site, norm, and by how much fewer neurons it gives than down."""


def rank_labels(
    loaded: LoadedModel,
    word: str,
    first_pieces: Sequence[int],
    sites: Sequence[str],
    top: int,
    pulse: Pulse = lambda done, total: None,
) -> dict[NeuronAddress, float]:
    """The neurons with the largest |z| at each site, each with its largest.

    first_pieces: tokens that stand for a word that is no single token. top: of down; others give half.
    """
    try:
        tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, word)
    except UnknownWord:
        tokens = tuple(dict.fromkeys(first_pieces))
    found: dict[NeuronAddress, float] = {}
    for name in sites:
        site, norm, share = _READ[name]
        if site in loaded.anatomy.sites:
            for address, z in _rank(loaded, tokens, site, norm, max(1, top // share), pulse):
                found[address] = max(found.get(address, 0.0), z)
    return found


def _rank(
    loaded: LoadedModel, tokens: tuple[int, ...], site: Site, norm: NeuronNorm, count: int, pulse: Pulse
) -> list[tuple[NeuronAddress, float]]:
    """The `count` neurons with the largest |z| at one site."""
    blocks = [block for block in loaded.anatomy.blocks if site != "gate" or block.gated]
    best: list[tuple[NeuronAddress, float]] = []
    for block in blocks:
        pulse(0, 0)
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)
        with torch.inference_mode():
            z = score_word(vectors, loaded.head, tokens).z_scores.abs().amax(-1)
        values, places = z.topk(min(count, len(z)))
        best += [
            (NeuronAddress(block.address, place), value)
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
        ]
    return sorted(best, key=lambda pair: -pair[1])[:count]
