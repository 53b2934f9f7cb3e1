"""A skill before and under a method. A guard that checks prompts only reads: what it lets pass is answered as
by the unchanged model, so nothing is answered twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.answers import refusal_ids
from analysis.skills.forms import encode_items
from analysis.skills.items import SkillItem
from analysis.skills.likelihoods import score_next_tokens
from analysis.skills.metrics import Divergence, measure_divergence
from analysis.skills.tasks import MeasuredItems, MeasureOptions, measure_items
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_fits import measure_checks
from analysis.unlearning.guards.key_guards import REFUSAL
from analysis.unlearning.guards.linear_fits import score_queries
from analysis.unlearning.guards.linear_guards import Guard, LinearGuard
from analysis.unlearning.results import FitSettings
from analysis.unlearning.scenes import encode_queries


def only_reads(change: Change) -> bool:
    """Whether a change is a guard that checks each prompt once, for itself."""
    return isinstance(change, Guard) and change.check_at == "prefill"


def measure_under(
    loaded: LoadedModel,
    before: MeasuredItems,
    change: Change,
    ways: MeasureOptions,
    pulse: Pulse = lambda done, total: None,
) -> MeasuredItems:
    """The examples that the unchanged model was judged on, under a change; the same examples in order."""
    if not (isinstance(change, Guard) and only_reads(change)):
        return measure_items(loaded, before.items, [change], ways, pulse)
    fed, _ = encode_items(loaded, before.items, ways.form)
    refused = find_refused(loaded, [one.ids for one in fed], change, pulse)
    verdicts = (
        replace(verdict, right=False, abstained=True, text="", cut_off=False) if out else verdict
        for verdict, out in zip(before.verdicts, refused.tolist(), strict=True)
    )
    return replace(before, verdicts=tuple(verdicts))


def find_refused(
    loaded: LoadedModel,
    asked: Sequence[Sequence[int]],
    guard: Guard,
    pulse: Pulse = lambda done, total: None,
) -> Tensor:
    """(n,) bool: which queries (token ids) a guard refuses at the prompt."""
    if isinstance(guard, LinearGuard):
        return score_queries(loaded, asked, guard, pulse) >= guard.threshold
    return measure_checks(loaded, asked, guard, pulse).least(guard.margin) <= guard.alpha * SLACK


def measure_skill_divergence(
    loaded: LoadedModel,
    items: Sequence[SkillItem],
    now: MeasuredItems | None,
    chosen: Change | None,
    plan: FitSettings,
) -> Divergence:
    """Of the tokens that follow a skill's prompts. now: the same prompts measured under the change, if known:
    what a guard lets pass has not changed at all.
    """
    if chosen is None:
        return Divergence(len(items), 0.0, 0.0, 0.0)
    known = now is not None and only_reads(chosen)
    ids = encode_queries(loaded, now.items if now is not None and known else items, plan.ways.form)
    base, _ = score_next_tokens(loaded, ids, batch_size=plan.ways.batch_size)
    if now is not None and known:
        changed, refused = base, torch.tensor([verdict.abstained for verdict in now.verdicts])
    else:
        changed, refused = score_next_tokens(loaded, ids, [chosen], batch_size=plan.ways.batch_size)
    refusal = chosen.refusal if isinstance(chosen, Guard) else REFUSAL
    return measure_divergence(base, changed, refused, refusal_ids(loaded, refusal)[0])
