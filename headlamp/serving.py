"""Serve the app on 127.0.0.1: `python -m headlamp.serving 8501`, what `make app` and `headlamp app` run.

Streamlit would take the folder pages beside app.py for its older page discovery and show the first visitor
of a deep link "Page not found" until app.py has run. Here that is disabled beforehand.
"""

import sys

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web import cli

from headlamp.locating import HOUSE
from headlamp.ports import HOST, problem


def main(arguments: list[str]) -> int:
    """Check the port, then serve until interrupted. Returns 2, with one sentence on stderr, if the port is
    unavailable.
    """
    port = arguments[0] if arguments else "8501"
    message = problem(port)
    if message:
        print(message, file=sys.stderr)
        return 2
    PagesManager.uses_pages_directory = False
    options = ["--server.address", HOST, "--server.port", port]
    cli.main(["run", str(HOUSE / "app.py"), *options], standalone_mode=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
