"""The best clamps of an answer: what its recipe and its script hold."""

from __future__ import annotations

from typing import cast

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import Clamp, ClampSite, Unit, parse_scope
from analysis.levers.grids import hold
from analysis.levers.readings import Clamps
from analysis.levers.sweeping import DosePoint
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.running.generation import Sampling
from store import Store
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.snippets import write_snippet
from workbench.levers.answers import LeverAnswer, SweepAnswer
from workbench.levers.prompts import place_prompt


def best_clamps(found: LeverAnswer | SweepAnswer) -> Clamps:
    """The lever to take, or the point of a sweep that raises the word most without collapse; none if nothing
    raises it.
    """
    if isinstance(found, LeverAnswer):
        best = found.found.best
        return () if best is None else best.clamps
    points = [
        (point.mean, curve.address, point)
        for curve in found.curves
        for point in curve.points
        if point.mean is not None and not point.collapse
    ]
    if not points:
        return ()
    mean, address, point = max(points, key=lambda one: one[0])
    if mean <= sum(found.base) / len(found.base):
        return ()
    return (hold_at(found, address, point),)


def hold_at(found: SweepAnswer, address: NeuronAddress, point: DosePoint) -> Clamp:
    """The clamp that a point of a sweep stands for."""
    unit = cast(Unit, found.unit if point.raw is None else "raw")
    value = point.value if point.raw is None else point.raw
    return hold(address, value, unit=unit, site=cast(ClampSite, found.site), scope=parse_scope(found.scope))


def write_best_script(
    loaded: LoadedModel, store: Store, clamps: Clamps, asked: Conversation, word: str
) -> str:
    """A script for plain transformers: one prompt with and without the clamps, from the answer position on.

    Generates the pair first. HeadlampError where no plain hook can express the clamps.
    """
    placed = place_prompt(loaded, asked, word)
    request = GenerationRequest(
        asked.prompt,
        clamps,
        placed.answer_prefix,
        Sampling(max_new_tokens=12),
        "",
        asked.system,
        asked.turns,
        asked.raw,
    )
    return write_snippet(loaded, generate_pair(loaded, store, request))
