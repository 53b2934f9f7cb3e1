"""The notebook: empty, full, searched; one finding, edited, run again, deleted; exports and imports."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from pages.shared.tokens import escape_text
from store import Finding, Store, default_path, keep_finding, open_store
from tests.pages.reading import elements, html_of, labels, press, shown
from workbench.findings.findings import (
    export_findings,
    get_finding,
    keep_generation,
    keep_neuron,
    list_findings,
)
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model
from workbench.neurons.profiles import view_neuron

HOSTILE = "<script>alert(1)</script> [x](javascript:1) $x$"


def titles(app: AppTest) -> list[str]:
    """The findings listed, top to bottom."""
    found = [button.label for button in app.button if str(button.key).startswith("_open_")]
    return [label.replace("\\", "").replace("\u2060", "") for label in found]


@pytest.fixture
def database(isolated_environment: None) -> Store:
    """The store the page will open."""
    return open_store(default_path())


@pytest.fixture
def kept(database: Store, tiny_model_folder: Path) -> Finding:
    """A real pair of texts, kept."""
    request = GenerationRequest(
        " the dog", (parse_clamp("L1.N3:key:set:4"),), " a", Sampling(6, 0.5, 3), "cat"
    )
    with open_model(ModelRef(str(tiny_model_folder)), database) as loaded:
        result = generate_pair(loaded, database, request)
        return keep_generation(loaded, database, result, title="A cat appears", note="A note", tags=["cats"])


def plant(database: Store, title: str, *tags: str, **evidence: Any) -> Finding:
    """A finding whose evidence may be anything."""
    return keep_finding(
        database,
        title=title,
        tags=tags,
        kind="generation",
        model_name="m",
        model_fingerprint="f",
        evidence=evidence,
    )


def test_an_empty_notebook_says_where_findings_come_from(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/findings")
    assert not app.exception
    assert not app.error
    assert "No finding is kept yet" in app.info[0].value
    assert {"Clamp a neuron", "Find a neuron"} <= set(labels(app, "page_link"))


def test_findings_are_listed_newest_first_and_found_by_word_and_tag(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    for title, tag in (("First dog", "pets"), ("Second cat", "pets"), ("Third sum", "maths")):
        plant(database, title, tag)
    assert titles(run_app("/findings")) == ["Third sum", "Second cat", "First dog"]
    assert titles(run_app("/findings", search="cat")) == ["Second cat"]
    assert titles(run_app("/findings", tag="pets")) == ["Second cat", "First dog"]
    nothing = run_app("/findings", search="cat", tag="maths")
    assert titles(nothing) == []
    assert "No finding matches these words" in shown(nothing)


def test_a_finding_opens_from_the_list_and_leads_back_to_the_same_search(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    found, _ = plant(database, "First dog"), plant(database, "Second cat")
    app = run_app("/findings", search="dog")
    app.button(key=f"_open_{found.id}").click().run()
    assert app.query_params["finding"] == found.id
    assert app.subheader[0].value == "First dog"
    press(app, "All findings")
    assert titles(app) == ["First dog"]
    assert "finding" not in app.query_params


def test_many_findings_come_in_pages(run_app: Callable[..., AppTest], database: Store) -> None:
    for number in range(25):
        plant(database, f"Finding {number}")
    app = run_app("/findings")
    assert len(titles(app)) == 20
    assert "25 findings" in shown(app)


def test_a_finding_shows_its_evidence(run_app: Callable[..., AppTest], kept: Finding) -> None:
    app = run_app("/findings", finding=kept.id)
    assert not app.exception
    assert not app.error
    text = shown(app)
    assert "A cat appears" in text
    assert "cats" in text
    assert next(metric.value for metric in app.metric) == f"{100 * kept.evidence['word']['base']:.3g} %"
    assert kept.evidence["changed"]["text"].split()[0] in text
    assert "L1.N3:key:set:4@all" in [code.value for code in app.code]
    table = app.table[0].value.to_string()
    assert kept.evidence["run"] in table
    assert "Version of torch" in table


def test_the_link_into_clamp_fills_everything_in(run_app: Callable[..., AppTest], kept: Finding) -> None:
    app = run_app("/findings", finding=kept.id)
    link = next(link for link in elements(app, "page_link") if link.label == "Open in Clamp")
    for part in ("clamps=L1.N3", "prompt=", "prefix=", "word=cat", "tokens=6", "temperature=0.5", "seed=3"):
        assert part in str(link.proto), part


def test_running_again_says_that_it_still_holds(run_app: Callable[..., AppTest], kept: Finding) -> None:
    app = press(run_app("/findings", finding=kept.id), "Run again")
    assert "It still holds" in app.success[0].value
    assert "It still holds: identical" in app.success[0].value


def test_running_again_says_where_numbers_no_longer_hold(
    run_app: Callable[..., AppTest], kept: Finding, database: Store
) -> None:
    document = json.loads(export_findings([kept], "json"))
    evidence = document["findings"][0]["evidence"]
    evidence["changed"]["token_ids"][0] += 1
    forged = keep_finding(
        database, title="Forged", kind="generation", model_name=kept.model_name,
        model_fingerprint=kept.model_fingerprint, evidence=evidence,
    )  # fmt: skip
    app = press(run_app("/findings", finding=forged.id), "Run again")
    assert "It no longer holds" in app.warning[0].value
    assert not app.success


def test_running_again_never_downloads_and_says_what_is_missing(
    run_app: Callable[..., AppTest], kept: Finding, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def snapshot(name: str, *, local_files_only: bool = False, **_: object) -> str:
        if not local_files_only:
            asked.append(name)
        raise OSError("nothing here")

    monkeypatch.setattr("analysis.checkpoints.sources.snapshot_download", snapshot)
    found = keep_finding(
        database, title="Of a far model", kind="generation", model_name="someone/large",
        model_fingerprint="f", evidence=kept.evidence,
    )  # fmt: skip
    app = press(run_app("/findings", finding=found.id), "Run again")
    assert asked == []
    assert not app.exception
    assert "Not fetched" in shown(app)
    assert "not among the Hub models on this machine" in shown(app)


def test_title_note_and_tags_can_be_edited(
    run_app: Callable[..., AppTest], kept: Finding, database: Store
) -> None:
    app = run_app("/findings", finding=kept.id)
    next(field for field in app.text_input if field.label == "Title").set_value("Another title")
    next(field for field in app.text_area if field.label == "Note").set_value("Another note")
    press(app, "Save")
    found = get_finding(database, kept.id)
    assert (found.title, found.note, found.tags) == ("Another title", "Another note", ("cats",))
    assert "Another title" in shown(app)


def test_a_blank_title_is_refused_and_nothing_changes(
    run_app: Callable[..., AppTest], kept: Finding, database: Store
) -> None:
    app = run_app("/findings", finding=kept.id)
    next(field for field in app.text_input if field.label == "Title").set_value("  ")
    press(app, "Save")
    assert "needs a title" in shown(app)
    assert get_finding(database, kept.id).title == "A cat appears"


def test_deleting_asks_first_and_leads_back_to_the_list(
    run_app: Callable[..., AppTest], kept: Finding, database: Store
) -> None:
    app = run_app("/findings", finding=kept.id)
    assert "deleted permanently" in shown(app)
    press(app, "Delete it")
    assert list_findings(database) == []
    assert "No finding is kept yet" in shown(app)


def test_a_neuron_is_shown_with_the_tokens_of_each_site(
    run_app: Callable[..., AppTest], database: Store, tiny_model_folder: Path
) -> None:
    with open_model(ModelRef(str(tiny_model_folder)), database) as loaded:
        view = view_neuron(loaded, database, parse_address("L1.N3"))
        finding = keep_neuron(loaded, database, view, title="A neuron")
    app = run_app("/findings", finding=finding.id)
    assert not app.exception
    assert len(app.dataframe) == 6
    assert {"Open the neuron", "Clamp it"} <= set(labels(app, "page_link"))
    assert "Run again" not in [button.label for button in app.button]


def test_an_unknown_finding_is_explained(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/findings", finding="feedfacefeedface")
    assert not app.exception
    assert "no finding feedface" in shown(app)


def test_an_import_adds_what_is_new_and_a_bad_file_is_explained(
    run_app: Callable[..., AppTest], kept: Finding, database: Store
) -> None:
    document = json.loads(export_findings([kept], "json"))
    document["findings"][0] |= {"id": "a" * 32, "title": "From elsewhere"}
    app = run_app("/findings")
    app.file_uploader[0].set_value(("findings.json", json.dumps(document).encode(), "application/json"))
    press(app, "Import")
    assert set(titles(app)) == {"A cat appears", "From elsewhere"}
    app.file_uploader[0].set_value(("findings.json", b"\xff{", "application/json"))
    press(app, "Import")
    assert "Bad import" in shown(app)
    assert len(list_findings(database)) == 2


def test_every_format_is_offered_for_the_list_and_for_one(
    run_app: Callable[..., AppTest], kept: Finding
) -> None:
    for app in (run_app("/findings"), run_app("/findings", finding=kept.id)):
        assert {"HTML", "JSON", "CSV", "Markdown"} <= set(labels(app, "download_button"))


def test_hostile_evidence_is_shown_as_text(run_app: Callable[..., AppTest], database: Store) -> None:
    chance = {"token": HOSTILE, "probability": 0.5}
    finding = plant(
        database, HOSTILE, HOSTILE, prompt=HOSTILE, clamps=[HOSTILE], base={"text": HOSTILE},
        changed={"text": "other"}, versions={HOSTILE: HOSTILE},
        answer={"base": [chance], "changed": [chance]},
        word={"word": HOSTILE, "base": 0.5, "changed": 0.1},
    )  # fmt: skip
    app = run_app("/findings", finding=finding.id)
    assert not app.exception
    interpreted = [element.value for kind in (app.subheader, app.markdown, app.caption) for element in kind]
    assert "<script" not in "".join(html_of(app))
    assert not any(re.search(r"(?<!\\)(<script|\]\(|\$x)", text) for text in interpreted)
    assert titles(run_app("/findings")) == [HOSTILE]


@pytest.mark.parametrize(
    "text", ["[x](http://x)", "`[x](http://x)`", "![a](http://x)", ":red[x]", "<b>x</b>"]
)
def test_a_finding_from_elsewhere_is_nowhere_interpreted(
    run_app: Callable[..., AppTest], database: Store, text: str
) -> None:
    row: dict[str, Any] = {"token": text, "logit": 1.0, "probability": 0.5}
    finding = keep_finding(
        database, title=text, note=text, tags=[text], kind=text, model_name=text, model_fingerprint=text,
        evidence={
            "address": text, "sites": {text: {"top": [row]}}, "run": text, "dtype": text,
            "versions": {text: text}, "device": text, "seed": 1,
        },
    )  # fmt: skip
    app = run_app("/findings", finding=finding.id)
    assert not app.exception
    listed = run_app("/findings")
    assert not listed.exception
    table = app.table[0].value
    texts = [str(element.value) for page in (app, listed) for element in (*page.markdown, *page.caption)]
    texts += [app.subheader[0].value, *(button.label for button in listed.button), *table.index.astype(str)]
    texts += table.astype(str).to_numpy().ravel().tolist()
    assert sum(escape_text(text) in value for value in texts) >= 8
    assert not [value for value in texts if text in value]


@pytest.mark.parametrize(
    "evidence", [{}, {"prompt": 3, "answer": [], "word": "x", "clamps": "no", "versions": 1}]
)
def test_evidence_of_any_shape_is_shown(
    run_app: Callable[..., AppTest], database: Store, evidence: dict[str, Any]
) -> None:
    app = run_app("/findings", finding=plant(database, "Odd", **evidence).id)
    assert not app.exception
    assert not app.error


def test_a_finding_that_cannot_be_read_is_named_beside_the_others(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    bad = plant(database, "spoiled", "x")
    plant(database, "sound", "y")
    database.db.execute("DROP TRIGGER findings_edited")
    database.db.execute("UPDATE findings SET tags = 'no JSON' WHERE id = ?", [bad.id])
    app = run_app("/findings")
    assert not app.exception
    assert titles(app) == ["sound"]
    assert bad.id in app.warning[0].value


def test_a_conversation_opens_again_in_clamp(database: Store, run_app: Callable[..., AppTest]) -> None:
    request = GenerationRequest(
        "Who are you?", sampling=Sampling(2), system="Be brief.", turns=(("user", "Hi"), ("assistant", "Yes"))
    )
    raw = GenerationRequest("My favourite animal is the", sampling=Sampling(2), raw=True)
    with open_model(ModelRef("demo/chat"), database) as loaded:
        ids = [
            keep_generation(loaded, database, generate_pair(loaded, database, one), title="kept").id
            for one in (request, raw)
        ]
    queries = []
    for finding in ids:
        app = run_app("/findings", finding=finding)
        link = next(link for link in elements(app, "page_link") if link.label == "Open in Clamp")
        queries.append(parse_qs(link.proto.query_string))
    assert (queries[0]["system"], queries[0]["turns"]) == (["Be brief."], ["user: Hi\nassistant: Yes"])
    assert ("raw" in queries[0], queries[1]["raw"]) == (False, ["true"])
