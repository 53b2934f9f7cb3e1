"""Journeys in a browser: from a word to a finding in a file; a pasted link; a model nobody should trust."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Dialog, Page, Position, expect
from playwright.sync_api import Request as HttpRequest

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.differences import log_odds_change
from analysis.running.generation import Sampling
from demo import BUNDLED
from store import open_store
from tests.browser.helpers import AppServer, open_page, settled, view
from tests.pages.conftest import tiny_model_folder  # noqa: F401 - a fixture
from workbench.generating.clamping import Generation, generate_pair
from workbench.generating.pair_verdicts import judge_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model

ServeApp = Callable[..., AppServer]

FIRST_ROW = Position(x=17, y=53)
"""Where the first row's mark is in a table, from the table's corner."""


def computed(model: str, request: GenerationRequest, folder: Path) -> Generation:
    """The same request, answered by the workbench in this process."""
    store = open_store(folder / "expected.db")
    with open_model(ModelRef(model), store) as loaded:
        return generate_pair(loaded, store, request)


def fill_in(page: Page, **fields: str) -> None:
    """Type into the form's fields, by their labels."""
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(value)


def downloaded(page: Page, button: str) -> str:
    """The text of the file that a button downloads."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def from_word_to_clamp(page: Page, app: AppServer, word: str) -> str:
    """Overview → Neurons → the first neuron of a word → Clamp; that neuron's address."""
    open_page(page, app.url)
    page.get_by_role("link", name="Neurons", exact=True).click()
    settled(page)
    page.get_by_label("Find the neurons of a word").fill(word)
    page.keyboard.press("Enter")
    table = page.get_by_test_id("stDataFrame").first
    table.wait_for()
    settled(page)
    expect(table.locator("td").first).to_be_attached()  # its cells, for screen readers: it is drawn
    table.click(position=FIRST_ROW)
    expect(page.get_by_role("link", name="Clamp it")).to_be_visible()
    settled(page)
    address = view(page)["neuron"]
    page.get_by_role("link", name="Clamp it").click()
    settled(page)
    assert view(page)["clamps"].startswith(f"{address}:")
    return address


def journey(page: Page, app: AppServer, model: str, word: str, prompt: str, folder: Path) -> None:
    """Search, clamp, generate, keep and export; what comes out is what the workbench computes."""
    address = from_word_to_clamp(page, app, word)
    clamp = f"{address}:key:set:-6r@last"
    fill_in(page, Value="-6")
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_text("Settings", exact=True).click()
    fill_in(page, Prompt=prompt, Word_to_measure=word, New_tokens="16")
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("Done in").first.wait_for()
    settled(page)
    expected = computed(
        model, GenerationRequest(prompt, (parse_clamp(clamp),), sampling=Sampling(16), word=word), folder
    )
    assert expected.word is not None
    expect(page.get_by_text(judge_pair(expected)).first).to_be_visible()
    assert expected.changed_text.strip() in page.get_by_test_id("stHtml").nth(1).inner_text().replace(
        "\n", ""
    )
    keep(page, f"Without {word}")
    page.get_by_role("button", name="Export").click()
    check_export(json.loads(downloaded(page, "JSON")), clamp, prompt, expected)


def keep(page: Page, title: str) -> None:
    """Keep the pair under a title, and open the finding."""
    page.get_by_role("button", name="Keep as a finding").click()
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("link", name="Open the finding you kept").click()
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    settled(page)


def check_export(document: dict[str, Any], clamp: str, prompt: str, expected: Generation) -> None:
    """The file holds the prompt, the clamp, both texts and the probabilities."""
    [finding] = document["findings"]
    evidence = finding["evidence"]
    assert (evidence["prompt"], evidence["clamps"]) == (prompt, [clamp])
    assert evidence["base"] == {"text": expected.base_text, "token_ids": list(expected.base_ids)}
    assert evidence["changed"] == {"text": expected.changed_text, "token_ids": list(expected.changed_ids)}
    assert expected.word is not None
    assert log_odds_change(*expected.word) is not None
    assert [evidence["word"][row] for row in ("base", "changed")] == pytest.approx(
        list(expected.word), rel=1e-5
    )
    told = {row["token_id"]: row["probability"] for row in evidence["answer"]["changed"]}
    assert told == pytest.approx({row.token_id: row.changed for row in expected.answer}, rel=1e-5, abs=1e-12)


