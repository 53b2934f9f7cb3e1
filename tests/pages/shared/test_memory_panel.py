"""The sidebar says before loading what a model needs, and lets go of what another model replaces."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.runtime.caching import cache_resource_api
from streamlit.testing.v1 import AppTest

from analysis.checkpoints.devices import FreeMemory
from analysis.opening import leases
from analysis.opening.leases import hold_model, is_loaded, release_model
from analysis.opening.memory import estimate_folder
from analysis.opening.models import ModelRef
from pages.shared.layout import format_size
from tests.pages.reading import shown

RunApp = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def nothing_open() -> None:
    """Models that other tests left open are out of the way."""
    leases._entries.clear()
    leases._holds.clear()


def bare(text: str) -> str:
    """Markdown without what keeps it from being Markdown."""
    return text.replace("\\", "").replace("\u2060", "")


def table(app: AppTest) -> dict[str, str]:
    """What the sidebar's table says."""
    frame = app.sidebar.table[0].value
    return {bare(str(name)): bare(str(row.iloc[0])) for name, row in frame.iterrows()}


def free(monkeypatch: pytest.MonkeyPatch, host: float, *accelerators: float) -> None:
    """So many bytes free; nothing is open."""
    memory = FreeMemory(int(host), tuple(int(count) for count in accelerators))
    monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: memory)
    for module in ("resources", "memory"):
        monkeypatch.setattr(f"pages.shared.{module}.is_loaded", lambda ref: False)


def peak(folder: Path, dtype: str) -> int:
    return estimate_folder(folder, dtype, 1024).peak


def test_needs_stand_beside_what_is_free(run_app: RunApp, tiny_model_folder: Path) -> None:
    app = run_app("/")
    found, expected = table(app), estimate_folder(tiny_model_folder, "float32", 1024)
    assert found["Parameters"] == f"{expected.parameters:,}"
    assert found["Weights in float32"] == format_size(expected.weights)
    assert found["Of them LM head"] == format_size(expected.head)
    assert found["Activations, 64 tokens"] == format_size(expected.activations)
    assert found["Most at once"] == format_size(expected.peak)
    assert "Free on cpu, less 10 %" in found
    assert found["Verdict"].startswith("load: ")
    assert table(app.run())["Verdict"] == "open"


def test_they_are_reckoned_for_the_context_and_the_number_format_chosen(run_app: RunApp) -> None:
    short, long = table(run_app("/", context=8)), table(run_app("/", context=32))
    assert short["Activations, 8 tokens"] != long["Activations, 32 tokens"]
    assert "Weights in bfloat16" in table(run_app("/", dtype="bfloat16"))


def test_one_line_says_before_loading_that_it_does_not_fit(
    run_app: RunApp, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 1000)
    app = run_app("/")
    line = bare(app.sidebar.caption[0].value)
    assert (
        line == f"{format_size(peak(tiny_model_folder, 'float32'))} of 900 B free on cpu, float32: too large"
    )
    assert "even decoding from disk needs" in table(app)["Verdict"]
    assert len(app.sidebar.caption) == 1


def test_only_devices_that_are_here_can_be_chosen(run_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    box = next(b for b in run_app("/").sidebar.selectbox if b.label == "Device")
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    assert box.options[:2] == ["auto", "cpu"]
    assert [o for o in box.options if o.startswith("cuda")] == gpus
    monkeypatch.setattr("pages.shared.memory.list_devices", lambda: ["cpu", "cuda:0", "cuda:1", "balanced"])
    box = next(b for b in run_app("/").sidebar.selectbox if b.label == "Device")
    assert box.options == ["auto", "cpu", "cuda:0", "cuda:1", "balanced"]


def test_a_device_in_the_url_that_is_not_here_is_not_taken(run_app: RunApp) -> None:
    app = run_app("/", device="cuda:99")
    assert not app.exception
    assert "float32 on cpu" in app.sidebar.caption[0].value


@pytest.mark.parametrize(
    ("memory", "label", "then"),
    [
        ((40, 1), "Open it on the CPU", "bfloat16 on cpu"),
        ((1, 30, 30), "Spread it over all GPUs", None),
    ],
)
def test_another_place_is_offered_where_a_gpu_is_too_small(
    run_app: RunApp,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: tuple[int, ...],
    label: str,
    then: str | None,
) -> None:
    unit = peak(tiny_model_folder, "bfloat16") / 40 / 0.9
    free(monkeypatch, *(count * unit + 1 for count in memory))
    monkeypatch.setattr("pages.shared.memory.list_devices", lambda: ["cpu", "cuda:0", "cuda:1", "balanced"])
    app = run_app("/", device="cuda:0")
    assert "does not fit into memory as bfloat16 on cuda:0" in bare(app.warning[0].value)
    button = next(b for b in app.button if b.label == label)
    if then is None:
        return  # no second GPU is at hand to open it on
    button.click().run()
    assert not app.warning
    assert then in app.sidebar.caption[0].value


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Any]:
    """A Hub that has one model under any name; the (name, revision) pairs it was asked for."""
    asked: list[Any] = []

    def snapshot(name: str, *, revision: str | None = None, **_: object) -> str:
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("analysis.checkpoints.sources.snapshot_download", snapshot)
    return asked


