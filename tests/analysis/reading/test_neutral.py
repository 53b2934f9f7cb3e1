"""Neutral text: windows of equal length in every model's own format, without words that are looked for."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.reading.neutral import LENGTH, MOST_PREAMBLE, neutral_passages, neutral_windows
from analysis.running.answers import count_shared
from analysis.running.prompts import read_added_tokens
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer

LOOKED_FOR = (
    "dog cat paris doctor blue football pizza king apple snow horse london teacher red tennis bread queen "
    "gold piano summer"
).split()
PREAMBLE = " the" * 50
LONG = f"{PREAMBLE}{{{{ messages[0]['content'] }}}}{{% if add_generation_prompt %}} dog{{% endif %}}"
REFUSING = "{{ raise_exception('no') }}"


def test_half_of_the_passages_are_questions_with_answers_long_enough_for_any_tokenizer() -> None:
    prose, exchanges = neutral_passages()
    assert (len(prose), len(exchanges)) == (8, 8)
    assert all(question.endswith((".", "?")) for question, _ in exchanges)
    assert all(len(text.split()) > LENGTH for text in (*prose, *(" ".join(pair) for pair in exchanges)))


def test_no_passage_says_a_word_that_is_looked_for() -> None:
    prose, exchanges = neutral_passages()
    text = " ".join([*prose, *(" ".join(pair) for pair in exchanges)]).lower()
    assert re.findall(rf"\b(?:{'|'.join(LOOKED_FOR)})s?\b", text) == []


def test_a_model_without_a_template_reads_sixteen_different_windows(repo_root: Path) -> None:
    loaded = load_model(ModelRef(str(repo_root / "demo" / "base")))
    windows = neutral_windows(loaded)
    assert len(set(windows)) == 16
    assert {len(window) for window in windows} == {64}
    (before, _) = read_added_tokens(loaded.tokenizer)
    assert before
    assert all(list(window[: len(before)]) == before for window in windows)
    prose, exchanges = neutral_passages()
    shown = [loaded.tokenizer.decode(window[len(before) :]) for window in windows]
    plain = [*prose, *(f"{question}\n\n{answer}" for question, answer in exchanges)]
    assert all(text.startswith(part) for text, part in zip(plain, shown, strict=True))


def test_the_second_half_is_rendered_by_a_template_with_the_answer_behind_it(repo_root: Path) -> None:
    loaded = load_model(ModelRef(str(repo_root / "demo" / "chat")))
    windows = neutral_windows(loaded)
    assert [loaded.tokenizer.decode(w).count("<|assistant|>") for w in windows] == [0] * 8 + [1] * 8
    for window, (question, answer) in zip(windows[8:], neutral_passages()[1], strict=True):
        asked, _, said = loaded.tokenizer.decode(window).partition("<|assistant|>")
        assert question in asked
        assert said
        assert answer.startswith(said)


def with_template(template: str) -> LoadedModel:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return loaded_from(tiny_model("llama"), tokenizer)


def test_a_template_whose_system_prompt_fills_the_window_loses_its_beginning() -> None:
    loaded = with_template(LONG)
    chats = neutral_windows(loaded)[8:]
    assert count_shared(chats) == MOST_PREAMBLE
    the = loaded.vocabulary.texts.index(" the")
    assert chats[0].count(the) < 50


def test_a_template_that_takes_no_question_leaves_it_plain() -> None:
    assert neutral_windows(with_template(REFUSING)) == neutral_windows(loaded_from(tiny_model("llama")))


def test_a_shorter_context_gives_shorter_windows_of_equal_length() -> None:
    loaded = loaded_from(tiny_model("llama", max_position_embeddings=24))
    windows = neutral_windows(loaded)
    assert {len(window) for window in windows} == {24}
    whole = neutral_windows(loaded_from(tiny_model("llama")))
    assert {len(window) for window in whole} == {64}
    assert windows == tuple(window[:24] for window in whole)
