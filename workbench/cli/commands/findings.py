"""`findings list|show|export|import|rerun`: the notebook."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from store import Store
from store.evidence import list_facts as evidence_facts
from store.evidence import read_evidence
from workbench.cli.shared.options import AsJson, Db, check_readable_text
from workbench.cli.shared.output import format_facts, format_table, unreadable
from workbench.cli.shared.session import open_session, read_text
from workbench.files import check_writable, replace_file
from workbench.findings.findings import (
    ExportFormat,
    Finding,
    export_findings,
    get_finding,
    import_findings,
    list_findings,
    rerun_finding,
)

findings = typer.Typer(no_args_is_help=True, help="Findings with their evidence.")
ALL = sys.maxsize
"""More findings than a notebook holds."""

FindingId = Annotated[
    str, typer.Argument(metavar="ID", help="A finding's id, or at least its first 6 digits.")
]
Search = Annotated[
    str,
    typer.Option(
        "--search", metavar="WORDS", callback=check_readable_text, help="Only findings with all these words."
    ),
]
Tag = Annotated[
    str | None,
    typer.Option("--tag", metavar="TAG", callback=check_readable_text, help="Only findings with this tag."),
]


@findings.command("list")
def list_(
    *,
    search: Search = "",
    tag: Tag = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of findings to list.")] = 500,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """List findings.

    Newest first; best match first with --search.
    """
    with open_session(db, as_json) as here:
        found = list_findings(here.store, search=search, tag=tag, limit=limit)
        documents = [{k: v for k, v in vars(one).items() if k != "evidence"} for one in found]
        rows = [
            (one.id[:12], one.created_at[:16], one.kind, one.title, ", ".join(one.tags), one.model_name)
            for one in found
        ]
        shown = format_table(("id", "kept", "kind", "title", "tags", "model"), rows)
        here.show(
            {"findings": documents, "unreadable": unreadable(found)},
            shown if rows else "No findings yet; `generate --keep TITLE` keeps one.",
        )


@findings.command()
def show(finding_id: FindingId, *, db: Db = None, as_json: AsJson = False) -> None:
    """Show one finding with all its evidence."""
    with open_session(db, as_json) as here:
        found = get_finding(here.store, finding_id)
        here.show(vars(found), _format_finding(found))


@findings.command()
def export(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of findings; default: all.")
    ] = None,
    *,
    format: Annotated[ExportFormat, typer.Option("--format", help="File format.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
    search: Search = "",
    tag: Tag = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Write findings to a file.

    As a report (html, md), a table (csv), or complete, for import elsewhere (json).
    """
    check_writable(out)
    with open_session(db, as_json) as here:
        found = _select_findings(here.store, ids or [], search, tag)
        text = export_findings(found, format)
        with replace_file(out) as file:
            file.write(text.encode("utf-8"))
        document = {"findings": len(found), "format": format, "out": str(out)}
        here.show(document, f"{len(found)} findings written to {out}")


@findings.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file written by `findings export --format json`.")
    ],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Add the findings of a JSON export.

    Existing ones stay unchanged.
    """
    text = read_text(file)
    with open_session(db, as_json) as here:
        result = import_findings(here.store, text)
        shown = f"{result.added} findings added, {result.already_there} already existed"
        here.show({"added": result.added, "already_there": result.already_there}, shown)


@findings.command("rerun")
def rerun_(finding_id: FindingId, *, db: Db = None, as_json: AsJson = False) -> None:
    """Run a finding again and compare.

    Never uses stored results. Exit code 1 if the results differ.
    """
    with open_session(db, as_json) as here:
        finding = get_finding(here.store, finding_id)
        result = rerun_finding(here.store, finding.id)
        names = ("same", "tokens_equal", "largest_difference", "tolerance", "run", "explanation")
        document = {"id": finding.id} | {name: getattr(result, name) for name in names}
        verdict = "the same" if result.same else "NOT the same"
        here.show(document, f"{finding.title}: {verdict}; {result.explanation}")
        if not result.same:
            raise typer.Exit(1)


def _select_findings(store: Store, ids: list[str], search: str, tag: str | None) -> list[Finding]:
    """The named findings, or those selected by --search and --tag; each once, in order."""
    if not ids:
        listed = list_findings(store, search=search, tag=tag, limit=ALL)
        unreadable(listed)
        return listed
    named = [get_finding(store, finding_id) for finding_id in ids]
    found = list({finding.id: finding for finding in named}.values())
    if not search.strip() and tag is None:
        return found
    wanted = {finding.id for finding in list_findings(store, search=search, tag=tag, limit=ALL)}
    return [finding for finding in found if finding.id in wanted]


def _format_finding(finding: Finding) -> str:
    shown = read_evidence(finding.evidence)
    known: dict[str, Any] = {"title": finding.title, "note": finding.note}
    known |= {name.lower(): fact for name, fact in evidence_facts(finding, shown).items()}
    known |= {"prompt": shown.prompt, "base": shown.base_text, "changed": shown.changed_text}
    if not shown.tells:
        known["evidence"] = json.dumps(finding.evidence)
    return format_facts(known)
