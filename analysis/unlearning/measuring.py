"""A skill before and under a method. A guard that checks prompts only reads: what it lets pass is answered as
by the unchanged model, so nothing is answered twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.forms import encode_items
from analysis.skills.tasks import MeasuredItems, MeasureOptions, measure_items
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_fits import measure_checks
from analysis.unlearning.guards.linear_fits import score_queries
from analysis.unlearning.guards.linear_guards import Guard, LinearGuard


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
