"""A model whose weights stay on disk, in a browser: the choice goes along from page to page."""

from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.helpers import AppServer, open_page, settled
from tests.pages.conftest import tiny_model_folder  # noqa: F401 - a fixture


def test_the_choice_goes_along_from_page_to_page(
    app: AppServer,
    page: Page,
    tiny_model_folder: Path,  # noqa: F811
) -> None:
    view = urlencode({"model": str(tiny_model_folder), "weights": "disk"})
    open_page(page, f"{app.url}/neurons?{view}")
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_text("float32 on cpu, read from disk")).to_be_visible()
    sidebar.get_by_role("link", name="Clamp", exact=True).click()
    settled(page)
    expect(page.get_by_text("Clamping runs the model, which needs all its weights in memory")).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["weights"] == ["disk"]
    sidebar.get_by_role("link", name="Overview", exact=True).click()
    settled(page)
    page.get_by_role("link", name="Make it say").click()
    settled(page)
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    expect(sidebar.get_by_text("read from disk")).to_be_visible()
    sidebar.get_by_role("link", name="Clamp", exact=True).click()
    settled(page)
    page.get_by_role("button", name="Open it in memory").click()
    settled(page)
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    expect(sidebar.get_by_text("read from disk")).to_have_count(0)
    assert "weights" not in parse_qs(urlsplit(page.url).query)
