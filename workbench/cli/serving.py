"""`app`: start the app."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.shared.options import Db
from workbench.cli.shared.session import expand_home

HOUSE = Path(__file__).resolve().parents[2]
"""The folder with app.py."""


def serve_app(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="The model that is open at first: a bundled name, a local folder or .gguf file, a Hub id.",
            show_default="HEADLAMP_MODEL, else demo/base",
        ),
    ] = "",
    *,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port on 127.0.0.1.")] = 8501,
    db: Db = None,
) -> None:
    """Start the app on this machine.

    Open http://127.0.0.1:8501 in a browser; Ctrl-C ends it.
    """
    environment = dict(os.environ)
    if model:
        environment["HEADLAMP_MODEL"] = model
    if db is not None:
        environment["HEADLAMP_DB"] = str(expand_home(db).resolve())
    paths = [str(find_package(HOUSE)), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.execve(sys.executable, [sys.executable, "-P", "-m", "headlamp.serving", str(port)], environment)


def find_package(house: Path) -> Path:
    """The folder that holds the package headlamp: the clone, or what the wheel was installed into."""
    return house if (house / "headlamp").is_dir() else house.parents[1]
