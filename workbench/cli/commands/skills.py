"""`skill` and `tars`: skill import, key boxes, and concept removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.files import MOST_HUB_ROWS, read_hub_skill, write_skill_lines
from analysis.skills.items import JudgeName, SkillItem
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD
from analysis.unlearning.edits.tars_search import GOAL, MOST_KL
from store import Store
from workbench.cli.commands.jobs import answer_order
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, check_readable_text
from workbench.cli.shared.output import format_facts, format_number, format_table
from workbench.cli.shared.prompt_options import (
    AnswerPrefix,
    PromptFile,
    Raw,
    System,
    Turns,
    read_common,
    read_lines,
)
from workbench.cli.shared.recipe_files import check_recipe, write_recipe
from workbench.cli.shared.removal_tables import format_removal, read_concepts
from workbench.cli.shared.session import open_session
from workbench.expected import REMOVAL, expect_reading, expect_work
from workbench.files import check_writable, replace_file
from workbench.jobs.engines import InThread, check_order
from workbench.kinds import make_order
from workbench.skills.fitted import check_query, find_fitted_skill, read_box
from workbench.skills.key_space import KeySpaceQuestion, count_key_space_tokens, key_space_spec
from workbench.skills.library import list_others
from workbench.skills.sources import make_skill_source
from workbench.unlearning.concepts.answers import RemovalAnswer
from workbench.unlearning.concepts.questions import ConceptQuestion
from workbench.unlearning.concepts.tars import TARS, find_removal, removal_spec

skill = typer.Typer(no_args_is_help=True, help="Detect a skill by the keys of its queries.")


@skill.command()
def fit(
    model: ModelName,
    *,
    skill_file: Annotated[
        Path, typer.Option("--skill", metavar="FILE", help="The skill: a skill file or a data set.")
    ],
    name: Annotated[
        str,
        typer.Option(
            "--name", callback=check_readable_text, help="Name of the skill; default: the file's name."
        ),
    ] = "",
    compared: Annotated[
        list[Path] | None,
        typer.Option(
            "--compared",
            metavar="FILE",
            help="A skill whose queries are held against the boxes, as on the page Skills; may be repeated; "
            "default: the other bundled skills.",
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="Layer of the box that is shown; default: the last.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Examples used of each skill; 0 for all.")] = 0,
    split_seed: Annotated[int, typer.Option("--split-seed", min=0, help="Seed of the split.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Fit a skill's key boxes, in all dense layers on the probes of a split, and store them by name."""
    mine = make_skill_source(skill_file, name)
    others = tuple(make_skill_source(path) for path in compared or ()) or list_others(mine)
    question = KeySpaceQuestion(mine, others, limit, split_seed)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        spec = key_space_spec(loaded, question)
        order = question.order(loaded)
        check_order(loaded, order)
        found = answer_order(
            *(here.store, InThread(), order, spec),
            expect=lambda: expect_reading(loaded, count_key_space_tokens(loaded, question)),
        )
        box = read_box(here.store, found.run, layer)
        document = {
            "name": mine.name,
            "run": found.run.key,
            "layer": box.layer,
            "n": box.n,
            "k": box.k,
            "cached": found.cached,
        }
        here.show(document, format_facts(document))


