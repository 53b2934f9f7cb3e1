"""What is fed: end tokens left out, templates that cannot be used, conversations, answers behind prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from analysis.errors import EmptyPrompt, TextError
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.answers import encode_answers, refusal_ids
from analysis.running.calibration import cut_windows
from analysis.running.conversations import Conversation, parse_turn, parse_turns, write_turns
from analysis.running.prompts import (
    decode_answer,
    encode_conversation,
    encode_prompt,
    encode_text,
    is_scriptable,
    reference_windows,
)
from tests.analysis.conftest import VOCAB, loaded_from, tiny_model, tiny_tokenizer

CHAT = (
    "<s>{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<pad>{% endif %}"
)
TURNS = (("user", " cat"), ("assistant", " my"))


def chat_model(template: str) -> LoadedModel:
    """A tiny model with a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return loaded_from(tiny_model("llama"), tokenizer)


def ending(tokens: str = "$A </s>") -> LoadedModel:
    """A tiny model whose tokenizer appends an end token to every text."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=tokens, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return loaded_from(tiny_model("llama"), tokenizer)


@pytest.mark.parametrize("tokens", ["$A </s>", "<s> $A </s>", "$A </s> </s>"])
def test_no_text_to_be_continued_ends_in_an_appended_end_token(tokens: str) -> None:
    loaded = ending(tokens)
    first = [1] * tokens.startswith("<s>")
    assert loaded.tokenizer.encode(" my dog")[-1] == 2
    assert encode_prompt(loaded, " my dog") == [*first, 11, 5]
    assert encode_text(loaded, " my dog") == [*first, 11, 5]
    assert not any(2 in window for window in reference_windows(loaded))
    assert not any(2 in window for window in cut_windows(loaded, " my dog" * 40))
    prompt, (answer,) = encode_answers(loaded, Conversation(" my"), ["dog"])
    assert (prompt, answer) == ([*first, 11], [5])


def test_an_end_token_that_was_typed_stays() -> None:
    assert encode_prompt(ending(), " my dog</s>")[:-1] == encode_prompt(ending(), " my dog")
    assert encode_prompt(ending(), " my dog</s>")[-1] == 2


def test_a_conversation_is_rendered_turn_by_turn() -> None:
    loaded = chat_model(CHAT)
    asked = Conversation(" dog", " is", system=" a", turns=TURNS)
    expected = loaded.tokenizer.encode("<s> a</s> cat</s> my</s> dog</s><pad> is", add_special_tokens=False)
    assert encode_conversation(loaded, asked) == expected
    raw = Conversation(" dog", " is", raw=True)
    assert encode_conversation(loaded, raw) == loaded.tokenizer.encode(" dog is")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{{ raise_exception('roles must alternate') }}",
            r"cannot take this prompt \(roles must alternate\)",
        ),
        ("{% for %}", "cannot take this prompt"),
        ("{{ '' }}", "renders nothing"),
        ("<s> hello", "leaves out the prompt"),
        ("{{ messages[0]['content'][:3] }}", "leaves out the prompt"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_reason(template: str, said: str) -> None:
    with pytest.raises(TextError, match=f"chat template of tiny {said}.*--raw"):
        encode_prompt(chat_model(template), " my dog")


def test_a_template_that_wants_parts_is_given_parts() -> None:
    plain = chat_model("<s>{{ messages[0]['content'] }} the")
    parts = chat_model("<s>{{ messages[0]['content'][0]['text'] }} the")
    assert encode_prompt(parts, " my dog") == encode_prompt(plain, " my dog")


@pytest.mark.parametrize("change", ["| tojson", "| upper", "| replace('o', '0')"])
def test_a_template_that_writes_the_prompt_otherwise_is_used(change: str) -> None:
    loaded = chat_model(f"<s>{{{{ messages[-1]['content'] {change} }}}}")
    long = 'a dog and a cat and "the" dog\nran'
    for prompt in ("dog", long):
        text = loaded.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False)
        assert encode_prompt(loaded, prompt) == loaded.tokenizer.encode(text, add_special_tokens=False)


def test_reasoning_of_an_earlier_turn_may_be_left_out_wherever_it_began() -> None:
    loaded = chat_model("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}<think>")
    turns = (("user", "dog"), ("assistant", "let me think</think>the cat"))
    text = "dogthe catdog<think>"
    found = encode_conversation(loaded, Conversation("dog", turns=turns))
    assert found == loaded.tokenizer.encode(text, add_special_tokens=False)


def test_a_template_that_trims_is_used() -> None:
    assert encode_prompt(chat_model("<s>{{ messages[0]['content'] | trim }} the"), " dog \n") == [1, 6, 9]


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT,
        CHAT.replace("in messages", "in messages if m['role'] != 'system'"),
    ],
)
def test_a_template_without_a_system_role_says_so(template: str) -> None:
    loaded = chat_model(template)
    assert encode_conversation(loaded, Conversation(" dog"))
    with pytest.raises(TextError, match=r"knows no system role.*at the beginning of the prompt"):
        encode_conversation(loaded, Conversation(" dog", system=" a"))


def test_a_template_that_leaves_out_an_earlier_turn_is_refused() -> None:
    loaded = chat_model("<s>{{ messages[-1]['content'] }} the")
    with pytest.raises(TextError, match="leaves out the earlier turn of the user"):
        encode_conversation(loaded, Conversation(" dog", turns=TURNS))


def test_of_several_templates_the_default_is_used_or_all_are_named() -> None:
    loaded = chat_model("")
    loaded.tokenizer.chat_template = {"rag": "x", "default": CHAT}
    assert encode_prompt(loaded, " dog") == encode_prompt(chat_model(CHAT), " dog")
    loaded.tokenizer.chat_template = {"tool_use": CHAT, "rag": CHAT}
    with pytest.raises(TextError, match=r"several chat templates \(rag, tool_use\)"):
        encode_prompt(loaded, " dog")


@pytest.mark.parametrize(
    ("template", "ids"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}</s>", [5]),  # closes the conversation
        ("{% for m in messages %}{{ m['content'] }}</s>{% endfor %}", [5, 2]),  # closes every turn
        ("{% for m in messages %}{{ m['content'] }}</s>{% endfor %} the", [5, 2, 9]),
        (  # closes the user's turns
            "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}</s>{% endif %}{% endfor %}",
            [5, 2],
        ),
        (  # closes the answers, and the conversation
            "{% for m in messages %}{{ m.content }}{% if m.role != 'user' %}</s>{% endif %}{% endfor %}</s>",
            [5],
        ),
    ],
)
def test_only_the_end_token_behind_a_whole_conversation_is_dropped(template: str, ids: list[int]) -> None:
    assert encode_prompt(chat_model(template), " dog") == ids


def test_a_plain_model_knows_no_surroundings() -> None:
    loaded = loaded_from(tiny_model("llama"))
    with pytest.raises(TextError, match=r"has no chat template.*neither system prompt nor turns"):
        encode_conversation(loaded, Conversation(" dog", system="x"))
    with pytest.raises(TextError, match="always raw"):
        encode_conversation(loaded, Conversation(" dog", raw=True))


def test_conversations_that_make_no_sense_are_refused() -> None:
    with pytest.raises(EmptyPrompt):
        Conversation("  ", system="x")
    with pytest.raises(TextError, match="choose user or assistant"):
        Conversation("x", turns=(("system", "y"),))
    with pytest.raises(TextError, match="earlier turn of the user is empty"):
        Conversation("x", turns=(("user", " "),))
    with pytest.raises(TextError, match="need the chat template"):
        Conversation("x", system="y", raw=True)


def test_turns_are_read_as_written() -> None:
    assert parse_turn("User: hello: you") == ("user", "hello: you")
    turns = (("user", "one\ntwo"), ("assistant", "three"))
    assert parse_turns(write_turns(turns)) == turns
    assert parse_turns(" \n") == ()
    for wrong in ("hello", "system: x", "user:", "hello\nuser: x"):
        with pytest.raises(TextError, match="write user:TEXT or assistant:TEXT"):
            parse_turns(wrong)


def test_answers_follow_plain_text_with_a_space_and_a_template_without() -> None:
    plain, chat = loaded_from(tiny_model("llama")), chat_model(CHAT)
    assert encode_answers(plain, Conversation(" my"), ["dog", " cat"]) == ([11], [[5], [8]])
    assert encode_answers(chat, Conversation(" my"), ["dog", " cat"]) == ([1, 11, 2, 0], [[6], [8]])


def test_a_prompt_whose_end_an_answer_changes_is_cut_at_what_all_share() -> None:
    """ "the " and "the" + " dog" are other tokens; every answer is scored from the same place."""
    loaded = load_model(ModelRef("demo/base"))
    prompt, answers = encode_answers(loaded, Conversation("This is the "), ["dog", "cat"])
    wholes = [loaded.tokenizer.encode(f"This is the {word}") for word in ("dog", "cat")]
    assert [[*prompt, *answer] for answer in answers] == wholes
    assert len(prompt) < len(encode_prompt(loaded, "This is the "))


def test_an_answer_that_would_leave_no_prompt_is_tokenised_alone() -> None:
    loaded = chat_model("{{ messages[0]['content'] }}")  # "dogdog" is one piece, and no token begins it
    assert encode_answers(loaded, Conversation("dog"), ["dog"]) == ([6], [[6]])


def test_sentencepiece_puts_no_second_space_before_an_answer(stories: Path) -> None:
    loaded = load_model(ModelRef(str(stories)))
    prompt = "Once upon a time, there was a little girl named"
    ids, answers = encode_answers(loaded, Conversation(prompt), ["Lily", "Tim"])
    tokens = [loaded.tokenizer.convert_ids_to_tokens(answer) for answer in answers]
    assert (ids, tokens) == (loaded.tokenizer.encode(prompt), [["▁Lily"], ["▁Tim"]])
    assert loaded.tokenizer.convert_ids_to_tokens(refusal_ids(loaded, "I do"))[0] == "▁I"
    assert decode_answer(loaded, answers[0]) == " Lily"


def test_a_refusal_is_what_follows_a_prompt() -> None:
    assert refusal_ids(loaded_from(tiny_model("llama")), "dog") == [5]
    assert refusal_ids(chat_model(CHAT), "dog") == [6]
    assert refusal_ids(chat_model("{{ raise_exception('no') }}"), "dog") == [5]
    assert refusal_ids(loaded_from(tiny_model("llama")), "") == [2]


def test_bounds_of_reasoning_are_shown_though_they_are_special() -> None:
    tokenizer: PreTrainedTokenizerFast = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("<think>", special=True, normalized=False)])
    loaded = loaded_from(tiny_model("llama", vocab_size=128), tokenizer)
    assert decode_answer(loaded, [VOCAB, 5, 2]) == "<think> dog"


def test_a_prompt_is_scriptable_if_the_tokenizers_own_calls_give_it() -> None:
    plain, chat = loaded_from(tiny_model("llama")), chat_model(CHAT)
    asked = Conversation(" dog")
    for loaded in (plain, chat):
        assert is_scriptable(loaded, asked, encode_conversation(loaded, asked))
    assert not is_scriptable(ending(), asked, encode_conversation(ending(), asked))
    for other in (Conversation(" dog", raw=True), Conversation(" dog", system=" a")):
        assert not is_scriptable(chat, other, encode_conversation(chat, other))
    assert not is_scriptable(chat_model("{{ raise_exception('no') }}"), asked, [5])


def test_ids_are_those_of_transformers_own_template() -> None:
    loaded = load_model(ModelRef("demo/chat"))
    tokenizer = AutoTokenizer.from_pretrained("demo/chat")
    chat = [{"role": "user", "content": "Who are you?"}]
    found = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert encode_prompt(loaded, "Who are you?") == found
    assert torch.tensor(found).dim() == 1
