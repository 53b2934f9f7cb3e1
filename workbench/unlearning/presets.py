"""Presets of unlearning: a first answer within minutes, and how long any question takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.splits import split_skill
from analysis.unlearning.concerns import list_concerns
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES
from analysis.unlearning.methods import find_method
from workbench.unlearning.checks import check_scene
from workbench.unlearning.progress import estimate_seconds, measure_example_costs
from workbench.unlearning.questions import UnlearningQuestion

QUICK_EXAMPLES = (120, 180, 240, 360)
"""Examples per skill that a quick answer tries, fewest first: as many as a key box needs."""
QUICK_SHARES = (0.1, 1.5, 12.0)


@dataclass(frozen=True)
class PlannedTime:
    """Seconds that a question takes, and its quick preset (None: it is quick itself, or has none); and what
    its sets leave uncertain, a sentence each.
    """

    seconds: float
    quick: UnlearningQuestion | None
    quick_seconds: float
    concerns: tuple[str, ...] = ()


def make_quick(question: UnlearningQuestion) -> UnlearningQuestion:
    """The question with one method, without controls, on as few examples as it can, and at few shares. Other
    forms are still measured: a verdict needs them. What was chosen otherwise than by default stays, but that
    more examples than are needed are not used.
    """
    method = min(question.methods, key=_rank)
    return replace(
        question,
        methods=(method,),
        shares=QUICK_SHARES if question.shares == SHARES else question.shares,
        limit=min((n for n in (question.limit, _find_limit(question)) if n), default=0),
        controls=False,
    )


def plan_time(loaded: LoadedModel, question: UnlearningQuestion) -> PlannedTime | None:
    """How long a question and its quick preset take here, by a short measurement; None while the model is at
    work. Raises SkillError and subclasses where the question cannot work.
    """
    scene, plan = check_scene(loaded, question), question.plan
    costs = measure_example_costs(loaded, scene, plan)
    if costs is None:
        return None
    seconds, concerns = estimate_seconds(loaded, scene, plan, question.methods, costs), list_concerns(scene)
    quick = make_quick(question)
    if quick == question:
        return PlannedTime(seconds, None, seconds, concerns)
    try:
        small = check_scene(loaded, quick)
    except SkillError:
        return PlannedTime(seconds, None, seconds, concerns)
    quick_seconds = estimate_seconds(loaded, small, quick.plan, quick.methods, costs)
    return PlannedTime(seconds, quick, quick_seconds, concerns)


def _rank(name: str) -> tuple[bool, bool]:
    """A guard first, which answers nothing again; then what one pass applies to any model."""
    record = find_method(name)
    return not record.abstains, not record.baked


def _find_limit(question: UnlearningQuestion) -> int:
    """The fewest examples with which every skill that can has enough probes for a key box; 0: all."""
    sources = (question.forget, *question.retain)
    wholes = [source.read() for source in sources]

    def count_probes(skill_limit: int) -> list[int]:
        return [
            len(
                split_skill(
                    whole.subsample(skill_limit) if skill_limit else whole,
                    seed=question.split_seed,
                    fractions=question.fractions,
                    hold_wordings=question.hold_wordings,
                ).probe
            )
            for whole in wholes
        ]

    enough = [min(FEWEST_PROBES, count) for count in count_probes(0)]
    for limit in QUICK_EXAMPLES:
        if all(count >= least for count, least in zip(count_probes(limit), enough, strict=True)):
            return limit
    return 0
