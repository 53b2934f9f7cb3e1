"""Pages that need a job's result: quick, slow, cancelled, failed, refreshed, and asked for only by people."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared.jobs import waiting
from store import Store, default_path, list_jobs, list_runs, open_store
from store.errors import DatabaseReadOnly, StoreFull
from tests.pages.job_rows import decode_order, ended, plant_job, work_with
from tests.pages.reading import html_of, press, shown
from tests.workbench.jobs.job_engines import Gate, Watched, failing_once
from workbench.jobs.status import JobStatus

RunApp = Callable[..., AppTest]
SMALL = "pages.explore.neurons.decoding.SMALL"
CLAMP_IN_MAX = {"clamps": "L1.N3:key:set:2x@all", "prompt": " the dog", "tokens": "4"}


@pytest.fixture
def database(isolated_environment: None) -> Store:
    """The store the app will open."""
    return open_store(default_path())


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Work that is held at its second block until the gate is opened."""
    held = Gate(1)
    work_with(monkeypatch, Watched(held))
    return held


def page_bars(app: AppTest) -> list[str]:
    """The texts of the progress bars on the page, not in the sidebar."""
    return [element.proto.text for element in app.main.get("progress")]


def page_buttons(app: AppTest) -> list[str]:
    """The labels of the buttons on the page, not in the sidebar."""
    return [button.label for button in app.main.button]


def test_a_quick_job_is_never_seen(run_app: RunApp, database: Store) -> None:
    app = run_app("/neurons")
    assert len(app.dataframe[0].value) == 48
    assert not page_bars(app)
    assert [job.state for job in list_jobs(database)] == ["done"]


def test_what_is_stored_already_is_shown_without_a_job(run_app: RunApp, database: Store) -> None:
    run_app("/neurons")
    run_app("/neurons", neuron="L1.N3")
    assert sorted(job.kind for job in list_jobs(database)) == ["decode", "profile"]
    for page in ({}, {"word": "dog"}, {"neuron": "L0.N1"}):
        run_app("/neurons", **page)
    assert len(list_jobs(database)) == 2


def test_a_word_is_searched_without_a_job(run_app: RunApp, database: Store) -> None:
    assert len(run_app("/neurons", word="dog").dataframe[0].value) == 48
    assert list_jobs(database) == []
    assert [run.kind for run in list_runs(database)] == ["find"]


def test_probabilities_of_a_words_neurons_come_with_the_job_that_is_asked_for(
    run_app: RunApp, database: Store, gate: Gate
) -> None:
    app = run_app("/neurons", word="dog")
    assert "p" not in app.dataframe[0].value
    app.button(key="decode_down").click().run()
    gate.wait()
    app.run()
    assert page_bars(app)[0].startswith("1 of 2 blocks")
    assert "48 neurons are decoded at down, for the probabilities" in shown(app)
    assert len(app.dataframe[0].value) == 48
    gate.opened.set()
    ended(database, list_jobs(database)[0].id)
    table = app.run().dataframe[0].value
    assert {"p", "× uniform"} <= set(table)
    assert not page_bars(app)
    assert "Decode all 48 neurons at down" not in page_buttons(app)


def test_a_word_is_ranked_by_probability_once_all_neurons_are_decoded(
    run_app: RunApp, database: Store, gate: Gate
) -> None:
    app = run_app("/neurons", word="dog", by="probability")
    assert [job.kind for job in list_jobs(database)] == ["decode"]
    gate.wait()
    app.run()
    assert page_bars(app)[0].startswith("1 of 2 blocks")
    assert not app.dataframe
    gate.opened.set()
    ended(database, list_jobs(database)[0].id)
    assert app.run().dataframe[0].value["p"].is_monotonic_decreasing


