"""generation_config: named where it is not applied, and applied as transformers' own generate does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analysis.errors import HeadlampError, ModelError
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import Vocabulary
from analysis.running.configured import describe_settings, list_settings
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.conftest import VOCAB, loaded_from, tiny_model

PROMPT = [1, 5, 9, 4, 40, 9]
CONFIGURED = Sampling(14, as_configured=True)


def model_with(**settings: Any) -> LoadedModel:
    """A tiny model with these entries in its generation_config."""
    loaded = loaded_from(tiny_model("llama"))
    loaded.model.generation_config.eos_token_id = [2]
    for name, value in settings.items():
        setattr(loaded.model.generation_config, name, value)
    return loaded


def said(loaded: LoadedModel, sampling: Sampling) -> list[int]:
    return [token for s in generate_steps(loaded, PROMPT, [], sampling) if (token := s.tokens[0]) is not None]


def plain(loaded: LoadedModel) -> list[int]:
    out = loaded.model.generate(torch.tensor([PROMPT]), max_new_tokens=14, pad_token_id=0)
    return [int(i) for i in out[0, len(PROMPT) :]]


FREE = said(model_with(), Sampling(14))


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.9},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": FREE[:3]},
        {"begin_suppress_tokens": FREE[:1]},
        {"bad_words_ids": [FREE[:1], FREE[1:3]]},
        {"min_length": 16, "eos_token_id": FREE[2]},
        {"min_new_tokens": 9, "eos_token_id": [FREE[2], FREE[3]]},
        {"forced_bos_token_id": 33},
        {"sequence_bias": [[[FREE[0]], -50.0]]},
        {"exponential_decay_length_penalty": (2, 3.0)},
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "suppress_tokens": [FREE[0]]},
        {"do_sample": True, "top_k": 1},
        {"do_sample": True, "temperature": 1e-4},
        {"do_sample": True, "top_p": 1e-6, "repetition_penalty": 1.9},
    ],
)
def test_configured_text_is_that_of_transformers_own_generate(settings: dict[str, Any]) -> None:
    loaded = model_with(**settings)
    assert said(loaded, CONFIGURED) == plain(loaded)
    alone = {name: value for name, value in settings.items() if name != "eos_token_id"}
    assert set(list_settings(loaded)) == set(alone)


def test_settings_may_name_padding_rows_and_others_are_refused() -> None:
    loaded = model_with(bad_words_ids=[[VOCAB - 1]], sequence_bias=[[[VOCAB - 2], -5.0]])
    shorter = Vocabulary(loaded.vocabulary.texts[: VOCAB - 4], frozenset(), 4)
    vars(loaded)["vocabulary"] = shorter
    assert said(loaded, CONFIGURED) == said(loaded, Sampling(14))
    loaded = model_with(bad_words_ids=[[VOCAB + 9]])
    with pytest.raises(ModelError, match=r"generation_config of .* cannot be applied"):
        said(loaded, CONFIGURED)


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.9},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": FREE[:3]},
        {"min_new_tokens": 9, "eos_token_id": FREE[2]},
    ],
)
def test_without_being_asked_nothing_is_applied(settings: dict[str, Any]) -> None:
    loaded, free = model_with(**settings), model_with(eos_token_id=settings.get("eos_token_id", 2))
    assert said(loaded, Sampling(14)) == said(free, Sampling(14))
    assert said(loaded, CONFIGURED) != said(free, CONFIGURED)


def test_a_configured_draw_keeps_to_the_tokens_left_and_follows_the_seed() -> None:
    loaded = model_with(do_sample=True, top_k=3, temperature=5.0)
    first = [next(iter(generate_steps(loaded, PROMPT, [], Sampling(1, 0, s, True)))) for s in range(60)]
    best = set(first[0].log_probabilities[0].topk(3).indices.tolist())
    assert {step.tokens[0] for step in first} == best
    assert said(loaded, Sampling(14, 0, 3, True)) == said(loaded, Sampling(14, 0, 3, True))
    assert said(loaded, Sampling(14, 0, 3, True)) != said(loaded, Sampling(14, 0, 4, True))


def test_what_is_reported_is_the_models_own_distribution() -> None:
    loaded = model_with(repetition_penalty=1.9)
    own, free = (
        next(iter(generate_steps(loaded, PROMPT, [], sampling))).log_probabilities
        for sampling in (CONFIGURED, Sampling(14))
    )
    assert torch.equal(own, free)


def test_what_cannot_be_applied_is_refused_by_name() -> None:
    loaded = model_with(num_beams=4, stop_strings=["x"])
    with pytest.raises(ModelError, match="sets num_beams, stop_strings, which Headlamp does not have"):
        said(loaded, CONFIGURED)
    assert said(loaded, Sampling(14))
    with pytest.raises(ModelError, match="cannot be applied"):
        said(model_with(repetition_penalty=-1.0), CONFIGURED)


def test_what_only_sampling_reads_is_left_alone_by_greedy_text() -> None:
    assert said(model_with(temperature=0.0, top_k=-1), CONFIGURED) == FREE


def test_a_temperature_beside_it_is_refused() -> None:
    with pytest.raises(HeadlampError, match="takes the temperature from generation_config"):
        Sampling(14, 0.5, as_configured=True)


def test_settings_are_described_and_neutral_ones_are_not() -> None:
    neutral = {"temperature": 1.0, "top_p": 1.0, "num_beams": 1, "do_sample": False, "suppress_tokens": []}
    assert describe_settings(model_with(**neutral)) == ""
    told = describe_settings(model_with(temperature=0.6, top_p=0.9, repetition_penalty=1.1))
    assert told == "temperature 0.6, top_p 0.9, repetition_penalty 1.1"
