"""The position at which a word is due: planted answers on a tiny model, and a real chat model's own ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analysis.errors import UnknownWord
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.reading.answer_positions import (
    LONGEST_ANSWER,
    find_answer_position,
    needs_own_answer,
    place_answer,
    write_own_answer,
)
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_conversation
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer

CHAT = "<s>{{ messages[0]['content'] }}{% if add_generation_prompt %} the{% endif %}"
WORDS = [
    "hot",
    "dog.",
    "'s",
    "s",
    ".",
    "-",
    " ",
    " hotdog",
    ' "dog',
    "\n",
    "<0xC3>",
    "<0xA9>",
    "do",
    "g",
    "犬",
]
ASKED = Conversation(" my cat")


def chat_model(template: str = CHAT) -> LoadedModel:
    tokenizer = tiny_tokenizer(WORDS)
    tokenizer.chat_template = template
    return loaded_from(tiny_model("llama"), tokenizer)


@pytest.fixture(scope="module")
def chat() -> LoadedModel:
    return chat_model()


def plant(loaded: LoadedModel, *texts: str) -> tuple[int, ...]:
    return tuple(loaded.vocabulary.texts.index(text) for text in texts)


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ([" the", " dog", "."], 1),
        ([" dog"], 0),
        (["dog", "."], 0),
        ([" the", " ", "dog", " is"], 2),
        ([" the", "do", "g"], None),
        ([" ", "do", "g", "."], 1),
        ([" is", "\n", "dog", "\n"], 2),
        ([" hotdog", " my", " dog"], 2),
        (["hot", "dog", " my", " dog"], 3),
        ([" dog", "s", " is", " dog"], 3),
        ([" dog", "'s", " is", " dog"], 3),
        ([" dog", "-", "a", " dog"], 3),
        ([" dog", "-", " my"], 0),
        ([" dog", "<0xC3>", "<0xA9>", " dog"], 3),
        ([' "dog', " dog"], 1),
        (["dog.", " dog"], 1),
        (["hot", "<unk>", "dog"], 2),
        ([" the", "</s>", " dog"], None),
        ([" the"] * LONGEST_ANSWER + [" dog"], None),
    ],
)
def test_the_position_is_before_the_first_whole_word(
    chat: LoadedModel, answer: list[str], place: int | None
) -> None:
    own = plant(chat, *answer)
    found = place_answer(chat, ASKED, own, "dog")
    prompt = encode_conversation(chat, ASKED)
    if place is None:
        assert (found.source, list(found.ids)) == ("first", prompt)
        assert "does not say dog, so the first position after the prompt is read" in found.said
    else:
        assert found.source == "own answer"
        assert list(found.ids) == [*prompt, *own[:place]]
        assert found.conversation.answer_prefix == "".join(answer[:place]).replace("<unk>", "")
    assert found.position == len(found.ids) - 1


def test_another_case_is_found_after_the_case_as_typed(chat: LoadedModel) -> None:
    own = plant(chat, " Dog", " the", " dog")
    assert len(place_answer(chat, ASKED, own, "Dog").ids) == len(encode_conversation(chat, ASKED))
    assert place_answer(chat, ASKED, own, " dog ").ids[-2:] == own[:2]
    other = place_answer(chat, ASKED, own[:2], "dog")
    assert (other.source, other.conversation.answer_prefix) == ("own answer", "")
    assert other.said.endswith("says Dog, which is the first position after the prompt.")


def test_a_word_of_the_kind_is_looked_for_where_the_word_is_not_said(chat: LoadedModel) -> None:
    own = plant(chat, " my", " is", " Dog", " cat")
    found = place_answer(chat, ASKED, own, "horse", ("cow", "cat", "dog"))
    assert (found.source, found.ids[-2:]) == ("kind", own[:2])
    assert found.said == (
        "Its own answer, “my is Dog cat”, says Dog, a word of the kind of horse, so the position before it "
        "is read."
    )
    assert place_answer(chat, ASKED, own, "cat", ("dog",)).ids[-3:] == own[:3]
    neither = place_answer(chat, ASKED, own, "horse", ("cow",))
    assert neither.source == "first"
    assert "says neither horse nor another word of its kind" in neither.said


def test_a_script_without_spaces_has_words_anywhere(chat: LoadedModel) -> None:
    own = plant(chat, "hot", "犬", "犬")
    assert place_answer(chat, ASKED, own, "犬").ids[-1:] == own[:1]


def test_an_answer_that_ends_at_once_leaves_the_first_position(chat: LoadedModel) -> None:
    for own in ((), plant(chat, "</s>", " dog")):
        found = place_answer(chat, ASKED, own, "dog")
        assert (found.source, found.conversation) == ("first", ASKED)
        assert found.said.startswith("Its own answer is empty")


def test_a_given_prefix_a_raw_prompt_and_a_model_without_template_need_no_answer(chat: LoadedModel) -> None:
    given = Conversation(" my cat", " is a")
    raw = Conversation(" my cat", raw=True)
    plain = loaded_from(tiny_model("llama"))
    said = [
        (chat, given, "prefix", "begins with “is a”"),
        (chat, raw, "first", "fed raw"),
        (plain, ASKED, "first", "no chat template"),
        (plain, given, "prefix", "begins with"),
    ]
    for loaded, asked, source, why in said:
        assert not needs_own_answer(loaded, asked)
        found = find_answer_position(loaded, asked, "dog")
        assert (found.source, list(found.ids)) == (source, encode_conversation(loaded, asked))
        assert why in found.said
    assert needs_own_answer(chat, ASKED)


def test_the_own_answer_is_the_greedy_one(chat: LoadedModel) -> None:
    own = write_own_answer(chat, ASKED)
    ids = encode_conversation(chat, ASKED)
    for token in own[:10]:
        logits = chat.model(torch.tensor([ids])).logits[0, -1, : len(chat.vocabulary)]
        assert int(logits.argmax()) == token
        ids.append(token)
    assert find_answer_position(chat, ASKED, "dog") == place_answer(chat, ASKED, own, "dog")


def test_no_word_is_refused(chat: LoadedModel) -> None:
    with pytest.raises(UnknownWord, match="no word given"):
        find_answer_position(chat, ASKED, "  ")


def test_a_real_chat_model_says_the_word_within_its_answer(smollm2: Path) -> None:
    loaded = load_model(ModelRef(str(smollm2)))
    asked = Conversation("What is the capital of France?")
    found = find_answer_position(loaded, asked, "Paris", ("Rome",))
    assert (found.source, found.conversation.answer_prefix) == ("own answer", "The capital of France is")
    assert found.ids[: len(encode_conversation(loaded, asked))] == tuple(encode_conversation(loaded, asked))
    logits = loaded.model(torch.tensor([found.ids])).logits[0, -1]
    assert loaded.vocabulary.texts[int(logits.argmax())] == " Paris"
    kind = find_answer_position(loaded, Conversation("Which animal says meow?"), "dog", ("horse", "cat"))
    assert (kind.source, kind.conversation.answer_prefix) == ("kind", 'The animal that says "meow" is a')
