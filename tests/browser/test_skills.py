"""The Skills page in a browser: a skill is pasted, fitted, its α moved by keyboard, and a query tried."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

from playwright.sync_api import Page, expect

from store import open_store
from tests.browser.helpers import AppServer, open_page, settled, view
from tests.pages.conftest import tiny_model_folder  # noqa: F401 - a fixture
from workbench.skills.library import add_skill

ServeApp = Callable[..., AppServer]
WORDS = (" dog", " cat", " day", " Dog", " the", " a", " ran", " and")


def examples(ending: str) -> str:
    prompts = [f"{a}{b}{c}{ending}" for a, b, c in product(WORDS, WORDS, (" a", " the"))]
    return "\n".join(json.dumps({"prompt": prompt, "answer": "<b>cat</b>"}) for prompt in prompts)


def define(page: Page, name: str, pasted: str) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Examples", exact=True).fill(pasted)
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name="Keep this skill").click()
    expect(page.get_by_role("button", name=f"Fit the box of {name}")).to_be_visible()
    settled(page)


def test_a_skill_is_pasted_fitted_and_tried_and_the_link_carries_the_view(
    app_server: ServeApp,
    page: Page,
    tiny_model_folder: Path,  # noqa: F811 - the fixture
) -> None:
    app = app_server(HEADLAMP_MODEL=str(tiny_model_folder))
    store = open_store(app.database)
    add_skill(store, "runs", examples(" ran .").encode(), "jsonl")
    store.close()
    open_page(page, f"{app.url}/skills?compared=runs")
    page.get_by_text("Define a skill").click()
    define(page, "pets", examples(" dog"))
    assert (view(page)["skill"], view(page)["compared"]) == ("pets", "runs")
    page.get_by_role("button", name="Fit the box of pets").click()
    expect(page.get_by_text("Refused, by layer")).to_be_visible()
    settled(page)
    refused = page.get_by_test_id("stMetric").first
    expect(refused.get_by_test_id("stMetricValue")).not_to_have_text("0%")
    page.get_by_role("slider").first.focus()
    page.keyboard.press("Home")
    expect(refused.get_by_test_id("stMetricValue")).to_have_text("0%")
    settled(page)
    assert view(page)["alpha"] == "0.2"
    page.get_by_label("Query", exact=True).fill(" the cat day")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("inside from α =")).to_contain_text("Outside the box of L1 of pets")
    settled(page)
    link = page.url
    assert view(page)["query"] == " the cat day"
    layer = page.get_by_role("combobox", name="Layer", exact=True)
    layer.scroll_into_view_if_needed()  # a list that opens while the page still scrolls closes again
    settled(page)
    layer.click()
    page.get_by_role("option", name="L0").click()
    settled(page)
    assert "alpha" not in view(page)
    expect(page.get_by_role("heading", name="Keys of L0")).to_be_visible()
    again = open_page(page, link)
    expect(again.get_by_text("inside from α =")).to_contain_text("Outside the box of L1 of pets")
    expect(again.get_by_role("heading", name="Keys of L1")).to_be_visible()
    assert view(again)["alpha"] == "0.2"
