"""Pruning panel: perplexity, texts and attention sinks without some experts, beside random ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from analysis.figures.pruning import decay_figure, effect_figure, sink_figure
from analysis.opening.models import LoadedModel
from analysis.running.differences import mark_differences
from analysis.running.perplexity import Estimate
from analysis.super_experts.controls import DRAWS, Part
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.verdict import SuperExpertVerdict, explain_none
from pages.shared import state
from pages.shared.jobs.timing import estimate_evaluations
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, was_cancelled
from pages.shared.keeping import offer_keeping_answer
from pages.shared.layout import CHART, show_caption, show_download, show_empty, show_method
from pages.shared.pair import HOW_TO_READ, place_pair, render_text, show_pair, split_words
from pages.shared.resources import get_store
from pages.shared.saving.form import offer_saving
from pages.shared.tokens import escape_text
from workbench.experts.profiles import ProfileTexts
from workbench.experts.pruning import plan_evaluations, prune_order, pruning_recipe
from workbench.experts.questions import read_prune_question
from workbench.experts.reports import PruneEffect, PruneReport, find_report
from workbench.experts.verdicts import describe_pruning, propose_pruning_title, stands_out
from workbench.findings.findings import keep_pruning
from workbench.kinds import Order
from workbench.saving.scripts import write_recipe_script

RECIPE_FILE = "pruned-experts.json"
"""Name of the recipe, which the script reads beside itself."""
WHY = "The model is evaluated unchanged, without what was chosen, and without random sets of the same size."


def show_pruning(
    loaded: LoadedModel,
    profile: ExpertProfile,
    verdict: SuperExpertVerdict,
    chosen: Sequence[Part],
    texts: ProfileTexts,
) -> None:
    """The panel: nothing chosen, a button, the job, or the results."""
    st.subheader("Prune and see", anchor=False)
    if not chosen:
        what, example = ("expert", "L1.E68") if profile.experts else ("block", "L2, or L2.N47 for a neuron")
        show_empty(
            f"{escape_text(explain_none(verdict))} Click {what}s on the map, or name them under **Prune**: "
            f"{example}."
        )
        return
    draws, seed = st.columns(2)
    spared = [row.block.address for row in verdict.supers]
    order = prune_order(
        loaded,
        profile,
        chosen,
        texts,
        spared=spared,
        draws=int(draws.number_input("Random sets", 0, 100, DRAWS, key=state.DRAWS, bind="query-params")),
        seed=int(seed.number_input("Seed", 0, None, 0, key=state.SEED, bind="query-params")),
    )
    report = find_report(loaded, get_store(), order)
    names = escape_text(", ".join(map(str, chosen)))
    if report is None:
        _announce(loaded, order)
        pressed = st.button(f"Prune {names} and see", type="primary", icon=":material/content_cut:")
        stopped = has_failed(order) or was_cancelled(order)
        if (pressed or is_under_way(order) or stopped) and ensure_done(order, WHY):
            report = find_report(loaded, get_store(), order)
    if report is not None:
        _verdict(report)
        _exports(loaded, chosen, order, report)
        _effects(report)
        _sinks(report)
        _samples(report)


def _announce(loaded: LoadedModel, order: Order) -> None:
    """What will be evaluated, how often, and about how long it takes."""
    asked = read_prune_question(order.parameters)
    plan = plan_evaluations(loaded, asked)
    drawn = f"{plan.random} random sets, {plan.same_layer} of the same layers"
    twice = 2 + plan.random + plan.same_layer - plan.evaluations
    once = f", {twice} of them equal and evaluated once" if twice else ""
    takes = estimate_evaluations(loaded, plan.evaluations, plan.tokens, **asked.evaluation)
    show_caption(
        f"{plan.evaluations} evaluations of {plan.windows:,} windows ({plan.tokens:,} tokens): base, once "
        f"for all; pruned; {drawn}{once}. {takes}"
    )


def _verdict(report: PruneReport) -> None:
    """The result in sentences; green only where the loss exceeds that of every random set."""
    said, found = escape_text(describe_pruning(report)), stands_out(report)
    if found:
        st.success(said, icon=":material/verified:")
    elif found is None:
        st.info(said, icon=":material/info:")
    else:
        st.warning(said, icon=":material/warning:")


def _exports(loaded: LoadedModel, chosen: Sequence[Part], order: Order, report: PruneReport) -> None:
    """Keep the pruning as a finding, or take its recipe and numbers along."""
    recipe = json.dumps(pruning_recipe(loaded, chosen), indent=1)
    numbers = json.dumps(report.to_document())
    with st.container(horizontal=True, vertical_alignment="center"):
        offer_keeping_answer(
            order.key,
            propose_pruning_title(report),
            lambda title, note, tags: keep_pruning(
                loaded, get_store(), order, report, title=title, note=note, tags=tags
            ),
        )
        show_download("Recipe as JSON", recipe, RECIPE_FILE, key="prune_recipe")
        show_download("Numbers as JSON", numbers, "pruning.json", key="prune_numbers")
        files = {"recipe.json": recipe.encode()}
        script = partial(write_recipe_script, loaded, files, RECIPE_FILE, report.prompt)
        show_download("Python script", script, "pruned-experts.py", key="prune_script")
        offer_saving(loaded, files, order.key)


def _effects(report: PruneReport) -> None:
    for remark in report.remarks:
        st.info(escape_text(remark), icon=":material/info:")
    groups = _groups(report)
    with st.container(horizontal=True):
        st.metric("Perplexity, base", f"{report.base.perplexity.value:.4g}", border=True)
        for name, sets in groups.items():
            middle = float(np.median([one.perplexity.value for one in sets]))
            st.metric(name if len(sets) == 1 else f"{name}, median", f"{middle:.4g}", border=True)
    effects = {name: [one.effect.value for one in sets] for name, sets in groups.items()}
    st.plotly_chart(effect_figure(effects), key="effects", alt="Change of mean NLL", config=CHART)
    show_caption(
        f"Change of the mean NLL over {report.targets:,} tokens in {report.windows:,} windows held "
        "out from the calibration text. Each grey dot is one random set of the same size."
    )
    rows = [("base", report.base), ("pruned", report.pruned)]
    rows += [(f"random {i + 1}", one) for i, one in enumerate(report.random)]
    rows += [(f"same layers {i + 1}", one) for i, one in enumerate(report.same_layer)]
    with st.expander("Numbers"):
        st.dataframe(pd.DataFrame([_row(name, one) for name, one in rows]), hide_index=True)
    show_method("How pruning is measured", _FORMULA, "Su et al. 2025, ICLR 2026, arXiv 2507.23279")


def _groups(report: PruneReport) -> dict[str, Sequence[PruneEffect]]:
    """The pruned set and the random sets, by display name."""
    sets = {"pruned": (report.pruned,), "random": report.random, "random, same layers": report.same_layer}
    return {name: group for name, group in sets.items() if group}


_FORMULA = r"""
A pruned expert contributes 0; the router's other weights are not renormalised. Perplexity
$= \exp(\text{mean NLL})$ over windows without overlap; intervals (95 %) by bootstrap over windows, in pairs
for the effect. Sink mass of a head: the mean attention to the first token over queries $t \ge 8$ that can see
it; decay $= 1 - \text{pruned} / \text{base}$, the mean over heads whose base mass is at least 0.1.
"""


def _row(name: str, one: PruneEffect) -> dict[str, object]:
    decay = [value for value in one.decay if value is not None]
    return {
        "": name,
        "experts": ", ".join(one.parts) or "–",
        "perplexity": one.perplexity.value,
        "perplexity, 95 %": _interval(one.perplexity),
        "Δ NLL": one.effect.value,
        "Δ NLL, 95 %": _interval(one.effect),
        "mean sink decay": float(np.mean(decay)) if decay else None,
    }


def _interval(one: Estimate) -> str:
    return "–" if one.interval is None else f"{one.interval[0]:.4g} to {one.interval[1]:.4g}"


def _sinks(report: PruneReport) -> None:
    base, pruned = report.base.sinks, report.pruned.sinks
    layers = [int(i) for i in np.flatnonzero((base.queries > 0).any(1))]
    if not layers:
        return
    st.markdown("**Attention sinks**")
    even = np.nanmean(base.even[layers], axis=1)
    figure = sink_figure(layers, base.masses[layers], pruned.masses[layers], even)
    st.plotly_chart(figure, key="sinks", alt="Attention to the first token by layer", config=CHART)
    heads = sum(report.pruned.heads)
    show_caption(
        "Each dot is a head: the share of its attention that lies on the first token. Dotted: even "
        f"attention. {heads or 'No'} heads have a sink (a share of at least 0.1 in base)"
        f"{'.' if heads else ', so nothing can decay.'}"
    )
    if heads:
        decays = {name: [one.decay for one in sets] for name, sets in _groups(report).items()}
        st.plotly_chart(decay_figure(decays), key="decay", alt="Sink decay by layer", config=CHART)
        show_caption(
            "Mean share of their sinks that the heads of each layer lose: 1 all, 0 none. "
            "Grey: random sets of as many experts, dots from any layer, diamonds from the same layers."
        )


def _samples(report: PruneReport) -> None:
    one, other = report.base.sample, report.pruned.sample
    if one is None or other is None:
        return
    st.markdown("**The same text continued**")
    show_pair(place_pair(), split_words(one.text), split_words(other.text), before=report.prompt)
    shares = ["–" if s.repeated is None else f"{s.repeated:.0%}" for s in (one, other)]
    show_caption(f"{HOW_TO_READ} Repeated 4-grams: {shares[0]} base, {shares[1]} pruned.")
    _other_samples(report, split_words(one.text))


def _other_samples(report: PruneReport, base: list[str]) -> None:
    """The same text with the first random set of either kind pruned."""
    groups = {"Random experts pruned": report.random, "Random experts of the same layers": report.same_layer}
    told = {title: sets[0] for title, sets in groups.items() if sets and sets[0].sample is not None}
    if not told:
        return
    with st.expander("Without random experts instead"):
        for column, (title, one) in zip(st.columns(len(told)), told.items(), strict=True):
            text = one.sample.text if one.sample is not None else ""
            column.markdown(f"**{title}**: {escape_text(', '.join(one.parts))}")
            column.html(render_text(mark_differences(base, split_words(text))[1], before=report.prompt))
