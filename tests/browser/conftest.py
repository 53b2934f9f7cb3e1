"""A browser that is already installed, the app on a port of its own, and pages that report their errors."""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from scripts.browser import NONE_FOUND, find_browser, on_build_server
from tests.browser.helpers import AppServer, running_app
from tests.patience import MILLISECONDS

HERE = Path(__file__).resolve().parent
VIEWPORT = {"width": 1280, "height": 900}
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUNNING: list[AppServer] = []
expect.set_options(timeout=MILLISECONDS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in this folder, and run them last: quick answers first, and Playwright holds a loop."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")
    items.sort(key=lambda item: item.path.is_relative_to(HERE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of every running app under a test that failed."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {app.url}", app.log.read_text(errors="replace")) for app in RUNNING]
    return report


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The installed Chromium or Chrome with a fresh profile. None: skip, or on a build server fail."""
    path = find_browser()
    if path is None:
        (pytest.fail if on_build_server() else pytest.skip)(NONE_FOUND)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AppServer]:
    """Not for tests: what `app` and `app_server` share."""

    def start(stack: ExitStack, module: str = "headlamp.serving", **environment: str) -> AppServer:
        folder = tmp_path_factory.mktemp("app")
        app = stack.enter_context(running_app(repo_root, folder, environment, module=module))
        RUNNING.append(app)
        stack.callback(RUNNING.remove, app)
        return app

    return start


@pytest.fixture
def app_server(serve: Callable[..., AppServer]) -> Iterator[Callable[..., AppServer]]:
    """`app_server(HEADLAMP_MODEL="demo/moe")` starts an app for this test, with a database of its own."""
    with ExitStack() as stack:
        yield lambda *module, **environment: serve(stack, *module, **environment)


@pytest.fixture(scope="session")
def app(serve: Callable[..., AppServer]) -> Iterator[AppServer]:
    """One app with the default model and one database, shared by the tests that need no other."""
    with ExitStack() as stack:
        yield serve(stack)


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """`new_page(color_scheme="dark")`: a window without history; its errors fail the test at its end."""
    errors: list[str] = []
    with ExitStack() as stack:

        def open_window(**options: object) -> Page:
            settings = {"viewport": VIEWPORT, "accept_downloads": True, **options}
            context = chromium.new_context(**settings)  # type: ignore[arg-type]
            stack.callback(context.close)
            context.set_default_timeout(MILLISECONDS)
            context.on("weberror", lambda error: errors.append(f"uncaught in the page: {error.error}"))
            context.on("console", lambda message: errors.extend(_complaint(message)))
            return context.new_page()

        yield open_window
    assert not errors, "the browser reported errors:\n" + "\n".join(errors)


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A window of 1280 × 900, in the light theme."""
    return new_page(color_scheme="light")


def _complaint(message: ConsoleMessage) -> list[str]:
    """The console's errors that come from the app: its own scripts, and what it failed to serve.

    On a deep link Streamlit looks for its own addresses below the page first; missing there is no error.
    """
    if re.search(r"/\w+/_stcore/(health|host-config)$", message.location["url"]):
        return []
    ours = re.match(r"https?://(127\.0\.0\.1|localhost)[:/]|$", message.location["url"])
    return (
        [f"in the console: {message.text} ({message.location['url']})"]
        if message.type == "error" and ours
        else []
    )
