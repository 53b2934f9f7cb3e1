"""`runs list|delete`: what is stored, and how much room it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from store import StoreError
from workbench.cli.options import AsJson, Db, readable
from workbench.cli.output import number, say, size, table
from workbench.cli.session import session
from workbench.storage import delete_run, free_space, get_run, list_runs, storage_used

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
            {"runs": [vars(run) for run in found], "storage": storage},
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
        for key in keys:
            get_run(here.store, key)
        deleted = list(dict.fromkeys(keys))
        for key in deleted:
            delete_run(here.store, key)
        try:
            freed = free_space(here.store)
        except StoreError as error:
            freed = 0
            say(f"The runs are deleted, but the file did not shrink: {error}")
        document = {"deleted": deleted, "freed_bytes": freed}
        here.show(document, f"{len(deleted)} runs deleted, {size(freed)} freed")
