"""The three questions of Overview in a browser: one click, what each needs, and a finding at the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from demo import BUNDLED
from tests.browser.helpers import AppServer, open_page, settled

ServeApp = Callable[..., AppServer]
pytestmark = pytest.mark.skipif(
    not {"demo/base", "demo/moe"} <= set(BUNDLED), reason="the bundled models are missing"
)


def ask(page: Page, app: AppServer, link: str) -> None:
    """From Overview, one click."""
    open_page(page, app.url)
    page.get_by_role("link", name=link).click()
    settled(page)


def keep(page: Page) -> None:
    """Keep the answer under the proposed title, and open the finding."""
    page.get_by_role("button", name="Keep as a finding").first.click()
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("link", name="Open the finding").click()
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    settled(page)


def report(page: Page, folder: Path) -> Path:
    """The finding's HTML report."""
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML", exact=True).click()
    path = folder / "report.html"
    download.value.save_as(path)
    return path


def test_which_neurons_make_it_say_a_word_ends_in_a_finding_whose_report_draws_its_chart(
    app_server: ServeApp, new_page: Callable[[], Page], tmp_path: Path
) -> None:
    page = new_page()
    ask(page, app_server(HEADLAMP_MODEL="demo/base"), "Make it say")
    page.get_by_role("button", name="Best levers").click()
    expect(page.get_by_text("Best first, as the prompts")).to_be_visible()
    keep(page)
    expect(
        page.get_by_role("heading", name=re.compile(r"Holding .*dog .* → .*best of 20 random"))
    ).to_be_visible()
    fetched: list[str] = []
    offline = new_page()
    offline.on("request", lambda request: fetched.append(request.url))
    path = report(page, tmp_path)
    offline.goto(path.as_uri())
    expect(offline.locator(".js-plotly-plot .bars path").first).to_be_visible()
    assert fetched == [path.as_uri()]


def test_what_holds_the_mixture_together_is_asked_of_the_bundled_one_and_ends_in_a_finding(
    app_server: ServeApp, page: Page
) -> None:
    app = app_server(HEADLAMP_MODEL="demo/base")
    ask(page, app, "Ask demo/moe")
    fewer = page.get_by_role("spinbutton", name="Random sets")
    fewer.fill("1")
    fewer.press("Enter")
    settled(page)
    page.get_by_role("button", name=re.compile("Prune .* and see")).click()
    expect(page.get_by_text("the model predicts held-out text")).to_be_visible()
    keep(page)
    expect(page.get_by_role("heading", name="Without L1.E9: perplexity")).to_be_visible()


def test_one_skill_is_forgotten_and_the_measurement_kept(app_server: ServeApp, page: Page) -> None:
    ask(page, app_server(HEADLAMP_MODEL="demo/base"), "Forget arithmetic")
    page.get_by_test_id("stForm").get_by_text("More settings").click()
    for label in ("Controls", "Robustness"):
        page.get_by_text(label, exact=True).click()
    page.get_by_role("spinbutton", name="Examples per skill").fill("180")
    page.get_by_role("spinbutton", name="New tokens").fill("8")
    page.get_by_role("button", name="Forget it and measure").click()
    expect(page.get_by_role("heading", name="Before and after")).to_be_visible()
    keep(page)
    expect(page.get_by_text("KSD forgets arithmetic as asked").first).to_be_visible()
