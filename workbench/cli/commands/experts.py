"""`experts`: which experts are super, and what is lost without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.super_experts.controls import DRAWS, Part, list_super_parts, parse_parts
from analysis.super_experts.criterion import PERCENTILE, RATIO, Criterion, Layers, Rule
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.verdict import SuperExpertVerdict, find_super_experts
from store import Store
from workbench.cli.commands.expert_text import document_text
from workbench.cli.commands.jobs import answer_order
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, check_readable_text
from workbench.cli.shared.output import say
from workbench.cli.shared.session import open_session, read_text
from workbench.experts.documents import profile_document, prune_document
from workbench.experts.profiles import (
    EXPERTS,
    ProfileTexts,
    expert_profile_spec,
    keep_texts,
    read_expert_profile,
)
from workbench.experts.pruning import PruneReport, prune_order, prune_spec, pruning_recipe, read_report
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
        Rule,
        typer.Option("--rule", help="Rule for large experts; auto is small below 400 experts."),
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
        typer.Option("--as-released", help="Use the authors' code's criterion in place of these options."),
    ] = False,
    prune: Annotated[
        str | None,
        typer.Option(
            "--prune",
            metavar="super|L1.E68,…",
            callback=check_readable_text,
            help="Also evaluate without these; L2.N47 is one column of a dense block.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            "--draws", min=0, help="Number of random control sets, twice: any layer, and the same layers."
        ),
    ] = DRAWS,
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
    criterion = Criterion(rule, percentile, ratio, layers, as_released)
    if recipe_out is not None:
        check_writable(recipe_out)
    if recipe_out is not None and prune is None:
        raise HeadlampError("--recipe-out writes what is pruned; name that with --prune")
    named = [] if prune is None or prune == SUPER else parse_parts(prune)
    given = [None if path is None else read_text(path) for path in (text, evaluation)]
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        texts = keep_texts(loaded, *given)
        profile = _load_profile(loaded, here.store, texts)
        verdict = find_super_experts(profile, criterion)
        found = profile_document(loaded, profile, verdict)
        parts = list_super_parts(verdict.supers) if prune == SUPER else named
        found["prune"] = None
        if prune is not None and not parts:
            say("Nothing was pruned, because no expert is super. Name experts to prune them anyway.")
        elif prune is not None:
            report = _prune(loaded, here.store, profile, verdict, parts, texts, draws, seed)
            found["prune"] = prune_document(report)
            if recipe_out is not None:
                with replace_file(recipe_out) as file:
                    recipe = pruning_recipe(loaded, parts)
                    file.write(json.dumps(recipe, indent=1, allow_nan=False).encode() + b"\n")
        here.show(found, document_text(found))


def _load_profile(loaded: LoadedModel, store: Store, texts: ProfileTexts) -> ExpertProfile:
    asked = texts.calibration_parameters
    run = answer_order(
        store, InThread(), make_order(EXPERTS, loaded.ref, **asked), expert_profile_spec(loaded, asked)
    )
    return read_expert_profile(loaded, store, run.run.key)


def _prune(
    loaded: LoadedModel,
    store: Store,
    profile: ExpertProfile,
    verdict: SuperExpertVerdict,
    parts: list[Part],
    texts: ProfileTexts,
    draws: int,
    seed: int,
) -> PruneReport:
    spared: Any = [row.block.address for row in verdict.supers]
    order = prune_order(loaded, profile, parts, texts, spared=spared, draws=draws, seed=seed)
    run = answer_order(store, InThread(), order, prune_spec(loaded, order.parameters))
    return read_report(loaded, store, run.run.key, order.parameters)
