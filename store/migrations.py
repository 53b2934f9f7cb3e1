"""The schema, as an ordered list of migrations that are never edited once released: add new ones below.

sqlite-utils commits each change together with its record, or neither. `Store` applies them inside one
`BEGIN IMMEDIATE`, so two processes that open a new file at once do not both build it, and a failure
leaves the file as it was.
"""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from store.errors import DatabaseForeign, DatabaseFromNewerVersion

SCHEMA = Migrations("headlamp")

_RUNS = """
CREATE TABLE models (
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, revision TEXT, path TEXT,
    facts TEXT NOT NULL, first_opened TEXT NOT NULL, last_opened TEXT NOT NULL
);
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode TEXT NOT NULL,  -- text: some file systems number beyond SQLite's signed 64 bits
    sha256 TEXT NOT NULL
);
CREATE TABLE runs (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, method_version TEXT NOT NULL,
    model_fingerprint TEXT NOT NULL, model_name TEXT NOT NULL, dtype TEXT NOT NULL, device TEXT NOT NULL,
    parameters TEXT NOT NULL, versions TEXT NOT NULL, seed INTEGER, units INTEGER NOT NULL,
    created_at TEXT NOT NULL, finished_at TEXT, seconds REAL NOT NULL DEFAULT 0
);
CREATE INDEX runs_created ON runs (created_at);
CREATE INDEX runs_kind ON runs (kind, created_at);
CREATE INDEX runs_model ON runs (model_fingerprint, created_at);
CREATE TABLE units (
    run_key TEXT NOT NULL REFERENCES runs (key) ON DELETE CASCADE, idx INTEGER NOT NULL,
    name TEXT NOT NULL, seconds REAL NOT NULL, created_at TEXT NOT NULL,
    bytes INTEGER NOT NULL,  -- payload and arrays together, so that sizes are read without them
    payload TEXT, PRIMARY KEY (run_key, idx)
);
CREATE TABLE arrays (
    run_key TEXT NOT NULL, unit_idx INTEGER NOT NULL, name TEXT NOT NULL,
    dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (run_key, unit_idx, name),
    FOREIGN KEY (run_key, unit_idx) REFERENCES units (run_key, idx) ON DELETE CASCADE
);
"""

# `seq` is declared because VACUUM may renumber an undeclared rowid, and the index points at it.
# Symbols (So) count as letters, so that an emoji can be searched for.
_FINDINGS = """
CREATE TABLE findings (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, note TEXT NOT NULL,
    tags TEXT NOT NULL, model_name TEXT NOT NULL, model_fingerprint TEXT NOT NULL, kind TEXT NOT NULL,
    evidence TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE INDEX findings_created ON findings (created_at);
CREATE VIRTUAL TABLE findings_fts USING fts5 (
    title, note, tags, evidence, tokenize = "unicode61 remove_diacritics 2 categories 'L* N* Co So'"
);
CREATE TRIGGER findings_added AFTER INSERT ON findings BEGIN
    INSERT INTO findings_fts (rowid, title, note, tags, evidence) VALUES (
        new.seq, new.title, new.note,
        (SELECT group_concat(value, ' ') FROM json_each(new.tags)),
        (SELECT group_concat(atom, ' ') FROM json_tree(new.evidence) WHERE type = 'text')
    );
END;
CREATE TRIGGER findings_edited AFTER UPDATE OF title, note, tags ON findings BEGIN
    UPDATE findings_fts SET title = new.title, note = new.note,
        tags = (SELECT group_concat(value, ' ') FROM json_each(new.tags)) WHERE rowid = old.seq;
END;
CREATE TRIGGER findings_deleted AFTER DELETE ON findings BEGIN
    DELETE FROM findings_fts WHERE rowid = old.seq;
END;
CREATE TRIGGER findings_frozen
BEFORE UPDATE OF seq, id, model_name, model_fingerprint, kind, evidence, created_at ON findings BEGIN
    SELECT RAISE(ABORT, 'the evidence of a finding never changes');
END;
"""


def first_schema(db: Database) -> None:
    """Models, file hashes, runs with their units and arrays, findings with their full-text index."""
    db.executescript(_RUNS + _FINDINGS)


SCHEMA(name="0001_first_schema")(first_schema)

# AUTOINCREMENT, so that the number of a deleted job is never reused. No reference from run_key
# to runs: a job is a record of what was done, also when its run is deleted.
_JOBS = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
    "order" TEXT NOT NULL, run_key TEXT,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL, unit TEXT NOT NULL,
    began_with INTEGER NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0, failure TEXT,
    owner_host TEXT NOT NULL, owner_pid INTEGER NOT NULL, owner_started REAL NOT NULL,
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, beat_at TEXT NOT NULL
);
CREATE UNIQUE INDEX jobs_one_active ON jobs (key) WHERE state IN ('queued', 'running');
"""


def jobs(db: Database) -> None:
    """Jobs, of which at most one per key is active."""
    db.executescript(_JOBS)


SCHEMA(name="0002_jobs")(jobs)


def checksums(db: Database) -> None:
    """CRC-32 of arrays and payloads; NULL for those stored before, whose original bytes are unknown."""
    db.executescript(
        "ALTER TABLE arrays ADD COLUMN crc32 INTEGER; ALTER TABLE units ADD COLUMN payload_crc32 INTEGER;"
    )


SCHEMA(name="0003_checksums")(checksums)


def anatomies(db: Database) -> None:
    """Anatomies proven before, so that opening a model again need not prove them; none is user data."""
    db.executescript("CREATE TABLE anatomies (key TEXT PRIMARY KEY, document TEXT NOT NULL);")


SCHEMA(name="0004_anatomies")(anatomies)


def check_schema(db: Database, path: Path, schema: Migrations = SCHEMA) -> None:
    """Check, without writing, that `db` is empty or ours and no newer than `schema`; raises otherwise."""
    applied = [migration.name for migration in schema.applied(db)]
    if not applied and db.table_names():
        raise DatabaseForeign(
            f"{path} holds another program's tables ({', '.join(db.table_names()[:3])}); "
            "it was not changed: set HEADLAMP_DB to another file"
        )
    known = _names(schema)
    if not set(applied) <= set(known):
        raise DatabaseFromNewerVersion(
            f"{path} has schema {applied[-1]}; this Headlamp knows schemas up to {known[-1]}. "
            "Update Headlamp, or set HEADLAMP_DB to another file."
        )


def _names(schema: Migrations) -> list[str]:
    empty = Database(memory=True)
    try:
        return [migration.name for migration in schema.pending(empty)]  # to an empty file, all are pending
    finally:
        empty.close()
