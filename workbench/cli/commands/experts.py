"""`experts`: which experts hold a model together, and what is lost without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.super_experts.controls import DRAWS, Part, parse_parts, super_parts
from analysis.super_experts.criterion import PERCENTILE, RATIO, Criterion, Layers, Rule
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.verdict import Verdict, judge
from store import Store
from workbench.cli.commands.expert_text import document_text
from workbench.cli.commands.jobs import answered
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, readable
from workbench.cli.shared.output import say
from workbench.cli.shared.session import read_text, session
from workbench.experts.documents import profile_document, prune_document
from workbench.experts.profiles import EXPERTS, Texts, keep_texts, profile_spec, read_expert_profile
from workbench.experts.pruning import PruneReport, prune_order, prune_spec, pruning_recipe, read_report
from workbench.files import check_writable, replacing
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
            help="The text the experts are profiled on; every fourth window of it is kept for --prune.",
            show_default="the model's own, or the one that ships with Headlamp",
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            metavar="FILE",
            help="Another text for --prune, so that all of --text is profiled.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        Rule,
        typer.Option("--rule", help="What makes an expert large; auto is small below 400 experts."),
    ] = "auto",
    percentile: Annotated[
        float, typer.Option("--percentile", help="Of all experts' maxima, for the rule percentile.")
    ] = PERCENTILE,
    ratio: Annotated[float, typer.Option("--ratio", help="Least share of the largest maximum.")] = RATIO,
    layers: Annotated[
        Layers,
        typer.Option("--layers", help="Which layers count: those that form massive activations, or others."),
    ] = "massive",
    as_released: Annotated[
        bool, typer.Option("--as-released", help="As the authors' code does it, in place of these options.")
    ] = False,
    prune: Annotated[
        str | None,
        typer.Option(
            "--prune",
            metavar="super|L1.E68,…",
            callback=readable,
            help="Also take these out, and see; L2.N47 is one column of a dense block.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=0, help="Random sets of as many experts to compare with, twice.")
    ] = DRAWS,
    recipe_out: Annotated[
        Path | None, typer.Option("--recipe-out", metavar="FILE", help="Write what --prune takes out.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find the super experts, and see what is lost without them.

    Where each expert writes most over a text, which layers form massive activations, and, with --prune,
    perplexity and attention sinks beside random experts. A dense model gets the same table of its blocks.
    """
    criterion = Criterion(rule, percentile, ratio, layers, as_released)
    if recipe_out is not None:
        check_writable(recipe_out)
    if recipe_out is not None and prune is None:
        raise HeadlampError("--recipe-out writes what is pruned; say with --prune what that is")
    named = [] if prune is None or prune == SUPER else parse_parts(prune)
    given = [None if path is None else read_text(path) for path in (text, evaluation)]
    with session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        texts = keep_texts(loaded, *given)
        profile = _profiled(loaded, here.store, texts)
        verdict = judge(profile, criterion)
        found = profile_document(loaded, profile, verdict)
        parts = super_parts(verdict.supers) if prune == SUPER else named
        found["prune"] = None
        if prune is not None and not parts:
            say("Nothing was pruned, because nothing is super. Name experts to prune them all the same.")
        elif prune is not None:
            report = _pruned(loaded, here.store, profile, verdict, parts, texts, draws, seed)
            found["prune"] = prune_document(report)
            if recipe_out is not None:
                with replacing(recipe_out) as file:
                    recipe = pruning_recipe(loaded, parts)
                    file.write(json.dumps(recipe, indent=1, allow_nan=False).encode() + b"\n")
        here.show(found, document_text(found))


def _profiled(loaded: LoadedModel, store: Store, texts: Texts) -> ExpertProfile:
    asked = texts.calibration_parameters
    run = answered(store, InThread(), make_order(EXPERTS, loaded.ref, **asked), profile_spec(loaded, asked))
    return read_expert_profile(loaded, store, run.run.key)


def _pruned(
    loaded: LoadedModel,
    store: Store,
    profile: ExpertProfile,
    verdict: Verdict,
    parts: list[Part],
    texts: Texts,
    draws: int,
    seed: int,
) -> PruneReport:
    spared: Any = [row.block.address for row in verdict.supers]
    order = prune_order(loaded, profile, parts, texts, spared=spared, draws=draws, seed=seed)
    run = answered(store, InThread(), order, prune_spec(loaded, order.parameters))
    return read_report(loaded, store, run.run.key, order.parameters)
