"""The runs page: empty, full, filtered, one run in detail, deleted, and room made."""

# ruff: noqa: F811 - what tests ask for are the fixtures

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from store import (
    JobOrder,
    Owner,
    Store,
    ask_job,
    find_run,
    keep_finding,
    list_findings,
    measure_storage,
)
from tests.pages.reading import labels, press, shown
from tests.pages.record.runs_made import database, plant  # noqa: F401 - fixtures

HOSTILE = "<script>alert(1)</script> ![x](http://x) $x$"


def test_without_runs_the_page_says_what_makes_them(run_app: Callable[..., AppTest]) -> None:
    app = run_app("/runs")
    assert not app.exception
    assert not app.error
    assert "Nothing was computed yet" in app.info[0].value


def test_every_run_is_listed_with_its_progress_time_and_size(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    plant(database, "decode")
    plant(database, "generate", stored=1, units=4, prompt="My favourite")
    table = run_app("/runs").dataframe[0].value
    assert list(table["kind"]) == ["generate", "decode"]
    assert list(table["parts"]) == ["1/4", "2/2"]
    assert list(table["done"]) == [0.25, 1.0]
    assert list(table["seconds"]) == [1.5, 3.0]
    assert all(table["kB"] >= 4)
    assert "My favourite" in table["about"][0]


def test_what_a_run_was_about_is_told_by_the_name_of_its_skill_word_or_concept(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    asked_of: dict[str, dict[str, Any]] = {
        "unlearn": {"forget": {"name": "capitals", "digest": "d"}, "limit": 3},
        "keyspace": {"skill": {"name": "sums"}},
        "levers": {"word": "dog", "prompts": ["x"]},
        "tars": {"concept": "Paris"},
        "harness": {"tasks": [], "word": 5, "forget": "odd"},
    }
    for kind, asked in asked_of.items():
        plant(database, kind, asked=asked)
    table = run_app("/runs").dataframe[0].value
    found = dict(zip(table["kind"], table["about"], strict=True))
    assert (found["unlearn"], found["keyspace"]) == ("forget capitals", "skill sums")
    assert (found["levers"], found["tars"], found["harness"]) == ("dog", "Paris", "")


def test_storage_is_told_by_kind(run_app: Callable[..., AppTest], database: Store) -> None:
    plant(database, "decode")
    app = run_app("/runs")
    assert "decode 8.0 kB" in shown(app)
    assert {metric.label for metric in app.metric} == {
        "Database file", "Results in it", "Reclaimable", "Free on this disk"
    }  # fmt: skip


def test_a_link_filters_by_kind_and_model_and_opens_a_run(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    wanted = plant(database, "decode", model_name="a")
    plant(database, "decode", model_name="b", prompt="y")
    plant(database, "profile", model_name="a")
    app = run_app("/runs", kind="decode", of="a", run=wanted.key)
    assert len(app.dataframe[0].value) == 1
    assert wanted.key in shown(app)
    assert "2.13.0" in app.json[1].value
    assert "It is incomplete" not in shown(app)


def test_an_unfinished_run_says_how_it_goes_on(run_app: Callable[..., AppTest], database: Store) -> None:
    run = plant(database, "generate", stored=1)
    app = run_app("/runs", run=run.key)
    assert "It is incomplete. Open Clamp" in shown(app)
    assert "Open Clamp" in labels(app, "page_link")


def test_deleting_asks_first_and_leaves_findings(run_app: Callable[..., AppTest], database: Store) -> None:
    run, other = plant(database), plant(database, "profile")
    keep_finding(
        database,
        title="t",
        kind="generation",
        model_name="m",
        model_fingerprint="f",
        evidence={"run": run.key},
    )
    app = run_app("/runs", run=run.key)
    assert "findings made from it stay" in shown(app)
    press(app, "Delete it")
    assert find_run(database, run.key) is None
    assert find_run(database, other.key)
    assert len(list_findings(database)) == 1
    assert not app.error
    assert not app.subheader


def test_free_space_gives_back_what_a_deleted_run_took(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    run = plant(database, stored=60, units=60)
    press(run_app("/runs", run=run.key), "Delete it")
    before = measure_storage(database)
    assert before.reclaimable_bytes > 100_000
    press(run_app("/runs"), "Free space")
    assert measure_storage(database).reclaimable_bytes == 0
    assert measure_storage(database).file_bytes < before.file_bytes


def test_hostile_names_and_prompts_are_shown_as_text(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    run = plant(database, HOSTILE, model_name=HOSTILE, prompt=HOSTILE)
    app = run_app("/runs", run=run.key)
    assert not app.exception
    texts = [element.value for kind in (app.subheader, app.markdown, app.caption) for element in kind]
    assert not any(re.search(r"(?<!\\)(<script|\]\(|\$x)", text) for text in texts)


def test_a_run_that_is_not_there_shows_the_list(run_app: Callable[..., AppTest], database: Store) -> None:
    plant(database)
    app = run_app("/runs", run="0" * 32)
    assert not app.exception
    assert not app.error
    assert len(app.dataframe) == 1


def test_a_folders_model_is_named_by_its_last_part(
    run_app: Callable[..., AppTest], database: Store, tiny_model_folder: Path
) -> None:
    plant(database, model_name=str(tiny_model_folder))
    assert list(run_app("/runs").dataframe[0].value["model"]) == [tiny_model_folder.name]


def test_a_run_that_cannot_be_read_is_named_beside_the_others(
    run_app: Callable[..., AppTest], database: Store
) -> None:
    bad, good = plant(database, "decode"), plant(database, "generate")
    database.db.execute("UPDATE runs SET parameters = '{' WHERE key = ?", [bad.key])
    app = run_app("/runs")
    assert not app.exception
    assert app.dataframe[0].value["kind"].tolist() == [good.kind]
    assert bad.key in app.warning[0].value
    assert "is not JSON" in app.warning[0].value


def test_a_job_that_cannot_be_read_is_named(run_app: Callable[..., AppTest], database: Store) -> None:
    ask_job(database, JobOrder("find", "t", "k", {}, total=1, unit="blocks"), Owner("desk", 1, 1.0))
    database.db.execute("UPDATE jobs SET \"order\" = 'x'")
    app = run_app("/runs")
    assert not app.exception
    assert "jobs row 1" in app.warning[0].value
