"""`harness`: the tasks of lm-evaluation-harness on a model, as it is or changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.harness.measuring import check_harness
from analysis.intervening.clamps import parse_clamp
from analysis.running.batches import BATCH
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, readable
from workbench.cli.shared.output import as_json as json_text
from workbench.cli.shared.output import number, table
from workbench.cli.shared.recipe_files import applied, read_recipe_file
from workbench.cli.shared.session import bar, session
from workbench.files import check_writable, replacing
from workbench.generating.harness import HarnessAnswer, HarnessQuestion, ask_harness


def harness(
    model: ModelName,
    *,
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="TASK",
            callback=readable,
            help="A task's name, or a .yaml file; may be repeated.",
        ),
    ],
    recipe: Annotated[
        list[Path] | None,
        typer.Option("--recipe", metavar="FILE", help="Changes of the model; may be repeated."),
    ] = None,
    clamp: Annotated[
        list[str] | None,
        typer.Option(
            "--clamp", metavar="CLAMP", callback=readable, help="A clamp after those; may be repeated."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Documents of each task; 0 for all.")] = 0,
    shots: Annotated[
        int | None, typer.Option("--shots", min=0, help="Answered examples; the task's own if left out.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Ask through the model's chat template.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, max=4096, help="Texts read side by side.")
    ] = BATCH,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the results as the harness does.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model, as it is or changed, with tasks of lm-evaluation-harness.

    Its prompts, filters and metrics; what a guard refuses is wrong. What was asked before is read.
    """
    check_harness()
    question = HarnessQuestion(tuple(task), limit, shots, chat_template, batch_size, seed)
    clamps = tuple(parse_clamp(text) for text in clamp or ())
    given = [read_recipe_file(path) for path in recipe or ()]
    if out is not None:
        check_writable(out)
    with session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        changes = [change for one in given for change in applied(one, loaded)]
        with bar("requests") as progress:
            found = ask_harness(loaded, here.store, question, (*changes, *clamps), progress)
        if out is not None:
            with replacing(out) as stream:
                stream.write(json_text(found.document).encode() + b"\n")
        here.show(found.document, _described(found))


def _described(found: HarnessAnswer) -> str:
    document = found.document
    rows = [row for name, numbers in document["results"].items() for row in _rows(document, name, numbers)]
    shown = table(("task", "metric", "value", "stderr", "n", "refused"), rows)
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
                number(value) if isinstance(value, int | float) else "–",
                number(error) if isinstance(error, int | float) else "–",
                "–" if counted is None else str(counted),
                str(document["refused"].get(name, 0)),
            )
        )
    return rows
