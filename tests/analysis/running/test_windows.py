"""Windows for evaluation and for the authors' code: how long, how many, and of which tokens."""

from __future__ import annotations

import pytest
from tokenizers import processors

from analysis.errors import TextError
from analysis.opening.models import LoadedModel
from analysis.running.calibration import (
    LONGEST,
    SHORTEST,
    choose_window_length,
    cut_as_released,
    cut_shorter,
    cut_windows,
    read_prefix_tokens,
)
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer

WORDS = " dog cat the is my w20 w21 w22 w23 w24"


@pytest.fixture(params=["no token before a text", "<s> before it"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    tokenizer = tiny_tokenizer()
    if "<s>" in request.param:
        start = ("<s>", tokenizer.convert_tokens_to_ids("<s>"))
        template = processors.TemplateProcessing(single="<s> $A", special_tokens=[start])
        tokenizer.backend_tokenizer.post_processor = template
    loaded = loaded_from(tiny_model("llama"), tokenizer)
    assert len(read_prefix_tokens(loaded)) == ("<s>" in request.param)
    return loaded


def without_prefix(loaded: LoadedModel, windows: tuple[tuple[int, ...], ...]) -> list[int]:
    size = len(read_prefix_tokens(loaded))
    assert all(list(window[:size]) == read_prefix_tokens(loaded) for window in windows)
    return [token for window in windows for token in window[size:]]


@pytest.mark.parametrize("repeats", [33, 60, 500])
def test_a_text_becomes_at_least_twenty_windows_of_the_same_tokens(loaded: LoadedModel, repeats: int) -> None:
    windows = cut_windows(loaded, WORDS * repeats)
    length = choose_window_length(loaded, windows)
    shorter = cut_shorter(loaded, windows, length)
    assert len(shorter) >= 20
    assert max(map(len, shorter)) == length <= min(LONGEST, loaded.anatomy.context)
    assert without_prefix(loaded, shorter) == without_prefix(loaded, windows)


def test_a_short_text_becomes_as_many_as_sixteen_tokens_allow(loaded: LoadedModel) -> None:
    windows = cut_windows(loaded, WORDS * 8)
    length = choose_window_length(loaded, windows)
    assert length == SHORTEST + len(read_prefix_tokens(loaded))
    assert len(cut_shorter(loaded, windows, length)) < 20


def test_the_authors_windows_have_no_prefix_and_all_one_length(loaded: LoadedModel) -> None:
    windows = cut_windows(loaded, WORDS * 500)
    ids = without_prefix(loaded, windows)
    length = min(LONGEST, loaded.anatomy.context)
    released = cut_as_released(loaded, windows)
    assert {len(window) for window in released} == {length}
    assert len(released) == len(ids) // length
    assert [token for window in released for token in window] == ids[: len(released) * length]
    with pytest.raises(TextError, match=r"leaves out the rest.*give a text of at least"):
        cut_as_released(loaded, [windows[0][: length // 2]])
