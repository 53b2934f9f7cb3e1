"""What must go on being answered: how much of it a method refuses, and how far it moves the next token.

Kept skills, near questions and sets that no fit knows, as asked and in the forms of `robustness.py`, and
plain text. A guard that knew its skill by the form alone refuses here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.errors import TooFewExamples
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.answers import refusal_ids
from analysis.skills.forms import Form, select_fitting
from analysis.skills.items import SkillItem
from analysis.skills.likelihoods import score_next_tokens
from analysis.skills.metrics import measure_divergence, wilson_interval
from analysis.skills.unrelated import COUNT, read_unrelated_queries
from analysis.skills.unrelated import NAME as PROSE
from analysis.unlearning.guards.key_guards import REFUSAL
from analysis.unlearning.guards.linear_guards import Guard
from analysis.unlearning.measuring import find_refused, only_reads
from analysis.unlearning.results import AskedResult, AskedRole, FitSettings
from analysis.unlearning.robustness import list_forms
from analysis.unlearning.scenes import Scene

MOST_ASKED, MOST_IN_FORM = 100, 30
"""Examples of a set as asked, and in every other form; evenly spaced over all."""


def measure_over_refusal(
    loaded: LoadedModel,
    scene: Scene,
    change: Change,
    plan: FitSettings,
    pulse: Pulse = lambda done, total: None,
) -> tuple[AskedResult, ...]:
    """Every set as asked, under a guard also in other forms, and plain text. Retain skills as asked are part
    of a method's own test, and left out here.
    """
    found = []
    others = plan.robustness and isinstance(change, Guard)
    for role, name, form, items, how in _list_asked(loaded, scene, others=others):
        if asked := _encode(loaded, thin_out(items, MOST_IN_FORM if form else MOST_ASKED), how):
            found.append(_measure(loaded, role, name, form, asked, change, plan, pulse))
    prose = [ids for _, ids in read_unrelated_queries(loaded, COUNT)]
    if prose:
        found.append(_measure(loaded, "prose", PROSE, "", prose, change, plan, pulse))
    return tuple(found)


def _list_asked(
    loaded: LoadedModel, scene: Scene, *, others: bool
) -> Iterator[tuple[AskedRole, str, str, Sequence[SkillItem], Form]]:
    """(role, set, form, examples, how they are put). others: also the other forms."""
    sets: list[tuple[AskedRole, str, Sequence[SkillItem]]] = [
        *(("retain", split.skill, split.test) for split in scene.retain),  # type: ignore[list-item]
        *(("near", split.skill, split.test) for split in scene.near),  # type: ignore[list-item]
        *(("unlisted", skill.name, skill.items) for skill in scene.unlisted),  # type: ignore[list-item]
    ]
    for role, name, items in sets:
        if role != "retain":
            yield role, name, "", items, Form()
        for form, how in list_forms(loaded, items).items() if others else ():
            yield role, name, form, [item for item in items if item not in how.shots], how
    for split in scene.near:
        unseen = [item for item, new in zip(split.test, split.unseen, strict=True) if new]
        if 0 < len(unseen) < len(split.test):
            yield "near", split.skill, "paraphrase", unseen, Form()


def thin_out(items: Sequence[SkillItem], most: int) -> list[SkillItem]:
    """At most so many of the items, evenly spaced."""
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(len(items), most))]


def _encode(loaded: LoadedModel, items: Sequence[SkillItem], form: Form) -> list[list[int]]:
    """Token ids of those that fit in this form; few-shot prompts may all be too long."""
    try:
        return select_fitting(loaded, items, form)[1]
    except TooFewExamples:
        return []


def _measure(
    loaded: LoadedModel,
    role: AskedRole,
    name: str,
    form: str,
    asked: list[list[int]],
    change: Change,
    plan: FitSettings,
    pulse: Pulse,
) -> AskedResult:
    if isinstance(change, Guard) and only_reads(change):
        out, kl = find_refused(loaded, asked, change, pulse), 0.0
        median = None if bool(out.all()) else kl
    else:
        size = plan.ways.batch_size
        base, _ = score_next_tokens(loaded, asked, batch_size=size)
        changed, out = score_next_tokens(loaded, asked, [change], batch_size=size)
        refusal = change.refusal if isinstance(change, Guard) else REFUSAL
        median = measure_divergence(base, changed, out, refusal_ids(loaded, refusal)[0]).kl_median
    share = float(out.double().mean())
    return AskedResult(role, name, form, len(asked), share, wilson_interval(share, len(asked)), median)
