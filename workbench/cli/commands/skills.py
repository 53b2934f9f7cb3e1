"""`skill` and `tars`: skills from data sets, key boxes that stay, and concepts that go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import SkillError
from analysis.skills.files import MOST_HUB_ROWS, hub_skill, read_skill, skill_lines
from analysis.skills.items import JudgeName, SkillItem
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, readable
from workbench.cli.shared.output import facts, number, table
from workbench.cli.shared.recipe_files import check_recipe, write_recipe
from workbench.cli.shared.session import bar, session
from workbench.files import check_writable, replacing
from workbench.skills.fitted import check_query, fit_skill, fitted_skill
from workbench.unlearning.tars import remove_concept

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


@skill.command("import")
def import_(
    repository: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A data set of the Hub, or a folder with one.",
            callback=readable,
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The skill file that is written.")],
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME", help="Which of the data set's configurations.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which of its splits.")] = "test",
    prompt: Annotated[
        str,
        typer.Option("--prompt", metavar="FIELD", callback=readable, help="A field, or a text with {field}."),
    ] = "",
    answer: Annotated[
        str, typer.Option("--answer", metavar="FIELD", callback=readable, help="The same, for the answer.")
    ] = "",
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=FIELD",
            callback=readable,
            help="The same, for group, choices …; repeat it.",
        ),
    ] = None,
    judge: Annotated[
        JudgeName | None, typer.Option("--judge", help="Of every example; substring if left out.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST_HUB_ROWS, help="Rows that are read.")
    ] = MOST_HUB_ROWS,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Write the first rows of a data set as a skill file, which every other command takes.

    Without --prompt the data set has to be in a layout known, such as GSM8K's.
    """
    check_writable(out)
    fields = _mapping(prompt, answer, field or ())
    with session(db, as_json) as here:
        found = hub_skill(
            repository, name=out.stem, config=config, split=split, fields=fields, judge=judge, limit=limit
        )
        with replacing(out) as stream:
            stream.write(skill_lines(found))
        judges = sorted({item.judge for item in found.items})
        document = {"name": found.name, "examples": len(found.items), "judges": judges, "out": str(out)}
        here.show(document, facts(document | {"judges": ", ".join(judges)}))


def _mapping(prompt: str, answer: str, more: Sequence[str]) -> dict[str, str]:
    """Our names → the data set's. Raises SkillError for what is no pair, and where no prompt is told."""
    named = [text.partition("=")[::2] for text in more]
    pairs = [("prompt", prompt), ("answer", answer), *named]
    known = {one.name for one in dataclass_fields(SkillItem)}
    for name, own in named:
        if name not in known or not own:
            raise SkillError(
                f"--field {name}={own}: write NAME=FIELD, NAME one of {', '.join(sorted(known))}"
            )
    made = {name: own for name, own in pairs if own}
    if made and "prompt" not in made:
        raise SkillError(
            "--answer and --field say nothing without --prompt; name the field that is asked, too"
        )
    return made


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
        check_recipe(recipe, tensors=True)
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
