"""Serve the app on 127.0.0.1: `python -m scripts.serve 8501`, what `make app` runs.

Streamlit, seeing a folder named pages beside app.py, would take it for its first way of making pages and
tell the first visitor of a deep link "Page not found", until app.py has said otherwise. Here it is told
beforehand.
"""

import sys
from pathlib import Path

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web import cli

from scripts.check_port import HOST, problem

APP = Path(__file__).resolve().parent.parent / "app.py"


def main(arguments: list[str]) -> int:
    """Check the port, then serve until interrupted. 2 with one sentence on stderr where it cannot be had."""
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
