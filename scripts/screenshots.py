"""Take the screenshot in the docs; with --all FOLDER, every page in light and dark for review.

    python -m scripts.screenshots [MODEL] [--prompt TEXT] [--word WORD] [--all FOLDER]

The app is started on a free port with a database of its own; existing findings are not touched.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from demo import BUNDLED
from scripts.browser import NONE_FOUND, find_browser
from store import open_store
from tests.browser.helpers import open_page, running_app, settled
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model
from workbench.neurons.searching import find_word

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "screenshot.png"
SIZE = ViewportSize(width=1280, height=900)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TRIED = 8
"""Candidate neurons for the screenshot's clamp, each with both signs."""


@dataclass(frozen=True)
class Scene:
    """The Clamp page in the screenshot: a model, a prompt, a word and the clamp that moves it most."""

    model: str
    prompt: str
    word: str
    clamp: str

    def address(self, page: str, **more: str) -> str:
        """A page's address with this scene in it."""
        return f"{page}?{urlencode({'model': self.model, **more})}"

    @property
    def clamp_page(self) -> str:
        """The Clamp page with everything filled in."""
        return self.address("/clamp", prompt=self.prompt, word=self.word, clamps=self.clamp)


def best_clamp(model: str, prompt: str, word: str, folder: Path) -> str:
    """The clamp at ±16 × max, over neurons that write the word, with the largest P(word)."""
    store = open_store(folder / "search.db")
    with open_model(ModelRef(model), store) as loaded:
        found = find_word(loaded, store, word, site="down", by="z", limit=TRIED).neurons
        changes = {}
        for neuron in found:
            for text in (f"{neuron.address}:key:set:{sign}16x@last" for sign in ("", "-")):
                request = GenerationRequest(prompt, (parse_clamp(text),), sampling=Sampling(1), word=word)
                pair = generate_pair(loaded, store, request).word
                changes[text] = pair[1] if pair else 0.0
    return max(changes, key=lambda text: changes[text])


@contextmanager
def serve_app(model: str, folder: Path) -> Iterator[tuple[str, Browser]]:
    """The app's address and a browser."""
    path = find_browser()
    if path is None:
        raise SystemExit(NONE_FOUND)
    with running_app(ROOT, folder, {"HEADLAMP_MODEL": model}) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield app.url, browser
        browser.close()


def open_pair(page: Page, url: str, scene: Scene) -> Page:
    """The Clamp page with its pair of texts."""
    open_page(page, url + scene.clamp_page)
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("Done in").first.wait_for()
    return settled(page)


def take_picture(scene: Scene, folder: Path) -> None:
    """Take the screenshot of the docs."""
    with serve_app(scene.model, folder) as (url, browser):
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        open_pair(page, url, scene)
        PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=PICTURE)
    print(f"{PICTURE}: {scene.clamp}")


def take_all(scene: Scene, folder: Path, into: Path) -> None:
    """Every page, empty and full, whole length, in both themes."""
    into.mkdir(parents=True, exist_ok=True)
    with serve_app(scene.model, folder) as (url, browser):
        for theme in THEMES:
            page = browser.new_page(viewport=SIZE, color_scheme=theme)
            for name in (name for name in ("findings", "runs", "clamp") if theme == THEMES[0]):
                shoot(open_page(page, url + scene.address(f"/{name}")), into / f"{name}-empty-{theme}.png")
            shoot(open_pair(page, url, scene), into / f"clamp-{theme}.png")
            keep(page)
            pages = {
                "overview": "/",
                "neurons": "/neurons",
                "experts": "/experts",
                "skills": "/skills",
                "unlearn": "/unlearn",
                "findings": "/findings",
                "runs": "/runs",
            }
            for name, path in pages.items():
                shoot(open_page(page, url + scene.address(path)), into / f"{name}-{theme}.png")
            take_details(page, url, scene, into, theme)
            page.close()
    print(f"pictures are in {into}")


def take_details(page: Page, url: str, scene: Scene, into: Path, theme: str) -> None:
    """Shots of a finding that was run again, of a run, and of an invalid clamp."""
    open_page(page, url + scene.address("/findings"))
    page.get_by_role("button", name="Holding").first.click()
    settled(page).get_by_role("button", name="Run again").click()
    page.get_by_text("It still holds").wait_for()
    shoot(settled(page), into / f"finding-{theme}.png")
    open_page(page, url + scene.address("/runs"))
    page.get_by_role("combobox", name="Run", exact=True).click()
    page.get_by_role("option").first.click()
    shoot(settled(page), into / f"run-{theme}.png")
    open_page(
        page, url + scene.address("/clamp", clamps=f"{scene.clamp};L99.N1:ablate;dog", word="qqzz", prompt="")
    )
    page.get_by_role("button", name="Generate").click()
    shoot(settled(page), into / f"clamp-failed-{theme}.png")


def keep(page: Page) -> None:
    """Keep the pair as a finding, so that the notebook is not empty."""
    page.get_by_role("button", name="Keep as a finding").click()
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("link", name="Open the finding you kept").wait_for()
    settled(page)


def shoot(page: Page, file: Path) -> None:
    """The whole page: Streamlit scrolls inside, so the window is enlarged first."""
    height = page.evaluate("() => document.querySelector('[data-testid=stMain]')?.scrollHeight ?? 900")
    page.set_viewport_size({"width": SIZE["width"], "height": max(SIZE["height"], min(int(height), 6000))})
    settled(page)
    page.screenshot(path=file)
    page.set_viewport_size(SIZE)


def main() -> int:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description="Take the picture in the docs again.")
    parser.add_argument("model", nargs="?", default="demo/base" if "demo/base" in BUNDLED else None)
    parser.add_argument("--prompt", default="My favourite animal is the")
    parser.add_argument("--word", default="dog")
    parser.add_argument(
        "--all", type=Path, metavar="FOLDER", help="every page, light and dark, into this folder"
    )
    given = parser.parse_args()
    if given.model is None:
        parser.error("demo/base is not bundled here; name a MODEL")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clamp = best_clamp(given.model, given.prompt, given.word, folder)
        scene = Scene(given.model, given.prompt, given.word, clamp)
        if given.all:
            take_all(scene, folder, given.all)
        else:
            take_picture(scene, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
