"""P(word) against whole passes of the plain model, and the spellings of a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from analysis.errors import UnknownWord
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.conversations import Conversation
from analysis.running.generation import Sampling, generate_steps
from analysis.running.prompts import encode_conversation
from analysis.running.words import LONGEST, list_spellings, read_word_probability

TinyModel = Callable[[str], LoadedModel]
PROMPT = Conversation(" my dog is the")


def whole_pass(loaded: LoadedModel, ids: Sequence[int], spelling: Sequence[int]) -> float:
    """The product of a spelling's probabilities behind ids, from one pass without a cache."""
    logits = loaded.model(torch.tensor([[*ids, *spelling]])).logits[0].double().log_softmax(-1)
    return float(sum(logits[len(ids) - 1 + n, piece] for n, piece in enumerate(spelling)).exp())  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_the_probability_is_that_of_whole_passes_at_every_position(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    ids = encode_conversation(loaded, PROMPT)
    spellings = [s.token_ids for s in list_spellings(loaded, PROMPT, "dog the cat")]
    assert {len(spelling) for spelling in spellings} == {3}
    (name,) = [f"{block.address}.N7" for block in loaded.anatomy.blocks[:1]]
    clamp = parse_clamp(f"{name}:set:9@0-3").resolve(largest=1, mean=0)
    steps = list(generate_steps(loaded, ids, [clamp], Sampling(4), spellings))
    for row in (0, 1):
        text = list(ids)
        for step in steps:
            if step.tokens[row] is None:
                break
            positions = torch.arange(len(text) + 3)[None]
            with intervene(loaded, [clamp] * row, positions=positions, prompt_length=len(ids)):
                expected = sum(whole_pass(loaded, text, spelling) for spelling in spellings)
            assert step.word is not None
            assert step.word[row] == pytest.approx(expected, rel=1e-3, abs=1e-12)
            text.append(step.tokens[row] or 0)
    assert steps[0].word is not None
    assert steps[0].word[0] != pytest.approx(steps[0].word[1], rel=1e-3)


def test_a_text_is_the_same_whether_a_word_is_measured(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    ids = encode_conversation(loaded, PROMPT)
    spellings = [s.token_ids for s in list_spellings(loaded, PROMPT, "dog the")]
    with_word = list(generate_steps(loaded, ids, [], Sampling(6), spellings))
    without = list(generate_steps(loaded, ids, [], Sampling(6)))
    assert [s.tokens for s in with_word] == [s.tokens for s in without]
    for one, other in zip(with_word, without, strict=True):
        assert torch.equal(one.log_probabilities, other.log_probabilities)
        assert other.word is None


def test_a_word_that_does_not_fit_into_the_context_has_no_probability(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    ids = list(range(3, 3 + 61))
    steps = list(generate_steps(loaded, ids, [], Sampling(3), [(5,), (5, 8)]))
    assert [step.word is None for step in steps] == [False, False, True][: len(steps)]
    assert len(steps) == 3


def test_spellings_are_with_and_without_a_space_case_as_typed(llama: LoadedModel) -> None:
    texts = llama.vocabulary.texts
    found = list_spellings(llama, PROMPT, " dog ")
    assert [s.text for s in found] == ["dog", " dog"]
    assert [[texts[i] for i in s.token_ids] for s in found] == [["dog"], [" dog"]]
    (capital,) = list_spellings(llama, PROMPT, "Dog")
    assert [texts[i] for i in capital.token_ids] == [" Dog"]


def test_the_same_tokens_count_once() -> None:
    logs = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    found = read_word_probability(logs, [(0,)], lambda pieces: logs[:, None])
    assert found == pytest.approx((0.25, 0.5))
    both = read_word_probability(logs, [(0,), (1, 1)], lambda pieces: logs[:, None])
    assert both == pytest.approx((0.25 + 0.75 * 0.75, 0.5 + 0.25))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("  ", "no word given"),
        ("zebra", "tokens can write"),
        ("</s>", "tokens can write"),
        ("dog " * 40, "at most 32"),
    ],
)
def test_a_word_that_cannot_be_measured_is_refused(llama: LoadedModel, word: str, said: str) -> None:
    assert LONGEST == 32
    with pytest.raises(UnknownWord, match=said):
        list_spellings(llama, PROMPT, word)


@pytest.mark.real
def test_a_word_of_a_sentencepiece_model_is_spelled_exactly(real_folder: Path) -> None:
    folder = real_folder / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no stories260K model at {folder}")
    loaded = load_model(ModelRef(str(folder)))
    asked = Conversation("Once upon a time, there was a")
    found = list_spellings(loaded, asked, "dragon")
    assert [s.text for s in found] == ["dragon", " dragon"]
    for spelling in found:
        assert "".join(loaded.vocabulary.texts[i] for i in spelling.token_ids) == spelling.text
    ids = encode_conversation(loaded, asked)
    (step,) = generate_steps(loaded, ids, [], Sampling(1), [s.token_ids for s in found])
    with torch.no_grad():
        expected = sum(whole_pass(loaded, ids, s.token_ids) for s in found)
    assert step.word is not None
    assert step.word[0] == pytest.approx(expected, rel=1e-4)
