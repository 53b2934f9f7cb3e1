"""Quantised models on the pages: the sidebar and the overview say what the open one is dequantised from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.analysis.checkpoints.quantised.quantised_made import SAID, WRITERS

RunApp = Callable[..., AppTest]


def test_the_pages_say_what_the_open_model_is_dequantised_from(tmp_path: Path, bare_app: RunApp) -> None:
    folder = WRITERS["FP8 per tensor, Llama"](tmp_path / "some")
    app = bare_app("/", model=str(folder))
    assert any(SAID["FP8 per tensor"] in caption.value for caption in app.sidebar.caption)
    assert any(SAID["FP8 per tensor"] in text.value for text in app.main.markdown)
