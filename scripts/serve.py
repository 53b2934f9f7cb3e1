"""Serve the app on 127.0.0.1: `python -m scripts.serve 8501`, what `make app` runs.

Streamlit would take the folder pages beside app.py for its older page discovery and show the first visitor
of a deep link "Page not found" until app.py has run. Here that is disabled beforehand.
"""

import sys
from pathlib import Path

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web import cli

from scripts.check_port import HOST, problem

APP = Path(__file__).resolve().parent.parent / "app.py"


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
    cli.main(["run", str(APP), *options], standalone_mode=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
