"""A Hub model that is not here: asked whether it fits, decoded shard by shard, told what does not come."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.checkpoints.devices import FreeMemory
from analysis.opening.memory import estimate_folder
from tests.pages.reading import press, shown
from tests.pages.shared.from_disk_made import DISK, asked_models
from tests.pages.shared.from_disk_made import folder as folder
from tests.standin_hub import StandinHub

RunApp = Callable[..., AppTest]


@pytest.fixture
def from_hub(hub: StandinHub, folder: Path, bare_app: RunApp) -> RunApp:
    """The app, and the tiny model at the Hub alone."""
    hub.models["some/model"] = folder
    return bare_app


def shards_here(hub: StandinHub) -> list[str]:
    assert hub.watched is not None
    return [path.name for path in hub.watched.rglob("*.safetensors")]


def test_a_link_alone_fetches_nothing_from_the_hub(from_hub: RunApp, hub: StandinHub) -> None:
    app = from_hub("/neurons", **DISK, model="some/model")
    assert "is not among the Hub models on this machine" in shown(app)
    assert hub.log == []
    assert [button.label for button in app.button] == [
        "Fetch it from the Hub",
        "Will it fit?",
        "Decode it from disk, shard by shard",
    ]


def test_the_hub_is_asked_whether_a_model_fits_before_any_weight_is_fetched(
    from_hub: RunApp, hub: StandinHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: FreeMemory(10**9))
    app = press(from_hub("/neurons", model="some/model"), "Will it fit?")
    needed = f"{estimate_folder(folder, 'float32').peak / 1e6:.1f} MB of 900.0 MB free"
    assert f"**load**: {needed}" in shown(app)
    assert "fits" in app.sidebar.caption[0].value
    assert hub.fetched() == []
    hub.log.clear()
    app.run()
    assert hub.log == [], "it is asked once"
    free = int(estimate_folder(folder, "float32").streamed_peak / 0.9) + 1
    monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: FreeMemory(free))
    app.run()
    assert "does not fit into memory" in app.warning[0].value
    assert [button.label for button in app.button] == ["Decode from disk", "Open it anyway"]
    press(app, "Decode from disk")
    press(app, "Decode it from disk, shard by shard")
    assert len(app.dataframe[0].value) == 48


def test_a_hub_that_does_not_say_whether_a_model_fits_is_told(from_hub: RunApp, hub: StandinHub) -> None:
    app = from_hub("/neurons", model="some/model")
    hub.stop()
    press(app, "Will it fit?")
    assert not app.exception
    assert "cannot be reached; try again once the network is back" in shown(app)


def test_a_hub_model_is_decoded_shard_by_shard_and_then_searched(from_hub: RunApp, hub: StandinHub) -> None:
    app = press(from_hub("/neurons", model="some/model"), "Decode it from disk, shard by shard")
    assert not app.error
    assert len(app.dataframe[0].value) == 48
    assert hub.fetched() == ["model.safetensors"] == shards_here(hub)
    app.text_input(key="word").set_value("dog").run()
    assert len(app.dataframe[0].value) == 48
    assert asked_models() == [("some/model", True)]


def test_shards_are_deleted_where_that_was_asked_and_a_search_says_so(
    from_hub: RunApp, hub: StandinHub
) -> None:
    app = from_hub("/neurons", model="some/model")
    app.toggle(key="_delete_shards").set_value(True).run()
    press(app, "Decode it from disk, shard by shard")
    assert len(app.dataframe[0].value) == 48
    assert shards_here(hub) == []
    app.text_input(key="word").set_value("dog").run()
    assert "model.safetensors of some/model is not on this machine" in shown(app)
    assert hub.fetched() == ["model.safetensors"], "a search fetches nothing"


def test_a_hub_that_is_not_reached_is_told_in_a_sentence(from_hub: RunApp, hub: StandinHub) -> None:
    app = from_hub("/neurons", model="some/model")
    hub.stop()
    press(app, "Decode it from disk, shard by shard")
    assert not app.exception
    assert "Fetch failed" in shown(app)
    assert "cannot be reached; try again once the network is back" in shown(app)
