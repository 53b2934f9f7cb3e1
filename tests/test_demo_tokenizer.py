"""The tokenizer of the bundled models, and the batches made with it."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import BUNDLED
from demo.corpus import stream
from demo.text.words import CATEGORIES
from demo.tokenizer import SPECIAL, train_tokenizer
from demo.train import RECIPE, STAGES, batch, encode

CONCEPTS = """dog cat horse fish bird bear lion cow apple bread red blue green Paris Rome London music rain
    snow river king queen house car tree sheep mouse duck""".split()


@pytest.fixture(scope="module")
def tok():
    """The bundled tokenizer where there is one, else one learned here from less text."""
    if "demo/base" in BUNDLED:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(BUNDLED["demo/base"], local_files_only=True)
    return train_tokenizer(islice(stream("tokenizer"), 15_000))


def test_a_batch_depends_on_the_seed_and_its_number_alone(tok):
    first, targets, _ = batch(RECIPE, tok, 7)
    again, *_ = batch(RECIPE, tok, 7)
    other, *_ = batch(RECIPE, tok, 8)
    assert first.shape == targets.shape == (RECIPE.rows, RECIPE.length)
    assert first.equal(again)
    assert not first.equal(other)
    assert (first[:, 0] == tok.bos_token_id).all()
    assert ((first[:, 1:] == targets[:, :-1]) | (targets[:, :-1] < 0)).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "The dog.",
        "  two  spaces ",
        "a\n\n\tb\r\n",
        "12 + 345 = 357",
        "déjà ¿qué? œuf",
        "e\u0301",
        "日本語 漢字",
        "🐕‍🦺 👩‍👩‍👧",
        "▁ and \ue000, \ue000a\ue000b▁",
        "\x00\x7f",
        "don't 'quote' \"this\"",
        "    return x",
    ],
)
def test_the_tokenizer_gives_back_any_text(tok, text):
    ids = tok(text).input_ids
    assert ids[0] == tok.bos_token_id
    assert tok.decode(ids, skip_special_tokens=True) == text


@given(st.text(max_size=40))
def test_the_tokenizer_gives_back_text_that_nobody_thought_of(tok, text):
    assert tok.decode(tok(text).input_ids, skip_special_tokens=True) == text


def test_what_an_answer_says_weighs_more_than_what_is_free(tok):
    ids, weights = encode(RECIPE, tok, "What is 2 times 3?\nAnswer: 2 * 3 = 6\n\nx = 1\n# Output: 1")
    heavy = [tok.decode([i]) for i, weight in zip(ids, weights, strict=True) if weight > 1]
    assert "".join(heavy) == " 2 * 3 = 6 1"
    assert {*weights} == {1.0, RECIPE.answer_weight}


def test_later_stages_hold_more_answers_than_the_first(tok):
    def share(first: int) -> float:
        """of the tokens of twenty batches that are answers"""
        return sum(float((batch(RECIPE, tok, first + i)[2] > 1).float().mean()) for i in range(20)) / 20

    practice, focused, broad = (share(first) for first, _ in STAGES)
    assert broad == share(0)
    assert focused > 1.2 * broad
    assert practice > 1.2 * broad


def test_the_rate_warms_up_holds_and_falls_to_zero():
    assert RECIPE.rate_at(0) < RECIPE.rate_at(100) < RECIPE.rate_at(1000) == RECIPE.rate
    assert RECIPE.rate_at(3500) == pytest.approx(0.75 * RECIPE.rate)
    assert 0 < RECIPE.rate_at(RECIPE.steps - 1) < 0.01 * RECIPE.rate


@pytest.mark.parametrize("word", CONCEPTS)
def test_a_concept_word_is_one_token_with_its_space(tok, word):
    ids = tok(" " + word, add_special_tokens=False).input_ids
    assert tok.convert_ids_to_tokens(ids) == ["▁" + word]


def test_most_animals_are_one_token(tok):
    single = [w for w in CATEGORIES["animal"] if len(tok(" " + w, add_special_tokens=False).input_ids) == 1]
    assert len(single) >= 40


def test_digits_are_split_and_special_tokens_stand_at_fixed_ids(tok):
    assert tok.tokenize("2024") == list("2024")
    assert tok.tokenize("\n") == ["\n"]
    assert tok.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3, 4, 5]
    assert tok("<|user|>x", add_special_tokens=False).input_ids[0] == 3
    assert 2000 <= len(tok) <= 4000
    assert tok.is_fast


def test_the_text_of_a_byte_token_is_text(tok):
    """ "<0x41>" typed by a person must not turn into the byte."""
    assert tok.decode(tok("<0x41>").input_ids, skip_special_tokens=True) == "<0x41>"
