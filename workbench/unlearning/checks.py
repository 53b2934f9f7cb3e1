"""Checks of a question about unlearning, before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import cast

from analysis.errors import HeadlampError, SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.methods import METHODS, find_method
from analysis.unlearning.records import UnlearningMethod
from analysis.unlearning.scenes import Scene
from workbench.skills.scenes import advise_enough
from workbench.unlearning.questions import UnlearningQuestion


def why_not_offered(loaded: LoadedModel, method: str) -> str:
    """Why a method cannot work on this model; empty if it can."""
    return find_method(method).why_not(loaded)


def parse_layers(text: str) -> LayerChoice | tuple[int, ...]:
    """Parse layers: last, best, all, or numbers such as `1,3`. Raises HeadlampError."""
    if text in ("last", "best", "all"):
        return cast(LayerChoice, text)
    try:
        chosen = tuple(sorted({int(part.strip().lstrip("Ll")) for part in text.split(",")}))
    except ValueError:
        chosen = ()
    if not chosen or min(chosen) < 0:
        raise HeadlampError(f"layers {text[:40]!r}: write last, best, all, or numbers such as 1,3")
    return chosen


def parse_shares(text: str) -> tuple[float, ...]:
    """Parse shares in %: `0.5, 1.5, 3`. Raises HeadlampError."""
    try:
        chosen = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        chosen = ()
    if not chosen or not all(0 < share <= 100 for share in chosen):
        raise HeadlampError(f"shares {text[:40]!r}: write numbers above 0 and up to 100, such as 0.5, 1.5, 3")
    return chosen


def check_scene(loaded: LoadedModel, question: UnlearningQuestion) -> Scene:
    """Read and split the skills, and check that every method of the question can work on them and this model.

    Raises SkillError and subclasses.
    """
    check_methods(loaded, question)
    scene = question.scene()
    for record in map(find_method, question.methods):
        record.check(loaded, question.plan)
        _check_probes(question, scene, record)
    _check_code(question, scene)
    return scene


def check_methods(loaded: LoadedModel, question: UnlearningQuestion) -> None:
    """Raise SkillError or TooFewExamples for a method that cannot work on this model or these skills."""
    if question.forget in question.retain:
        raise SkillError(
            f"{question.forget.name} cannot be both forget skill and retain skill; remove it from one"
        )
    compare = [record.title for record in map(find_method, question.methods) if record.retains]
    if compare and not question.retain:
        others = " or ".join(record.title for record in METHODS.values() if not record.retains)
        raise TooFewExamples(
            f"{' and '.join(compare)} compare a forget skill with retain skills: give at least one to "
            f"retain, or choose {others} alone"
        )
    for method in question.methods:
        if reason := why_not_offered(loaded, method):
            raise SkillError(f"{reason}; choose another method")


@lru_cache(maxsize=32)
def pick_test_prompt(question: UnlearningQuestion) -> str:
    """A prompt of the forget skill's test, in an unseen wording if there is one: nothing was fitted on it."""
    split = question.scene().forget
    unseen = [item for item, flag in zip(split.test, split.unseen, strict=True) if flag]
    return (unseen or split.test or split.probe)[0].prompt


def _check_probes(question: UnlearningQuestion, scene: Scene, record: UnlearningMethod) -> None:
    if (probes := len(scene.forget.probe)) < record.fewest_probes:
        alone = replace(question, retain=(), near=(), unlisted=())
        advice = advise_enough(
            *(question.forget, question.limit, probes, record.fewest_probes),
            lambda limit: len(replace(alone, limit=limit).scene().forget.probe),
        )
        count = len(question.forget.read(question.limit).items)
        raise TooFewExamples(
            f"{count} examples of {scene.forget.skill} make {probes} probes, and {record.title} needs at "
            f"least {record.fewest_probes}; {advice}, or choose the other methods"
        )


def _check_code(question: UnlearningQuestion, scene: Scene) -> None:
    if question.tests != "off":
        return
    for split in scene.splits:
        if any(item.judge == "tests" for item in (*split.probe, *split.validation, *split.test)):
            raise SkillError(
                f"{split.skill} is judged by running model-written code, which is off; allow it "
                "with --tests, on the page by contained unit tests, or choose another skill"
            )
