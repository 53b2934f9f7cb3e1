"""Where two texts, or two probabilities, differ."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

_BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")


@dataclass(frozen=True)
class Piece:
    """A stretch of one text. same: the other text has it too, in the same order."""

    text: str
    same: bool


def mark_differences(
    base: Sequence[str], changed: Sequence[str]
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts, given token by token, as the fewest pieces that are shared or their own (longest match)."""
    matcher = SequenceMatcher(a=list(base), b=list(changed), autojunk=False)
    in_base, in_changed = [False] * len(base), [False] * len(changed)
    for block in matcher.get_matching_blocks():
        in_base[block.a : block.a + block.size] = [True] * block.size
        in_changed[block.b : block.b + block.size] = [True] * block.size
    return _pieces(base, in_base), _pieces(changed, in_changed)


def log_odds_change(base: float, changed: float) -> float | None:
    """ln(changed odds / base odds) of two probabilities; None where either is 0 or 1: no finite odds."""
    if not (0 < base < 1 and 0 < changed < 1):
        return None
    return math.log(changed) - math.log1p(-changed) - math.log(base) + math.log1p(-base)


def join_tokens(tokens: Sequence[str]) -> str:
    """The text of tokens in a row; parts of one character (`<0xC3>`, `<0xA9>`) become the character."""
    parts = []
    for is_bytes, group in groupby(tokens, lambda token: bool(_BYTES.fullmatch(token))):
        text = "".join(group)
        parts.append(_decoded(text) if is_bytes else text)
    return "".join(parts)


def _decoded(text: str) -> str:
    try:
        return bytes.fromhex(text.replace("<0x", "").replace(">", "")).decode()
    except UnicodeDecodeError:
        return text


def _pieces(tokens: Sequence[str], same: Sequence[bool]) -> tuple[Piece, ...]:
    pairs = groupby(zip(tokens, same, strict=True), key=lambda pair: pair[1])
    return tuple(Piece(join_tokens([token for token, _ in group]), shared) for shared, group in pairs)
