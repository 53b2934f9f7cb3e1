"""The notebook of findings, in Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import HeadlampError
from analysis.figures.theme import Figure
from headlamp.answers import Answer
from store import Finding, Store, open_store
from store.evidence import list_facts, read_evidence
from workbench.cli.shared.session import expand_home
from workbench.files import replace_file
from workbench.findings.charts import draw_finding
from workbench.findings.findings import ExportFormat, Rerun, export_findings, list_findings, rerun_finding


@dataclass(frozen=True)
class KeptFinding(Answer):
    """A finding with its evidence."""

    finding: Finding = field(repr=False)
    store: Store = field(repr=False)

    @property
    def id(self) -> str:
        """Its id."""
        return self.finding.id

    @property
    def title(self) -> str:
        """What it is called."""
        return self.finding.title

    def figure(self) -> Figure:
        """Its first chart. Raises HeadlampError where it has none."""
        for drawn in draw_finding(read_evidence(self.finding.evidence)):
            return drawn.figure
        raise HeadlampError(f"the finding {self.title!r} has no chart; its table says what was measured")

    def table(self) -> pd.DataFrame:
        """What was found, a row for each fact."""
        facts = list_facts(self.finding, read_evidence(self.finding.evidence))
        return pd.DataFrame(list(facts.items()), columns=["fact", "value"])

    def rerun(self) -> Rerun:
        """Compute it again, never from stored results, and compare. Raises HeadlampError."""
        return rerun_finding(self.store, self.finding.id)


@dataclass(frozen=True)
class Notebook(Sequence[KeptFinding]):
    """Findings, newest first; with a search the best match first."""

    findings: tuple[KeptFinding, ...]

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, place: Any) -> Any:
        return self.findings[place]

    def __iter__(self) -> Iterator[KeptFinding]:
        return iter(self.findings)

    def table(self) -> pd.DataFrame:
        """A row for each finding."""
        columns = ["id", "title", "kind", "model_name", "created_at"]
        return pd.DataFrame([{c: getattr(one.finding, c) for c in columns} for one in self], columns=columns)

    def export(self, file: str | Path, format: ExportFormat = "html") -> Path:
        """Write all of them into one file: html, json, csv or md. Raises HeadlampError for others."""
        path = expand_home(Path(file))
        with replace_file(path) as stream:
            stream.write(export_findings([one.finding for one in self], format).encode())
        return path

    def _repr_html_(self) -> str:
        return str(self.table().to_html(border=0))


def findings(search: str = "", *, tag: str | None = None, db: str | Path | None = None) -> Notebook:
    """The findings of the database, those with all words of a search. db: as for `open`."""
    store = open_store(None if db is None else expand_home(Path(db)))
    found = list_findings(store, search=search, tag=tag, limit=sys.maxsize)
    return Notebook(tuple(KeptFinding(_write(one), one, store) for one in found))


def _write(finding: Finding) -> dict[str, Any]:
    """A finding as `findings show --json` prints it."""
    document: dict[str, Any] = json.loads(json.dumps(vars(finding)))
    return document