def test_from_dog_to_an_exported_finding_on_the_bundled_model(
    app_server: ServeApp, page: Page, tmp_path: Path
) -> None:
    if "demo/base" not in BUNDLED:
        pytest.skip("demo/base is not bundled yet")
    app = app_server(HEADLAMP_MODEL="demo/base")
    journey(page, app, "demo/base", "dog", "My favourite animal is the", tmp_path)


def test_a_pasted_link_opens_the_same_view_on_a_fresh_server(
    app_server: ServeApp,
    new_page: Callable[[], Page],
    tiny_model_folder: Path,  # noqa: F811
) -> None:
    model = str(tiny_model_folder)
    wanted = {"model": model, "clamps": "L1.N3:up:add:-2.5@generated;L0.N1:key:ablate@3-7",
              "prompt": " the dog", "prefix": " a", "word": "cat", "tokens": "7",
              "temperature": "0.5", "seed": "11"}  # fmt: skip
    first, second = new_page(), new_page()
    open_page(first, f"{app_server().url}/clamp?{urlencode(wanted)}")
    first.get_by_role("button", name="Generate").click()
    first.get_by_text("Done in").first.wait_for()
    settled(first).get_by_role("button", name="Share").click()
    shared = first.get_by_test_id("stPopoverBody").get_by_test_id("stCode").inner_text()
    link = urlsplit(shared.replace("\n", ""))
    texts = first.get_by_test_id("stHtml").all_inner_texts()
    open_page(second, f"{app_server().url}{link.path}?{link.query}")
    assert view(second) | wanted == view(second)
    expect(second.get_by_label("Prompt", exact=True)).to_have_value(" the dog")
    second.get_by_role("button", name="Generate").click()
    second.get_by_text("Done in").first.wait_for()
    assert settled(second).get_by_test_id("stHtml").all_inner_texts() == texts


def test_the_very_first_deep_link_of_a_server_shows_no_dialog(
    app_server: ServeApp,
    new_page: Callable[[], Page],
    tiny_model_folder: Path,  # noqa: F811
) -> None:
    page = new_page()
    open_page(page, f"{app_server(HEADLAMP_MODEL=str(tiny_model_folder)).url}/clamp")
    assert page.get_by_text("Page not found").count() == 0


def test_a_hostile_model_is_shown_and_does_nothing(
    app_server: ServeApp,
    page: Page,
    tiny_model_folder: Path,  # noqa: F811
) -> None:
    model = str(tiny_model_folder)
    url = app_server(HEADLAMP_MODEL=model).url
    done: list[str] = []

    def hear_dialog(dialog: Dialog) -> None:
        done.append(dialog.message)
        dialog.dismiss()

    def hear_request(request: HttpRequest) -> None:
        if "//x" in request.url:
            done.append(request.url)

    page.on("dialog", hear_dialog)
    page.on("request", hear_request)
    hostile = '<script>alert(1)</script><img src="http://x/y.png" onerror="alert(2)"> ![a](http://x) $x$'
    asked = {"model": model, "prompt": hostile, "clamps": "L1.N3:key:set:4@all", "word": "![a](http://x)"}
    for path, given in (("/clamp", asked), ("/neurons", {"model": model, "neuron": "L1.N3"})):
        open_page(page, f"{url}{path}?{urlencode(given)}")
        if path == "/clamp":
            page.get_by_role("button", name="Generate").click()
            page.get_by_text("Done in").first.wait_for()
            keep(settled(page), "<script>alert(3)</script> $x$")
            assert "<script>alert(1)</script>" in page.get_by_test_id("stHtml").first.inner_text()
    open_page(page, f"{url}/findings")
    assert page.locator("script", has_text=re.compile("alert")).count() == 0
    assert page.locator("img[src*='//x']").count() == 0
    assert done == []