def test_a_revision_can_be_named_of_a_hub_model_alone(
    run_app: RunApp, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not run_app("/").sidebar.text_input
    asked = hub(monkeypatch, tiny_model_folder)
    app = run_app("/", model="someone/model", revision="v2")
    assert app.sidebar.text_input[0].value == "v2"
    assert {pair for pair in asked if pair[0] == "someone/model"} == {("someone/model", "v2")}
    assert "layers of width" in shown(app)
    app.sidebar.text_input[0].set_value("v3").run()
    assert ("someone/model", "v3") in asked


def test_another_model_starts_without_the_revision_of_the_one_before(
    run_app: RunApp, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, tiny_model_folder)
    app = run_app("/", model="someone/model", revision="v2")
    app.sidebar.selectbox[0].set_value("demo/base").run()
    assert not app.query_params.get("revision")
    asked = hub(monkeypatch, tiny_model_folder)
    app.query_params["model"] = "someone/other"
    app.run()
    assert set(asked) == {("someone/other", None)}


def test_a_folder_that_is_no_model_leaves_the_sidebar_whole(bare_app: RunApp, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    app = bare_app("/", model=str(tmp_path))
    assert not app.exception
    assert app.error
    assert not app.sidebar.table


def other(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    return copy


def test_a_model_that_another_replaces_leaves_memory(
    run_app: RunApp, tiny_model_folder: Path, tmp_path: Path
) -> None:
    one, two = ModelRef(str(tiny_model_folder)), ModelRef(str(other(tiny_model_folder, tmp_path)))
    app = run_app("/")
    assert is_loaded(one)
    app.query_params["model"] = two.name
    app.run()
    assert "LlamaForCausalLM" in app.sidebar.caption[0].value
    assert is_loaded(two)
    assert not is_loaded(one)


def test_what_a_replaced_model_took_counts_as_free_for_the_next(
    run_app: RunApp, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = ModelRef(str(tiny_model_folder)), ModelRef(str(other(tiny_model_folder, tmp_path)))
    app = run_app("/")
    free = "analysis.opening.memory.read_free_memory"
    monkeypatch.setattr(free, lambda: FreeMemory(0 if is_loaded(one) else 10**10))
    app.query_params["model"] = two.name
    app.run()
    assert not app.warning
    assert table(app)["Free on cpu, less 10 %"] == "9.0 GB"
    assert is_loaded(two)


def test_a_compared_model_that_is_no_longer_chosen_leaves_memory(
    run_app: RunApp, tiny_model_folder: Path, tmp_path: Path
) -> None:
    two = ModelRef(str(other(tiny_model_folder, tmp_path)))
    app = run_app("/compare", **{"with": two.name})
    assert is_loaded(two)
    del app.query_params["with"]
    app.run()
    assert not is_loaded(two)
    assert is_loaded(ModelRef(str(tiny_model_folder)))


def test_a_model_that_is_closed_leaves_memory(run_app: RunApp, tiny_model_folder: Path) -> None:
    app = run_app("/")
    app.sidebar.selectbox[0].set_value(None).run()
    assert "No model is open" in app.info[0].value
    assert not is_loaded(ModelRef(str(tiny_model_folder)))


def test_a_model_that_another_session_has_open_stays(run_app: RunApp, tiny_model_folder: Path) -> None:
    ref = hold_model(ModelRef(str(tiny_model_folder)))
    run_app("/").sidebar.selectbox[0].set_value(None).run()
    assert is_loaded(ref)
    release_model(ref)
    assert not is_loaded(ref)


def test_a_session_that_ends_gives_its_model_back(run_app: RunApp, tiny_model_folder: Path) -> None:
    run_app("/")
    assert is_loaded(ModelRef(str(tiny_model_folder)))
    for session in list(cache_resource_api._resource_caches._function_caches):
        if session is not None:
            cache_resource_api.clear_session_cache(session)
    assert not is_loaded(ModelRef(str(tiny_model_folder)))
