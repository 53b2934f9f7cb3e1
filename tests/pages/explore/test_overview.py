"""Overview: what the model is, three questions that end in a finding, its map, and what was done last."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared.jobs import timing
from store import default_path, keep_finding, list_runs, open_store
from tests.altered_models import moved_end
from tests.pages.explore.experts_made import moe_folder  # noqa: F401 - a fixture
from tests.pages.reading import elements, press, shown
from workbench import expected
from workbench.unlearning.presets import PlannedTime
from workbench.unlearning.questions import UnlearningQuestion

RunApp = Callable[..., AppTest]


def links(app: AppTest) -> dict[str, tuple[str, dict[str, list[str]]]]:
    """Label → script and query of every page link in the page itself."""
    return {
        _plain(link.label): (link.proto.page, parse_qs(link.proto.query_string))
        for link in elements(app, "page_link")
    }


def _plain(label: str) -> str:
    return label.replace("\\", "").replace("\u2060", "")


def card(app: AppTest) -> str:
    return next(text.value for text in app.markdown if "fingerprint" in text.value)


def test_the_model_is_said_in_three_lines(run_app: RunApp) -> None:
    lines = card(run_app("/")).split("  \n")
    assert len(lines) == 3
    assert "a dense model (LlamaForCausalLM)" in lines[0]
    assert "2 layers of width 16, 48 neurons" in lines[0]
    assert "a context of 64 tokens; float32 on cpu" in lines[0].replace("\\", "")
    assert lines[1].startswith("Mapped: nothing yet")
    assert not run_app("/").metric


def test_the_three_questions_are_links_with_everything_filled_in(run_app: RunApp) -> None:
    app = run_app("/")
    assert not app.exception
    found = links(app)
    page, query = found["Make it say “dog”"]
    assert ("neurons" in page, query["word"], query["levers"]) == (True, ["dog"], ["true"])
    opened = run_app("/neurons", **{name: query[name] for name in ("word", "levers")})
    assert any(button.label == "Best levers" for button in opened.button)
    page, query = found["Ask demo/moe"]
    assert ("experts" in page, query["model"]) == (True, ["demo/moe"])
    page, query = found["Let demo/base forget arithmetic"]
    assert ("unlearn" in page, query["model"], query["methods"]) == (True, ["demo/base"], ["KSD"])
    assert (query["forget"], query["retain"], query["examples"]) == (
        ["arithmetic"], ["facts", "stories"], ["240"],
    )  # fmt: skip


def test_each_question_names_its_steps_up_to_the_finding(run_app: RunApp) -> None:
    steps = [text.value for text in run_app("/").markdown if text.value.startswith("1\\.")]
    assert len(steps) == 3
    assert all("**Keep as a finding**" in step for step in steps)


def test_a_mixture_is_asked_itself(
    run_app: RunApp, moe_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADLAMP_MODEL", str(moe_folder))
    _, query = links(run_app("/"))["Find its experts"]
    assert query["model"] == [str(moe_folder)]


def test_the_word_asked_for_is_one_token(run_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.explore.overview.questions.CANDIDATES", ("zebra", "day"))
    assert "Make it say “day”" in links(run_app("/"))
    monkeypatch.setattr("pages.explore.overview.questions.CANDIDATES", ("zebra",))
    app = run_app("/")
    assert not app.exception
    assert "Search a word" in links(app)


def test_a_time_is_that_of_earlier_runs_else_of_a_measurement(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "measure_reading_rate", lambda loaded: expected.LEVERS.tokens / 117)
    assert "≈ 2 min on this machine, by a short measurement" in shown(run_app("/"))
    usual: dict[str, Any] = {"levers": 30.0}
    monkeypatch.setattr(expected, "find_usual_seconds", lambda loaded, store, kind: usual.get(kind))
    assert "≈ 30 s, as it took here before" in shown(run_app("/"))


def test_the_time_of_forgetting_is_that_of_the_question_its_link_asks(
    run_app: RunApp, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[UnlearningQuestion] = []

    def plan(loaded: object, question: UnlearningQuestion) -> PlannedTime:
        asked.append(question)
        return PlannedTime(240.0, None, 240.0)

    monkeypatch.setattr("pages.explore.overview.questions.TAUGHT", {str(tiny_model_folder)})
    monkeypatch.setattr(timing, "plan_time", plan)
    app = run_app("/")
    assert "measured on a held-out test. ≈ 4 min on this machine, by a short measurement." in shown(app)
    assert "is being measured" not in shown(app)
    _, query = links(app)["Forget arithmetic"]
    (question,) = asked
    assert [question.forget.name, *(one.name for one in question.retain)] == [
        *query["forget"],
        *query["retain"],
    ]
    assert [str(question.limit)] == query["examples"]


def test_a_map_is_made_with_one_button_at_every_site(run_app: RunApp) -> None:
    app = run_app("/")
    (button,) = [button for button in app.button if button.label.startswith("Map this model (≈ ")]
    button.click().run()
    runs = wait_for_maps(app)
    assert sorted(run.parameters["site"] for run in runs) == ["down", "gate", "up"]
    app = run_app("/")
    assert "Mapped: every neuron is decoded at up, gate, down." in card(app)
    assert not any(button.label.startswith("Map this model") for button in app.button)
    table = app.dataframe[0].value
    assert sorted(table["Site"]) == ["down", "gate", "up"]
    assert set(table["Blocks"]) == {"2 of 2"}


def wait_for_maps(app: AppTest) -> list[Any]:
    """The finished decodings, once all three jobs are done."""
    import time

    store = open_store(default_path())
    for _ in range(600):
        runs = [run for run in list_runs(store, kind="decode") if run.finished]
        if len(runs) == 3:
            return runs
        time.sleep(0.05)
    raise AssertionError("the map was not made")


def test_runs_are_links_that_reopen_their_view(run_app: RunApp) -> None:
    run_app("/neurons", site="down")
    press(
        run_app("/clamp", clamps="L1.N3:key:set:4@all", prompt=" the dog", word="cat", tokens="2"), "Generate"
    )
    found = links(run_app("/"))
    page, query = found["Map of the neurons at down"]
    assert ("neurons" in page, query["site"]) == (True, ["down"])
    page, query = found["Holding L1.N3 at 4 everywhere on “the dog”"]
    assert "clamp" in page
    assert query["clamps"] == ["L1.N3:key:set:4@all"]
    assert (query["prompt"], query["word"], query["tokens"]) == ([" the dog"], ["cat"], ["2"])


def test_before_anything_was_kept_an_example_is_shown_and_can_only_be_read(run_app: RunApp) -> None:
    app = run_app("/")
    assert "What a finding looks like" in shown(app)
    assert "Nothing has been run yet" in shown(app)
    _, query = links(app)["Open the example"]
    example = run_app("/findings", finding=query["finding"][0])
    assert not example.exception
    assert not example.error
    assert "A bundled example" in example.info[0].value
    assert "64 %" in shown(example)
    assert not {"Run again", "Delete it", "Save"} & {button.label for button in example.button}


def test_what_was_kept_takes_the_examples_place(run_app: RunApp) -> None:
    kept = keep_finding(
        open_store(default_path()),
        title="A *dog*",
        kind="generation",
        model_name="m",
        model_fingerprint="f",
        evidence={},
    )
    app = run_app("/")
    assert "What a finding looks like" not in shown(app)
    assert links(app)["A *dog*"][1]["finding"] == [kept.id]


def test_layers_that_are_alike_are_one_sentence(run_app: RunApp) -> None:
    assert "All 2 layers are alike: each has a feed-forward block of 24 neurons." in shown(run_app("/"))


def test_ids_without_a_token_count_as_padding(run_app: RunApp, tmp_path: Path) -> None:
    found = card(run_app("/", model=str(moved_end(tmp_path / "moved"))))
    assert "32 padding rows of the head left out" in found
    assert "a vocabulary of 4,000" in found
