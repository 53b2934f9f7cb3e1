"""`runs list|delete|resume|export|import`: what is stored, and moving it between machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.inputs import check_input
from store import StoreError, check_run, delete_run, export_runs, free_space, get_run, list_runs, storage_used
from workbench.cli.commands.jobs import followed_run
from workbench.cli.shared.options import AsJson, Db, readable
from workbench.cli.shared.output import number, say, size, table, unreadable
from workbench.cli.shared.session import session
from workbench.files import check_writable, replacing
from workbench.storage import import_runs

runs = typer.Typer(no_args_is_help=True, help="Stored results.")


@runs.command("list")
def list_(
    *,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", callback=readable, help="Only runs of this kind.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many are listed.")] = 200,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """List stored runs.

    Newest first, with the room the database takes.
    """
    with session(db, as_json) as here:
        found = list_runs(here.store, kind=kind, limit=limit)
        used = storage_used(here.store)
        storage = {"file_bytes": used.file_bytes, "reclaimable_bytes": used.reclaimable_bytes}
        rows = [
            (
                r.key,
                r.kind,
                r.model_name,
                f"{r.stored_units}/{r.units}",
                size(r.bytes),
                f"{number(r.seconds)} s",
            )
            for r in found
        ]
        shown = table(("run", "kind", "model", "units", "size", "work"), rows)
        here.show(
            {"runs": [vars(run) for run in found], "storage": storage, "unreadable": unreadable(found)},
            f"{shown}\n\n{here.store.path}: {size(used.file_bytes)}",
        )


@runs.command()
def delete(
    keys: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Keys of runs, as `runs list` shows them.")
    ],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Delete runs with their results.

    The database shrinks; findings keep their evidence.
    """
    with session(db, as_json) as here:
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
        here.show(document, f"{len(deleted)} runs deleted, {size(freed)} freed")


@runs.command()
def resume(
    key: Annotated[str, typer.Argument(metavar="RUN", help="Key of a run, as `runs list` shows it.")],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that stopped before its end.

    A decoding or a reading of the reference text; the units that are stored are not done again.
    """
    with session(db, as_json) as here:
        followed_run(here.store, key)
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
    with session(db, as_json) as here:
        with replacing(out) as file:
            done = export_runs(here.store, keys, file)
        here.show(vars(done) | {"out": str(out)}, f"{done.runs} runs written to {out}, {size(done.bytes)}")


@runs.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `runs export` wrote.")],
    *,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Take in runs that another machine exported.

    What is here already stays as it is; a run that is partly here gains its missing units.
    """
    check_input(source, seekable=True)
    with session(db, as_json) as here:
        with source.open("rb") as file:
            done = import_runs(here.store, file)
        text = (
            f"{len(done.added)} runs added, {len(done.completed)} gained units, "
            f"{len(done.unchanged)} unchanged"
        )
        here.show(vars(done), text)
