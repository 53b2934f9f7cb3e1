"""The pages on SmolLM2-135M-Instruct, a real chat model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.reading import html_of, press, shown

pytestmark = pytest.mark.real


def test_the_overview_says_what_it_is_and_what_it_is_dequantised_from(
    bare_app: Callable[..., AppTest], smollm2_gguf: Path
) -> None:
    app = bare_app("/", model=str(smollm2_gguf))
    assert not app.exception
    assert not app.error
    for fact in ("30 layers of width 576", "46,080 neurons", "a vocabulary of 49,152"):
        assert fact in shown(app)
    assert "dequantised from Q4_1" in shown(app)


def test_a_question_is_answered_twice_and_the_word_is_read(
    bare_app: Callable[..., AppTest], smollm2: Path
) -> None:
    question = "What is the capital of France?"
    view = {"clamps": "L29.N808:key:set:60@all", "prompt": question, "word": "Paris", "tokens": "8"}
    app = press(bare_app("/clamp", model=str(smollm2), **view), "Generate")
    assert not app.exception
    assert not app.error
    assert any("Paris" in text for text in html_of(app))
    assert any("Keep" in button.label for button in app.button)
