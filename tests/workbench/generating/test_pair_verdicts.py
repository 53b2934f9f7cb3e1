"""What a pair's verdict says: the word, the first changed word, and why two texts are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from store import open_store
from workbench.generating.clamping import Generation, generate_pair
from workbench.generating.pair_verdicts import judge_pair, shorten_change
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model


@pytest.fixture(scope="module")
def bare(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Generation:
    """A pair without clamps and without a word."""
    store = open_store(tmp_path_factory.mktemp("store") / "s.db")
    with open_model(ModelRef(str(repo_root / "demo" / "base")), store) as loaded:
        return generate_pair(
            loaded, store, GenerationRequest("My favourite animal is the", (), "", Sampling(3))
        )


def pair(bare: Generation, base: list[str], changed: list[str], **others: object) -> Generation:
    ids = [tuple(hash(token) % 999 for token in text) for text in (base, changed)]
    texts: dict[str, object] = {"base_tokens": tuple(base), "changed_tokens": tuple(changed)}
    texts |= {"base_ids": ids[0], "changed_ids": ids[1]}
    return replace(bare, **(texts | others))  # type: ignore[arg-type]


def ask(bare: Generation, clamp: str, word: str = "dog") -> GenerationRequest:
    return replace(bare.request, clamps=(parse_clamp(clamp),), word=word)


@pytest.mark.parametrize(
    ("base", "changed", "said"),
    [
        ([" dog"], [" cat"], "The text changed at its first word, “dog” to “cat”."),
        ([" a", " dog", "s"], [" a", " cat", "s"], "The text changed at its 2nd word, “dogs” to “cats”."),
        ([" a", " dog", "s"], [" a", " dog", "gy"], "The text changed at its 2nd word, “dogs” to “doggy”."),
        ([" a"] * 11 + [" b"], [" a"] * 11 + [" c"], "The text changed at its 12th word, “b” to “c”."),
        ([" a", " dog"], [" a"], "The changed text ends sooner, after 1 token."),
        ([" a"], [], "The changed text is empty: the model ends it at once."),
        ([" (dog", "),"], [" cat", "."], "The text changed at its first word, “dog” to “cat”."),
        ([" \n"], ["x" * 21], "The text changed at its first word."),
        ([" a"], ["x" * 21], f"The text changed at its first word, “a” to “{'x' * 20}…”."),
        ([" a", " b"], [" c"] * 20, "The text changed at its first word, “a” to “c”, and repeats itself."),
    ],
)
def test_the_first_difference_is_counted_in_words(
    bare: Generation, base: list[str], changed: list[str], said: str
) -> None:
    assert judge_pair(pair(bare, base, changed)) == said


def test_the_word_stands_first_and_an_equal_probability_is_no_difference(bare: Generation) -> None:
    asked = pair(bare, [" a"], [" b"], request=ask(bare, "L0.N3:set:2r@last"))
    up = judge_pair(replace(asked, word=(0.005, 0.93)))
    assert up == "dog: 0.5 % → 93 % at the answer position; the text changed at its first word, “a” to “b”."
    assert judge_pair(replace(asked, word=(0.25, 0.25))).startswith(
        "dog: 25 % at the answer position in both"
    )
    assert "hardly changed" in judge_pair(replace(asked, word=(0.25, 0.2501)))


def test_identical_texts_say_why(bare: Generation) -> None:
    assert judge_pair(bare) == "Both texts are identical: the recipe has no clamp."
    held = replace(bare, request=ask(bare, "L0.N3:set:2r@last", word=""))
    reach = held.reach

    def said(covered: int, acted: int, answer: tuple[object, ...] = held.answer) -> str:
        counted = type(reach)(covered=[covered], acted=[acted])
        return judge_pair(replace(held, reach=counted, answer=answer))  # type: ignore[arg-type]

    assert "covers a position of this text" in said(0, 0)
    assert "was routed to at none" in said(3, 0)
    assert "changed no probability" in said(3, 3)
    moved = (replace(held.answer[0], changed=0.5), *held.answer[1:])
    assert "at no position enough for another token" in said(3, 3, moved)


def test_a_clamp_is_shortened_to_three_digits_for_a_sentence() -> None:
    assert (
        shorten_change(parse_clamp("L29.N808:set:2.8284271247461903r@last")) == "L29.N808:key:set:2.83r@last"
    )
    ablated = parse_clamp("L0.N1:up:ablate")
    assert shorten_change(ablated) == str(ablated)
