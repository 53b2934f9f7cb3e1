"""The models people opened, and the hashes of their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from store.database import Store
from store.documents import Json, checked_json, clean_text, document, now


@dataclass(frozen=True)
class StoredModel:
    """A model as last opened; `fingerprint` hashes its weights, config, tokenizer and chat template."""

    fingerprint: str
    name: str
    revision: str | None
    path: str | None
    facts: dict[str, Any]
    first_opened: str
    last_opened: str


def remember_model(
    store: Store,
    *,
    fingerprint: str,
    name: str,
    revision: str | None,
    path: str | None,
    facts: Mapping[str, Json],
) -> StoredModel:
    """Store, or bring up to date, the model with this fingerprint; `facts` are what pages show of it."""
    moment, seen = now(), {"fingerprint": fingerprint, "name": clean_text(name), "revision": revision}
    seen |= {"path": None if path is None else _storable(path)}
    seen |= {"facts": document(checked_json(dict(facts), "facts")), "last_opened": moment}
    with store.transaction() as db:
        db.table("models").insert(seen | {"first_opened": moment}, ignore=True)
        db.table("models").update(fingerprint, seen)
        return _model(store.rows("SELECT * FROM models WHERE fingerprint = ?", (fingerprint,))[0])


def list_models(store: Store) -> list[StoredModel]:
    """Every model ever opened, the last opened first."""
    return [_model(row) for row in store.rows("SELECT * FROM models ORDER BY last_opened DESC, rowid DESC")]


FileKey: TypeAlias = tuple[str, int, int, int]
"""(path, size in bytes, mtime in ns, inode): while these are unchanged, so is the file."""


class FileHashes(MutableMapping[FileKey, str]):
    """FileKey → SHA-256 of the file, hexadecimal. One entry per path: a changed file replaces its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, key: FileKey) -> str:
        path, size, mtime_ns, inode = key
        rows = self._store.rows(
            "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
            (_storable(path), size, mtime_ns, str(inode)),
        )
        if not rows:
            raise KeyError(key)
        return str(rows[0]["sha256"])

    def __setitem__(self, key: FileKey, sha256: str) -> None:
        path, size, mtime_ns, inode = key
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO files (path, size, mtime_ns, inode, sha256) VALUES (?, ?, ?, ?, ?)",
                (_storable(path), size, mtime_ns, str(inode), sha256),
            )

    def __delitem__(self, key: FileKey) -> None:
        with self._store.transaction() as db:
            self[key]
            db.execute("DELETE FROM files WHERE path = ?", (_storable(key[0]),))

    def __iter__(self) -> Iterator[FileKey]:
        for row in self._store.rows("SELECT * FROM files ORDER BY path"):
            yield row["path"], row["size"], row["mtime_ns"], int(row["inode"])

    def __len__(self) -> int:
        return int(self._store.rows("SELECT count(*) AS n FROM files")[0]["n"])


def _storable(path: str) -> str:
    """`path` with the bytes of a name that is not UTF-8 written out, as `\\udcff`."""
    return path.encode("utf-8", "backslashreplace").decode()


def _model(row: dict[str, Any]) -> StoredModel:
    return StoredModel(**(row | {"facts": json.loads(row["facts"])}))
