"""The job panel in the sidebar of every page: its states, its buttons, and what it never interprets."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from store import Store, default_path, get_job, list_jobs, open_store
from store.errors import DatabaseReadOnly
from tests.pages.job_rows import decode_order, ended, plant_job, set_back
from tests.pages.reading import shown

RunApp = Callable[..., AppTest]
HOSTILE = "<script>alert(1)</script> ![x](http://x) $x$ :red[y]"
PAGES = ("/", "/neurons", "/clamp", "/findings", "/runs")


@pytest.fixture
def database(isolated_environment: None) -> Store:
    """The store the app will open."""
    return open_store(default_path())


def panel(app: AppTest) -> str:
    """What the panel says, Markdown's escapes and word joiners taken out."""
    kinds = (app.sidebar.markdown, app.sidebar.caption, app.sidebar.error, app.sidebar.code)
    texts = [str(element.value) for kind in kinds for element in kind]
    return "\n".join([*texts, *bars(app)]).replace("\\", "").replace("\u2060", "")


def bars(app: AppTest) -> list[str]:
    """The texts of the progress bars in the sidebar."""
    return [element.proto.text for element in app.sidebar.get("progress")]


def buttons(app: AppTest) -> list[str]:
    """The labels of the panel's buttons."""
    return [button.label for button in app.sidebar.button]


