"""The Experts page in a browser: a click on the map chooses what is pruned; pruning shows what it does."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.helpers import AppServer, open_page, settled
from tests.pages.explore.experts_made import moe_folder  # noqa: F401 - a fixture

ServeApp = Callable[..., AppServer]

CELL = """(plot, [column, row]) => {
    const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.c2p(xaxis._categories.indexOf(column)),
            box.top + yaxis._offset + yaxis.c2p(yaxis._categories.indexOf(row))];
}"""


HOVERED = """name => {
    const [plot] = document.querySelectorAll('.js-plotly-plot');
    return (plot._hoverdata || []).some(point => point.customdata === name);
}"""


def click_cell(page: Page, column: str, row: str) -> None:
    """Point at a cell of the map, a little off its middle, and click it."""
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    settled(page)
    x, y = plot.evaluate(CELL, [column, row])
    page.mouse.move(x, y)
    page.mouse.move(x + 6, y - 4)
    page.wait_for_function(HOVERED, arg=f"{row}.{column}")
    page.mouse.click(x + 6, y - 4)
    settled(page)


def is_offered(page: Page, experts: str) -> None:
    """Whether these are what the button would prune, and the address names them."""
    expect(page.get_by_role("button", name=f"Prune {experts} and see", exact=True)).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["prune"] == [experts]


def test_experts_clicked_on_the_map_are_pruned_and_the_link_names_them(
    app_server: ServeApp,
    page: Page,
    moe_folder: Path,  # noqa: F811 - the fixture
) -> None:
    app = app_server(HEADLAMP_MODEL=str(moe_folder))
    open_page(page, f"{app.url}/experts?draws=1")
    expect(page.get_by_role("button", name="Prune L1.E2 and see")).to_be_visible()
    click_cell(page, "E1", "L0")
    is_offered(page, "L1.E2, L0.E1")
    click_cell(page, "E2", "L1")
    is_offered(page, "L0.E1")
    page.get_by_role("button", name="Prune L0.E1 and see").click()
    expect(page.get_by_text("The same text continued")).to_be_visible()
    settled(page)
    again = open_page(page, page.url)
    expect(again.get_by_text("The same text continued")).to_be_visible()
