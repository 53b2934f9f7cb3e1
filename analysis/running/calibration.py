"""A text cut into windows: those that a model is calibrated on, and those that it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from analysis.errors import EmptyPrompt, TextError
from analysis.opening.models import LoadedModel
from analysis.running.prompts import reference_passages, refuse_unknown_ids

EVALUATION = Path(__file__).parent / "evaluation.txt"
LONGEST = 2048
"""Longest window, in tokens, and about how many tokens are read in one batch."""
EVERY = 4
"""Of one text, every fourth window is kept for evaluation."""

Window = tuple[int, ...]


@cache
def reference_text() -> str:
    """The text that ships with Headlamp for calibration."""
    return "\n\n".join(reference_passages())


@cache
def evaluation_text() -> str:
    """Another one that ships with Headlamp, for evaluation."""
    return EVALUATION.read_text(encoding="utf-8").strip()


def text_windows(loaded: LoadedModel, text: str, longest: int = LONGEST) -> tuple[Window, ...]:
    """The text's token ids in windows of min(longest, context) tokens, without overlap.

    Each window begins with the tokens that the tokenizer puts before a text (`<bos>`), which count. A last
    window is what is left. Raises EmptyPrompt, TextError for a text of one token.
    """
    if not text.strip():
        raise EmptyPrompt("the text is empty; give one of at least a few hundred words")
    ids = [int(i) for i in loaded.tokenizer.encode(text, add_special_tokens=False, verbose=False)]
    if len(ids) < 2:
        raise TextError(
            f"the text is {len(ids)} token long, so that nothing in it follows anything; "
            "give one of at least a few hundred words"
        )
    refuse_unknown_ids(loaded, ids)
    prefix = before_texts(loaded)
    length = min(longest, loaded.anatomy.context) - len(prefix)
    windows = [tuple(prefix + ids[start : start + length]) for start in range(0, len(ids), length)]
    return tuple(window for window in windows if len(window) > 1)


def before_texts(loaded: LoadedModel) -> list[int]:
    """The special tokens that the tokenizer puts before a text; none for many models."""
    bare = loaded.tokenizer.encode("a", add_special_tokens=False)
    whole = loaded.tokenizer.encode("a")
    starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return [int(i) for i in whole[: next(starts, 0)]]


def held_out(windows: Sequence[Window]) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """(for calibration, for evaluation): every fourth window is evaluated on, of fewer than four the last.

    Of a single window nothing is left for evaluation.
    """
    chosen = set(range(EVERY - 1, len(windows), EVERY)) or ({len(windows) - 1} if len(windows) > 1 else set())
    return (
        tuple(w for i, w in enumerate(windows) if i not in chosen),
        tuple(w for i, w in enumerate(windows) if i in chosen),
    )


def window_batches(windows: Sequence[Window], tokens: int = LONGEST) -> tuple[tuple[Window, ...], ...]:
    """The windows in order, those of equal length together as long as they have at most so many tokens."""
    together: list[tuple[Window, ...]] = []
    for length, group in groupby(windows, key=len):
        members = tuple(group)
        size = max(tokens // length, 1)
        together += [members[i : i + size] for i in range(0, len(members), size)]
    return tuple(together)
