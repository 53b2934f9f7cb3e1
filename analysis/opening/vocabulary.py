"""Vocabulary: the exact text of every token, and the tokens that are forms of a word."""

from __future__ import annotations

import itertools
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from analysis.errors import UnknownWord

TokenKind = Literal["word", "fragment", "punctuation", "number", "other script", "byte", "special", "space"]
_REPLACEMENT = "\ufffd"
_BATCH = 8192


@dataclass(frozen=True)
class Vocabulary:
    """texts[i] is the exact decoded string of token i; head rows beyond it are padding.

    holes: ids below the largest that no token has, as where a family reserves some; they are left out of
    everything, as padding is.
    """

    texts: tuple[str, ...]
    special: frozenset[int]
    padding_rows: int
    holes: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def tokens(self) -> int:
        """How many tokens there are: all ids but the holes."""
        return len(self.texts) - len(self.holes)

    def restrict(self, logits: Tensor) -> Tensor:
        """(…, V) the logits (…, rows) of this vocabulary: without padding rows, and −∞ at holes.

        Without holes it is a view of the logits.
        """
        kept = logits[..., : len(self.texts)]
        if not self.holes:
            return kept
        holes = torch.tensor(sorted(self.holes), device=logits.device)
        return kept.index_fill(-1, holes, -torch.inf)

    @cached_property
    def forms(self) -> dict[str, tuple[int, ...]]:
        """Token ids by text, case-folded and without one leading space."""
        forms: dict[str, list[int]] = defaultdict(list)
        for token, text in enumerate(self.texts):
            if token not in self.special and token not in self.holes:
                forms[text.removeprefix(" ").casefold()].append(token)
        return {form: tuple(ids) for form, ids in forms.items()}

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The forms of letters that have a token with a leading space, in alphabetical order."""
        whole = (
            form
            for form, ids in self.forms.items()
            if any(self.texts[token].startswith(" ") for token in ids) and form.isalpha()
        )
        return tuple(sorted(whole))

    def complete(self, typed: str, limit: int) -> tuple[str, ...]:
        """The first few words that begin with what is typed and are longer, in any case; those whose token
        has the smallest id, which tokenizers give to what is frequent, first.
        """
        begun = typed.strip().casefold()
        if not begun:
            return ()
        first = bisect_left(self.words, begun)
        found = itertools.takewhile(lambda word: word.startswith(begun), self.words[first:])
        longer = [word for word in found if word != begun]
        return tuple(sorted(longer, key=lambda word: min(self.forms[word]))[:limit])

    @cached_property
    def kinds(self) -> tuple[TokenKind, ...]:
        """The kind of every token."""
        return tuple(self.kind(token) for token in range(len(self.texts)))

    def kind(self, token: int) -> TokenKind:
        """The kind of a token, for filters. A word begins with a space and is all letters."""
        text = self.texts[token]
        if token in self.special or token in self.holes:
            return "special"
        if re.fullmatch(r"(<0x[0-9A-F]{2}>)+", text):
            return "byte"
        bare = text.strip()
        if not bare:
            return "space"
        if bare.isdigit():
            return "number"
        if not any(c.isalpha() for c in bare):
            return "punctuation"
        if not all(c < "\u0250" for c in bare if c.isalpha()):
            return "other script"
        return "word" if text.startswith(" ") and bare.isalpha() and len(bare) > 1 else "fragment"


def measure_vocabulary(tokenizer: PreTrainedTokenizerBase, head_rows: int) -> tuple[int, frozenset[int]]:
    """(size, holes) of a vocabulary: one more than its largest id, and the ids below that no token has."""
    known = {*tokenizer.get_vocab().values(), *tokenizer.added_tokens_decoder}
    size = min(max(known) + 1, head_rows)
    free = [i for i in range(size) if i not in known]
    nameless = (None, "", tokenizer.unk_token)
    named = tokenizer.convert_ids_to_tokens(free) if free else []
    return size, frozenset(i for i, name in zip(free, named, strict=True) if name in nameless)


def read_vocabulary(
    tokenizer: PreTrainedTokenizerBase, head_rows: int, special_ids: Collection[int] | None = None
) -> Vocabulary:
    """All token texts of a tokenizer, by id up to its largest one that the head has a row for (METHODS §1).

    special_ids: non-text tokens; None: the tokenizer's own.
    """
    size, holes = measure_vocabulary(tokenizer, head_rows)
    anchor = tokenizer.encode("a", add_special_tokens=False)[-1]
    base = len(_decode(tokenizer, [[anchor]])[0])
    stated = tokenizer.all_special_ids if special_ids is None else special_ids
    special = frozenset(token for token in stated if token < size)
    texts: list[str] = []
    for start in range(0, size, _BATCH):
        ids = range(start, min(start + _BATCH, size))
        texts.extend(text[base:] for text in _decode(tokenizer, [[anchor, token] for token in ids]))
    names = tokenizer.convert_ids_to_tokens(list(range(size)))
    exact = [
        names[token] or "" if token in special else _bytes_text(names[token] or "", text)
        for token, text in enumerate(texts)
    ]
    return Vocabulary(
        tuple("" if token in holes else text for token, text in enumerate(exact)),
        special - holes,
        head_rows - size,
        holes,
    )


def find_word_tokens(
    vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, word: str
) -> tuple[int, ...]:
    """The tokens of this word: with and without a leading space, in any case, merged (METHODS §1).

    Raises UnknownWord, showing the word's pieces, if no single token is the word, and for special tokens.
    """
    bare = word.strip()
    if not bare:
        raise UnknownWord("no word given; type one, such as dog")
    for form in (bare, unicodedata.normalize("NFC", bare)):  # accents may be typed as characters of their own
        if ids := vocabulary.forms.get(form.casefold(), ()):
            return ids
    bare = unicodedata.normalize("NFC", bare)
    special = next((token for token in vocabulary.special if vocabulary.texts[token] == bare), None)
    if special is not None:
        raise UnknownWord(
            f"{bare!r} is a special token of this model (id {special}), which no text contains; search for a "
            "word, such as dog"
        )
    pieces = _pieces(vocabulary, tokenizer, bare)
    if not pieces[:1] or not pieces[0].startswith(" "):
        pieces = _pieces(vocabulary, tokenizer, f" {bare}")
    shown = " + ".join(repr(piece) for piece in pieces)
    raise UnknownWord(
        f"{bare!r} is not a single token of this model, it is split into {shown}; "
        "search for one of the pieces, or for a more common word"
    )


def _pieces(vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [vocabulary.texts[i] for i in ids if i < len(vocabulary)]


def _decode(tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[str]:
    return [
        tokenizer.decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False) for row in rows
    ]


def _bytes_text(name: str, text: str) -> str:
    """The text, or the bytes of a token that is only part of a character, as `<0xE2>`."""
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", name):
        byte = int(name[3:5], 16)
        return text if byte < 0x80 and text == chr(byte) else f"<0x{byte:02X}>"
    if _REPLACEMENT not in text:
        return text
    raw = [_BYTE_OF.get(character) for character in name]
    if any(byte is None for byte in raw):
        return text
    return "".join(f"<0x{byte:02X}>" for byte in raw)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable characters for bytes → the byte (byte-level BPE)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()
