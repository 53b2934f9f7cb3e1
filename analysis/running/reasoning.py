"""Reasoning blocks: what a model writes between <think> and </think> before its answer."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.opening.models import LoadedModel

OPEN, CLOSE = "<think>", "</think>"
_TAIL = 16
"""Tokens at a prompt's end that are read to see whether it opens a block."""


def split_reasoning(text: str, opened: bool = False) -> tuple[str | None, str]:
    """(reasoning, answer) of an answer that begins with a block; (None, text) of any other.

    opened: whether the prompt has opened the block. The answer of an unfinished block is empty.
    """
    start = text.lstrip()
    if start.startswith(OPEN):
        start = start.removeprefix(OPEN)
    elif opened:
        start = text
    else:
        return None, text
    reasoning, _, answer = start.partition(CLOSE)
    return reasoning, answer


def opens_reasoning(loaded: LoadedModel, ids: Sequence[int]) -> bool:
    """Whether a prompt (token ids) ends by opening a reasoning block, as some templates do."""
    return str(loaded.tokenizer.decode(list(ids[-_TAIL:]))).rstrip().endswith(OPEN)
