"""A text cut into calibration windows and evaluation windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from analysis.errors import EmptyPrompt, TextError
from analysis.opening.models import LoadedModel
from analysis.running.prompts import read_added_tokens, reference_passages, refuse_unknown_ids

EVALUATION = Path(__file__).parent / "evaluation.txt"
LONGEST = 2048
"""Longest window, and approximate batch size, in tokens."""
EVERY = 4
"""Every fourth window of a text is held out for evaluation."""

Window = tuple[int, ...]


@cache
def reference_text() -> str:
    """The bundled calibration text."""
    return "\n\n".join(reference_passages())


@cache
def evaluation_text() -> str:
    """The bundled evaluation text."""
    return EVALUATION.read_text(encoding="utf-8").strip()


def cut_windows(loaded: LoadedModel, text: str, longest: int = LONGEST) -> tuple[Window, ...]:
    """Cut a text's token ids into windows of min(longest, context) tokens, without overlap.

    Each window begins with the tokenizer's prefix tokens (`<bos>`), which count. The last window holds the
    rest. Raises EmptyPrompt, TextError for a text of one token.
    """
    if not text.strip():
        raise EmptyPrompt("the text is empty; give one of at least a few hundred words")
    ids = [int(i) for i in loaded.tokenizer.encode(text, add_special_tokens=False, verbose=False)]
    if len(ids) < 2:
        raise TextError(
            f"the text is {len(ids)} token long, so there is no next token to predict; "
            "give one of at least a few hundred words"
        )
    refuse_unknown_ids(loaded, ids)
    prefix = read_prefix_tokens(loaded)
    length = min(longest, loaded.anatomy.context) - len(prefix)
    windows = [tuple(prefix + ids[start : start + length]) for start in range(0, len(ids), length)]
    return tuple(window for window in windows if len(window) > 1)


def read_prefix_tokens(loaded: LoadedModel) -> list[int]:
    """The special tokens that the tokenizer puts before a text; none for many models."""
    return read_added_tokens(loaded.tokenizer)[0]


def split_windows(windows: Sequence[Window]) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """(calibration, evaluation) windows: every fourth one is for evaluation, or the last of fewer than four.

    A single window leaves none for evaluation.
    """
    chosen = set(range(EVERY - 1, len(windows), EVERY)) or ({len(windows) - 1} if len(windows) > 1 else set())
    return (
        tuple(w for i, w in enumerate(windows) if i not in chosen),
        tuple(w for i, w in enumerate(windows) if i in chosen),
    )


def window_batches(windows: Sequence[Window], tokens: int = LONGEST) -> tuple[tuple[Window, ...], ...]:
    """Batch the windows in order: equal lengths together, up to a number of tokens."""
    together: list[tuple[Window, ...]] = []
    for length, group in groupby(windows, key=len):
        members = tuple(group)
        size = max(tokens // length, 1)
        together += [members[i : i + size] for i in range(0, len(members), size)]
    return tuple(together)
