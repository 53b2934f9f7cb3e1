"""Models with an adapter, and multimodal ones, on the pages: what is said of them, and an adapter that is not
here.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared.tokens import escape_text
from tests.analysis.checkpoints.adapters.adapters_made import made_adapter, made_base
from tests.analysis.checkpoints.wrappers.wrappers_made import made_wrapper
from tests.pages.reading import press, shown
from tests.standin_hub import StandinHub

RunApp = Callable[..., AppTest]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return made_base(tmp_path / "tiny")


def test_sidebar_and_card_name_the_adapter_and_its_base(base: Path, tmp_path: Path, bare_app: RunApp) -> None:
    adapter = made_adapter(base, tmp_path / "mine", target_modules=["q_proj"])
    app = bare_app("/", model=f"{base}+{adapter}")
    assert not app.exception
    assert any("merged into its weights" in caption.value for caption in app.sidebar.caption)
    card = next(text.value for text in app.main.markdown if "is a dense model" in text.value)
    name = escape_text("tiny+mine")
    assert card.startswith(f"**{name}**")
    assert "merged into its weights" in card
    assert f"{base}+{adapter}" in (app.query_params["model"], *app.query_params["model"])


def test_an_adapter_at_the_hub_is_fetched_on_request(
    base: Path, tmp_path: Path, hub: StandinHub, bare_app: RunApp
) -> None:
    hub.models["some/adapter"] = made_adapter(base, tmp_path / "mine", target_modules=["q_proj"])
    app = bare_app("/", model=f"{base}+some/adapter")
    assert "some/adapter is no folder, and not among the adapters" in shown(app)
    assert [button.label for button in app.main.button] == ["Fetch it from the Hub"]
    assert hub.log == []
    app = press(app, "Fetch it from the Hub")
    assert hub.fetched() == ["adapter_model.safetensors"]
    assert not app.exception
    assert any("merged into its weights" in caption.value for caption in app.sidebar.caption)


def test_what_is_left_out_of_a_multimodal_model_is_said(tmp_path: Path, bare_app: RunApp) -> None:
    app = bare_app("/", model=str(made_wrapper("gemma3", tmp_path / "gemma")))
    assert not app.exception
    said = escape_text("its text model alone; left out, and not read: model.vision_tower")
    assert any(said in caption.value for caption in app.sidebar.caption)
    assert any(said in text.value for text in app.main.markdown)
