"""Findings: entries with frozen evidence, searchable by any word."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from store.database import Store
from store.documents import Json, check_json, clean_text, now, write_json
from store.errors import DatabaseCorrupt, FindingNotFound, UnstorableValue
from store.reserve import delete_with_room
from store.row_decoding import ReadableRows, decode_row, read_readable

ID_DIGITS = 32
"""Hexadecimal digits of an id (a random UUID)."""

SHORTEST_PREFIX = 6
"""Shortest accepted prefix of an id, if it is unique."""

SEARCH_WORDS = 50
"""Largest number of words in a search."""

WEIGHTS = "8.0, 4.0, 4.0, 1.0"
"""Ranking weights of a hit in title, note, tags and evidence."""


@dataclass(frozen=True)
class Finding:
    """One entry of the notebook. Its evidence (run key, recipe, outputs, versions, seed) never changes."""

    id: str
    title: str
    note: str
    tags: tuple[str, ...]
    model_name: str
    model_fingerprint: str
    kind: str
    evidence: dict[str, Any]
    created_at: str
    updated_at: str


def keep_finding(
    store: Store,
    *,
    title: str,
    note: str = "",
    tags: Iterable[str] = (),
    kind: str,
    model_name: str,
    model_fingerprint: str,
    evidence: Mapping[str, Json],
) -> Finding:
    """Keep a finding under a new id; UnstorableValue: a blank title, evidence that is not strict JSON."""
    words = _title(title), clean_text(note), clean_tags(tags)
    about = clean_text(model_name), model_fingerprint, kind
    frozen, moment = check_json(dict(evidence), "evidence"), now()
    finding = Finding(uuid.uuid4().hex, *words, *about, frozen, moment, moment)
    insert_findings(store, [finding])
    return finding


def insert_findings(store: Store, findings: Sequence[Finding]) -> int:
    """Store whole findings, all or none; returns how many were new (existing ids stay unchanged)."""
    added = 0
    columns = [column.name for column in fields(Finding)]
    marks = ", ".join("?" * len(columns))
    sql = f"INSERT INTO findings ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
    with store.transaction() as db:
        for finding in findings:
            row = vars(finding) | {"tags": write_json(finding.tags), "evidence": write_json(finding.evidence)}
            added += db.execute(sql, [row[name] for name in columns]).rowcount
    return added


def get_finding(store: Store, finding_id: str) -> Finding:
    """The finding with this id, or the only one with this prefix of at least 6 digits.

    FindingNotFound, DatabaseCorrupt.
    """
    return _finding(store.rows("SELECT * FROM findings WHERE seq = ?", (_seq(store, finding_id),))[0])


def _seq(store: Store, finding_id: str) -> int:
    """The row number of the only finding with this id prefix, whatever else the row holds."""
    wanted = finding_id.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},{ID_DIGITS}}}", wanted):
        raise FindingNotFound(
            f"{finding_id[:40]!r} is not the id of a finding: write its {ID_DIGITS} hexadecimal digits, "
            f"or at least the first {SHORTEST_PREFIX}"
        )
    # "g" sorts after every hexadecimal digit, so the range is exactly the ids with this prefix
    rows = store.rows("SELECT seq FROM findings WHERE id >= ? AND id < ? LIMIT 2", (wanted, wanted + "g"))
    if not rows:
        raise FindingNotFound(
            f"no finding {wanted} in {store.path}; `python -m workbench findings list` shows all"
        )
    if len(rows) > 1:
        raise FindingNotFound(f"several findings begin with {wanted}; write more of the id")
    seq = rows[0]["seq"]
    if type(seq) is not int:
        raise DatabaseCorrupt(f"finding {wanted} has no row number; run `python -m workbench repair`")
    return seq


def list_findings(
    store: Store, *, search: str = "", tag: str | None = None, limit: int = 500
) -> ReadableRows[Finding]:
    """At most `limit` findings: newest first, or best match first where `search` holds words.

    Rows that cannot be read are left out, and named in `unreadable`.

    search: words that all occur in title, note, tags or evidence, the last one as a prefix; any text is
    allowed. tag: only findings with exactly this tag.
    """
    tables, where, order, given = "findings", ["1"], "created_at DESC, seq DESC", list[str | int]()
    if search.strip():
        tables = "findings JOIN findings_fts ON findings_fts.rowid = findings.seq"
        where, order = ["findings_fts MATCH ?"], f"bm25(findings_fts, {WEIGHTS}), {order}"
        given.append(match_expression(search))
    if tag is not None:
        where.append(f"EXISTS (SELECT 1 FROM json_each({_TAGS}) WHERE value = ?)")
        given.append(_tag(tag))
    sql = f"SELECT findings.* FROM {tables} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?"
    return read_readable("findings", store.rows(sql, (*given, limit)), _finding)


def update_finding(
    store: Store,
    finding_id: str,
    *,
    title: str | None = None,
    note: str | None = None,
    tags: Iterable[str] | None = None,
) -> Finding:
    """Change the given ones of title, note and tags; FindingNotFound, UnstorableValue (a blank title)."""
    changes = {"updated_at": now()}
    if title is not None:
        changes["title"] = _title(title)
    if note is not None:
        changes["note"] = clean_text(note)
    if tags is not None:
        changes["tags"] = write_json(clean_tags(tags))
    with store.transaction() as db:
        found = get_finding(store, finding_id)
        settings = ", ".join(f"{name} = ?" for name in changes)
        db.execute(f"UPDATE findings SET {settings} WHERE id = ?", [*changes.values(), found.id])
        return get_finding(store, found.id)


def delete_finding(store: Store, finding_id: str) -> None:
    """Delete one finding, also one that cannot be read; works on a full disk. FindingNotFound."""

    def delete() -> None:
        with store.transaction() as db:
            db.execute("DELETE FROM findings WHERE seq = ?", (_seq(store, finding_id),))

    delete_with_room(store, delete)


def all_tags(store: Store) -> dict[str, int]:
    """Every tag in use, in alphabetical order → its number of findings."""
    rows = store.rows(
        f"SELECT value AS tag, count(*) AS n FROM findings, json_each({_TAGS}) GROUP BY tag ORDER BY tag"
    )
    return {row["tag"]: row["n"] for row in rows if isinstance(row["tag"], str)}


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags with white space collapsed, without blanks and duplicates, in the given order."""
    if isinstance(tags, str):
        raise UnstorableValue(f"tags {tags[:40]!r} is one text; pass a list of tags")
    return tuple(dict.fromkeys(tag for tag in map(_tag, tags) if tag))


def match_expression(search: str) -> str:
    """`search` as an FTS5 expression: each word quoted, so that nothing in it is an operator.

    No AND between them: FTS5 then ignores words of punctuation only, instead of matching nothing.
    """
    words = clean_text(search).replace("\0", " ").split()[:SEARCH_WORDS]
    quoted = ['"' + word.replace('"', '""') + '"' for word in words]
    return " ".join(quoted) + " *" if quoted else '""'


def _tag(tag: str) -> str:
    return " ".join(clean_text(tag).replace("\0", " ").split())


def _title(title: str) -> str:
    if not title.strip():
        raise UnstorableValue("a finding needs a title: say in a few words what was found")
    return clean_text(title)


_TAGS = "CASE WHEN json_valid(findings.tags) THEN findings.tags ELSE '[]' END"
"""A finding's tags for SQLite's JSON functions, none if they are not JSON: one bad row hides no other."""


def _finding(row: Mapping[str, Any]) -> Finding:
    found = decode_row("findings", row)
    return Finding(**{column.name: found[column.name] for column in fields(Finding)})
