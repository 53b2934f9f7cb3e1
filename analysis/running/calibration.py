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
WANTED, SHORTEST = 20, 16
"""How many windows an evaluation text is cut into at least, and the fewest tokens of the text in one."""

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


def choose_window_length(loaded: LoadedModel, windows: Sequence[Window]) -> int:
    """Tokens, prefix included, of the windows that cut these into 20 or more: min(2,048, context, text / 20).

    A text of less than 20 × 16 tokens gives fewer windows.
    """
    prefix = len(read_prefix_tokens(loaded))
    tokens = sum(len(window) - prefix for window in windows)
    return min(LONGEST, loaded.anatomy.context, prefix + max(tokens // WANTED, SHORTEST))


def cut_shorter(loaded: LoadedModel, windows: Sequence[Window], longest: int) -> tuple[Window, ...]:
    """Cut each window into windows of at most `longest` tokens, each behind the prefix tokens."""
    prefix = tuple(read_prefix_tokens(loaded))
    length = max(min(longest, loaded.anatomy.context) - len(prefix), 1)
    texts = [window[len(prefix) :] for window in windows]
    shorter = [prefix + ids[start : start + length] for ids in texts for start in range(0, len(ids), length)]
    return tuple(window for window in shorter if len(window) > 1)


def cut_as_released(loaded: LoadedModel, windows: Sequence[Window]) -> tuple[Window, ...]:
    """The text of windows as the code of the super-expert paper cuts it: min(2,048, context) tokens each,
    without prefix tokens, the tail left out. Raises TextError for a text shorter than one.
    """
    prefix = len(read_prefix_tokens(loaded))
    ids = [token for window in windows for token in window[prefix:]]
    length = min(LONGEST, loaded.anatomy.context)
    if len(ids) < length:
        raise TextError(
            f"the text has {len(ids):,} tokens; the authors' code reads windows of {length:,} and leaves out "
            f"the rest, so that nothing would be read; give a text of at least {length:,} tokens"
        )
    return tuple(tuple(ids[start : start + length]) for start in range(0, len(ids) - length + 1, length))


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