def moment(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()


def test_without_jobs_the_panel_takes_no_room(run_app: RunApp) -> None:
    app = run_app("/")
    assert not buttons(app)
    assert not app.sidebar.markdown
    assert len(app.sidebar.caption) == 1  # the open model


@pytest.mark.parametrize("page", PAGES)
def test_a_job_another_process_works_on_is_shown_on_every_page(
    bare_app: RunApp, database: Store, tiny_model_folder: Path, page: str
) -> None:
    job = plant_job(database, "running", decode_order(tiny_model_folder), done=3, total=24)
    set_back(database, job, started_at=moment(6))
    app = bare_app(page)
    assert not app.exception
    [bar] = bars(app)
    told = re.fullmatch(r"3 of 24 blocks · ([\d.]+) blocks per minute · (\d+) s left", bar)
    assert told is not None
    assert int(told[2]) == pytest.approx(21 * 60 / float(told[1]), rel=0.05)
    assert tiny_model_folder.name in panel(app)
    assert buttons(app) == ["Cancel"]


def test_a_queued_job_waits_for_its_turn_under_the_running_one(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    plant_job(database, "queued", decode_order(tiny_model_folder, "up"))
    plant_job(database, "running", decode_order(tiny_model_folder))
    assert [bar.split(" ·")[0] for bar in bars(bare_app("/"))] == ["1 of 2 blocks", "Queued"]


def test_a_job_that_was_asked_to_stop_says_so_and_is_not_asked_twice(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    job = plant_job(database, "stopping", decode_order(tiny_model_folder))
    app = bare_app("/")
    assert bars(app) == ["Stopping · 1 of 2 blocks"]
    assert app.button(key=f"panel_cancel_{job.id}").disabled


def test_cancel_asks_the_process_that_works_on_it_to_stop(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    job = plant_job(database, "running", decode_order(tiny_model_folder))
    app = bare_app("/").button(key=f"panel_cancel_{job.id}").click().run()
    assert get_job(database, job.id).cancel_requested
    assert bars(app)[0].startswith("Stopping")


def test_a_job_that_is_done_leaves_one_line_if_it_took_a_while(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    quick = plant_job(database, "done", decode_order(tiny_model_folder), title="Quick")
    slow = plant_job(database, "done", decode_order(tiny_model_folder, "up"), title="Slow")
    set_back(database, slow, started_at=moment(90))
    app = bare_app("/")
    assert "Slow is done, in 1 min 30 s" in panel(app)
    assert quick.title not in panel(app)
    assert not buttons(app)
    set_back(database, slow, started_at=moment(900), beat_at=moment(800))
    assert not panel(bare_app("/"))


def test_a_failed_job_says_what_why_and_the_way_out(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    plant_job(database, "failed", decode_order(tiny_model_folder))
    app = bare_app("/")
    assert "**Store full**  \nNo room left: free some space, then resume it." in panel(app)
    assert "OSError: disk full" in panel(app)
    assert buttons(app) == ["Resume", "Dismiss"]


@pytest.mark.parametrize(
    ("state", "said"),
    [("cancelled", "Cancelled at 1 of 2"), ("interrupted", "because its process ended")],
)
def test_a_job_that_stopped_says_how_far_it_came_and_how_it_goes_on(
    bare_app: RunApp, database: Store, tiny_model_folder: Path, state: str, said: str
) -> None:
    plant_job(database, state, decode_order(tiny_model_folder))
    app = bare_app("/")
    assert said in panel(app)
    assert "Resume** continues from there" in panel(app)
    assert buttons(app) == ["Resume", "Dismiss"]


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
def test_resume_carries_the_job_out(
    bare_app: RunApp, database: Store, tiny_model_folder: Path, state: str
) -> None:
    job = plant_job(database, state, decode_order(tiny_model_folder))
    app = bare_app("/").button(key=f"panel_resume_{job.id}").click().run()
    assert not app.exception
    assert ended(database, job.id).state == "done"
    assert len(list_jobs(database)) == 1
    assert not buttons(app.run())


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
def test_dismiss_forgets_the_job(
    bare_app: RunApp, database: Store, tiny_model_folder: Path, state: str
) -> None:
    other = plant_job(database, "failed", decode_order(tiny_model_folder, "up"))
    job = plant_job(database, state, decode_order(tiny_model_folder))
    bare_app("/").button(key=f"panel_dismiss_{job.id}").click().run()
    assert [kept.id for kept in list_jobs(database)] == [other.id]


@pytest.mark.parametrize(("own", "said"), [(True, ["Resume", "Dismiss"]), (False, [])])
def test_a_job_that_stopped_is_shown_on_the_model_it_belongs_to(
    run_app: RunApp, database: Store, tiny_model_folder: Path, own: bool, said: list[str]
) -> None:
    model = tiny_model_folder if own else tiny_model_folder.parent / "another"
    plant_job(database, "cancelled", decode_order(model))
    assert buttons(run_app("/")) == said


def test_a_job_that_the_page_shows_is_not_shown_a_second_time(
    run_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    plant_job(database, "running", decode_order(tiny_model_folder))
    app = run_app("/runs")
    assert len(app.main.get("progress")) == 1
    assert bars(app.run()) == []
    assert len(bars(run_app("/"))) == 1


def test_what_failed_yesterday_and_what_was_answered_since_is_left_out(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    old = plant_job(database, "failed", decode_order(tiny_model_folder, "up"))
    set_back(database, old, beat_at=moment(25 * 3600))
    plant_job(database, "failed", decode_order(tiny_model_folder))
    assert buttons(bare_app("/")) == ["Resume", "Dismiss"]
    plant_job(database, "done", decode_order(tiny_model_folder))
    assert not buttons(bare_app("/"))


def test_a_job_resumed_after_a_newer_one_of_its_order_counts_as_the_last(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    first = plant_job(database, "done", decode_order(tiny_model_folder))
    second = plant_job(database, "failed", decode_order(tiny_model_folder))
    set_back(database, second, beat_at=moment(60))
    set_back(database, first, beat_at=moment(30))
    assert not buttons(bare_app("/"))


def test_at_most_five_jobs_that_stopped_are_shown(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    for number in range(7):
        plant_job(database, "failed", decode_order(tiny_model_folder, f"site{number}"), title=f"Job {number}")
    assert buttons(bare_app("/")) == ["Resume", "Dismiss"] * 5
    assert "Job 6" in panel(bare_app("/"))


def test_hostile_titles_units_and_errors_are_shown_as_text(
    bare_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    for state, site in (("running", "up"), ("failed", "down"), ("cancelled", "gate")):
        job = plant_job(database, state, decode_order(tiny_model_folder, site), title=HOSTILE)
        set_back(database, job, unit=HOSTILE)
    failed = list_jobs(database, active=False)[-1]
    told = '{"name": "<b>", "message": "<script>alert(1)</script> $x$", "cause": ""}'
    set_back(database, failed, failure=told)
    app = bare_app("/")
    assert not app.exception
    assert "<script>alert(1)</script>" in panel(app)
    raw = [
        str(e.value) for kind in (app.sidebar.markdown, app.sidebar.caption, app.sidebar.error) for e in kind
    ]
    assert not any(re.search(r"(?<!\\)(<script|<b>|\]\(|\$x|:red\[y)", text) for text in [*raw, *bars(app)])


def test_what_a_button_cannot_do_is_explained(
    bare_app: RunApp, database: Store, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*given: object) -> None:
        raise DatabaseReadOnly("headlamp.db cannot be written")

    job = plant_job(database, "failed", decode_order(tiny_model_folder))
    monkeypatch.setattr("workbench.jobs.jobs.requeue_job", read_only)
    app = bare_app("/").button(key=f"panel_resume_{job.id}").click().run()
    assert not app.exception
    assert "**Database read only**" in app.toast[0].value
    assert "cannot be written" in app.toast[0].value


def test_a_list_of_jobs_that_cannot_be_read_leaves_the_page_usable(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*given: object, **named: object) -> None:
        raise DatabaseReadOnly("headlamp.db cannot be read")

    monkeypatch.setattr("pages.shared.jobs.listing.list_jobs", busy)
    app = run_app("/")
    assert not app.exception
    assert "cannot be read" in app.sidebar.error[0].value
    assert "Start with a question" in shown(app)
