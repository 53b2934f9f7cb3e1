"""`runs list|delete|resume|export|import`: stored runs, and moving them between machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.inputs import check_input
from store import (
    StoreError,
    check_run,
    delete_run,
    export_runs,
    free_space,
    get_run,
    list_runs,
    measure_storage,
)
from workbench.cli.commands.jobs import follow_run
from workbench.cli.shared.options import AsJson, Db, check_readable_text
from workbench.cli.shared.output import format_bytes, format_number, format_table, say, unreadable
from workbench.cli.shared.session import open_session
from workbench.files import check_writable, replace_file
from workbench.storage import import_run_file

runs = typer.Typer(no_args_is_help=True, help="Stored runs.")


@runs.command("list")
def list_(
    *,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", callback=check_readable_text, help="Only runs of this kind."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of runs to list.")] = 200,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """List stored runs.

    Newest first, with the size of the database.
    """
    with open_session(db, as_json) as here:
        found = list_runs(here.store, kind=kind, limit=limit)
        used = measure_storage(here.store)
        storage = {"file_bytes": used.file_bytes, "reclaimable_bytes": used.reclaimable_bytes}
        rows = [
            (
                r.key,
                r.kind,
                r.model_name,
                f"{r.stored_units}/{r.units}",
                format_bytes(r.bytes),
                f"{format_number(r.seconds)} s",
            )
            for r in found
        ]
        shown = format_table(("run", "kind", "model", "units", "size", "work"), rows)
        here.show(
            {"runs": [vars(run) for run in found], "storage": storage, "unreadable": unreadable(found)},
            f"{shown}\n\n{here.store.path}: {format_bytes(used.file_bytes)}",
        )


@runs.command()
def delete(
    keys: Annotated[list[str], typer.Argument(metavar="RUN...", help="Keys of runs, as in `runs list`.")],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Delete runs with their results.

    The database shrinks; findings keep their evidence.
    """
    with open_session(db, as_json) as here:
        deleted = list(dict.fromkeys(keys))
        for key in deleted:
            check_run(here.store, key)
        for key in deleted:
            delete_run(here.store, key)
        try:
            freed = free_space(here.store)
        except StoreError as error:
            freed = 0
            say(f"The runs are deleted, but the file did not shrink: {error}")
        document = {"deleted": deleted, "freed_bytes": freed}
        here.show(document, f"{len(deleted)} runs deleted, {format_bytes(freed)} freed")


@runs.command()
def resume(
    key: Annotated[str, typer.Argument(metavar="RUN", help="Key of a run, as in `runs list`.")],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Resume a run that stopped before completion.

    A decoding or a profile of the reference text; stored units are not computed again.
    """
    with open_session(db, as_json) as here:
        follow_run(here.store, key)
        run = get_run(here.store, key)
        here.show({"run": vars(run)}, f"run {key}: {run.stored_units} of {run.units} units stored")


@runs.command()
def export(
    keys: Annotated[list[str], typer.Argument(metavar="RUN...", help="Keys of runs.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The zip file to write.")],
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Write runs with their results to one file.

    For another machine, or to read without Headlamp: a zip of JSON and safetensors.
    """
    check_writable(out)
    with open_session(db, as_json) as here:
        with replace_file(out) as file:
            done = export_runs(here.store, keys, file)
        here.show(
            vars(done) | {"out": str(out)}, f"{done.runs} runs written to {out}, {format_bytes(done.bytes)}"
        )


@runs.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by `runs export`.")],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Import runs exported on another machine.

    Existing units stay unchanged; a partial run gains its missing units.
    """
    check_input(source, seekable=True)
    with open_session(db, as_json) as here:
        with source.open("rb") as file:
            done = import_run_file(here.store, file)
        text = (
            f"{len(done.added)} runs added, {len(done.completed)} gained units, "
            f"{len(done.unchanged)} unchanged"
        )
        here.show(vars(done), text)
