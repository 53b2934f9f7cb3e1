"""docs/architecture.md tells of the tables that a database has."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from store import open_store


def test_every_table_is_told_of_and_no_other(repo_root: Path, tmp_path: Path) -> None:
    open_store(tmp_path / "new.db").close()
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        rows = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        there = {name for (name,) in rows if not re.search(r"^_?sqlite_|_fts", name)}
    text = (repo_root / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)` \| ", text.split("| table |")[1], re.M))
    assert told == there
