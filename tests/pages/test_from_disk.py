"""A model that does not fit into memory, decoded from disk: what works then, and what says why not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import models
from analysis.errors import ModelError
from analysis.fit import Memory, needs
from analysis.models import ModelRef
from store import default_path, list_jobs, open_store
from tests.pages.reading import labels, press, shown
from tests.standin_hub import StandinHub
from workbench.models import opened
from workbench.neurons import find_word

RunApp = Callable[..., AppTest]
DISK = {"weights": "disk"}
READ_WHOLE = models._read_weights


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model in a folder that no test before has opened."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


@pytest.fixture
def too_large(folder: Path, bare_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> RunApp:
    """The app with the tiny model open, too large for this machine: reading it whole fails the test."""

    def read_whole(*_: object) -> None:
        raise ModelError("it was read whole")

    free = int(needs(folder, "float32").streamed_peak / 0.9) + 1
    monkeypatch.setattr("analysis.fit.free_memory", lambda: Memory(free))
    monkeypatch.setattr("analysis.models._read_weights", read_whole)
    monkeypatch.setenv("HEADLAMP_MODEL", str(folder))
    return bare_app


def asked_models() -> list[tuple[str, bool]]:
    """Name and streamed of the model of every job, newest first."""
    models = [job.order["model"] for job in list_jobs(open_store(default_path()))]
    return [(model["name"], model["streamed"]) for model in models]


@pytest.mark.parametrize("verdict", ["decode from disk", "load in bfloat16"])
def test_what_does_not_fit_is_offered_from_disk_and_then_decoded_by_a_job(
    too_large: RunApp, folder: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    if verdict == "load in bfloat16":
        free = sum(needs(folder, dtype).peak for dtype in ("float32", "bfloat16")) / 2 / 0.9
        monkeypatch.setattr("analysis.fit.free_memory", lambda: Memory(int(free)))
    app = too_large("/neurons")
    assert "does not fit" in app.warning[0].value
    assert not app.dataframe
    press(app, "Decode from disk")
    assert not app.exception
    assert not app.error
    assert not app.warning
    assert len(app.dataframe[0].value) == 48
    assert app.query_params["weights"] == "disk"
    assert asked_models() == [(str(folder), True)]
    assert "read from disk" in app.sidebar.caption[0].value


def test_a_model_that_not_even_fits_from_disk_is_not_offered_so(
    too_large: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.fit.free_memory", lambda: Memory(10))
    app = too_large("/neurons")
    assert "does not fit" in app.warning[0].value
    assert [button.label for button in app.button] == ["Open it anyway"]
    assert not app.code


def test_a_link_that_says_so_opens_it_from_disk_at_once(too_large: RunApp) -> None:
    app = too_large("/neurons", **DISK, site="down")
    assert not app.warning
    assert len(app.dataframe[0].value) == 48


def test_a_word_is_searched_from_disk_with_the_same_answer(
    too_large: RunApp, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = too_large("/neurons", **DISK, word="dog").dataframe[0].value
    monkeypatch.setattr("analysis.models._read_weights", READ_WHOLE)
    store = open_store(tmp_path / "other.db")
    with opened(ModelRef(str(folder)), store) as loaded:
        found = find_word(loaded, store, "dog", limit=50).neurons
    assert shown["p"].tolist() == [neuron.probability for neuron in found]
    assert shown["z-score"].tolist() == [neuron.z_score for neuron in found]


def test_a_neuron_shows_its_tokens_and_says_why_not_where_it_fires(too_large: RunApp) -> None:
    app = too_large("/neurons", **DISK, neuron="L1.N3")
    assert not app.exception
    assert not app.error
    assert [heading.value for heading in app.subheader] == ["Neuron L1.N3", "Nearest neurons"]
    assert len(app.dataframe) == 6, "tops and bottoms at three sites"
    assert "Showing where a neuron fires runs the model" in shown(app)
    assert "Clamp it" not in labels(app, "page_link")
    assert "read from disk" in app.sidebar.caption[0].value
    press(app, "Look for them")
    assert len(app.dataframe[6].value) == 10


def test_overview_shows_the_model_and_asks_only_what_decoding_answers(too_large: RunApp) -> None:
    app = too_large("/", **DISK)
    assert not app.exception
    assert not app.error
    assert {metric.label: metric.value for metric in app.metric}["Neurons"] == "48"
    assert "weights read from disk, layer by layer" in shown(app)
    assert "What changes when" not in shown(app)
    assert "Which neurons write one word for sure?" in shown(app)


def test_clamp_says_in_a_sentence_why_it_cannot_and_what_to_do(too_large: RunApp) -> None:
    app = too_large("/clamp", **DISK)
    assert not app.exception
    assert not app.text_area
    assert "Clamping runs the model, for which all its weights must be in memory" in app.info[0].value
    assert "open it whole" in app.info[0].value
    press(app, "Open it whole")
    assert "does not fit" in app.warning[0].value
    assert "weights" not in app.query_params


def test_two_models_are_compared_from_disk(too_large: RunApp, folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    app = too_large("/compare", **DISK, **{"with": str(other)})
    assert "does not fit" in app.warning[0].value
    press(app, "Decode from disk")
    assert {metric.label: metric.value for metric in app.metric}["Same label"] == "100.0%"
    assert {streamed for _, streamed in asked_models()} == {True}


def test_a_run_that_stopped_is_resumed_from_disk(too_large: RunApp, folder: Path) -> None:
    too_large("/neurons", **DISK)
    store = open_store(default_path())
    [job] = list_jobs(store)
    assert job.run_key is not None
    with store.transaction() as db:
        db.execute("DELETE FROM units WHERE run_key = ? AND idx = 1", [job.run_key])
        db.execute("UPDATE runs SET finished_at = NULL WHERE key = ?", [job.run_key])
    app = too_large("/runs", run=job.run_key)
    app.button(key="resume_run").click().run()
    assert not app.error
    assert asked_models() == [(str(folder), True)] * 2


def test_another_model_is_not_opened_from_disk_because_the_last_one_was(
    too_large: RunApp, folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    too_large("/neurons", **DISK, model=str(other))  # so that the list of models knows it
    app = too_large("/neurons", **DISK)
    app.sidebar.selectbox[0].set_value(str(other)).run()
    assert "does not fit" in app.warning[0].value
    assert "weights" not in app.query_params
    app.sidebar.selectbox[0].set_value(str(folder)).run()
    assert not app.warning
    assert app.query_params["weights"] == "disk"


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
        "Decode it from disk, shard by shard",
    ]


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
    assert "cannot be reached; ask again once the network is back" in shown(app)
