"""`repair`: recover what can still be read of a damaged database."""

from __future__ import annotations

import sys

from store import default_path
from store import repair_database as repair_database
from workbench.cli.shared.options import AsJson, Db
from workbench.cli.shared.output import Output
from workbench.cli.shared.session import expand_home


def repair(*, db: Db = None, as_json: AsJson = False) -> None:
    """Move what can be read of a damaged database into a new one.

    The old file is renamed, never overwritten. Stop the app first.
    """
    done = repair_database(default_path() if db is None else expand_home(db))
    lost = {name: count for name, count in done.lost.items() if count != 0}
    document = {
        "database": str(done.path),
        "damaged": str(done.damaged),
        "read": dict(done.read),
        "lost": dict(done.lost),
    }
    saved = ", ".join(f"{count} {name}" for name, count in done.read.items())
    missing = ", ".join(f"{'some' if count is None else count} {name}" for name, count in lost.items())
    text = (
        f"{done.path}: {saved} saved. Lost: {missing or 'nothing'}. The damaged file is kept as "
        f"{done.damaged}"
    )
    Output(sys.stdout, as_json).show(document, text)
