"""What axe-core finds wrong on every page, in the light theme and after a switch to the dark one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from store import open_store
from tests.browser.helpers import AppServer, open_page, settled
from tests.pages.conftest import tiny_model_folder  # noqa: F401 - a fixture
from tests.pages.unlearning_made import CHOICES, GO, QUICK, write_skills
from workbench.skills.library import add_skill

KNOWN = {"list": "stSidebarNavItems", "listitem": "stSidebarNavItems", "aria-dialog-name": "stToast"}
"""Streamlit's own, by rule and by what they lie in: the list of pages nests a div per section between the
list and its items, and its toasts are dialogs without a name; no page can change that markup.
"""

# Charts are pictures with a text of their own; test_style.py measures what is written on them.
BAD = """async ([known, rules]) => {
    const options = {resultTypes: ["violations"], ...(rules && {runOnly: rules})};
    const {violations} = await axe.run({exclude: [".js-plotly-plot svg"]}, options);
    const isKnown = (rule, place) =>
        known[rule] && document.querySelector(place)?.closest(`[data-testid="${known[rule]}"]`);
    return violations
        .filter(({impact}) => impact === "serious" || impact === "critical")
        .flatMap(({id, nodes}) => nodes.map(node => [id, node.target.join(" "), node]))
        .filter(([rule, place]) => !isKnown(rule, place))
        .map(([rule, place, node]) => `${rule}: ${place}: ${node.html.slice(0, 200)} ${node.failureSummary}`);
}"""


def violations(page: Page, *, dark: bool = False) -> Iterator[str]:
    """Serious and critical ones that are ours: all rules in the light theme, contrast in the dark one too."""
    for theme, rules in (("light", None), ("dark", ["color-contrast"]))[: 1 + dark]:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        settled(page)
        scheme = "getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme"
        assert page.evaluate(scheme) == theme
        for bad in page.evaluate(BAD, [KNOWN, rules]):
            yield f"{theme} {page.url}: {bad}"
    page.emulate_media(color_scheme="light")


def found(page: Page, url: str, press: str = "", until: str = "") -> list[str]:
    """What is wrong on a page, once a button was pressed and a text appeared there, if any.

    Where one was pressed, in both themes: such a page holds every kind of element.
    """
    open_page(page, url)
    if press:
        page.get_by_role("button", name=press).first.click()
        page.get_by_text(until).first.wait_for()
        settled(page)
    return list(violations(page, dark=bool(press)))


@pytest.fixture(scope="module")
def shared_app(serve: Callable[..., AppServer], tiny_model_folder: Path) -> Iterator[AppServer]:  # noqa: F811
    """One app for both tests, with a database of its own."""
    with ExitStack() as stack:
        yield serve(stack, HEADLAMP_MODEL=str(tiny_model_folder))


@pytest.fixture
def tested(page: Page) -> Page:
    """A window with axe in every page that it opens."""
    page.add_init_script(AXE_SCRIPT)
    return page


def test_no_page_of_the_word_path_has_a_serious_violation(shared_app: AppServer, tested: Page) -> None:
    url, base = shared_app.url, "model=demo/base"
    clamp = urlencode(
        {"prompt": "My favourite animal is the", "word": "dog", "clamps": "L2.N47:key:set:6r@last"}
    )
    bad = found(tested, f"{url}/?{base}")
    bad += found(tested, f"{url}/neurons?{base}&word=dog")
    bad += found(tested, f"{url}/neurons?{base}&neuron=L2.N47")
    bad += found(tested, f"{url}/clamp?{base}&{clamp}", "Generate", "Done in")
    tested.get_by_role("button", name="Keep as a finding").click()
    tested.get_by_role("button", name="Keep", exact=True).click()
    tested.get_by_role("link", name="Open the finding you kept").click()
    settled(tested)
    bad += violations(tested)
    bad += found(tested, f"{url}/findings")
    bad += found(tested, f"{url}/runs")
    assert not bad, "\n".join(bad)


def test_no_page_of_experts_models_and_skills_has_a_serious_violation(
    shared_app: AppServer,
    tested: Page,
    tiny_model_folder: Path,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    app = shared_app
    for name, path in write_skills(tmp_path, tiny_model_folder).items():
        add_skill(open_store(app.database), name, path.read_bytes(), "jsonl")
    skills = urlencode({**CHOICES, **QUICK, "forget": "one", "retain": "two", "methods": "KSD"}, doseq=True)
    bad = found(tested, f"{app.url}/experts?model=demo/moe")
    bad += found(tested, f"{app.url}/compare?{urlencode({'with': tiny_model_folder})}")
    bad += found(
        tested, f"{app.url}/skills?skill=one&compared=two", "Fit the box of one", "Refused, by layer"
    )
    bad += found(tested, f"{app.url}/unlearn?{skills}", GO, "Before and after")
    assert not bad, "\n".join(bad)
