"""Where a key is taken: against a hook of the test's own, in padded batches, behind a chat template."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.errors import SkillError
from analysis.intervening.hooks import site_module
from analysis.opening.models import LoadedModel
from analysis.running.prompts import encode_prompt
from analysis.unlearning.guards.key_places import (
    KEY_PLACES,
    find_surroundings,
    list_places,
    reduce_rows,
)
from analysis.unlearning.guards.linear_guards import collect_linear_keys

TEMPLATE = (
    "{% for message in messages %}w1 w2 {{ message['content'] }} w3{% endfor %}"
    "{% if add_generation_prompt %} w4 w5{% endif %}"
)
TEXTS = ["w20 w21", "w22", "w30 w31 w32 w33 w34", "w40 w41 w42"]


@pytest.fixture
def chat(llama: LoadedModel) -> LoadedModel:
    """A model whose template puts two words before what is typed, and three behind it."""
    llama.tokenizer.chat_template = TEMPLATE
    return llama


def states_of(loaded: LoadedModel, ids: list[int], layer: int) -> Tensor:
    """(T, m) keys of one prompt alone, by a hook of the test's own."""
    seen: list[Tensor] = []
    module = loaded.model.get_submodule(site_module(loaded.anatomy.blocks[layer], "key"))
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0][0].float()))
    with torch.inference_mode():
        loaded.model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0]


def test_the_templates_own_tokens_are_counted(chat: LoadedModel) -> None:
    before, behind = find_surroundings(chat)
    own = [encode_prompt(chat, text) for text in TEXTS]
    for text, ids in zip(TEXTS, own, strict=True):
        typed = chat.tokenizer.encode(f" {text}", add_special_tokens=False)
        assert ids[before : len(ids) - behind] == typed
    assert behind == 3


def test_without_a_template_everything_is_typed(llama: LoadedModel) -> None:
    _, behind = find_surroundings(llama)
    assert behind == 0


@pytest.mark.parametrize("place", ["last", "user_last", "user_mean"])
def test_the_key_is_that_of_its_place_in_any_batch(chat: LoadedModel, place: Any) -> None:
    before, behind = find_surroundings(chat)
    asked = [encode_prompt(chat, text) for text in TEXTS]
    found = collect_linear_keys(chat, asked, (0, 1), place)
    for number, ids in enumerate(asked):
        for layer in (0, 1):
            states = states_of(chat, ids, layer)
            typed = states[before : len(ids) - behind]
            wanted = {"last": states[-1], "user_last": typed[-1], "user_mean": typed.mean(0)}[place]
            torch.testing.assert_close(found[number, 0, layer], wanted, rtol=1e-4, atol=1e-5)


def test_both_are_the_last_and_the_mean(chat: LoadedModel) -> None:
    asked = [encode_prompt(chat, text) for text in TEXTS]
    both = collect_linear_keys(chat, asked, (1,), "both")
    for number, place in enumerate(("last", "user_mean")):
        alone = collect_linear_keys(chat, asked, (1,), place)  # type: ignore[arg-type]
        assert torch.equal(both[:, number], alone[:, 0])


def test_rows_are_averaged_each_for_itself() -> None:
    rows, values = torch.tensor([0, 0, 2, 3, 3, 3]), torch.arange(12.0).reshape(6, 2)
    found, means = reduce_rows(rows, values)
    assert found.tolist() == [0, 2, 3]
    assert means.tolist() == [[1.0, 2.0], [4.0, 5.0], [8.0, 9.0]]


def test_an_unknown_place_is_refused_by_name() -> None:
    for place in KEY_PLACES:
        assert list_places(place)
    with pytest.raises(SkillError, match="'middle' is unknown; choose last, user_last, user_mean, both"):
        list_places("middle")  # type: ignore[arg-type]
