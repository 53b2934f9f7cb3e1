"""The Skills page: defined, chosen, fitted, tried; its four states, what it refuses, and its links."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from analysis.opening.models import LoadedModel, ModelRef
from analysis.unlearning.guards.key_spaces import KeySpace, try_query
from analysis.unlearning.guards.operating import OperatingPoint, choose_point
from pages.intervene.skills import define as skill_define
from pages.intervene.skills import query as skill_query
from pages.intervene.skills.view import View, explain_alpha
from store import Store, default_path, list_jobs, open_store
from tests.pages.job_rows import ended, work_with
from tests.pages.reading import elements, labels, press, shown
from tests.workbench.jobs.job_engines import Gate, Watched
from workbench.findings.findings import list_findings
from workbench.models import open_model
from workbench.skills.key_space import KeySpaceQuestion, find_key_space
from workbench.skills.library import add_skill, list_skills, remove_skill

RunApp = Callable[..., AppTest]
WORDS = (" dog", " cat", " day", " Dog", " the", " a", " ran", " and")
VIEW = {"skill": "pets <b>", "compared": "runs"}
QUERY = " the dog cat day"
FIT = "Fit the box of pets <b>"


def skill_lines(*endings: str) -> str:
    """112 examples as JSON lines whose prompts end so; some hold what nobody should interpret."""
    prompts = [f"{a}{b}{end}" for a, b in product(WORDS, WORDS) for end in endings][:112]
    return "\n".join(
        json.dumps({"prompt": p, "answer": "<script>alert(1)</script> **x** $y$"}) for p in prompts
    )


@pytest.fixture
def database() -> Store:
    """The store the app will open, with two skills of its own."""
    store = open_store(default_path())
    add_skill(store, "pets <b>", skill_lines(" dog day", " cat day").encode(), "jsonl")
    add_skill(store, "runs", skill_lines(" ran .", " a and").encode(), "jsonl")
    return store


@pytest.fixture
def fitted(run_app: RunApp, database: Store) -> AppTest:
    """The page after the fit."""
    app = press_plain(run_app("/skills", **VIEW), FIT)
    assert not app.exception
    assert not app.error
    return app


@pytest.fixture
def space(fitted: AppTest, database: Store, tiny_model_folder: Path) -> KeySpace:
    """What the workbench has of it."""
    library = {source.name: source for source in list_skills(database)}
    with open_model(ModelRef(str(tiny_model_folder)), database) as loaded:
        question = KeySpaceQuestion(library["pets <b>"], (library["runs"],))
        found = find_key_space(loaded, database, question)
    assert found is not None
    return found[1]


def bare(text: str) -> str:
    return text.replace("\\", "").replace("\u2060", "")


def press_plain(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if bare(button.label) == label).click().run()


def metrics(app: AppTest) -> dict[str, str]:
    return {bare(metric.label): metric.value for metric in app.metric}


def alpha_of(app: AppTest) -> float:
    value = app.slider(key="alpha").value
    assert isinstance(value, float)
    return value


def headings(app: AppTest) -> list[str]:
    return [heading.value for heading in app.subheader]


def percent(share: float) -> str:
    return f"{share:.0%}"


def test_without_a_skill_the_page_says_what_to_do_and_names_the_bundled_ones(run_app: RunApp) -> None:
    app = run_app("/skills")
    assert not app.exception
    assert "Choose a skill" in app.info[0].value
    names = ["arithmetic", "facts", "french", "python", "spanish", "stories"]
    assert app.selectbox(key="skill").options == names
    assert not list_jobs(open_store(default_path()))


def test_a_link_chooses_and_computes_nothing_by_itself(run_app: RunApp, database: Store) -> None:
    app = run_app("/skills", **VIEW, examples="90", split="4")
    assert app.selectbox(key="skill").value == "pets <b>"
    assert app.multiselect(key="compared").value == ["runs"]
    assert [app.number_input(key=key).value for key in ("examples", "split")] == [90, 4]
    assert [bare(b.label) for b in app.main.button if "Fit" in b.label] == [FIT]
    assert re.search(r"stores the result\. That takes ≈ \d+ s on this machine", shown(app))
    assert "112 examples" in shown(app) or "112 examples" in bare(app.expander[1].label)
    assert "<script>alert(1)</script>" in str(app.dataframe[0].value["answer"][0])
    assert not headings(app)
    assert not list_jobs(database)


def test_a_fit_shows_what_the_workbench_computes(fitted: AppTest, space: KeySpace) -> None:
    assert headings(fitted) == ["Keys of L1", "Try a query", "Refused, over α", "Refused, by layer"]
    point = choose_point(space.curve((1,)))
    assert alpha_of(fitted) == point.alpha
    own, other, none = (share for share, _ in space.count_refused((1,), point.alpha))
    assert metrics(fitted) == {
        "pets <b>, refused": percent(own),
        "runs, the most refused retain skill": percent(other),
        "unrelated text, refused": percent(none),
    }
    assert f"Chosen on validation: α = {point.alpha:g}" in shown(fitted)
    charts = [chart.proto.spec for chart in elements(fitted, "plotly_chart")]
    assert len(charts) == 3
    assert "pets &lt;b&gt;" in json.loads(charts[0])["data"][-1]["name"]
    assert "<b>" not in "".join(charts).replace("<br>", "")
    assert labels(fitted, "download_button") == [
        "Keys as CSV",
        "Slice as CSV",
        "Curve as CSV",
        "Layers as CSV",
        "Numbers as JSON",
    ]
    assert any("2503.21730" in caption.value for caption in fitted.caption)


def test_alpha_moves_shares_and_the_slice_at_once_without_a_job(
    fitted: AppTest, space: KeySpace, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **named: object) -> None:
        raise AssertionError("the model is asked although only α was moved")

    monkeypatch.setattr("analysis.unlearning.guards.key_spaces.last_keys", never)
    before = slice_of(fitted)
    begun = alpha_of(fitted)
    app = fitted.slider(key="alpha").set_value(0.6).run()
    assert not app.exception
    assert metrics(app)["pets <b>, refused"] == percent(space.count_refused((1,), 0.6)[0][0])
    assert slice_of(app) == pytest.approx([0.6 / begun * x for x in before], rel=1e-4)
    held = space.inside((1,), 0.6) & (space.which == 0)
    assert 0 < specs(app)[0].count('"circle"') + specs(app)[0].count('"diamond"') == int(held.sum())
    assert len(list_jobs(database)) == 1


def specs(app: AppTest) -> list[str]:
    return [chart.proto.spec for chart in elements(app, "plotly_chart")]


def slice_of(app: AppTest) -> list[float]:
    """The corners of the slice, as the figure draws them."""
    trace = json.loads(specs(app)[0])["data"][0]
    assert trace["name"] == "slice of the box"
    return [float(x) for x in np.frombuffer(base64.b64decode(trace["x"]["bdata"]), trace["x"]["dtype"])]


def test_another_layer_and_all_together_begin_at_the_alpha_that_validation_chose(
    fitted: AppTest, space: KeySpace
) -> None:
    app = fitted.slider(key="alpha").set_value(0.25).run()
    app = app.selectbox(key="layer").set_value("L0").run()
    assert alpha_of(app) == choose_point(space.curve((0,))).alpha
    assert headings(app)[0] == "Keys of L0"
    app = app.toggle(key="together").set_value(True).run()
    point = choose_point(space.curve((0, 1)))
    assert alpha_of(app) == point.alpha
    share = space.count_refused((0, 1), point.alpha)[0][0]
    assert metrics(app)["pets <b>, refused"] == percent(share)
    assert "the boxes of all 2 layers" in shown(app)


def test_a_pasted_link_opens_the_same_view(fitted: AppTest, run_app: RunApp, space: KeySpace) -> None:
    app = run_app("/skills", **VIEW, layer="L0", together="true", alpha="0.85", query=QUERY)
    assert not app.exception
    assert (alpha_of(app), app.toggle(key="together").value) == (0.85, True)
    assert headings(app)[0] == "Keys of L0"
    assert metrics(app)["pets <b>, refused"] == percent(space.count_refused((0, 1), 0.85)[0][0])
    assert app.text_area(key="query").value == QUERY
    assert "of pets <b>: a guard would" in shown(app)


def test_a_query_is_told_its_side_its_depths_and_the_neurons_that_decide(
    fitted: AppTest, space: KeySpace, tiny_model_folder: Path, database: Store
) -> None:
    with open_model(ModelRef(str(tiny_model_folder)), database) as loaded:
        tried = try_query(loaded, space, QUERY)
    app = fitted.text_area(key="query").set_value(QUERY).run()
    assert f"inside from α = {tried.depth[1]:.3g}" in shown(app)
    low, high = (tried.depth[1] * factor for factor in (0.9, 1.1))
    for alpha, side in ((max(0.2, round(low, 2)), "Outside"), (round(high, 2), "Inside")):
        app = app.slider(key="alpha").set_value(round(alpha / 0.05) * 0.05).run()
        assert f"**{side}** the box of L1" in shown(app)
    table = app.dataframe[-1].value
    neuron, out = tried.deciding[1][0]
    assert f"neuron=L1.N{neuron}" in table["neuron"][0]
    assert table["neuron"][0].startswith("/neurons?model=")
    assert table["out"][0] == pytest.approx(out / alpha_of(app), rel=1e-6)
    assert "your query" in specs(app)[0]
    depths = json.loads(specs(app)[1])["data"][0]["y"]
    assert depths == pytest.approx([tried.depth[0], tried.depth[1]])


def test_a_query_is_read_by_the_model_once(fitted: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    given = skill_query.try_stored_query

    def counted(loaded: LoadedModel, store: Store, run: str, text: str) -> object:
        read.append(text)
        return given(loaded, store, run, text)

    monkeypatch.setattr(skill_query, "try_stored_query", counted)
    app = fitted.text_area(key="query").set_value(QUERY).run()
    app = app.slider(key="alpha").set_value(0.4).run()
    app.selectbox(key="layer").set_value("L0").run()
    assert read == [QUERY]
    app.text_area(key="query").set_value(" the cat").run()
    assert read == [QUERY, " the cat"]


def test_a_layer_and_a_skill_that_are_not_there_are_left_out(
    fitted: AppTest, run_app: RunApp, database: Store
) -> None:
    app = run_app("/skills", skill="pets <b>", compared=["runs", "gone"], layer="L9", alpha="99")
    assert not app.exception
    assert headings(app)[0] == "Keys of L1"
    remove_skill(database, "runs")
    app = fitted.run()
    assert not app.exception
    assert bare(app.main.button[-1].label) == FIT


@pytest.mark.parametrize(("query", "told"), [(" dog" * 99, "the prompt has 99 tokens"), ("zebra", "")])
def test_a_query_that_cannot_be_read_is_told_and_the_rest_stays(
    fitted: AppTest, query: str, told: str
) -> None:
    app = fitted.text_area(key="query").set_value(query).run()
    assert not app.exception
    assert [told in bare(error.value) for error in app.error] == ([True] if told else [])
    assert headings(app)[-1] == "Refused, by layer"


def test_the_numbers_behind_each_picture_are_those_of_the_boxes(fitted: AppTest, space: KeySpace) -> None:
    from pages.intervene.skills import pictures as skill_pictures
    from pages.intervene.skills.view import View

    view = View(1, (0, 1), 0.9, choose_point(space.curve((0, 1))))
    rows = list(csv.DictReader(io.StringIO(skill_pictures._keys_csv(space, view).decode("utf-8-sig"))))
    assert len(rows) == len(space.drawn)
    inside = space.inside((0, 1), 0.9).tolist()
    assert [row["inside"] == "True" for row in rows] == inside
    assert {row["set"] for row in rows} == set(space.names)
    assert [float(row["component_1"]) for row in rows] == pytest.approx(space.layers[1].points[:, 0].tolist())


def test_a_slow_fit_is_shown_with_a_bar_and_can_be_cancelled(
    run_app: RunApp, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(0)
    work_with(monkeypatch, Watched(gate))
    app = press_plain(run_app("/skills", **VIEW), FIT)
    gate.wait()
    app = app.run()
    assert not app.exception
    assert [element.proto.text for element in app.main.get("progress")]
    assert "in all its dense layers" in shown(app)
    assert FIT not in [bare(b.label) for b in app.main.button]
    press(app, "Cancel")
    assert ended(database, list_jobs(database)[0].id).state == "cancelled"
    app = app.run()
    assert FIT in [bare(b.label) for b in app.main.button]
    assert not headings(app)


def test_a_fit_that_failed_says_why_and_nothing_else_is_lost(run_app: RunApp, database: Store) -> None:
    add_skill(database, "one", b'{"prompt": " the dog", "answer": "cat"}', "jsonl")
    app = press_plain(run_app("/skills", skill="one", compared="runs"), "Fit the box of one")
    assert not app.exception
    assert "Too few examples" in shown(app)
    again = run_app("/skills", skill="one", compared="runs")
    assert "give at least one example" in shown(again) or "needs at least 30" in shown(again)
    assert again.selectbox(key="skill").value == "one"


def test_a_skill_that_is_not_here_is_told(run_app: RunApp) -> None:
    app = run_app("/skills", skill="<b>gone</b>")
    assert not app.exception
    assert "There is no skill <b>gone</b> here" in shown(app)
    assert "Choose a skill" in app.info[0].value


def open_form(app: AppTest, name: str, pasted: str) -> AppTest:
    app.text_input(key="_skill_name").set_value(name)
    return app.text_area(key="_skill_pasted").set_value(pasted).run()


def test_a_skill_is_pasted_previewed_kept_and_chosen(run_app: RunApp, database: Store) -> None:
    app = open_form(run_app("/skills"), "capitals", skill_lines(" ran", " dog"))
    assert "112 examples, 112 groups; judged by substring (112)" in shown(app)
    assert list(app.dataframe[0].value.columns) == ["prompt", "answer", "judge", "group", "wording"]
    assert app.dataframe[0].value["prompt"][0] == "␣dog dog ran"
    assert len(app.dataframe[0].value) == 50
    app = press(app, "Keep this skill")
    assert not app.exception
    assert app.selectbox(key="skill").value == "capitals"
    assert app.text_area(key="_skill_pasted").value == ""
    assert [source.name for source in list_skills(database)][-3:] == ["capitals", "pets <b>", "runs"]
    app = press(app, "Remove this skill")
    assert app.selectbox(key="skill").value is None
    assert [source.name for source in list_skills(database)][-2:] == ["pets <b>", "runs"]


@pytest.mark.parametrize(
    ("pasted", "told"),
    [
        ("  \n x", "it is empty: no paragraph of 40 characters"),
        ("What is 2 + 2?,4\nWhat is 3 + 3?,6", "a CSV needs a header"),
        ('{"prompt": "a", "answer": "b", "judge": "oracle"}', "judge 'oracle' is unknown"),
        ('{"prompt": "a"}', "has no answer"),
        ('{"prompt": "a", "answer": "b"}\n{"pro', "line 2 is not JSON"),
        ('{"cats": 1}', "matches no known layout"),
        ('{"prompt": "\\ud800", "answer": "b"}', "a lone surrogate"),
    ],
)
def test_what_is_pasted_and_no_skill_is_told_in_a_sentence(run_app: RunApp, pasted: str, told: str) -> None:
    app = open_form(run_app("/skills"), "bad", pasted)
    assert not app.exception
    assert [told in bare(error.value) for error in app.error] == [True]
    assert "Keep this skill" not in [button.label for button in app.button]
    assert "Choose a skill" in app.info[0].value


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.csv", "prompt,answer\né,1\n".encode("latin-1"), "not UTF-8"),
        ("x.csv", b"prompt,answer\nHello, world,4\n", "the CSV: line 2 has 3 cells"),
        ("x.jsonl", b"prompt,answer\na,b\n", "write one JSON document per line"),
        ("x.txt", b"short", "is empty"),
    ],
)
def test_an_uploaded_file_that_is_no_skill_is_told(
    run_app: RunApp, name: str, data: bytes, told: str
) -> None:
    app = run_app("/skills")
    app = app.radio(key="_skill_from").set_value("Upload").run()
    app = app.file_uploader[0].set_value((name, data, "text/plain")).run()
    assert not app.exception
    assert [told in bare(error.value) for error in app.error] == [True]


def test_an_uploaded_csv_is_kept_and_the_uploader_is_empty_again(run_app: RunApp, database: Store) -> None:
    app = run_app("/skills")
    app = app.radio(key="_skill_from").set_value("Upload").run()
    file = ("mine.csv", b'prompt,answer,judge\n" the dog, and",2,number\n the cat,3,number\n', "text/csv")
    app = app.file_uploader[0].set_value(file).run()
    assert "2 examples, 2 groups; judged by number (2)" in shown(app)
    assert "a key box needs at least 30 probes" in shown(app)
    app.text_input(key="_skill_name").set_value("mine").run()
    app = press(app, "Keep this skill")
    assert app.selectbox(key="skill").value == "mine"
    assert "Keep this skill" not in [button.label for button in app.button]


def test_an_upload_is_bounded_and_read_once(
    run_app: RunApp, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (repo_root / ".streamlit" / "config.toml").read_text()
    assert "maxUploadSize = 64" in config
    monkeypatch.setattr("analysis.skills.files.LARGEST_BYTES", 100)
    read: list[str] = []
    given = skill_define.parse_given_skill

    def counted(name: str, data: bytes, form: str) -> object:
        read.append(form)
        return given(name, data, form)

    monkeypatch.setattr(skill_define, "parse_given_skill", counted)
    app = run_app("/skills")
    app = app.radio(key="_skill_from").set_value("Upload").run()
    big = ("big.jsonl", b'{"prompt": "a", "answer": "b"}\n' * 9, "text/plain")
    app = app.file_uploader[0].set_value(big).run()
    assert "is larger than" in bare(app.error[0].value)
    app.run()
    assert read == ["jsonl"]


@pytest.mark.parametrize(
    ("name", "told"),
    [("", "needs a name"), ("arithmetic", "with other examples"), ("a\u202eb", "invisible characters")],
)
def test_a_name_that_cannot_be_is_told_and_the_draft_stays(run_app: RunApp, name: str, told: str) -> None:
    app = press(open_form(run_app("/skills"), name, skill_lines(" ran")), "Keep this skill")
    assert not app.exception
    assert told in bare(app.toast[0].value)
    assert "Keep this skill" in [button.label for button in app.button]


def test_without_datasets_the_hub_panel_says_what_to_install(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skill_define, "can_fetch", lambda: False)
    app = run_app("/skills")
    app = app.radio(key="_skill_from").set_value("Hub data set").run()
    assert "pip install -r requirements-skills.txt" in app.info[0].value


def test_a_hub_data_set_is_fetched_by_a_button_mapped_and_kept(
    run_app: RunApp, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"q": f"dog {i}", "a": i} for i in range(5)]
    asked: list[str] = []

    def load() -> Callable[..., object]:
        def some(repository: str, *given: object, **named: object) -> object:
            asked.append(repository)
            return iter(rows)

        return some

    monkeypatch.setattr(skill_define, "can_fetch", lambda: True)
    monkeypatch.setattr("analysis.skills.files._load_dataset", load)
    app = run_app("/skills")
    app = app.radio(key="_skill_from").set_value("Hub data set").run()
    app.text_input(key="_skill_hub_id").set_value("me/dogs")
    app.text_input(key="_skill_hub_prompt").set_value("Say {q}:")
    app.text_input(key="_skill_hub_answer").set_value("a")
    assert not asked
    app = press(app, "Fetch")
    assert not app.exception
    assert asked == ["me/dogs"]
    assert app.dataframe[0].value["prompt"][4] == "Say dog 4:"
    app.text_input(key="_skill_name").set_value("dogs").run()
    app = press(app, "Keep this skill")
    assert app.selectbox(key="skill").value == "dogs"
    assert asked == ["me/dogs"]
    app.text_input(key="_skill_hub_prompt").set_value("nothing")
    app = press(app, "Fetch")
    assert "'nothing' for 'prompt' is not in the data: q, a" in bare(app.error[0].value)


def test_a_view_is_kept_as_a_finding_that_opens_it_again(
    fitted: AppTest, run_app: RunApp, database: Store, space: KeySpace
) -> None:
    app = fitted.text_area(key="query").set_value(QUERY).run()
    app = press(app, "Keep")
    assert not app.exception
    [finding] = list_findings(database)
    alpha = alpha_of(app)
    own = percent(space.count_refused((1,), alpha)[0][0])
    assert finding.title == f"pets <b>: {own} inside the box of L1 at α = {alpha:g}"
    assert finding.kind == "skill"
    assert "Open the finding you kept" in labels(app, "page_link")
    record = run_app("/findings", finding=finding.id)
    assert not record.exception
    assert record.dataframe[0].value["refused"].iloc[0] == space.count_refused((1,), alpha)[0][0]
    [link] = [one for one in elements(record, "page_link") if one.label == "Open in Skills"]
    assert "skill=pets" in link.proto.query_string
    assert "query=" in link.proto.query_string


def test_a_damaged_finding_of_a_skill_is_shown_for_what_it_holds(run_app: RunApp, database: Store) -> None:
    from store import keep_finding

    odd: list[dict[str, Any]] = [
        {},
        {"sets": [1, {"set": "<b>", "interval": "no"}], "layers": "x", "query": {"inside": 1}},
    ]
    for evidence in odd:
        finding = keep_finding(
            database,
            title="odd",
            note="",
            tags=[],
            kind="skill",
            model_name="m",
            model_fingerprint="f",
            evidence=evidence,
        )
        app = run_app("/findings", finding=finding.id)
        assert not app.exception


def test_a_damaged_skill_file_is_told_and_the_page_works(run_app: RunApp, database: Store) -> None:
    (database.path.parent / "skills" / "torn.jsonl").write_bytes(b"{")
    app = run_app("/skills", **VIEW)
    assert not app.exception
    assert "The skill torn cannot be read" in shown(app)
    assert FIT in [bare(b.label) for b in app.main.button]


def test_a_mixture_of_experts_gets_a_sentence(
    run_app: RunApp, database: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.analysis.conftest import tiny_model, tiny_tokenizer

    tiny_model("mixtral").save_pretrained(tmp_path / "moe")
    tiny_tokenizer().save_pretrained(tmp_path / "moe")
    monkeypatch.setenv("HEADLAMP_MODEL", str(tmp_path / "moe"))
    app = run_app("/skills", **VIEW)
    assert not app.exception
    assert "has no dense FFN block" in bare(app.error[0].value)


def test_why_alpha_was_chosen_is_what_validation_did() -> None:
    for forget, worst, told in ((0.9, 0.05, "the one that refuses most of sums"), (0.9, 0.3, "none refuses")):
        view = View(0, (0,), 1.0, OperatingPoint(1.0, forget, worst))
        assert told in explain_alpha("sums", view)
    assert "none refuses" in explain_alpha("sums", View(0, (0,), 1.0, OperatingPoint(1.0, 0.0, 0.0)))
