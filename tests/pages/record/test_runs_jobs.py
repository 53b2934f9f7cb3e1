"""The runs page's jobs, the runs that go on as jobs, and runs that travel as files."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.record.runs import files as run_files
from store import (
    Store,
    default_path,
    delete_run,
    find_run,
    get_job,
    list_jobs,
    list_runs,
    list_stored_units,
    open_store,
)
from tests.pages.job_rows import decode_order, ended, plant_job, set_back, work_with
from tests.pages.reading import labels, press, shown
from tests.pages.record.runs_made import plant
from tests.workbench.jobs.job_engines import Gate, Watched

RunApp = Callable[..., AppTest]
HOSTILE = "<script>alert(1)</script> ![x](http://x) $x$"


@pytest.fixture
def database(isolated_environment: None) -> Store:
    """The store the app will open."""
    return open_store(default_path())


def list_buttons(app: AppTest) -> list[str]:
    """The labels of the buttons of the jobs on the page, not in the sidebar."""
    return [button.label for button in app.main.button if (button.key or "").startswith("list_")]


def test_without_jobs_there_is_no_section_for_them(bare_app: RunApp) -> None:
    assert "Jobs" not in [heading.value for heading in bare_app("/runs").subheader]


def test_every_job_is_listed_with_state_progress_and_error(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    for state, site in (("done", "up"), ("failed", "down"), ("running", "gate")):
        plant_job(database, state, decode_order(tiny_model_folder, site))
    app = bare_app("/runs")
    table = app.dataframe[0].value
    assert list(table["state"]) == ["running", "failed", "done"]
    assert list(table["job"]) == ["Job running", "Job failed", "Job done"]
    assert list(table["done"]) == [0.5] * 3
    assert list(table["of"]) == ["1/2 blocks"] * 3
    assert list(table["model"]) == [tiny_model_folder.name] * 3
    assert "No room left" in table["error"][1]
    assert list_buttons(app) == ["Cancel", "Resume", "Dismiss"]


def test_a_job_that_failed_long_ago_is_still_offered_here(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    job = plant_job(database, "failed", decode_order(tiny_model_folder))
    set_back(database, job, beat_at="2020-01-01T00:00:00+00:00")
    app = bare_app("/runs").button(key=f"list_resume_{job.id}").click().run()
    assert not app.exception
    assert ended(database, job.id).state == "done"


def test_a_job_is_cancelled_and_dismissed_from_the_list(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    job = plant_job(database, "running", decode_order(tiny_model_folder))
    gone = plant_job(database, "cancelled", decode_order(tiny_model_folder, "up"))
    app = bare_app("/runs").button(key=f"list_cancel_{job.id}").click().run()
    assert get_job(database, job.id).cancel_requested
    app.button(key=f"list_dismiss_{gone.id}").click().run()
    assert [kept.id for kept in list_jobs(database)] == [job.id]


def test_jobs_that_are_done_are_dismissed_together_and_their_runs_stay(
    run_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    failed = plant_job(database, "failed", decode_order(tiny_model_folder, "up"))
    run_app("/neurons")
    press(run_app("/runs"), "Dismiss the 1 that are done")
    assert [kept.id for kept in list_jobs(database)] == [failed.id]
    assert [run.kind for run in list_runs(database)] == ["decode"]


def test_hostile_titles_are_shown_as_text(bare_app: RunApp, database: Store, tiny_model_folder: Path) -> None:
    plant_job(database, "failed", decode_order(tiny_model_folder), title=HOSTILE)
    app = bare_app("/runs")
    assert "<script>alert(1)</script>" in shown(app)
    assert not any(re.search(r"(?<!\\)(<script|\]\(|\$x)", text.value) for text in app.markdown)


def test_an_unfinished_decoding_is_resumed_here_and_only_what_is_missing_is_done(
    run_app: RunApp, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(1)
    engine = Watched(gate)
    work_with(monkeypatch, engine)
    app = run_app("/neurons")
    gate.wait()
    [job] = list_jobs(database)
    app.run().button(key=f"page_cancel_{job.id}").click().run()
    ended(database, job.id)
    gate.opened.set()
    [run] = list_runs(database)
    app = run_app("/runs", run=run.key).button(key="resume_run").click().run()
    assert not app.exception
    ended(database, list_jobs(database)[0].id)
    assert engine.asked == [0, 1, 1]
    app.run()
    assert "resume_run" not in [button.key for button in app.button]


def test_a_run_that_no_job_can_do_says_so(run_app: RunApp, database: Store) -> None:
    run = plant(database, "decode", stored=1)
    app = run_app("/runs", run=run.key).button(key="resume_run").click().run()
    assert not app.exception
    assert "repeat the request" in app.toast[0].value


def test_a_run_is_exported_and_taken_in_again(run_app: RunApp, database: Store) -> None:
    run_app("/neurons")
    [run] = list_runs(database)
    app = run_app("/runs", run=run.key)
    assert "Export" in labels(app, "download_button")
    file = run_files.export_run(database, run.key)
    units = list_stored_units(database, run.key)
    delete_run(database, run.key)
    app = take_in(run_app, file)
    assert "1 added" in app.toast[0].value
    back = find_run(database, run.key)
    assert back is not None
    assert back.finished
    assert list_stored_units(database, run.key) == units
    assert "1 unchanged" in take_in(run_app, file).toast[0].value


def take_in(run_app: RunApp, file: bytes) -> AppTest:
    """The runs page after a file was imported."""
    app = run_app("/runs")
    app.file_uploader[0].upload("mine.runs.zip", file, "application/zip")
    return press(app, "Import")


def test_a_file_that_is_no_runs_is_refused_with_a_reason(run_app: RunApp, database: Store) -> None:
    app = take_in(run_app, b"PK\x03\x04 not really")
    assert not app.exception
    assert "**Bad import**" in app.toast[0].value
    assert list_runs(database) == []
