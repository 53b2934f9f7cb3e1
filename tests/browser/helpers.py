"""The app in a browser: start it, open a page, wait until it rests."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from scripts.servers import HOST, free_port, stop, wait_until_healthy
from tests.patience import SECONDS

QUIET_MS = 400

# True once Streamlit is connected, runs no script and shows nothing left over from the run before;
# it must hold for QUIET_MS, since a click reaches the server a moment after it is made.
BUSY_SIGNS = '[data-testid="stSkeleton"], [data-testid="stSpinner"], [data-stale="true"]'
RESTS = """([quiet, busySigns]) => {
    const app = document.querySelector('[data-testid="stApp"]');
    const busy = !app
        || app.dataset.testConnectionState !== 'CONNECTED'
        || app.dataset.testScriptState !== 'notRunning'
        || document.querySelector(busySigns);
    if (busy) { window.headlampRestsSince = undefined; return false; }
    window.headlampRestsSince ??= performance.now();
    return performance.now() - window.headlampRestsSince >= quiet;
}"""


@dataclass(frozen=True)
class AppServer:
    """A running app: its address without a slash at the end, its database and its log."""

    url: str
    database: Path
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running_app(
    root: Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    module: str = "headlamp.serving",
) -> Iterator[AppServer]:
    """The app under root, served on a free port with its database and log in folder; ended on leaving.

    Raises RuntimeError with the log where the app does not come up.
    """
    port, log = free_port(), folder / "app.log"
    settings = {**os.environ, "HEADLAMP_DB": str(folder / "headlamp.db"), **(environment or {})}
    command = [sys.executable, "-m", module, str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = AppServer(f"http://{HOST}:{port}", Path(settings["HEADLAMP_DB"]), log, process)
    try:
        _wait(process, port, log)
        yield server
    finally:
        stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    try:
        wait_until_healthy(process, port, seconds=SECONDS)
    except RuntimeError as error:
        raise RuntimeError(f"{error}:\n{log.read_text(errors='replace')}") from error


def view(page: Page) -> dict[str, str]:
    """The parameters in the browser's address."""
    return {key: value for key, [value] in parse_qs(urlsplit(page.url).query).items()}


def settled(page: Page) -> Page:
    """Wait until the app rests, and check that no error reached the reader unhandled."""
    page.evaluate("() => { window.headlampRestsSince = undefined; }")
    page.wait_for_function(RESTS, arg=[QUIET_MS, BUSY_SIGNS])
    expect(page.get_by_test_id("stException")).to_have_count(0)
    return page


def open_page(page: Page, url: str) -> Page:
    """Go to the address and wait until the app rests."""
    page.goto(url)
    return settled(page)
