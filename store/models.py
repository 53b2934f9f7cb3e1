"""Models opened before, the hashes of their files, and their proven anatomies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from store.database import Store
from store.documents import Json, check_json, clean_text, now, write_json
from store.errors import DatabaseCorrupt
from store.row_decoding import ReadableRows, decode_row, read_readable


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
    """Store or update the model with this fingerprint; `facts` are what pages show of it."""
    moment, seen = now(), {"fingerprint": fingerprint, "name": clean_text(name), "revision": revision}
    seen |= {"path": None if path is None else _storable(path)}
    seen |= {"facts": write_json(check_json(dict(facts), "facts")), "last_opened": moment}
    with store.transaction() as db:
        db.table("models").insert(seen | {"first_opened": moment}, ignore=True)
        db.table("models").update(fingerprint, seen)
        return _model(store.rows("SELECT * FROM models WHERE fingerprint = ?", (fingerprint,))[0])


def list_models(store: Store) -> ReadableRows[StoredModel]:
    """Every model ever opened, most recent first.

    Rows that cannot be read are left out, and named in `unreadable`.
    """
    rows = store.rows("SELECT * FROM models ORDER BY last_opened DESC, rowid DESC")
    return read_readable("models", rows, _model)


FileKey: TypeAlias = tuple[str, int, int, int]
"""(path, size in bytes, mtime in ns, inode): while these are unchanged, so is the file."""


class FileHashes(MutableMapping[FileKey, str]):
    """FileKey → SHA-256 of the file, hexadecimal. One entry per path: a changed file replaces its own.

    A corrupt entry counts as absent, so that the file is read again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, key: FileKey) -> str:
        path, size, mtime_ns, inode = key
        rows = self._store.rows(
            "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
            (_storable(path), size, mtime_ns, str(inode)),
        )
        try:
            return str(decode_row("files", rows[0])["sha256"])
        except (IndexError, DatabaseCorrupt):
            raise KeyError(key) from None

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
        rows = self._store.rows("SELECT * FROM files ORDER BY path")
        yield from read_readable("files", rows, _file_key)

    def __len__(self) -> int:
        return len(list(iter(self)))


class ProvenAnatomies:
    """Documents of anatomies proven before, by a key of all that the proof depends on.

    A corrupt entry counts as absent, so that the anatomy is proven again; one that cannot be stored also is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> dict[str, Any] | None:
        """The document kept under a key, if any."""
        rows = self._store.rows("SELECT * FROM anatomies WHERE key = ?", (key,))
        try:
            document: dict[str, Any] = decode_row("anatomies", rows[0])["document"]
        except (IndexError, DatabaseCorrupt):
            return None
        return document

    def keep(self, key: str, document: Mapping[str, Json]) -> None:
        """Keep a document under a key."""
        text = write_json(check_json(dict(document), "anatomy"))
        with self._store.transaction() as db:
            db.execute("INSERT OR REPLACE INTO anatomies (key, document) VALUES (?, ?)", (key, text))


def _storable(path: str) -> str:
    """`path` with non-UTF-8 bytes escaped, as `\\udcff`."""
    return path.encode("utf-8", "backslashreplace").decode()


def _model(row: Mapping[str, Any]) -> StoredModel:
    return StoredModel(**decode_row("models", row))


def _file_key(row: Mapping[str, Any]) -> FileKey:
    """The key of a row of `files`; DatabaseCorrupt."""
    found = decode_row("files", row)
    return found["path"], found["size"], found["mtime_ns"], found["inode"]
