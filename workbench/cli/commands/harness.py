"""`harness`: tasks of lm-evaluation-harness on a model, unchanged or changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.harness.measuring import check_harness
from analysis.intervening.clamps import parse_clamp
from analysis.running.batches import BATCH
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, check_readable_text
from workbench.cli.shared.output import format_json as json_text
from workbench.cli.shared.output import format_number, format_table
from workbench.cli.shared.recipe_files import apply_recipe, read_recipe_file
from workbench.cli.shared.session import open_session, show_bar
from workbench.files import check_writable, replace_file
from workbench.generating.harness import HarnessAnswer, HarnessQuestion, ask_harness


def harness(
    model: ModelName,
    *,
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="TASK",
            callback=check_readable_text,
            help="A task's name, or a .yaml file; may be repeated.",
        ),
    ],
    recipe: Annotated[
        list[Path] | None,
        typer.Option("--recipe", metavar="FILE", help="A recipe of changes; may be repeated."),
    ] = None,
    clamp: Annotated[
        list[str] | None,
        typer.Option(
            "--clamp",
            metavar="CLAMP",
            callback=check_readable_text,
            help="A clamp, applied after the recipes; may be repeated.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Documents per task; 0 for all.")] = 0,
    shots: Annotated[
        int | None, typer.Option("--shots", min=0, help="Answered examples; default: the task's own.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Use the model's chat template.")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=4096, help="Batch size.")] = BATCH,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the results in the harness's format.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model, unchanged or changed, with tasks of lm-evaluation-harness.

    Uses the harness's prompts, filters and metrics; a refused answer is wrong. Stored results are reused.
    """
    check_harness()
    question = HarnessQuestion(tuple(task), limit, shots, chat_template, batch_size, seed)
    clamps = tuple(parse_clamp(text) for text in clamp or ())
    given = [read_recipe_file(path) for path in recipe or ()]
    if out is not None:
        check_writable(out)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        changes = [change for one in given for change in apply_recipe(one, loaded)]
        with show_bar("requests") as progress:
            found = ask_harness(loaded, here.store, question, (*changes, *clamps), progress)
        if out is not None:
            with replace_file(out) as stream:
                stream.write(json_text(found.document).encode() + b"\n")
        here.show(found.document, _format_results(found))


def _format_results(found: HarnessAnswer) -> str:
    document = found.document
    rows = [row for name, numbers in document["results"].items() for row in _rows(document, name, numbers)]
    shown = format_table(("task", "metric", "value", "stderr", "n", "refused"), rows)
    return f"{shown}\n\nlm-evaluation-harness {document['lm_eval_version']}; run {found.run}"


def _rows(document: dict[str, Any], name: str, numbers: dict[str, Any]) -> list[tuple[str, ...]]:
    counted = document["n-samples"].get(name, {}).get("effective")
    rows: list[tuple[str, ...]] = []
    for key, value in numbers.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        error = numbers.get(f"{metric}_stderr,{kind}")
        rows.append(
            (
                name,
                metric if kind == "none" else f"{metric} ({kind})",
                format_number(value) if isinstance(value, int | float) else "–",
                format_number(error) if isinstance(error, int | float) else "–",
                "–" if counted is None else str(counted),
                str(document["refused"].get(name, 0)),
            )
        )
    return rows
