"""Marks the torture tests, keeps those with a browser last, and makes the models they wear out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import logging as transformers_logging

from tests.analysis.conftest import tiny_model, tiny_tokenizer

HERE = Path(__file__).resolve().parent
FULL_SECONDS = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in this folder; a browser's come after all others."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("torture")
            item.add_marker(pytest.mark.timeout(FULL_SECONDS))
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(autouse=True)
def no_progress_bars() -> Iterator[None]:
    """What these tests print is what was counted."""
    transformers_logging.disable_progress_bar()
    yield
    transformers_logging.enable_progress_bar()


@pytest.fixture
def llama(tmp_path: Path) -> Callable[..., Path]:
    """`llama("a", seed=1, num_hidden_layers=9)`: the folder of a random Llama with those settings."""

    def make(name: str, **settings: Any) -> Path:
        folder = tmp_path / name
        tiny_model("llama", **settings).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        return folder

    return make
