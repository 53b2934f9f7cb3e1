"""The tokenizer of the bundled models, and the batches made with it."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import BUNDLED
from training.batches import batch, encode
from training.corpus import stream
from training.recipes import RECIPES
from training.text.chat import turn
from training.text.words import CATEGORIES
from training.tokenizer import SPECIAL, train_tokenizer

CONCEPTS = """dog cat horse fish bird bear lion cow apple bread red blue green Paris Rome London music rain
    snow river king queen house car tree sheep mouse duck""".split()

RECIPE = RECIPES["draft"]


@pytest.fixture(scope="module")
def tok():
    """The bundled tokenizer where there is one, else one learned here from less text."""
    if "demo/base" in BUNDLED:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(BUNDLED["demo/base"], local_files_only=True)
    return train_tokenizer(islice(stream("tokenizer"), 15_000))


def test_a_batch_depends_on_the_seed_and_its_number_alone(tok):
    read = batch(RECIPE, tok, 7)
    first, targets = read.inputs, read.targets
    again, other = batch(RECIPE, tok, 7).inputs, batch(RECIPE, tok, 8).inputs
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


def test_questions_are_no_answers(tok):
    text = "print(1)\n\n# What does this print?\n# 1\n\nprint(2)\n# Run it. What do you see?\n# 2"
    ids, weights = encode(RECIPE, tok, text)
    assert [tok.decode([i]) for i, weight in zip(ids, weights, strict=True) if weight > 1] == [
        " ",
        "1",
        " ",
        "2",
    ]


def test_what_an_assistant_says_weighs_more_and_so_does_the_end_of_its_turn(tok):
    ids, weights = encode(RECIPES["chat"], tok, turn("Name a dog.\nAnswer:", "Rex") + turn("And?", "None"))
    heavy = [tok.decode([i]) for i, weight in zip(ids, weights, strict=True) if weight > 1]
    assert "".join(heavy) == " Rex<|end|> None<|end|>"


def test_the_rates_warm_up_hold_and_fall_to_zero():
    assert RECIPE.height_at(0) < RECIPE.height_at(50) < RECIPE.height_at(RECIPE.warm_up) == 1.0
    middle = (RECIPE.decay_from + RECIPE.steps) // 2
    assert RECIPE.height_at(middle) == pytest.approx(0.5, abs=0.01)
    assert 0 < RECIPE.height_at(RECIPE.steps - 1) < 0.01


@pytest.mark.parametrize("word", CONCEPTS)
def test_a_concept_word_is_one_token_with_its_space(tok, word):
    ids = tok(" " + word, add_special_tokens=False).input_ids
    assert tok.convert_ids_to_tokens(ids) == ["▁" + word]


def test_the_favourite_animals_are_one_token(tok):
    single = [w for w in CATEGORIES["animal"] if len(tok(" " + w, add_special_tokens=False).input_ids) == 1]
    assert len(single) >= 15


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
