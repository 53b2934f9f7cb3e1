"""Experts: which experts are super, and what is lost without them."""

from __future__ import annotations

from analysis.super_experts.verdict import find_super_experts
from pages.explore.experts.controls import choose_criterion, choose_parts, choose_texts
from pages.explore.experts.pictures import show_expert_map, show_load_map, show_maxima, show_residual_curve
from pages.explore.experts.profile import (
    load_expert_profile,
    load_released_profile,
    show_remarks,
    show_super_table,
)
from pages.explore.experts.pruning import show_pruning
from pages.shared.errors import show_errors
from pages.shared.layout import show_header
from pages.shared.resources import use_model

show_header("Experts", "Which experts hold this model together, and what is lost without them?")
with show_errors(), use_model() as loaded:
    texts = choose_texts(loaded)
    profile = load_expert_profile(loaded, texts)
    if profile is not None:
        criterion = choose_criterion(profile)
        if criterion.as_released:
            profile = load_released_profile(loaded, texts)
    if profile is not None:
        verdict = find_super_experts(profile, criterion)
        show_remarks(verdict)
        show_super_table(loaded, profile, verdict)
        chosen = choose_parts(loaded, verdict)
        show_expert_map(loaded, profile, verdict, chosen)
        show_pruning(loaded, profile, verdict, chosen, texts)
        show_maxima(profile, verdict)
        show_residual_curve(loaded, profile, verdict)
        show_load_map(profile)
