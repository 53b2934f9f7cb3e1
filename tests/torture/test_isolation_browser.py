"""People in browsers of their own on one app, half of them clamping: everybody reads their own text.

The texts of a round are held until all of them grow, so that they grow at once on any machine, quick or busy.
Greedy texts do not depend on the seed, but a run's key does: with a seed of its own, every text is
generated anew and must come out as the one that this process generates with nobody else at work.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from scripts.browser import NONE_FOUND, find_browser, on_build_server
from store import open_store
from tests.browser.conftest import ARGUMENTS, VIEWPORT
from tests.browser.helpers import open_page, running_app, settled
from tests.patience import MILLISECONDS
from tests.torture.counts import count
from workbench.generating.clamping import regenerate_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model

pytestmark = pytest.mark.browser
PEOPLE = count(quick=4, full=8)
ROUNDS = count(quick=2, full=25)
LEAVES_EVERY = 5
"""In the first of so many rounds one page is closed while its text grows."""
TOKENS = 80
PROMPTS = [" the dog", " my cat", " the cat is", " my dog is", " a dog", " the", " my", " is the cat"]


@dataclass(frozen=True)
class Asked:
    """What one person asks for, and what both places must show then."""

    link: str
    base: str
    changed: str


def asked_by(person: int, model: Path, url: str) -> Asked:
    """A person's link, and the texts that are generated here for it."""
    clamps = [f"L{person % 4 // 2}.N{person}:key:set:8@all"] if person % 2 else []
    link = {"model": str(model), "prompt": PROMPTS[person], "tokens": str(TOKENS), "clamps": ";".join(clamps)}
    request = GenerationRequest(PROMPTS[person], tuple(map(parse_clamp, clamps)), sampling=Sampling(TOKENS))
    store = open_store()
    with open_model(ModelRef(str(model)), store) as loaded:
        text = regenerate_pair(loaded, store, request)
    assert (text.changed_ids != text.base_ids) == bool(clamps)
    assert len(text.base_ids) == TOKENS
    shown = (PROMPTS[person] + "".join(tokens) for tokens in (text.base_tokens, text.changed_tokens))
    return Asked(f"{url}/clamp?{urlencode(link)}", *shown)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of this thread's own. None is installed: skip, or on a build server fail."""
    path = find_browser()
    if path is None:
        (pytest.fail if on_build_server() else pytest.skip)(NONE_FOUND)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


class Crowd:
    """Everybody's pages, and how it went."""

    def __init__(self, chromium: Browser, asked: list[Asked], hold: Path) -> None:
        self._chromium, self.asked, self._hold = chromium, asked, hold
        self.pages = [self._page(person) for person in range(PEOPLE)]
        self.read, self.left = 0, 0
        self.wrong: list[tuple[int, str, str]] = []

    def _page(self, person: int) -> Page:
        page = self._chromium.new_context(viewport=VIEWPORT).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(MILLISECONDS)
        return open_page(page, self.asked[person].link)

    def write(self, seed: int, *, one_leaves: bool) -> None:
        """Everybody generates at once; who leaves comes back with a page of their own for the next round."""
        self._hold.touch()
        for page in self.pages:
            generate(page, seed)
        for page in self.pages:
            page.get_by_role("button", name="Stop").wait_for()
        leaver = PEOPLE - 1 if one_leaves else None
        if leaver is not None:
            self.pages[leaver].context.close()
            self.left += 1
        self._hold.unlink()
        for person, page in enumerate(self.pages):
            if person != leaver:
                page.get_by_text(f"seed {seed} · greedy").wait_for()
                self._compare(person, settled(page))
        if leaver is not None:
            self.pages[leaver] = self._page(leaver)

    def _compare(self, person: int, page: Page) -> None:
        base, changed = (page.get_by_test_id("stHtml").nth(place).text_content() or "" for place in (0, 1))
        self.read += 1
        for shown, expected in ((base, self.asked[person].base), (changed, self.asked[person].changed)):
            if shown != expected:
                self.wrong.append((person, shown, expected))


def generate(page: Page, seed: int) -> None:
    """Press the button, with this seed."""
    field = page.get_by_label("Seed", exact=True)
    if not field.is_visible():
        page.get_by_text("Settings", exact=True).click()
    field.fill(str(seed))
    page.get_by_role("button", name="Generate").click()


def everybody_writes(asked: list[Asked], hold: Path) -> Crowd:
    """All rounds, in a thread without another test's Playwright."""
    with browser() as chromium:
        crowd = Crowd(chromium, asked, hold)
        for number in range(ROUNDS):
            crowd.write(seed=number + 1, one_leaves=number % LEAVES_EVERY == 0)
        return crowd


def test_eight_people_at_once_read_the_texts_that_each_would_read_alone(
    llama: Callable[..., Path], repo_root: Path, tmp_path: Path
) -> None:
    model = llama("model", seed=8, num_hidden_layers=6, max_position_embeddings=128)
    hold = tmp_path / "hold"
    served = running_app(repo_root, tmp_path, {"HOLD": str(hold)}, module="tests.browser.held_server")
    started = time.monotonic()
    with served as app, ThreadPoolExecutor(1) as thread:
        asked = [asked_by(person, model, app.url) for person in range(PEOPLE)]
        crowd = thread.submit(everybody_writes, asked, hold).result()
    print(
        f"\n{PEOPLE} pages, half of them clamping, {ROUNDS} rounds: {crowd.read} pairs of texts read, "
        f"{len(crowd.wrong)} of the texts wrong, {crowd.left} pages closed in mid-text; "
        f"{time.monotonic() - started:.0f} s"
    )
    assert crowd.wrong == []
    assert crowd.read == PEOPLE * ROUNDS - crowd.left
    assert crowd.left == len(range(0, ROUNDS, LEAVES_EVERY))
