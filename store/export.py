"""Export of findings as JSON (complete, re-importable) and CSV; Markdown and HTML have their own modules."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from store.csv_cells import write_csv
from store.database import Store
from store.documents import check_json, clean_text, read_typed, utc
from store.errors import BadImport, StoreError
from store.evidence import read_evidence
from store.findings import ID_DIGITS, Finding, clean_tags, insert_findings
from store.report_html import write_findings_html
from store.report_markdown import write_findings_markdown

__all__ = [
    "ImportResult",
    "import_findings",
    "read_findings",
    "write_findings_csv",
    "write_findings_html",
    "write_findings_json",
    "write_findings_markdown",
]

FORMAT = 1
"""The version of the JSON export, the value of its `headlamp_findings`."""

CSV_COLUMNS = (
    *("id", "title", "note", "tags", "model", "fingerprint", "kind", "created_at"),
    *("prompt", "recipe clamps", "base text", "changed text"),
    *("word", "p base", "p changed", "run key", "seed"),
)

KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""Allowed form of an imported finding's kind: one short plain word."""


@dataclass(frozen=True)
class ImportResult:
    """How many findings an import added, and how many already existed and stayed unchanged."""

    added: int
    already_there: int


def write_findings_json(findings: Iterable[Finding]) -> str:
    """The findings with their full evidence, as ASCII JSON that `import_findings` reads back."""
    whole = {"headlamp_findings": FORMAT, "findings": [vars(finding) for finding in findings]}
    return json.dumps(whole, indent=1, allow_nan=False)


def write_findings_csv(findings: Iterable[Finding]) -> str:
    """One row per finding under CSV_COLUMNS; text that a spreadsheet would run as a formula begins with '."""
    lines = io.StringIO()
    write_csv(lines, CSV_COLUMNS, map(_row, findings))
    return lines.getvalue()


def import_findings(store: Store, text: str) -> ImportResult:
    """Add the findings of a JSON export, all or none; existing ids stay unchanged.

    BadImport: the text is not such an export, is of a newer version, or one of its findings is malformed.
    """
    findings = read_findings(text)
    added = insert_findings(store, findings)
    return ImportResult(added, len(findings) - added)


def read_findings(text: str) -> list[Finding]:
    """The findings of a JSON export, not stored. BadImport as `import_findings`."""
    return [_read_import(entry, place) for place, entry in enumerate(_entries(text), start=1)]


def _row(finding: Finding) -> list[str | float | None]:
    shown = read_evidence(finding.evidence)
    return [
        *(finding.id, finding.title, finding.note, ", ".join(finding.tags)),
        *(finding.model_name, finding.model_fingerprint, finding.kind, finding.created_at),
        *(shown.prompt, " ".join(shown.clamps), shown.base_text, shown.changed_text),
        *(shown.word, shown.word_base, shown.word_changed, shown.run_key, shown.seed),
    ]


def _entries(text: str) -> list[Any]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadImport(f"not JSON ({error}); choose a file made by Export → JSON") from error
    if not isinstance(whole, dict) or "headlamp_findings" not in whole:
        raise BadImport("no `headlamp_findings` in it; choose a file made by Export → JSON")
    version, entries = whole["headlamp_findings"], whole.get("findings")
    if type(version) is not int or version < 1:
        raise BadImport(f"`headlamp_findings` is {version!r:.40}; an export's is {FORMAT}")
    if version > FORMAT:
        raise BadImport(f"export version {version}; this Headlamp reads up to {FORMAT}: update Headlamp")
    if not isinstance(entries, list):
        raise BadImport("`findings` is not a list; the file was truncated or edited: export it again")
    return entries


def _read_import(entry: object, place: int) -> Finding:
    try:
        return _check_finding(entry)
    except (KeyError, TypeError, ValueError, OverflowError, StoreError) as error:
        raise BadImport(
            f"finding {place} is malformed ({type(error).__name__}: {str(error)[:200]}); "
            "nothing was imported: correct or remove it"
        ) from error


def _check_finding(entry: object) -> Finding:
    if not isinstance(entry, Mapping):
        raise TypeError("not an object")
    texts = ("id", "title", "note", "model_name", "model_fingerprint", "kind", "created_at", "updated_at")
    found: dict[str, Any] = {name: read_typed(entry, name, str) for name in texts}
    if not re.fullmatch(f"[0-9a-f]{{{ID_DIGITS}}}", found["id"]):
        raise ValueError(f"id is not {ID_DIGITS} hexadecimal digits")
    if not found["title"].strip():
        raise ValueError("blank title")
    if not KIND.fullmatch(found["kind"]):
        raise ValueError(f"kind {found['kind']!r:.40} is not one short plain word, such as generation")
    tags = [read_typed({"tag": tag}, "tag", str) for tag in read_typed(entry, "tags", list)]
    return Finding(
        **{name: clean_text(text) for name, text in found.items()}
        | {name: utc(found[name]) for name in ("created_at", "updated_at")},
        tags=clean_tags(tags),
        evidence=check_json(read_typed(entry, "evidence", dict), "evidence"),
    )
