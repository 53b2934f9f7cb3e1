"""The Unlearn page in a browser: pick, run, read the matrix, take the recipe along, ask under it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import Page, expect

from store import open_store
from tests.browser.helpers import AppServer, open_page, settled
from tests.pages.conftest import tiny_model_folder  # noqa: F401 - a fixture
from tests.pages.unlearning_made import CHOICES, write_skills
from workbench.skills.library import add_skill

ServeApp = Callable[..., AppServer]

WRITTEN = """plot => [...plot.querySelectorAll('.scatterlayer text')].map(text => text.textContent)"""


def choose(page: Page, label: str, option: str) -> None:
    """Pick an option of a select box."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def downloaded(page: Page, button: str) -> bytes:
    """What the first button of this name gives."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).first.click()
    return Path(waiting.value.path()).read_bytes()


def test_a_skill_is_picked_forgotten_measured_and_its_recipe_taken_along(
    app_server: ServeApp,
    page: Page,
    tiny_model_folder: Path,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    app = app_server(HEADLAMP_MODEL=str(tiny_model_folder))
    for name, path in write_skills(tmp_path, tiny_model_folder).items():
        add_skill(open_store(app.database), name, path.read_bytes(), "jsonl")
    query = urlencode({**CHOICES, "retain": "two", "robustness": "false"})
    open_page(page, f"{app.url}/unlearn?{query}")
    choose(page, "Forget skill", "one")
    expect(page.get_by_text("Everything is filled in")).to_be_visible()
    page.get_by_role("button", name="Forget it and measure").click()
    expect(page.get_by_role("heading", name="Before and after")).to_be_visible()
    settled(page)
    written = page.locator(".js-plotly-plot").first.evaluate(WRITTEN)
    assert sum("→" in text for text in written) == 6
    address = parse_qs(urlsplit(page.url).query)
    assert (address["forget"], address["retain"]) == (["one"], ["two"])
    recipe = downloaded(page, "Recipe (zip)")
    with zipfile.ZipFile(io.BytesIO(recipe)) as archive:
        [described, _] = archive.namelist()
        [guard] = json.loads(archive.read(described))["interventions"]
    assert guard["kind"] == "linear_guard"
    assert downloaded(page, "Matrix as CSV").startswith(b'"method","skill","role"')
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_text("Greedy, done in")).to_be_visible()
    again = open_page(page, page.url)
    expect(again.get_by_role("heading", name="Before and after")).to_be_visible()
