"""Find a Chromium or Chrome for the browser tests; as root on Debian or Ubuntu, install Chromium.

HEADLAMP_BROWSER names one. Downloads only through apt. If none is found the browser tests are
skipped; on a build server (CI set) that is a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
VERSION_SECONDS = 30
NONE_FOUND = (
    "no Chromium or Chrome was found. Install one (Debian: apt install chromium), "
    "or name one with HEADLAMP_BROWSER=/path/to/chrome"
)


def on_build_server() -> bool:
    """Whether CI is set to a true value."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false", "no"}


def starts(browser: str) -> bool:
    """Whether the program reports its version: Ubuntu's chromium may be a stub that only names a snap."""
    try:
        call = subprocess.run(
            [browser, "--version"], capture_output=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return call.returncode == 0


def find_browser() -> str | None:
    """The path of an installed browser that starts, or None."""
    named = os.environ.get("HEADLAMP_BROWSER")
    on_path = [path for path in map(shutil.which, NAMES) if path]
    candidates = [named] if named else [*on_path, *MACOS_APPS]
    return next((path for path in candidates if Path(path).exists() and starts(path)), None)


def may_install() -> bool:
    """Whether this is root on a system with apt-get, with no browser named."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and shutil.which("apt-get") is not None and not os.environ.get("HEADLAMP_BROWSER")


def install() -> None:
    """Install Chromium through apt-get, refreshing its package lists only if the first try fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    chromium = ["apt-get", "install", "-y", "chromium"]
    for command in (chromium, ["apt-get", "update"], chromium):
        call = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
        if command is chromium and call.returncode == 0:
            return


def main() -> int:
    """Find or install a browser, and report what the tests will do."""
    if find_browser() is None and may_install():
        print("No Chromium or Chrome was found: installing chromium with apt-get.", flush=True)
        install()
    browser = find_browser()
    if browser:
        print(f"Browser for the tests: {browser}")
        return 0
    fate = (
        "On a build server that is a failure." if on_build_server() else "The browser tests will be skipped."
    )
    print(f"Browser tests: {NONE_FOUND}. {fate}", file=sys.stderr)
    return 1 if on_build_server() else 0


if __name__ == "__main__":
    sys.exit(main())
