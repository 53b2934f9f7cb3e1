"""Experts: which experts hold the model together, and what is lost without them."""

from __future__ import annotations

from analysis.super_experts.verdict import judge
from pages.explore.experts.controls import chosen_texts, criterion, parts_to_prune
from pages.explore.experts.pictures import expert_map, load_map, residual_curve, sorted_maxima
from pages.explore.experts.profile import profiled, remarks, super_table
from pages.explore.experts.pruning import prune_and_see
from pages.shared.errors import shown_errors
from pages.shared.layout import page_header
from pages.shared.resources import model

page_header("Experts", "Which experts hold this model together, and what is lost without them?")
with shown_errors(), model() as loaded:
    texts = chosen_texts(loaded)
    profile = profiled(loaded, texts)
    if profile is not None:
        verdict = judge(profile, criterion())
        remarks(verdict)
        super_table(loaded, profile, verdict)
        chosen = parts_to_prune(loaded, verdict)
        expert_map(loaded, profile, verdict, chosen)
        sorted_maxima(profile, verdict)
        residual_curve(loaded, profile, verdict)
        load_map(profile)
        prune_and_see(loaded, profile, verdict, chosen, texts)