def test_a_slow_job_is_shown_and_the_page_stays_usable(
    run_app: RunApp, database: Store, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run_app("/neurons")
    gate.wait()
    app.run()
    [bar] = page_bars(app)
    assert bar.startswith("1 of 2 blocks")
    assert "48 neurons are decoded at down" in shown(app)
    with monkeypatch.context() as patched:
        patched.setattr("workbench.jobs.jobs.Jobs.wait", _never)
        app.text_input(key="word").set_value("dog").run()
    assert not app.exception
    assert page_bars(app)[0].startswith("1 of 2 blocks")
    gate.opened.set()
    ended(database, list_jobs(database)[0].id)
    assert len(app.run().dataframe[0].value) == 48
    assert not page_bars(app)


def _never(*given: object, **named: object) -> None:
    raise AssertionError("the page waits while somebody uses it")


def test_a_refresh_attaches_to_the_job_under_way(run_app: RunApp, database: Store, gate: Gate) -> None:
    run_app("/neurons")
    gate.wait()
    for app in (run_app("/neurons"), run_app("/neurons")):
        assert page_bars(app)[0].startswith("1 of 2 blocks")
    gate.opened.set()
    [job] = list_jobs(database)
    assert ended(database, job.id).state == "done"
    assert len(run_app("/neurons").dataframe[0].value) == 48
    assert len(list_jobs(database)) == 1


def test_the_page_goes_on_by_itself_once_the_job_has_ended(
    run_app: RunApp, database: Store, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_app("/neurons")
    gate.wait()
    _open_while_drawing(gate, database, monkeypatch)
    app = run_app("/neurons")
    assert not app.exception
    assert len(app.dataframe[0].value) == 48
    assert len(list_jobs(database)) == 1


def _open_while_drawing(gate: Gate, database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the job end between the page's looking at it and its showing it: what its fragment meets later."""
    looked = waiting.find_last_job

    def opening(key: str) -> JobStatus | None:
        found = looked(key)
        if found is not None and not gate.opened.is_set():
            gate.opened.set()
            ended(database, found.job.id)
        return found

    monkeypatch.setattr(waiting, "find_last_job", opening)


def test_a_job_whose_result_the_page_does_not_find_is_not_asked_again_and_again(
    run_app: RunApp, database: Store, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.neurons.browsing.DecodingState.finished", property(lambda found: False))
    app = run_app("/neurons")
    gate.wait()
    _open_while_drawing(gate, database, monkeypatch)
    app.run()
    assert not app.exception
    assert len(list_jobs(database)) == 1


def test_a_cancelled_job_waits_for_somebody_to_resume_it(
    run_app: RunApp, database: Store, gate: Gate
) -> None:
    app = run_app("/neurons")
    gate.wait()
    [job] = list_jobs(database)
    app.button(key=f"page_cancel_{job.id}").click().run()
    assert ended(database, job.id).state == "cancelled"
    for _ in range(3):
        app.run()
    assert "Cancelled at 1 of 2 blocks" in shown(app)
    assert len(list_jobs(database)) == 1
    gate.opened.set()
    app.button(key=f"page_resume_{job.id}").click().run()
    assert ended(database, job.id).state == "done"
    assert len(app.run().dataframe[0].value) == 48


def test_what_was_cancelled_and_dismissed_begins_again_only_when_asked(
    run_app: RunApp, database: Store, tiny_model_folder: Path
) -> None:
    job = plant_job(database, "cancelled", decode_order(tiny_model_folder))
    app = run_app("/neurons")
    app.button(key=f"page_dismiss_{job.id}").click().run()
    assert list_jobs(database) == []
    assert not app.run().dataframe
    press(app, "Start again")
    assert len(app.run().dataframe[0].value) == 48


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_a_job_that_came_to_grief_is_shown_and_not_asked_again_by_a_refresh(
    run_app: RunApp, database: Store, tiny_model_folder: Path, state: str
) -> None:
    job = plant_job(database, state, decode_order(tiny_model_folder))
    for _ in range(2):
        app = run_app("/neurons")
        assert page_buttons(app)[-2:] == ["Resume", "Dismiss"]
        assert not app.dataframe
    assert len(list_jobs(database)) == 1
    app.button(key=f"page_resume_{job.id}").click().run()
    assert ended(database, job.id).state == "done"
    assert len(app.run().dataframe[0].value) == 48


def test_a_job_that_fails_says_why_and_resume_does_only_what_is_missing(
    run_app: RunApp, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Watched(failing_once(1, StoreFull("No room left for headlamp.db: free some space")))
    work_with(monkeypatch, engine)
    app = run_app("/neurons")
    [job] = list_jobs(database)
    ended(database, job.id)
    app.run()
    assert not app.exception
    assert "**Store full**  \nNo room left for headlamp.db" in shown(app)
    app.button(key=f"page_resume_{job.id}").click().run()
    ended(database, job.id)
    assert len(app.run().dataframe[0].value) == 48
    assert engine.asked == [0, 1, 1]


def test_a_store_that_cannot_be_written_is_explained(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*given: object) -> None:
        raise DatabaseReadOnly("headlamp.db cannot be written")

    run_app("/neurons")
    monkeypatch.setattr("workbench.jobs.jobs.ask_job", read_only)
    app = run_app("/neurons", site="up")
    assert not app.exception
    assert app.main.error[0].value.startswith("**Database read only**")
    assert len(run_app("/neurons").dataframe[0].value) == 48


def test_a_large_model_is_decoded_only_when_asked_and_goes_on_after_cancel(
    run_app: RunApp, database: Store, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SMALL, 10)
    app = run_app("/neurons")
    assert list_jobs(database) == []
    app.button(key="decode_down").click().run()
    gate.wait()
    assert "Decode at down" not in page_buttons(app.run())
    assert "Decode at down" not in page_buttons(run_app("/neurons"))
    [job] = list_jobs(database)
    app.button(key=f"page_cancel_{job.id}").click().run()
    ended(database, job.id)
    app = run_app("/neurons")
    assert "1 of 2 blocks are stored already" in app.info[0].value
    gate.opened.set()
    press(app, "Resume at down")
    ended(database, list_jobs(database)[0].id)
    assert len(run_app("/neurons").dataframe[0].value) == 48


def test_a_large_models_failed_decoding_says_why(
    run_app: RunApp, database: Store, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SMALL, 10)
    plant_job(database, "failed", decode_order(tiny_model_folder))
    app = run_app("/neurons")
    assert any("No room left" in text.value for text in app.main.markdown)
    assert page_buttons(app)[-2:] == ["Resume", "Dismiss"]


def test_a_neurons_page_waits_for_the_reference_text(run_app: RunApp, database: Store, gate: Gate) -> None:
    first = run_app("/neurons", neuron="L1.N3")
    assert re.search(r"automatically\. That takes ≈ \d+ s on this machine\.", shown(first))
    gate.wait()
    app = run_app("/neurons", neuron="L1.N3")
    assert "The model reads the reference text, once" in shown(app)
    assert [heading.value for heading in app.subheader] == ["Neuron L1.N3", "Dose curve"]
    assert len(app.dataframe) == 6, "tops and bottoms at three sites, before anything is measured"
    gate.opened.set()
    assert ended(database, list_jobs(database)[0].id).state == "done"
    assert "On the reference text" in [heading.value for heading in app.run().subheader]


def test_generate_waits_for_the_reference_text_and_then_goes_on(
    run_app: RunApp, database: Store, gate: Gate
) -> None:
    app = press(run_app("/clamp", **CLAMP_IN_MAX), "Generate")
    gate.wait()
    app.run()
    assert "The model reads the reference text, once" in shown(app)
    assert page_bars(app)
    assert not html_of(app)
    assert not any("Everything is filled in" in info.value for info in app.info)
    gate.opened.set()
    [job] = list_jobs(database)
    assert ended(database, job.id).state == "done"
    assert "<mark" in shown(app.run())
    assert [run.kind for run in list_runs(database)] == ["generate", "profile"]


@pytest.mark.parametrize("wrong", [{"clamps": "L1.N999:key:set:2x"}, {"prompt": " "}])
def test_a_request_that_cannot_be_measures_nothing(
    run_app: RunApp, database: Store, wrong: dict[str, str]
) -> None:
    app = press(run_app("/clamp", **CLAMP_IN_MAX | wrong), "Generate")
    assert app.error
    assert list_jobs(database) == []
