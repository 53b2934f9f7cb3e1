"""Where a word is read behind a prompt, and prompts and words that are refused before."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.errors import PromptTooLong, TextError, UnknownWord
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_conversation
from tests.workbench.levers.levers_asked import PROMPTS, ask_levers_of, ask_sweep_of, database, loaded  # noqa: F401
from workbench.levers.levers import check_levers
from workbench.levers.prompts import check_prompt, place_prompt, place_prompts


@pytest.mark.parametrize(
    ("prompt", "prefix", "word"),
    [
        ("my pet is a dog", "", "dog"),
        ("my pet is a Dog.  ", "", "dog"),
        ("i said “dog” ", "", " dog"),
        ("what is it", "it is a dog", "dog"),
        ("dog", "", "dog"),
    ],
)
def test_a_prompt_that_ends_in_the_word_is_refused(
    loaded: LoadedModel, prompt: str, prefix: str, word: str
) -> None:
    with pytest.raises(TextError, match="already ends in 'dog', so what follows is not the word"):
        check_prompt(loaded, Conversation(prompt, prefix), word)


@pytest.mark.parametrize(("prompt", "prefix"), [("a hotdog", ""), ("a dog", "it is a"), ("the dog is a", "")])
def test_a_prompt_that_only_has_the_word_in_it_is_taken(
    loaded: LoadedModel, prompt: str, prefix: str
) -> None:
    check_prompt(loaded, Conversation(prompt, prefix), "dog")


def test_a_chat_model_may_be_asked_a_question_that_ends_in_the_word(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.tokenizer, "chat_template", "{{ messages[0]['content'] }} it is ")
    check_prompt(loaded, Conversation("what is not a dog?"), "dog")
    for asked in (Conversation("what is not a dog?", "it is a dog"), Conversation("a dog", raw=True)):
        with pytest.raises(TextError, match="already ends in 'dog'"):
            check_prompt(loaded, asked, "dog")


def test_a_word_that_no_token_writes_is_refused_before_anything_is_computed(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(loaded.model), "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    for word in ("犬", "<unk>", "</s>"):
        with pytest.raises(UnknownWord, match="is not text that this model's tokens can write"):
            check_prompt(loaded, PROMPTS[0], word)
    check_levers(loaded, ask_levers_of())
    with pytest.raises(UnknownWord):
        check_levers(loaded, replace(ask_levers_of(), word="犬"))
    for place in ("select", "held_out", "other"):
        with pytest.raises(TextError, match="already ends in"):
            check_levers(
                loaded, ask_levers_of(**{place: (Conversation("so it is a"), Conversation("a dog"))})
            )


def test_a_word_is_read_behind_the_prompts_tokens_in_every_spelling(loaded: LoadedModel) -> None:
    asked = Conversation("the cat is a")
    found = place_prompt(loaded, asked, "dog")
    assert list(found.placed.ids) == list(encode_conversation(loaded, asked))
    assert {spelling.text for spelling in found.spellings} == {"dog", " dog"}
    assert found.placed.spellings == tuple(spelling.token_ids for spelling in found.spellings)
    assert sorted(map(len, found.placed.spellings)) == [1, 3]
    assert found.said


def test_the_prompt_that_cannot_be_used_is_named(loaded: LoadedModel) -> None:
    with pytest.raises(TextError, match=r"^prompt 2 \('my dog'\): the prompt 'my dog' already ends in"):
        place_prompts(loaded, [PROMPTS[0], Conversation("my dog")], "dog")
    with pytest.raises(TextError, match=r"^the prompt 'my dog' already ends in"):
        place_prompts(loaded, [Conversation("my dog")], "dog")
    with pytest.raises(PromptTooLong, match=r"^prompt 1 \("):
        place_prompts(loaded, [Conversation("the " * 90), PROMPTS[0]], "dog")
    assert len(place_prompts(loaded, PROMPTS, "dog")) == len(PROMPTS)
    assert place_prompts(loaded, [], "dog") == ()
    assert ask_sweep_of("L0.N1").prompts == PROMPTS[:2]
