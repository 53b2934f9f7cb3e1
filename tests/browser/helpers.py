"""The app in a browser: start it, open a page, wait until it rests."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.patience import SECONDS

HOST = "127.0.0.1"
STOP_SECONDS = 10
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


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_app(
    root: Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    module: str = "scripts.serve",
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
        _wait_until_healthy(server)
        yield server
    finally:
        _stop(process)


def _wait_until_healthy(server: AppServer) -> None:
    deadline = time.monotonic() + SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2).status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the app did not come up at {server.url}:\n{server.log.read_text(errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the app and every process it started, which share its process group."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, ending)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


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
