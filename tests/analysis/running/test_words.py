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
from analysis.running.generation import LEAST, Sampling, generate_steps
from analysis.running.prompts import encode_conversation
from analysis.running.words import (
    LONGEST,
    continues_word,
    goes_on,
    list_excluded,
    list_spellings,
    read_word_probability,
)
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer

TinyModel = Callable[[str], LoadedModel]
PROMPT = Conversation(" my dog is the")


def whole_pass(loaded: LoadedModel, ids: Sequence[int], spelling: Sequence[int]) -> float:
    """The product of a spelling's probabilities behind ids, from one pass without a cache."""
    logits = loaded.model(torch.tensor([[*ids, *spelling]])).logits[0].double().log_softmax(-1)
    return float(sum(logits[len(ids) - 1 + n, piece] for n, piece in enumerate(spelling)).exp())  # type: ignore[union-attr]


def ending_pass(loaded: LoadedModel, ids: Sequence[int], spelling: Sequence[int]) -> float:
    """The same, times the probability that no token behind it, by its text, makes it a longer word."""
    logits = loaded.model(torch.tensor([[*ids, *spelling]])).logits[0, -1].double()
    texts, special = loaded.vocabulary.texts, loaded.vocabulary.special
    ends = logits[: len(texts)].softmax(-1)
    going = sum(
        float(p)
        for i, (p, text) in enumerate(zip(ends, texts, strict=True))
        if i not in special and (text[:1].isalnum() or (text[:1] == "'" and text[1:2].isalpha()))
    )
    return whole_pass(loaded, ids, spelling) * (1 - going)


@pytest.mark.parametrize("word", ["dog the cat", "dog"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_the_probability_is_that_of_whole_passes_at_every_position(
    tiny: TinyModel, family: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.running.generation.LEAST", 0.0)
    loaded = tiny(family)
    ids = encode_conversation(loaded, PROMPT)
    spellings = [s.token_ids for s in list_spellings(loaded, PROMPT, word)]
    assert {len(spelling) for spelling in spellings} == {len(word.split())}
    (name,) = [f"{block.address}.N7" for block in loaded.anatomy.blocks[:1]]
    clamp = parse_clamp(f"{name}:set:9@0-3").resolve(largest=1, mean=0)
    steps = list(generate_steps(loaded, ids, [clamp], Sampling(4), spellings))
    for row in (0, 1):
        text = list(ids)
        for step in steps:
            if step.tokens[row] is None:
                break
            positions = torch.arange(len(text) + len(word.split()))[None]
            with intervene(loaded, [clamp] * row, positions=positions, prompt_length=len(ids)):
                expected = sum(ending_pass(loaded, text, spelling) for spelling in spellings)
            assert step.word is not None
            assert step.word[row] == pytest.approx(expected, rel=1e-3, abs=1e-12)
            text.append(step.tokens[row] or 0)
    assert steps[0].word is not None
    assert steps[0].word[0] != pytest.approx(steps[0].word[1], rel=1e-3)


def test_a_word_below_the_least_is_too_high_by_less_than_that_behind_the_first_position(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = encode_conversation(llama, PROMPT)
    spellings = [(6,), (5,)]

    def measure(least: float) -> list[tuple[float, float]]:
        monkeypatch.setattr("analysis.running.generation.LEAST", least)
        steps = generate_steps(llama, ids, [], Sampling(12), spellings)
        return [step.word for step in steps if step.word is not None]

    exact, cheap, never = measure(0.0), measure(LEAST), measure(2.0)
    assert len(exact) > 8
    assert exact[0] == cheap[0] == never[0]
    assert all(0 <= a[0] - b[0] < 2 * LEAST for a, b in zip(cheap, exact, strict=True))
    assert any(a > b for a, b in zip(never[1:], exact[1:], strict=True))
    assert exact != cheap != never


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


def test_a_spelling_that_begins_a_longer_one_does_not_count_its_piece(llama: LoadedModel) -> None:
    """dog, and  dog + "the": what follows  dog to make the other one counts once, there."""
    dog, the, end = 5, 9, 4
    excluded = list_excluded(llama, [(dog,), (dog, the)])
    assert excluded[0] is not None
    assert excluded[0][the]
    assert excluded[1] is not None
    assert not excluded[1][the]
    assert excluded[1][end]
    logs = torch.full((1, len(llama.vocabulary)), 1e-9)
    logs[0, [dog, the, end]] = torch.tensor([0.5, 0.3, 0.2])
    found = read_word_probability(
        logs.log(),
        [(dog,), (dog, the)],
        lambda pieces: logs.log()[:, None].expand(1, len(pieces), -1),
        excluded,
    )
    assert found[0] == pytest.approx(0.5 * 0.5 + 0.5 * 0.3 * 0.8, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("s", True),
        ("5", True),
        ("é", True),
        ("\u0301", True),
        ("'s", True),
        ("’s", True),
        ("-like", True),
        ("<0xC3>", True),
        (" s", False),
        ("'", False),
        ("' s", False),
        ("-", False),
        (".", False),
        ("\n", False),
        ("<0x41>", False),
        ("犬", False),
        ("", False),
    ],
)
def test_a_word_goes_on_with_letters_and_what_joins_them(text: str, does: bool) -> None:
    assert goes_on(text) is does


def test_nothing_goes_on_behind_a_script_without_spaces_or_a_sign() -> None:
    words = ["犬", "$", "s", "'s", "é"]
    loaded = loaded_from(tiny_model("llama"), tiny_tokenizer(words))
    ids = [loaded.vocabulary.texts.index(text) for text in words]
    masks = list_excluded(loaded, [(i,) for i in ids])
    assert [mask is None for mask in masks] == [True, True, False, False, False]
    going = continues_word(loaded)
    assert [bool(going[i]) for i in ids] == [False, False, True, True, True]
    assert not going[sorted(loaded.vocabulary.special)].any()
    assert len(going) == len(loaded.vocabulary)
    tokenizer = tiny_tokenizer(["END", "s"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["END"]})
    special = loaded_from(tiny_model("llama"), tokenizer)
    assert {special.vocabulary.texts[i] for i in special.vocabulary.special} >= {"END"}
    places = [special.vocabulary.texts.index(text) for text in ("END", "s")]
    assert [bool(continues_word(special)[i]) for i in places] == [False, True]
    assert continues_word(loaded) is going


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
        expected = sum(ending_pass(loaded, ids, s.token_ids) for s in found)
    assert step.word is not None
    assert step.word[0] == pytest.approx(expected, rel=1e-4)
