"""Checks of a question about unlearning, before anything is measured."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import cast

from analysis.errors import HeadlampError, SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES, dense_block, dense_layers
from analysis.unlearning.scenes import Method, Scene
from workbench.unlearning.unlearning import UnlearningQuestion


def why_not_offered(loaded: LoadedModel, method: Method) -> str:
    """Why a method cannot work on this model; empty if it can."""
    if method == "ksd" and not dense_layers(loaded):
        return (
            "KSD fits boxes to keys of a dense FFN block, which every query passes; this model has only "
            "experts"
        )
    return ""


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
    _check_guard(loaded, question, scene)
    _check_code(question, scene)
    return scene


def check_methods(loaded: LoadedModel, question: UnlearningQuestion) -> None:
    """Raise SkillError or TooFewExamples for a method that cannot work on this model or these skills."""
    if question.forget in question.retain:
        raise SkillError(
            f"{question.forget.name} cannot be both forget skill and retain skill; remove it from one"
        )
    if set(question.methods) - {"ksd"} and not question.retain:
        raise TooFewExamples(
            "Neuron Adjust and selective pruning compare a forget skill with retain skills: give at least "
            "one to retain, or "
            "choose KSD alone"
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


def _check_guard(loaded: LoadedModel, question: UnlearningQuestion, scene: Scene) -> None:
    if "ksd" not in question.methods:
        return
    for layer in question.layers if not isinstance(question.layers, str) else ():
        dense_block(loaded, layer)
    if (probes := len(scene.forget.probe)) < FEWEST_PROBES:
        count = len(question.forget.read(question.limit).items)
        raise TooFewExamples(
            f"{count} examples of {scene.forget.skill} make {probes} probes, and KSD needs at least "
            f"{FEWEST_PROBES}; {_say_enough(question, count, probes)}, or choose the other methods"
        )


def _say_enough(question: UnlearningQuestion, count: int, probes: int) -> str:
    """How many examples would do: of those that there are, else at the rate at which these become probes."""
    whole = len(question.forget.read().items)
    for limit in _TRIED:
        if count < limit < whole and _count_probes(replace(question, limit=limit)) >= FEWEST_PROBES:
            return f"use {limit} of its {whole}"
    if count < whole and _count_probes(replace(question, limit=0)) >= FEWEST_PROBES:
        return f"use all of its {whole}"
    if not probes:
        return "give it more examples"
    return f"give about {10 * math.ceil(count * FEWEST_PROBES / probes / 10)} in these wordings"


_TRIED = (60, 120, 180, 240, 360, 480, 720)
"""Numbers of examples that are tried where a limit leaves too few."""


def _count_probes(question: UnlearningQuestion) -> int:
    return len(replace(question, retain=(), near=(), unlisted=()).scene().forget.probe)


def _check_code(question: UnlearningQuestion, scene: Scene) -> None:
    if question.tests != "off":
        return
    for split in scene.splits:
        if any(item.judge == "tests" for item in (*split.probe, *split.validation, *split.test)):
            raise SkillError(
                f"{split.skill} is judged by running model-written code, which is off; allow it "
                "with --tests, on the page by contained unit tests, or choose another skill"
            )
