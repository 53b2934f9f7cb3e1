"""GGUF files on the pages: what the open model is dequantised from, and a file at the Hub that is not
here.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.analysis.checkpoints.gguf.gguf_made import write_gguf
from tests.pages.reading import press, shown
from tests.standin_hub import StandinHub

RunApp = Callable[..., AppTest]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "some").mkdir()
    return write_gguf(tmp_path / "some" / "tiny.gguf", kind="Q4_1", tied=False)


def test_the_sidebar_says_what_the_open_model_is_dequantised_from(path: Path, bare_app: RunApp) -> None:
    app = bare_app("/", model=str(path))
    assert any(r"dequantised from Q4\_1" in caption.value for caption in app.sidebar.caption)
    assert any(r"dequantised from Q4\_1" in text.value for text in app.main.markdown)
    assert not app.exception


def test_a_file_at_the_hub_is_fetched_whole_on_request(path: Path, hub: StandinHub, bare_app: RunApp) -> None:
    hub.models["some/model"] = path.parent
    app = bare_app("/neurons", model="some/model:tiny.gguf")
    assert "tiny.gguf of the Hub model some/model is not on this machine" in shown(app)
    assert [button.label for button in app.button] == ["Fetch it from the Hub"]
    assert hub.log == []
    app = press(app, "Fetch it from the Hub")
    assert hub.fetched() == ["tiny.gguf"]
    assert not app.exception
    assert any(r"dequantised from Q4\_1" in caption.value for caption in app.sidebar.caption)


def test_several_files_in_a_folder_are_named(path: Path, bare_app: RunApp) -> None:
    write_gguf(path.parent / "other.gguf")
    app = bare_app("/neurons", model=str(path.parent))
    assert "several GGUF files" in shown(app)
    assert not app.exception
