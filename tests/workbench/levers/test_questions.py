"""Questions about a word: kept as JSON, refused in a sentence, filled with prompts of the word's kind."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from analysis.errors import HeadlampError, TextError, UnknownWord
from analysis.levers.grids import FULL
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import find_word_kind, list_other_prompts
from analysis.running.conversations import Conversation
from tests.workbench.levers.levers_asked import PROMPTS, ask_levers_of, ask_sweep_of, loaded  # noqa: F401
from workbench.generating.prompt_files import PromptLine
from workbench.levers.questions import (
    MOST_PROMPTS,
    OTHERS,
    ask_levers,
    read_lever_question,
    read_sweep_question,
    take_lines,
)

FULL_CONVERSATION = Conversation("hi", "my pet is a", "be brief", (("user", "hello"), ("assistant", "hi")))
RAW = Conversation("the cat", raw=True)


def test_questions_are_read_back_from_json() -> None:
    levers = ask_levers_of(sites=("up", "down"), search_matched=True, seed=7, other=())
    levers = replace(levers, select=(FULL_CONVERSATION, RAW))
    sweep = ask_sweep_of("L0.N1", "L1.N2", unit="max", site="up", scope="3-5", raws=((1.0, 2.0), (3.0, 4.5)))
    sweep = replace(sweep, prompts=(RAW, FULL_CONVERSATION), neutral=True)
    assert read_lever_question(json.loads(json.dumps(levers.document()))) == levers
    assert read_sweep_question(json.loads(json.dumps(sweep.document()))) == sweep
    assert read_sweep_question(json.loads(json.dumps(ask_sweep_of("L0.N1").document()))).raws is None
    assert ask_sweep_of("L0.N1", values=tuple(sorted(FULL))).values == tuple(sorted(FULL))


@pytest.mark.parametrize(
    "changed", [{"word": None}, {"prompts": 3}, {"prompts": [{"prompt": "  "}]}, {"neurons": []}]
)
def test_a_question_that_is_not_complete_is_refused(changed: dict[str, Any]) -> None:
    document = ask_sweep_of("L0.N1").document() | changed
    document = {name: value for name, value in document.items() if value is not None}
    if changed == {"word": None}:
        document.pop("word", None)
    with pytest.raises(HeadlampError):
        read_sweep_question(document)


MANY = PROMPTS[:1] * 5000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"select": MANY},
            "^5000 prompts to choose on: every neuron tried is run on each, so give at most 64$",
        ),
        (
            {"held_out": MANY},
            "^5000 prompts to report on: every neuron tried is run on each, so give at most 64$",
        ),
        ({"other": MANY}, "^5000 prompts where a word of another kind is due: .* give at most 64$"),
        ({"select": ()}, "^there is no prompt to choose on; give one with --prompt$"),
        ({"held_out": ()}, "^there is no prompt to report on; give one with --prompt$"),
        ({"top": 0}, "^--top 0: choose 1 to 4096$"),
        ({"set_size": 6}, "^--set-size 6: choose 1 to 5$"),
        ({"controls": 201}, "^--controls 201: choose 0 to 200$"),
        ({"sites": ()}, "^--sites none: choose of down, final, up, gate$"),
        ({"sites": ("down", "key")}, "^--sites key: choose of down, final, up, gate$"),
        ({"word": "  "}, "^no word given; type one, such as dog$"),
    ],
)
def test_a_question_for_levers_that_is_too_large_or_empty_is_refused(
    changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(HeadlampError, match=said):
        replace(ask_levers_of(), **changed)
    assert len(replace(ask_levers_of(), select=PROMPTS[:1] * MOST_PROMPTS, other=()).select) == MOST_PROMPTS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"prompts": MANY},
            "^5000 prompts to sweep on: every neuron tried is run on each, so give at most 64$",
        ),
        ({"prompts": ()}, "^there is no prompt to sweep on"),
        ({"neurons": ()}, "^no neuron to sweep; name one"),
        ({"neurons": tuple(f"L0.N{n}" for n in range(257))}, "^257 neurons to sweep; give at most 256"),
        ({"values": ()}, "^no value to sweep; give some with --values"),
        ({"controls": -1}, "^--controls -1: choose 0 to 200$"),
        ({"scope": "generated"}, "^scope generated begins behind the answer position"),
        ({"word": ""}, "^no word given"),
    ],
)
def test_a_question_for_a_sweep_that_is_too_large_or_empty_is_refused(
    changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(HeadlampError, match=said):
        replace(ask_sweep_of("L0.N1"), **changed)
    assert isinstance(ask_sweep_of("L0.N1", controls=0), object)


def test_a_prompt_to_choose_on_is_not_reported_on(loaded: LoadedModel) -> None:
    with pytest.raises(TextError, match="'the cat is a' is both to choose on and to report on"):
        ask_levers_of(held_out=PROMPTS[:1])
    shipped = ask_levers(loaded, "dog")
    lines = [PromptLine(shipped.held_out[0].prompt)]
    assert ask_levers(loaded, "dog", lines).held_out == shipped.held_out[1:]
    assert ask_levers(loaded, "dog", held_out=[shipped.select[1].prompt]).select == shipped.select[:1]


def test_errors_are_of_the_kind_that_the_edges_show() -> None:
    with pytest.raises(TextError):
        replace(ask_levers_of(), select=())
    with pytest.raises(UnknownWord):
        replace(ask_levers_of(), word=" ")


def test_a_chat_model_gets_the_prompts_of_the_words_kind_and_a_plain_one_their_answers(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = find_word_kind("dog")
    assert kind.name
    plain = ask_levers(loaded, " dog ")
    assert plain.word == "dog"
    assert plain.select == tuple(Conversation(one.answer_prefix) for one in kind.select)
    assert plain.held_out == tuple(Conversation(one.answer_prefix) for one in kind.held_out)
    monkeypatch.setattr(loaded.tokenizer, "chat_template", "{{ messages[0]['content'] }}")
    chat = ask_levers(loaded, "dog", controls=0, seed=4)
    assert (chat.select, chat.held_out) == (kind.select, kind.held_out)
    assert chat.other == list_other_prompts("dog", OTHERS)
    assert (chat.controls, chat.seed) == (0, 4)
    assert not set(chat.select) & set(chat.held_out)
    assert ask_levers(loaded, "gizmo").select == find_word_kind("gizmo").select


def test_lines_go_where_they_are_meant_for_and_those_of_other_words_are_left_out(loaded: LoadedModel) -> None:
    lines = [
        PromptLine("my pet is a", word="dog "),
        PromptLine("i like my", split="held_out"),
        PromptLine("he lives in", word="paris"),
        PromptLine("she is in", split="other", system="be brief", answer_prefix="it is"),
    ]
    common = Conversation("not used", "so", "be kind", (("user", "hello"),))
    asked = ask_levers(loaded, "dog", lines, held_out=["we have a"], common=common)
    assert asked.select == (Conversation("my pet is a", "so", "be kind", (("user", "hello"),)),)
    assert [one.prompt for one in asked.held_out] == ["i like my", "we have a"]
    assert asked.other == (Conversation("she is in", "it is", "be brief", (("user", "hello"),)),)
    bare = ask_levers(loaded, "dog", lines[:1], common=Conversation("x", raw=True))
    assert bare.select == (Conversation("my pet is a", raw=True),)


def test_shipped_prompts_stand_behind_what_all_prompts_have(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.tokenizer, "chat_template", "{{ messages[0]['content'] }}")
    plain = ask_levers(loaded, "dog")
    surrounded = Conversation("x", "", "be brief", (("user", "hello"),))
    asked = ask_levers(loaded, "dog", common=surrounded)
    raw = ask_levers(loaded, "dog", common=Conversation("x", raw=True))
    for name in ("select", "held_out", "other"):
        shipped = getattr(plain, name)
        assert getattr(asked, name) == tuple(
            replace(one, system="be brief", turns=(("user", "hello"),)) for one in shipped
        )
        assert getattr(raw, name) == tuple(Conversation(one.answer_prefix, raw=True) for one in shipped)


def test_a_word_takes_the_lines_that_name_it_or_none() -> None:
    lines = [PromptLine("a", word="dog "), PromptLine("b"), PromptLine("c", word="cat")]
    assert take_lines(lines, " dog") == lines[:2]
    assert take_lines(lines, "cow") == lines[1:2]
