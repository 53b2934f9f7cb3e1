"""`experts`: which experts are super, and what is lost without them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.running.calibration import SHORTEST
from analysis.super_experts.controls import DRAWS, Part, parse_parts
from analysis.super_experts.criterion import PERCENTILE, RATIO, Criterion, Layers, Rule
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.verdict import SuperExpertVerdict, choose_super_parts, find_super_experts
from store import Store
from workbench.cli.commands.jobs import answer_order
from workbench.cli.shared.expert_text import format_experts
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, check_readable_text
from workbench.cli.shared.session import open_session, read_text
from workbench.expected import expect_reading
from workbench.experts.answers import answer_profile
from workbench.experts.profiles import (
    EXPERTS,
    RELEASED_DTYPE,
    ProfileTexts,
    count_calibration_tokens,
    expert_profile_spec,
    keep_texts,
    read_expert_profile,
)
from workbench.experts.pruning import (
    check_pruning,
    plan_evaluations,
    prune_order,
    prune_spec,
    pruning_recipe,
)
from workbench.experts.questions import ProfileQuestion, read_prune_question
from workbench.experts.reports import PruneReport, read_report
from workbench.files import check_writable, replace_file
from workbench.jobs.engines import InThread
from workbench.kinds import make_order

SUPER = "super"


def experts(
    model: ModelName,
    *,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="Calibration text; every fourth window is held out to evaluate --prune.",
            show_default="the model's own, or the bundled one",
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            metavar="FILE",
            help="Another text to evaluate --prune, so that all of --text is used for calibration.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            metavar="auto|percentile|forms",
            help="percentile: by size. forms: supplies half of a massive activation. auto: forms below 400 "
            "experts and for dense models.",
        ),
    ] = "auto",
    percentile: Annotated[
        float,
        typer.Option("--percentile", help="Percentile over all experts' maxima, for the rule percentile."),
    ] = PERCENTILE,
    ratio: Annotated[float, typer.Option("--ratio", help="Smallest share of the largest maximum.")] = RATIO,
    layers: Annotated[
        Layers,
        typer.Option("--layers", help="Layers that count: those that form massive activations, or others."),
    ] = "massive",
    as_released: Annotated[
        bool,
        typer.Option(
            "--as-released",
            help="Read and judge as the authors' code: in bfloat16, one token of each window of 2,048.",
        ),
    ] = False,
    prune: Annotated[
        str | None,
        typer.Option(
            "--prune",
            metavar="super|L1.E68,…|L11.N1229",
            callback=check_readable_text,
            help="Also evaluate without these; L11.N1229 is one weight column.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            "--draws", min=0, help="Number of random control sets, twice: any layer, and the same layers."
        ),
    ] = DRAWS,
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            metavar="TOKENS",
            min=SHORTEST,
            help="Tokens of a window, at most the context.",
            show_default="2,048 to profile; to evaluate so many that there are 20",
        ),
    ] = None,
    recipe_out: Annotated[
        Path | None, typer.Option("--recipe-out", metavar="FILE", help="Write the pruning as a recipe.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find the super experts, and evaluate the model without them.

    Prints each expert's largest output over a text, the layers that form massive activations, and, with
    --prune, perplexity and attention sinks beside random experts. Dense models get a table of their blocks.
    """
    criterion = Criterion(cast(Rule, rule), percentile, ratio, layers, as_released)
    if recipe_out is not None:
        check_writable(recipe_out)
    if recipe_out is not None and prune is None:
        raise HeadlampError("--recipe-out writes what is pruned; name that with --prune")
    if as_released and dtype not in ("auto", RELEASED_DTYPE):
        raise HeadlampError(
            f"--as-released reads in {RELEASED_DTYPE}, as the authors' code; leave --dtype out"
        )
    named = [] if prune is None or prune == SUPER else parse_parts(prune)
    dtype = RELEASED_DTYPE if as_released else dtype
    given = [None if path is None else read_text(path) for path in (text, evaluation)]
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        texts = replace(keep_texts(loaded, *given), window=window)
        asked = texts.released_question if as_released else texts.question
        if prune is not None:
            check_pruning(loaded, named, texts)
        profile = load_profile(loaded, here.store, asked)
        verdict = find_super_experts(profile, criterion)
        found, report = answer_profile(loaded, profile, verdict), None
        parts = choose_super_parts(verdict) if prune == SUPER else named
        if prune is not None:
            report = measure_pruning(loaded, here.store, profile, verdict, parts, texts, draws, seed)
            if recipe_out is not None:
                with replace_file(recipe_out) as file:
                    recipe = pruning_recipe(loaded, parts)
                    file.write(json.dumps(recipe, indent=1, allow_nan=False).encode() + b"\n")
        pruned = None if report is None else report.to_document()
        here.show(found.to_document() | {"prune": pruned}, format_experts(found, report))


def load_profile(loaded: LoadedModel, store: Store, asked: ProfileQuestion) -> ExpertProfile:
    """The profile over a text, computed as a job where it is not stored."""
    document = asked.document()
    order = make_order(EXPERTS, loaded.ref, **document)
    spec = expert_profile_spec(loaded, document)
    tokens = count_calibration_tokens(loaded, asked)
    run = answer_order(store, InThread(), order, spec, lambda: expect_reading(loaded, tokens))
    return read_expert_profile(loaded, store, run.run.key)


def measure_pruning(
    loaded: LoadedModel,
    store: Store,
    profile: ExpertProfile,
    verdict: SuperExpertVerdict,
    parts: list[Part],
    texts: ProfileTexts,
    draws: int,
    seed: int,
) -> PruneReport:
    """What is lost without these parts, beside random ones; computed as a job where it is not stored."""
    spared: Any = [row.block.address for row in verdict.supers]
    order = prune_order(loaded, profile, parts, texts, spared=spared, draws=draws, seed=seed)
    asked = read_prune_question(order.parameters)
    plan = plan_evaluations(loaded, asked)
    tokens = plan.evaluations * plan.tokens
    run = answer_order(
        *(store, InThread(), order, prune_spec(loaded, order.parameters)),
        expect=lambda: expect_reading(loaded, tokens),
    )
    return read_report(loaded, store, run.run.key, asked)