@skill.command()
def check(
    model: ModelName,
    *,
    name: Annotated[
        str, typer.Option("--name", callback=check_readable_text, help="Name given to `skill fit`.")
    ],
    query: Annotated[
        str, typer.Option("--query", metavar="TEXT", callback=check_readable_text, help="The query to check.")
    ],
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a query is inside a skill's box, and which neurons decide."""
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        found = check_query(loaded, find_fitted_skill(loaded, here.store, name).box, query)
        document = {
            "name": name,
            "inside": found.inside,
            "alpha": found.depth,
            "neurons": [{"address": address, "share": share} for address, share in found.deciding],
        }
        side = "inside" if found.inside else "outside"
        rows = [(address, format_number(share)) for address, share in found.deciding]
        shown = format_table(("neuron", "share of the half width"), rows)
        here.show(
            document, f"{side}; the smallest box around it has alpha {format_number(found.depth)}\n\n{shown}"
        )


@skill.command("import")
def import_(
    repository: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A Hub data set, or a local folder with one.",
            callback=check_readable_text,
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The skill file to write.")],
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME", help="Configuration of the data set.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of the data set.")] = "test",
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            metavar="FIELD",
            callback=check_readable_text,
            help="Field of the prompt, or a template with {field}.",
        ),
    ] = "",
    answer: Annotated[
        str,
        typer.Option(
            "--answer", metavar="FIELD", callback=check_readable_text, help="The same for the answer."
        ),
    ] = "",
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=FIELD",
            callback=check_readable_text,
            help="The same for group, choices …; may be repeated.",
        ),
    ] = None,
    judge: Annotated[
        JudgeName | None, typer.Option("--judge", help="Judge of every example; default: substring.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST_HUB_ROWS, help="Number of rows to read.")
    ] = MOST_HUB_ROWS,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Import the first rows of a data set as a skill file.

    Without --prompt the data set must have a known layout, such as GSM8K's.
    """
    check_writable(out)
    fields = _mapping(prompt, answer, field or ())
    with open_session(db, as_json) as here:
        found = read_hub_skill(
            repository, name=out.stem, config=config, split=split, fields=fields, judge=judge, limit=limit
        )
        with replace_file(out) as stream:
            stream.write(write_skill_lines(found))
        judges = sorted({item.judge for item in found.items})
        document = {"name": found.name, "examples": len(found.items), "judges": judges, "out": str(out)}
        here.show(document, format_facts(document | {"judges": ", ".join(judges)}))


def _mapping(prompt: str, answer: str, more: Sequence[str]) -> dict[str, str]:
    """Our names → the data set's. Raises SkillError for an invalid pair, and if no prompt is given."""
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
        raise SkillError("--answer and --field need --prompt; name the prompt's field, too")
    return made


def tars(
    model: ModelName,
    *,
    concept: Annotated[
        list[str],
        typer.Option(
            "--concept",
            metavar="WORD",
            callback=check_readable_text,
            help="One token, such as Paris; may be repeated, to remove one after the other.",
        ),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            callback=check_readable_text,
            help="A prompt that the model answers with it; may be repeated.",
            show_default=False,
        ),
    ] = None,
    prompts: PromptFile = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out",
            metavar="TEXT",
            callback=check_readable_text,
            help="Another wording, only measured; may be repeated.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language",
            metavar="TEXT",
            callback=check_readable_text,
            help="A prompt in another language, only measured; may be repeated.",
            show_default=False,
        ),
    ] = None,
    synonym: Annotated[
        list[str] | None,
        typer.Option(
            "--synonym",
            metavar="TEXT",
            callback=check_readable_text,
            help="What would say the same; may be repeated.",
            show_default=False,
        ),
    ] = None,
    answer_prefix: AnswerPrefix = "",
    system: System = "",
    turn: Turns = None,
    raw: Raw = False,
    edits: Annotated[
        int, typer.Option("--edits", min=1, help="Largest number of vectors to reverse, per concept.")
    ] = MOST_EDITS,
    goal: Annotated[float, typer.Option("--goal", help="P(concept) at which it counts as removed.")] = GOAL,
    max_kl: Annotated[
        float, typer.Option("--max-kl", help="Largest median KL on neutral text, in nats.")
    ] = MOST_KL,
    no_head_rows: Annotated[
        bool, typer.Option("--no-head-rows", help="Leave the rows of the LM head as they are.")
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            help="Smallest |cosine| of a reversed vector; the concept's own head rows are tried anyway.",
        ),
    ] = THRESHOLD,
    noise: Annotated[
        float, typer.Option("--noise", help="Initial size of a perturbation, relative to the vector's own.")
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
    """Remove concepts by reversing the vectors that point at them.

    Measured where the model says them, in other wordings, on other text, and beside their head rows zeroed.
    """
    if recipe is not None:
        check_recipe(recipe, tensors=True)
    lines, common = read_lines(prompt, prompts), read_common(answer_prefix, system, turn, raw)
    concepts, other = read_concepts(concept, lines, common, held_out or (), language or (), synonym or ())
    asked = ConceptQuestion(concepts, other, edits, threshold, noise, goal, max_kl, not no_head_rows, seed)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        answer, files = measure_removal(loaded, here.store, asked)
        if recipe is not None:
            write_recipe(recipe, files)
        here.show(answer.to_document(), format_removal(answer))


def measure_removal(
    loaded: LoadedModel, store: Store, asked: ConceptQuestion
) -> tuple[RemovalAnswer, Mapping[str, bytes]]:
    """The removal of concepts, computed as a job where it is not stored; and its recipe's files."""
    stored = find_removal(loaded, store, asked)
    if stored is None or stored.earlier:
        order = make_order(TARS, loaded.ref, **asked.document())
        check_order(loaded, order)
        spec = removal_spec(loaded, asked.document())
        answer_order(store, InThread(), order, spec, lambda: expect_work(loaded, REMOVAL, store))
        stored = find_removal(loaded, store, asked)
    assert stored is not None  # the job is done
    answer = stored.answer
    assert isinstance(answer, RemovalAnswer)  # as this version measures it
    return answer, stored.files
