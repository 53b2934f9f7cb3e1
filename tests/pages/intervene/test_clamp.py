"""The Clamp page in its four states, and as a pasted link opens it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from store import default_path, open_store
from store.errors import StoreFull
from tests.altered_models import copied, edit_json
from tests.pages.reading import elements, html_of, labels, press, shown
from workbench.findings.findings import list_findings
from workbench.generating.clamping import find_pair, generate_pair
from workbench.generating.pair_verdicts import judge_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model
from workbench.neurons.searching import find_word

CLAMP = "L1.N3:key:set:4@all"
VIEW = {"clamps": CLAMP, "prompt": " the dog", "word": "cat", "tokens": "6"}


@pytest.fixture
def finished(run_app: Callable[..., AppTest]) -> AppTest:
    """The page after Generate."""
    app = press(run_app("/clamp", **VIEW), "Generate")
    assert not app.exception
    return app


def test_without_a_clamp_the_page_says_what_to_do_and_offers_an_example(
    run_app: Callable[..., AppTest], tmp_path: Path, tiny_model_folder: Path
) -> None:
    app = run_app("/clamp", prompt=" the", word="cat")
    assert not app.exception
    assert not app.error
    assert "Add a clamp at the left" in app.info[0].value
    press(app, "Try an example: make it say cat")
    assert not app.error
    store = open_store(tmp_path / "other.db")
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        (hit,) = find_word(loaded, store, "cat", by="z", limit=1).neurons
    sign = "-" if hit.sign == "-" else ""
    assert app.query_params["clamps"] == f"{hit.address}:key:set:{sign}1r@last"
    assert app.text_input(key="word").value == "cat"


def test_a_link_fills_everything_in_and_generates_nothing_by_itself(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/clamp", **VIEW, prefix=" a", temperature="0.5", seed="5")
    assert app.text_area(key="prompt").value == " the dog"
    assert [app.text_input(key=key).value for key in ("prefix", "word")] == [" a", "cat"]
    assert [app.number_input(key=key).value for key in ("tokens", "temperature", "seed")] == [6, 0.5, 5]
    assert app.text_area(key="_recipe_text").value == CLAMP
    assert not html_of(app)
    assert "Everything is filled in" in app.info[0].value


def test_generate_shows_what_the_workbench_computes(
    finished: AppTest, tiny_model_folder: Path, tmp_path: Path
) -> None:
    request = GenerationRequest(" the dog", (parse_clamp(CLAMP),), sampling=Sampling(6), word="cat")
    with open_model(ModelRef(str(tiny_model_folder)), open_store(tmp_path / "other.db")) as loaded:
        expected = generate_pair(loaded, open_store(tmp_path / "other.db"), request)
    assert expected.word
    assert expected.base_ids != expected.changed_ids
    assert f"**{judge_pair(expected)}**" in shown(finished)
    assert judge_pair(expected).startswith("cat: ")
    assert "acted on all" in shown(finished)
    assert "<mark" in shown(finished)
    assert not finished.error


def test_the_word_is_drawn_along_both_texts_and_its_position_is_said(finished: AppTest) -> None:
    assert "The model has no chat template, so the first position after the prompt is read." in shown(
        finished
    )
    result = finished.session_state["_generation_last"][1]
    specs = [json.loads(chart.proto.spec) for chart in elements(finished, "plotly_chart")]
    (drawn,) = [spec for spec in specs if _y_title(spec) == "P(cat)"]
    assert [line["y"] for line in drawn["data"]] == [list(path) for path in result.per_position]
    assert [len(line["customdata"]) for line in drawn["data"]] == [6, 6]


def _y_title(spec: dict[str, Any]) -> str:
    return str(spec["layout"]["yaxis"].get("title", {}).get("text", ""))


def test_every_case_of_the_word_is_counted_where_the_link_says_so(run_app: Callable[..., AppTest]) -> None:
    app = press(run_app("/clamp", **VIEW, fold="true"), "Generate")
    assert not app.error
    assert app.session_state["_generation_last"][1].request.fold_case
    assert any("fold=true" in code.value for code in app.code)


def test_the_same_request_is_shown_at_once_on_a_fresh_server(
    finished: AppTest, run_app: Callable[..., AppTest]
) -> None:
    app = run_app("/clamp", **VIEW)
    assert "cat: " in shown(app)
    assert html_of(app) == html_of(finished)


def test_a_changed_recipe_keeps_the_last_texts_and_says_they_are_old(finished: AppTest) -> None:
    before = html_of(finished)
    press(finished, "Add a clamp")
    finished.text_input(key="_recipe1_address").set_value("L0.N1").run()
    assert "before your last change" in finished.info[0].value
    assert html_of(finished) == before
    assert finished.query_params["clamps"] == f"{CLAMP};L0.N1:key:set:1r@last"


def test_clamps_are_added_removed_and_edited_as_text(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/clamp", clamps=f"{CLAMP};L0.N2:up:add:-2x@3-7")
    assert app.text_input(key="_recipe1_value").value == "-2"
    assert app.selectbox(key="_recipe1_scope").value == "3-7"
    app.text_area(key="_recipe_text").set_value("L0.N5:gate:ablate@last\nL1.N1:scale:0.5").run()
    assert app.query_params["clamps"] == "L0.N5:gate:ablate@last;L1.N1:key:scale:0.5@all"
    app.button(key="_recipe_drop2").click().run()
    assert app.query_params["clamps"] == "L1.N1:key:scale:0.5@all"
    app.text_input(key="_recipe3_value").set_value("3").run()
    assert app.query_params["clamps"] == "L1.N1:key:scale:3@all"


@pytest.mark.parametrize("value", ["0.123456789", "-7.0000001", "1e-07"])
def test_a_value_survives_typing_address_reload_and_generation_exactly(
    run_app: Callable[..., AppTest], value: str
) -> None:
    app = press(run_app("/clamp", **VIEW | {"clamps": "L1.N3:key:set:4x@all"}), "Generate")
    app.text_input(key="_recipe0_value").set_value(value).run()
    assert app.query_params["clamps"] == f"L1.N3:key:set:{value}x@all"
    app = press(run_app("/clamp", **VIEW | {"clamps": app.query_params["clamps"]}), "Generate")
    assert app.text_input(key="_recipe0_value").value == value
    [clamp] = app.session_state["_generation_last"][1].request.clamps
    assert clamp.value == float(value)
    shared = next(code.value for code in app.code if "/clamp?" in code.value)
    assert parse_qs(urlsplit(shared).query)["clamps"] == [f"L1.N3:key:set:{value}x@all"]


def test_a_whole_clamp_typed_as_an_address_goes_to_its_fields(run_app: Callable[..., AppTest]) -> None:
    app = press(run_app("/clamp"), "Add a clamp")
    app.text_input(key="_recipe0_address").set_value("L1.N7:up:add:-3x@prompt").run()
    fields = ("mode", "unit", "site", "scope")
    assert [app.selectbox(key=f"_recipe0_{name}").value for name in fields] == ["add", "max", "up", "prompt"]
    assert app.text_input(key="_recipe0_value").value == "-3"


def test_times_the_residual_is_a_unit_with_its_meaning_and_its_values(
    run_app: Callable[..., AppTest],
) -> None:
    app = run_app("/clamp", **VIEW | {"clamps": "L1.N3:key:set:4x@all"})
    app.selectbox(key="_recipe0_unit").set_value("residual").run()
    assert app.query_params["clamps"] == "L1.N3:key:set:4r@all"
    app.text_input(key="_recipe0_value").set_value("-1.5r").run()
    assert app.query_params["clamps"] == "L1.N3:key:set:-1.5r@all"
    assert app.text_input(key="_recipe0_value").value == "-1.5"
    assert "writes -1.5 times the size of the residual that its block's output is added to" in shown(app)
    press(app, "Generate")
    assert "at raw values of -" in shown(app)
    app.selectbox(key="_recipe0_site").set_value("up").run()
    assert "is for its key" in shown(app)


def test_the_neurons_own_maximum_stands_beside_its_raw_value(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/clamp", **VIEW | {"clamps": "L1.N3:key:set:2x@all"})
    assert "measured on the reference text when you first press Generate" in shown(app)
    press(app, "Generate")
    sizes = next(caption.value for caption in app.caption if caption.value.startswith("Raw"))
    raw, largest = (
        float(part.split()[0].strip("*"))
        for part in (sizes[4:], sizes.split("activation| is ")[1].replace(",", ""))
    )
    assert raw == pytest.approx(2 * largest, rel=1e-3)
    assert "at position 0" in sizes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clamps": "L1.N3:key:sit:4"}, "the form is ADDRESS"),
        ({"clamps": "dog"}, "is not a neuron address"),
        ({"clamps": "L9.N3:set:4"}, "layer 9"),
        ({"clamps": "L1.E2.N3:set:4"}, "L1.E2"),
        ({"clamps": "L1.N999:set:4"}, "N999"),
        ({"clamps": "L1.N3:set:nan"}, "is not finite"),
        ({"clamps": "L1.N3:set:inf"}, "is not finite"),
        ({"clamps": "L1.N3:set:1e30"}, "is not a number of at most"),
        ({"clamps": "L1.N3:set:8x@sometimes"}, "SCOPE"),
        ({"prompt": "   "}, "the prompt is empty"),
        ({"prompt": " the dog" * 60}, "the model's context is 64"),
        ({"word": "zebra"}, "is not text that this model's tokens can write"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_explained_and_stays_as_typed(
    run_app: Callable[..., AppTest], change: dict[str, str], said: str
) -> None:
    app = press(run_app("/clamp", **VIEW | change), "Generate")
    assert not app.exception
    assert any(said in error.value.replace("\\", "").replace("\u2060", "") for error in app.error)
    assert app.text_area(key="prompt").value == (VIEW | change)["prompt"]
    assert str(app.text_area(key="_recipe_text").value).startswith((VIEW | change)["clamps"].split(":")[0])


def test_an_error_leaves_no_button_to_stop_it(run_app: Callable[..., AppTest]) -> None:
    app = press(run_app("/clamp", **VIEW | {"word": "zebra"}), "Generate")
    assert app.error
    assert "Stop" not in [button.label for button in app.button]


def test_an_error_keeps_the_texts_that_were_there(finished: AppTest) -> None:
    before = html_of(finished)
    finished.text_input(key="word").set_value("zebra")
    press(finished, "Generate")
    assert finished.error
    assert html_of(finished) == before


def test_hostile_text_is_shown_as_text(run_app: Callable[..., AppTest]) -> None:
    hostile = "<script>alert(1)</script> $x$"
    app = press(run_app("/clamp", **VIEW | {"prompt": hostile, "clamps": "<b>x</b>"}), "Generate")
    app.text_area(key="_recipe_text").set_value(CLAMP).run()
    press(app, "Generate")
    texts = "".join(html_of(app))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in texts
    assert "<script" not in texts + "".join(error.value for error in app.error)


def test_a_full_disk_costs_a_warning_and_not_the_text(
    run_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> None:
        raise StoreFull("No room left")

    monkeypatch.setattr("workbench.generating.clamping.put_unit", full)
    app = press(run_app("/clamp", **VIEW), "Generate")
    assert "No room left" in app.warning[0].value
    assert "<mark" in shown(app)
    app.run()
    assert "No room left" in app.warning[0].value
    assert "<mark" in shown(app)


def test_a_finding_is_kept_with_its_evidence_and_linked(finished: AppTest) -> None:
    title = next(field for field in finished.text_input if field.label == "Title")
    assert "L1.N3" in str(title.value)
    assert "the dog" in str(title.value)
    title.set_value("Holding it makes a cat")
    press(finished, "Keep")
    [finding] = list_findings(open_store(default_path()))
    assert (finding.title, finding.evidence["clamps"]) == ("Holding it makes a cat", [CLAMP])
    link = next(link for link in elements(finished, "page_link") if "finding you kept" in link.label)
    assert finding.id in str(link.proto)


def test_a_finding_without_a_title_is_refused_with_a_reason(finished: AppTest) -> None:
    next(field for field in finished.text_input if field.label == "Title").set_value(" ")
    press(finished, "Keep")
    assert "needs a title" in finished.error[0].value
    assert list_findings(open_store(default_path())) == []


def test_the_shared_address_holds_the_whole_view(run_app: Callable[..., AppTest]) -> None:
    wanted = VIEW | {"temperature": "0.5", "seed": "5", "prefix": " a"}
    app = press(run_app("/clamp", **wanted), "Generate")
    address = next(code.value for code in app.code if "/clamp?" in code.value)
    given = {key: value for key, [value] in parse_qs(urlsplit(address).query).items()}
    assert {key: given[key] for key in wanted} == wanted
    assert "model" in given


def test_the_recipe_and_the_script_are_offered(finished: AppTest) -> None:
    assert {"Recipe as JSON", "Answer position as CSV"} <= set(labels(finished, "download_button"))
    assert any("register_forward_pre_hook" in code.value for code in finished.code)


CHAT = {"model": "demo/chat", "prompt": "What is your favourite animal?", "tokens": "4"}


def test_a_chat_model_has_a_system_prompt_turns_and_a_raw_prompt(run_app: Callable[..., AppTest]) -> None:
    turns = "user: Who are you?\nassistant: I am a small model."
    app = press(run_app("/clamp", **CHAT, system="Be brief.", turns=turns), "Generate")
    assert not app.exception
    assert not app.error
    with open_model(ModelRef("demo/chat"), open_store(default_path())) as loaded:
        request = GenerationRequest(
            CHAT["prompt"],
            sampling=Sampling(4),
            system="Be brief.",
            turns=(("user", "Who are you?"), ("assistant", "I am a small model.")),
        )
        found = find_pair(loaded, open_store(default_path()), request)
    assert found is not None
    link = next(code.value for code in app.code if "/clamp?" in code.value)
    assert parse_qs(urlsplit(link).query)["turns"] == [turns]
    app.checkbox(key="raw").check()
    assert "need the chat template" in press(app, "Generate").error[0].value


def test_a_plain_model_is_not_asked_for_a_system_prompt(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/clamp", **VIEW, system="Be brief.", raw="true")
    assert "raw" not in {box.key for box in app.checkbox}
    assert not press(app, "Generate").error


def test_the_page_says_what_is_configured_and_not_applied(
    run_app: Callable[..., AppTest], tmp_path: Path
) -> None:
    folder = copied("chat", tmp_path / "chat")
    edit_json(folder / "generation_config.json", top_p=0.9)
    said = "asks for top_p 0.9, which is not applied here"
    assert said in shown(run_app("/clamp", **CHAT | {"model": str(folder)}))
    assert "is not applied here" not in shown(run_app("/clamp", **CHAT))


def test_a_word_that_a_link_hands_over_fills_the_box_once(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/clamp", say="dog", prompt="a dog")
    box = next(one for one in app.text_input if one.label == "Word to measure")
    assert box.value == "dog"
    assert "say" not in app.query_params
