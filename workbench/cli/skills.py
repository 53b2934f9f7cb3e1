"""`skill fit`, `skill check` and `tars`: key boxes that stay, and concepts that go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.skills.files import read_skill
from analysis.unlearning.tars import MOST_EDITS, NOISE, THRESHOLD
from workbench.cli.options import AsJson, Db, Device, Dtype, ModelName, Seed, readable
from workbench.cli.output import facts, number, table
from workbench.cli.recipe_files import write_recipe
from workbench.cli.session import bar, session
from workbench.exports import check_writable
from workbench.skills import check_query, fit_skill, fitted_skill
from workbench.tars import remove_concept

skill = typer.Typer(no_args_is_help=True, help="Detect a skill by the keys of its queries.")


@skill.command()
def fit(
    model: ModelName,
    *,
    skill_file: Annotated[
        Path, typer.Option("--skill", metavar="FILE", help="The skill: a skill file or a data set.")
    ],
    name: Annotated[
        str, typer.Option("--name", callback=readable, help="What it is called; the file's name if left out.")
    ] = "",
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="The box's layer; the last one if left out.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Fit a skill's key box and keep it under a name."""
    read = read_skill(skill_file, name)
    with session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        with bar("examples") as progress:
            found = fit_skill(loaded, here.store, read, layer=layer, progress=progress)
        document = {
            "name": found.name,
            "run": found.run,
            "layer": found.box.layer,
            "n": found.box.n,
            "k": found.box.k,
            "cached": found.cached,
        }
        here.show(document, facts(document))


@skill.command()
def check(
    model: ModelName,
    *,
    name: Annotated[
        str, typer.Option("--name", callback=readable, help="The skill, as `skill fit` named it.")
    ],
    query: Annotated[
        str, typer.Option("--query", metavar="TEXT", callback=readable, help="The query that is looked at.")
    ],
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Say on which side of a skill's box a query falls, and which neurons decide."""
    with session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        found = check_query(loaded, fitted_skill(loaded, here.store, name).box, query)
        document = {
            "name": name,
            "inside": found.inside,
            "alpha": found.depth,
            "neurons": [{"address": address, "share": share} for address, share in found.deciding],
        }
        side = "inside" if found.inside else "outside"
        rows = [(address, number(share)) for address, share in found.deciding]
        shown = table(("neuron", "share of the half width"), rows)
        here.show(document, f"{side}; the smallest box around it has alpha {number(found.depth)}\n\n{shown}")


def tars(
    model: ModelName,
    *,
    concept: Annotated[
        str, typer.Option("--concept", metavar="WORD", callback=readable, help="One token, such as Paris.")
    ],
    prompt: Annotated[
        list[str],
        typer.Option(
            "--prompt", metavar="TEXT", callback=readable, help="A text that leads to it; may be repeated."
        ),
    ],
    edits: Annotated[int, typer.Option("--edits", min=1, help="Most vectors turned round.")] = MOST_EDITS,
    threshold: Annotated[
        float, typer.Option("--threshold", min=-1, max=1, help="Smallest cosine that counts as aligned.")
    ] = THRESHOLD,
    noise: Annotated[
        float, typer.Option("--noise", help="First size of a perturbation, in the vector's own size.")
    ] = NOISE,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="OUT", help="Write the edits as a recipe.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Remove a concept by turning the vectors round that point at it."""
    if recipe is not None:
        check_writable(recipe)
    with session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        found = remove_concept(
            loaded, concept, prompt, edits=edits, threshold=threshold, noise=noise, seed=seed
        )
        if recipe is not None:
            write_recipe(recipe, found.recipe)
        rows = [(str(edit.address), edit.site, number(edit.cosine)) for edit in found.edits.edits]
        before, after = number(found.before), number(found.after)
        here.show(
            found.document(),
            f"{table(('vector', 'of', 'cosine'), rows)}\n\nP({concept}): {before} as it is, {after} changed\n"
            f"median KL on other text {number(found.kl_median)} ({found.positions} positions)",
        )
