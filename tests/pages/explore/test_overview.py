"""Overview: what the model is, what has been mapped, where to begin."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.altered_models import moved_end

RunApp = Callable[..., AppTest]


def headings(app: AppTest) -> list[str]:
    return [heading.value for heading in app.subheader]


def test_it_shows_the_model_in_numbers(run_app: RunApp) -> None:
    shown = {metric.label: metric.value for metric in run_app("/").metric}
    assert shown["Layers"] == "2"
    assert shown["Neurons"] == "48"
    assert shown["Context"] == "64"


def test_it_shows_the_anatomy_and_where_to_begin(run_app: RunApp) -> None:
    app = run_app("/")
    assert not app.exception
    assert headings(app) == ["Start with a question", "Anatomy", "Decoded so far", "Recent runs"]


def test_it_asks_for_a_word_that_is_one_token(run_app: RunApp) -> None:
    assert any("“dog”" in text.value for text in run_app("/").markdown)


def test_it_asks_for_another_word_where_the_first_is_no_token(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.explore.overview.panels.CANDIDATES", ("zebra", "day"))
    assert any("“day”" in text.value for text in run_app("/").markdown)


def test_it_does_not_ask_for_a_word_where_none_is_a_token(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.explore.overview.panels.CANDIDATES", ("zebra",))
    app = run_app("/")
    assert not app.exception
    assert not any("Which neurons say" in text.value for text in app.markdown)


def test_before_anything_was_run_it_says_what_to_do(run_app: RunApp) -> None:
    texts = [info.value for info in run_app("/").info]
    assert "No neuron of this model has been decoded yet" in texts[0]
    assert "Nothing has been run yet" in texts[1]


def test_after_decoding_it_lists_the_site_and_the_run(run_app: RunApp) -> None:
    run_app("/neurons", site="down")
    mapped, recent = (table.value for table in run_app("/").dataframe)
    assert mapped["Site"].tolist() == ["down"]
    assert mapped["Blocks"].tolist() == ["2 of 2"]
    assert "decode" in recent["Kind"].tolist()
    assert all("/" not in name for name in recent["Model"])


def test_it_proposes_to_hold_the_neuron_that_says_the_word_most(run_app: RunApp) -> None:
    found = run_app("/neurons", site="down", word="dog").dataframe[0].value["address"][0]
    address = found.partition("neuron=")[2].partition("&")[0]
    assert any(f"What changes when {address} is clamped" in text.value for text in run_app("/").markdown)


def test_ids_without_a_token_count_as_padding(run_app: RunApp, tmp_path: Path) -> None:
    app = run_app("/", model=str(moved_end(tmp_path / "moved")))
    assert any("32 padding rows of the head left out" in caption.value for caption in app.caption)
    assert {metric.label: metric.value for metric in app.metric}["Vocabulary"] == "4,000"
