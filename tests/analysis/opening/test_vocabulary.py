"""The exact text of tokens for the tokenizers people bring, and the forms of a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from analysis.errors import UnknownWord
from analysis.opening.vocabulary import Vocabulary, find_word_tokens, read_vocabulary
from tests.analysis.conftest import VOCAB, tiny_tokenizer


def byte_level() -> PreTrainedTokenizerFast:
    """A GPT-2-style tokenizer trained on a line of text, with all 256 bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"]
    )
    tokenizer.train_from_iterator(["a dog saw a dog and another dog € € €"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def test_byte_level_tokens_keep_their_space_and_show_partial_bytes() -> None:
    tokenizer = byte_level()
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    assert " dog" in vocabulary.texts
    assert "<0xE2>" in vocabulary.texts
    assert "\ufffd" not in "".join(vocabulary.texts)
    assert vocabulary.kind(vocabulary.texts.index("<0xE2>")) == "byte"


def test_texts_of_an_encoding_join_to_the_text(stories: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stories)
    vocabulary = read_vocabulary(tokenizer, 512)
    ids = tokenizer.encode("Once upon a time, Lily ran.\n", add_special_tokens=False)
    assert "".join(vocabulary.texts[i] for i in ids) == " Once upon a time, Lily ran.\n"


def test_rows_of_the_head_beyond_the_tokenizer_are_counted_as_padding() -> None:
    vocabulary = read_vocabulary(tiny_tokenizer(), VOCAB + 31)
    assert (len(vocabulary), vocabulary.padding_rows) == (VOCAB, 31)
    assert len(read_vocabulary(tiny_tokenizer(), 50)) == 50


def test_a_word_is_found_in_every_form_it_has_as_one_token() -> None:
    tokenizer = tiny_tokenizer()
    vocabulary = read_vocabulary(tokenizer, VOCAB)
    for word in ("dog", " Dog ", "DOG"):
        found = {vocabulary.texts[i] for i in find_word_tokens(vocabulary, tokenizer, word)}
        assert found == {" dog", "dog", " Dog"}


def test_what_is_typed_is_completed_by_whole_words_frequent_ones_first() -> None:
    texts = (" dogs", "dog", " Dog", " dogma", "doge", " dot", " dog.", "<s> do", "x")
    vocabulary = Vocabulary(texts, frozenset({7}), 0)
    assert vocabulary.words == ("dog", "dogma", "dogs", "dot")
    assert vocabulary.complete(" DO", 3) == ("dogs", "dog", "dogma")
    assert vocabulary.complete("dog", 9) == ("dogs", "dogma")
    assert vocabulary.complete("z", 9) == vocabulary.complete(" ", 9) == ()


def test_a_word_of_several_tokens_shows_its_pieces() -> None:
    tokenizer = byte_level()
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    with pytest.raises(UnknownWord, match=r"not a single token.*' dog' \+ 's'"):
        find_word_tokens(vocabulary, tokenizer, "dogs")


def test_the_pieces_shown_are_those_of_the_word_inside_a_text(stories: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stories)
    with pytest.raises(UnknownWord, match=r"split into ' do' \+ 'g'"):
        find_word_tokens(read_vocabulary(tokenizer, 512), tokenizer, "dog")


@pytest.mark.parametrize("nothing", ["", "   "])
def test_no_word_asks_for_one(nothing: str) -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(UnknownWord, match="no word given"):
        find_word_tokens(read_vocabulary(tokenizer, VOCAB), tokenizer, nothing)


def test_a_word_is_found_whichever_way_its_accents_are_typed() -> None:
    vocabulary = Vocabulary((" café", "a"), frozenset(), 0)
    for typed in ("café", "cafe\u0301", " Cafe\u0301"):
        assert find_word_tokens(vocabulary, tiny_tokenizer(), typed) == (0,)


def test_a_special_token_is_no_form_of_a_word() -> None:
    tokenizer = tiny_tokenizer()
    vocabulary = read_vocabulary(tokenizer, VOCAB)
    with pytest.raises(UnknownWord, match=r"'</s>' is a special token of this model \(id 2\)"):
        find_word_tokens(vocabulary, tokenizer, "</s>")
    assert vocabulary.kind(2) == "special"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" dog", "word"),
        ("ing", "fragment"),
        (" 12", "number"),
        (" ,", "punctuation"),
        (" день", "other script"),
        (" ", "space"),
    ],
)
def test_tokens_are_sorted_into_kinds(text: str, kind: str) -> None:
    vocabulary = read_vocabulary(tiny_tokenizer([text]), VOCAB)
    assert vocabulary.kind(vocabulary.texts.index(text)) == kind
