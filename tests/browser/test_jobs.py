"""Long work in a browser: a bar on every page, through a reload; cancelled, resumed to its end."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from pages.shared.jobs.panel import SLOW_SECONDS
from store import list_jobs, open_store
from tests.browser.helpers import AppServer, open_page, settled
from tests.browser.slow_model import save_slow_model

ServeApp = Callable[..., AppServer]
PAGES = ("Overview", "Clamp", "Findings", "Runs", "Neurons")
SERVER = "tests.browser.held_server"


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model whose decoding takes long enough to look at."""
    return str(save_slow_model(tmp_path_factory.mktemp("slow-model")))


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """The file that keeps jobs waiting until it is gone."""
    path = tmp_path / "hold"
    path.touch()
    return path


def bar(page: Page) -> str:
    """What the one bar says: the page's where the page shows the job, else the panel's."""
    shown = page.get_by_test_id("stProgress")
    expect(shown).to_have_count(1)
    return shown.last.inner_text()  # for a moment after a change of page the panel shows it too


def press(page: Page, button: str) -> None:
    """Press one of the job's buttons, wherever it is shown: each is there once."""
    shown = page.get_by_role("button", name=button, exact=True)
    expect(shown).to_have_count(1)
    shown.click()


def decode(page: Page, url: str, model: str) -> None:
    """Ask for the decoding of a large model, and see its bar move."""
    open_page(page, f"{url}/neurons?{urlencode({'model': model})}")
    page.get_by_role("button", name="Decode at down").click()
    expect(page.get_by_text("per minute").or_(page.get_by_text("per second")).first).to_be_visible()


def test_long_work_is_seen_everywhere_outlives_a_reload_and_is_cancelled_and_resumed(
    app_server: ServeApp, page: Page, slow_model: str, hold: Path
) -> None:
    app = app_server(SERVER, HEADLAMP_MODEL=slow_model, HOLD=str(hold))
    decode(page, app.url, slow_model)
    for name in PAGES:
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        assert "of 24 blocks" in bar(page)
    page.reload()
    assert "of 24 blocks" in bar(page)
    press(page, "Cancel")
    sidebar = page.get_by_test_id("stSidebar")
    expect(page.get_by_text("Cancelled at").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Resume")).first).to_be_visible()
    [cancelled] = list_jobs(open_store(app.database))
    assert 0 < cancelled.done < 24
    press(page, "Resume")
    page.wait_for_timeout(1000 * (SLOW_SECONDS + 1))  # a shorter job is not announced at its end
    hold.unlink()
    page.get_by_test_id("stDataFrame").first.wait_for()
    settled(page)
    expect(sidebar.get_by_text("is done, in")).to_be_visible()
    [done] = list_jobs(open_store(app.database))
    assert (done.state, done.done, done.began_with) == ("done", 24, cancelled.done)


def test_two_windows_share_one_job(
    app_server: ServeApp, new_page: Callable[[], Page], slow_model: str, hold: Path
) -> None:
    app = app_server(SERVER, HEADLAMP_MODEL=slow_model, HOLD=str(hold))
    first, second = new_page(), new_page()
    decode(first, app.url, slow_model)
    second.goto(f"{app.url}/neurons?{urlencode({'model': slow_model})}")
    assert "of 24 blocks" in bar(second)
    press(second, "Cancel")
    for window in (first, second):
        expect(window.get_by_text("Cancelled at").first).to_be_visible()
    assert len(list_jobs(open_store(app.database))) == 1
