"""Neurons in a browser: a click on a name and a key open a neuron in the same tab."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Locator, Page, Position, expect

from analysis.opening.models import ModelRef
from store import open_store
from tests.browser.helpers import AppServer, open_page, settled, view
from tests.pages.conftest import tiny_model_folder  # noqa: F401 - a fixture
from workbench.models import open_model
from workbench.neurons.searching import SearchHit, find_word

ServeApp = Callable[..., AppServer]

FIRST_NAME = Position(x=70, y=53)
"""Where the first row's name is in a table, from the table's corner."""


def find_hits(model: Path, folder: Path) -> list[SearchHit]:
    """The 50 best neurons of dog, as the workbench ranks them in this process."""
    store = open_store(folder / "expected.db")
    with open_model(ModelRef(str(model)), store) as loaded:
        return list(find_word(loaded, store, "dog", limit=50).neurons)


def open_hits(page: Page, app: AppServer, model: Path) -> None:
    open_page(page, f"{app.url}/neurons?{urlencode({'model': str(model), 'word': 'dog'})}")
    page.get_by_test_id("stDataFrame").first.wait_for()
    settled(page)


def wait_for_first(table: Locator, hit: SearchHit) -> None:
    """Until the table is drawn with this neuron in its first row; its cells are there for screen readers."""
    expect(table.locator("td").first).to_have_text(str(hit.address))


def test_a_name_opens_its_neuron_in_this_tab_also_where_the_table_is_sorted(
    app: AppServer,
    page: Page,
    tiny_model_folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    hits = find_hits(tiny_model_folder, tmp_path)
    open_hits(page, app, tiny_model_folder)
    table = page.get_by_test_id("stDataFrame").first
    wait_for_first(table, hits[0])
    table.click(position=FIRST_NAME)
    expect(page.get_by_role("heading", name=f"Neuron {hits[0].address}")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Next hit").click()
    expect(page.get_by_role("heading", name=f"Neuron {hits[1].address}")).to_be_visible()
    settled(page).get_by_role("button", name="Back to the list").click()
    settled(page)
    wait_for_first(table, hits[0])
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 150, box["y"] + 18)  # the header of the z-scores: ascending
    lowest = min(hits, key=lambda hit: hit.z_score)
    wait_for_first(table, lowest)
    table.click(position=FIRST_NAME)
    expect(page.get_by_role("heading", name=f"Neuron {lowest.address}")).to_be_visible()
    assert len(page.context.pages) == 1


def test_a_row_opens_by_keyboard(
    app: AppServer,
    page: Page,
    tiny_model_folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    hits = find_hits(tiny_model_folder, tmp_path)
    open_hits(page, app, tiny_model_folder)
    table = page.get_by_test_id("stDataFrame").first
    wait_for_first(table, hits[0])
    table.get_by_role("button", name="Fullscreen").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    expect(page.get_by_role("heading", name=f"Neuron {hits[1].address}")).to_be_visible()
    assert view(settled(page))["word"] == "dog"
