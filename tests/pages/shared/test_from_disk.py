"""A model that does not fit into memory, decoded from disk: what works then, and what says why not."""

# ruff: noqa: F811 - what tests ask for are the fixtures

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.checkpoints.devices import FreeMemory
from analysis.checkpoints.loading import read_weights
from analysis.errors import ModelError
from analysis.opening.memory import MemoryFit, MemoryNeeds, estimate_folder
from analysis.opening.models import ModelRef
from pages.shared.memory import describe_fit, format_needs
from store import default_path, list_jobs, open_store
from tests.pages.reading import labels, press, shown
from tests.pages.shared.from_disk_made import DISK, asked_models, folder  # noqa: F401 - fixtures
from workbench.models import open_model
from workbench.neurons.searching import find_word

RunApp = Callable[..., AppTest]
READ_WHOLE = read_weights


@pytest.fixture
def too_large(folder: Path, bare_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> RunApp:
    """The app with the tiny model open, too large for this machine: reading it whole fails the test."""

    def read_whole(*_: object) -> None:
        raise ModelError("it was read whole")

    free = int(estimate_folder(folder, "float32").streamed_peak / 0.9) + 1
    monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: FreeMemory(free))
    monkeypatch.setattr("analysis.opening.models.read_weights", read_whole)
    monkeypatch.setenv("HEADLAMP_MODEL", str(folder))
    return bare_app


@pytest.mark.parametrize("verdict", ["decode from disk", "load in bfloat16"])
def test_what_does_not_fit_is_offered_from_disk_and_then_decoded_by_a_job(
    too_large: RunApp, folder: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    if verdict == "load in bfloat16":
        free = sum(estimate_folder(folder, dtype).peak for dtype in ("float32", "bfloat16")) / 2 / 0.9
        monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: FreeMemory(int(free)))
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
    monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: FreeMemory(10))
    app = too_large("/neurons")
    assert "does not fit" in app.warning[0].value
    assert [button.label for button in app.button] == ["Open it anyway"]
    assert not app.code


def test_the_sidebar_says_what_a_model_read_from_disk_takes() -> None:
    needs = MemoryNeeds(0, 0, 10**9, 0, 0, 0, layer=5 * 10**6, activations=0, context=8, dtype="float32")
    found = MemoryFit("load", "it is small", needs, FreeMemory(0), room=10**10)
    whole, read = ModelRef("a model"), ModelRef("a model", streamed=True)
    assert "fits" in describe_fit(whole, found)
    assert (
        describe_fit(read, found).replace("\\", "")
        == "5.0 MB of 10.0 GB free on cpu, float32: read from disk"
    )
    assert "5\\.0 MB" in format_needs(read, found).values()
    assert "5\\.0 MB" not in format_needs(whole, found).values()


def test_it_is_read_on_the_cpu_whatever_the_device(
    too_large: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.shared.memory.list_devices", lambda: ["cpu", "cuda:0"])
    app = too_large("/", **DISK, device="cuda:0")
    assert not app.error
    assert "float32 on cpu, read from disk" in app.sidebar.caption[0].value


def test_a_link_that_says_so_opens_it_from_disk_at_once(too_large: RunApp) -> None:
    app = too_large("/neurons", **DISK, site="down")
    assert not app.warning
    assert len(app.dataframe[0].value) == 48


def test_a_word_is_searched_from_disk_with_the_same_answer(
    too_large: RunApp, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = too_large("/neurons", **DISK, word="dog").dataframe[0].value
    monkeypatch.setattr("analysis.opening.models.read_weights", READ_WHOLE)
    store = open_store(tmp_path / "other.db")
    with open_model(ModelRef(str(folder)), store) as loaded:
        found = find_word(loaded, store, "dog", limit=50).neurons
    assert shown["cosine"].tolist() == [neuron.cosine for neuron in found]
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
    press(app, "Find them")
    assert len(app.dataframe[6].value) == 10


def test_overview_shows_the_model_and_asks_only_what_decoding_answers(too_large: RunApp) -> None:
    app = too_large("/", **DISK)
    assert not app.exception
    assert not app.error
    assert "48 neurons" in shown(app)
    assert "read from disk layer by layer" in shown(app)
    assert "What changes when" not in shown(app)
    assert shown(app).count("Weights that stay on disk cannot be run") == 1


def test_clamp_says_in_a_sentence_why_it_cannot_and_what_to_do(too_large: RunApp) -> None:
    app = too_large("/clamp", **DISK)
    assert not app.exception
    assert not app.text_area
    assert "Clamping runs the model, which needs all its weights in memory" in app.info[0].value
    assert "open it in memory" in app.info[0].value
    press(app, "Open it in memory")
    assert "does not fit" in app.warning[0].value
    assert "weights" not in app.query_params


@pytest.mark.slow
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
