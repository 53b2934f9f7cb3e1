"""`unlearn`: forget one skill by several methods, retain others, and measure both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from analysis.opening.models import LoadedModel
from analysis.skills.answering import NEW_TOKENS
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.key_guards import Check, Measure
from analysis.unlearning.guards.key_places import KeyPlace
from analysis.unlearning.methods import list_methods
from analysis.unlearning.token_limits import LONGEST
from store import Store
from workbench.cli.commands.jobs import answer_order
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed
from workbench.cli.shared.output import say
from workbench.cli.shared.session import open_session
from workbench.cli.shared.unlearn_exports import Exports
from workbench.cli.shared.unlearn_tables import format_unlearned, list_warnings
from workbench.expected import format_minutes
from workbench.jobs.engines import InThread
from workbench.kinds import make_order
from workbench.skills.sources import make_skill_source, make_skill_sources
from workbench.skills.utility import MMLU_SAMPLE
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.checks import parse_layers
from workbench.unlearning.presets import make_quick, plan_time
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import (
    UNLEARN,
    find_unlearning_answer,
    read_method_recipe,
    read_unlearning_answer,
    unlearn_spec,
)


def unlearn_(
    model: ModelName,
    *,
    forget: Annotated[
        Path,
        typer.Option("--forget", metavar="FILE", help="Forget skill: a skill file or a data set."),
    ],
    retain: Annotated[
        list[Path] | None,
        typer.Option("--retain", metavar="FILE", help="Retain skill; may be repeated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="ksd, na or sp; may be repeated; default: all three."),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(
            "--layers",
            help="Layers of the key boxes: last (the paper's), best (the last one, two, …, chosen on "
            "validation), all, or numbers such as 1,3.",
        ),
    ] = "best",
    no_rivals: Annotated[
        bool,
        typer.Option(
            "--no-rivals",
            help="Use a box alone, as in the paper, without the retain skills' boxes as rivals.",
        ),
    ] = False,
    check: Annotated[
        Check,
        typer.Option(
            "--check",
            help="When a guard checks: at the prompt's last token, or also at each generated token.",
        ),
    ] = "prefill",
    share: Annotated[
        list[float] | None,
        typer.Option(
            "--share", metavar="Q", help="Candidate share q of neurons for na and sp, in %; may be repeated."
        ),
    ] = None,
    as_released: Annotated[
        bool,
        typer.Option(
            "--as-released",
            help="Decide as the authors' code does where it differs from the paper, one query at a time. "
            "Alone it also means a box of the last layer, without rivals, checked at each step.",
        ),
    ] = False,
    split_seed: Annotated[int, typer.Option("--split-seed", min=0, help="Seed of the split.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Examples used of each skill; 0 for all.")] = 0,
    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens",
            min=1,
            max=4096,
            help="Longest answer to begin with; doubled by itself, twice at most and up to "
            f"{LONGEST}, where more than a tenth of a skill's answers are cut off.",
        ),
    ] = NEW_TOKENS,
    tests: Annotated[
        bool, typer.Option("--tests", help="Run model-written code against unit tests, in a sandbox.")
    ] = False,
    unsafe_tests: Annotated[
        bool,
        typer.Option("--unsafe-tests", help="Run it with your own permissions if there is no sandbox."),
    ] = False,
    no_controls: Annotated[
        bool,
        typer.Option(
            "--no-controls", help="Skip the controls: the box of shuffled skills, the random neurons."
        ),
    ] = False,
    no_robustness: Annotated[
        bool, typer.Option("--no-robustness", help="Skip the forget skill in other forms.")
    ] = False,
    other_language: Annotated[
        list[Path] | None,
        typer.Option(
            "--other-language", metavar="FILE", help="The forget skill in another language; may be repeated."
        ),
    ] = None,
    mmlu: Annotated[
        list[Path] | None,
        typer.Option(
            "--mmlu",
            metavar="PATH",
            help=f"Multiple choice; {MMLU_SAMPLE} of its questions, evenly spaced, are answered before and "
            "after, as utility. A file in MMLU's layout, or a folder of its CSV files; may be repeated.",
        ),
    ] = None,
    near: Annotated[
        list[Path] | None,
        typer.Option(
            "--near",
            metavar="FILE",
            help="Questions on the same subject that must go on being answered; may be repeated.",
        ),
    ] = None,
    unlisted: Annotated[
        list[Path] | None,
        typer.Option(
            "--unlisted",
            metavar="FILE",
            help="Questions that no fit sees and that must go on being answered; may be repeated.",
        ),
    ] = None,
    measure: Annotated[
        Measure,
        typer.Option(
            "--measure",
            help="What a guard compares: a linear score, fitted to tell the skill from what is kept; depth "
            "in key boxes, the paper's; or Gaussian densities.",
        ),
    ] = "linear",
    key: Annotated[
        KeyPlace | None,
        typer.Option(
            "--key",
            help="Where a guard takes its key: at the last token fed (usual, the paper's), at the last one "
            "that the user typed, as the mean over what the user typed, or, for a linear guard, at the first "
            "and the last of these (usual there).",
        ),
    ] = None,
    wrap: Annotated[
        bool | None,
        typer.Option(
            "--wrap/--no-wrap",
            help="Fit a guard on probes in other forms too, the same on both sides; usual for a linear one.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first answer within minutes: one method, as few examples as it can, no controls; what is "
            "given besides stays.",
        ),
    ] = False,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="OUT", help="Write the first method's intervention as a recipe."),
    ] = None,
    snippet: Annotated[
        Path | None,
        typer.Option("--snippet", metavar="OUT", help="Write a Python script that answers under the guard."),
    ] = None,
    bake: Annotated[
        Path | None,
        typer.Option("--bake", metavar="FOLDER", help="Save the model with the pruned neurons set to 0."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="OUT", help="Write all numbers in lm-evaluation-harness's format."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Forget one skill and retain others.

    Fitted on probes, set on validation, measured on a test with facts and templates that neither contains.
    Stored results are reused.
    """
    question = UnlearningQuestion(
        forget=make_skill_source(forget),
        retain=tuple(make_skill_source(path) for path in retain or ()),
        methods=tuple(method) if method else list_methods(),
        layers=parse_layers(layers),
        rivals=not no_rivals,
        check=check,
        shares=tuple(share) if share else SHARES,
        as_released=as_released,
        split_seed=split_seed,
        seed=seed,
        limit=limit,
        max_new_tokens=max_new_tokens,
        tests="unsafe" if unsafe_tests else "contained" if tests else "off",
        controls=not no_controls,
        robustness=not no_robustness,
        other_language=tuple(make_skill_source(path) for path in other_language or ()),
        mmlu=tuple(source for path in mmlu or () for source in make_skill_sources(path)),
        near=tuple(make_skill_source(path) for path in near or ()),
        unlisted=tuple(make_skill_source(path) for path in unlisted or ()),
        measure=measure,
        key=key,
        wrap=wrap,
    )
    question = make_quick(question) if quick else question
    exports = Exports(recipe, snippet, bake, results)
    exports.check(question)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        _say_time(loaded, here.store, question)
        found = measure_unlearning(loaded, here.store, question)
        exports.write(loaded, question, read_method_recipe(here.store, found.run, 0))
        exports.write_results(loaded, here.store, found)
        for warning in list_warnings(found):
            say(f"Warning: {warning}")
        here.show(found.to_document(), format_unlearned(found))


def measure_unlearning(loaded: LoadedModel, store: Store, question: UnlearningQuestion) -> UnlearningAnswer:
    """The whole answer, computed as a job where it is not stored."""
    order = make_order(UNLEARN, loaded.ref, question=question.document())
    done = answer_order(store, InThread(), order, unlearn_spec(loaded, question))
    return read_unlearning_answer(loaded, store, question, done)


def _say_time(loaded: LoadedModel, store: Store, question: UnlearningQuestion) -> None:
    """Refuse what cannot work, and say how long the rest takes, unless all of it is stored."""
    found = find_unlearning_answer(loaded, store, question)
    done = () if found is None else [method.method for method in found.methods]
    missing = tuple(method for method in question.methods if method not in done)
    if not missing:
        return
    planned = plan_time(loaded, replace(question, methods=missing))
    if planned is None:
        say("How long it takes is not known: the model is at work.")
        return
    quick = "" if planned.quick is None else f"; --quick takes {format_minutes(planned.quick_seconds)}"
    say(f"This takes {format_minutes(planned.seconds)}, by a short measurement of the model{quick}.")
    for concern in planned.concerns:
        say(f"Note: {concern}")
