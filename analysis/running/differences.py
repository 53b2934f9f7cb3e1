"""Differences of two texts, and of two probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby

_BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")


@dataclass(frozen=True)
class Piece:
    """A segment of one text. same: it also occurs in the other text, in the same order.

    spans: its parts, as `group_tokens` has them.
    """

    text: str
    same: bool
    spans: tuple[tuple[str, int], ...] = field(default=(), compare=False)


def mark_differences(
    base: Sequence[str], changed: Sequence[str]
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Split both texts (given as tokens) into the fewest shared and differing segments (longest match)."""
    matcher = SequenceMatcher(a=list(base), b=list(changed), autojunk=False)
    in_base, in_changed = [False] * len(base), [False] * len(changed)
    for block in matcher.get_matching_blocks():
        in_base[block.a : block.a + block.size] = [True] * block.size
        in_changed[block.b : block.b + block.size] = [True] * block.size
    return _pieces(base, in_base), _pieces(changed, in_changed)


def cut_to_difference(one: str, other: str, shown: int = 40) -> tuple[str, str]:
    """Both texts from shortly before their first difference on, at most `shown` characters before and behind.

    What is cut off is marked by an ellipsis.
    """
    at = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    first = min(len(one), len(other)) if at is None else at
    return _cut_around(one, first, shown), _cut_around(other, first, shown)


def _cut_around(text: str, at: int, shown: int) -> str:
    start, end = max(at - shown, 0), at + shown
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def log_odds_change(base: float, changed: float) -> float | None:
    """ln(changed odds / base odds) of two probabilities; None if either is 0 or 1: odds not finite."""
    if not (0 < base < 1 and 0 < changed < 1):
        return None
    return math.log(changed) - math.log1p(-changed) - math.log(base) + math.log1p(-base)


def join_tokens(tokens: Sequence[str]) -> str:
    """The text of consecutive tokens; parts of one character (`<0xC3>`, `<0xA9>`) are joined."""
    return "".join(text for text, _ in group_tokens(tokens))


def group_tokens(tokens: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The text of each token, with 1; consecutive parts of characters are one text, with their number."""
    spans: list[tuple[str, int]] = []
    for is_bytes, group in groupby(tokens, lambda token: bool(_BYTES.fullmatch(token))):
        found = list(group)
        spans += [(_decode_bytes("".join(found)), len(found))] if is_bytes else [(one, 1) for one in found]
    return tuple(spans)


def _decode_bytes(text: str) -> str:
    try:
        return bytes.fromhex(text.replace("<0x", "").replace(">", "")).decode()
    except UnicodeDecodeError:
        return text


def _pieces(tokens: Sequence[str], same: Sequence[bool]) -> tuple[Piece, ...]:
    pairs = groupby(zip(tokens, same, strict=True), key=lambda pair: pair[1])
    found = [(shared, group_tokens([token for token, _ in group])) for shared, group in pairs]
    return tuple(Piece("".join(text for text, _ in spans), shared, spans) for shared, spans in found)
