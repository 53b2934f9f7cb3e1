"""Answers about a word and its neurons, and the one place where they become JSON and are read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.intervening.residual_units import OF_RESIDUAL
from analysis.levers.results import Lever, LeverSearch
from analysis.levers.sweeping import DoseCurve
from analysis.running.words import Spelling
from workbench.records import read_record, write_record


@dataclass(frozen=True)
class LeverAnswer:
    """The levers of a word. unit: of the clamps' values, × residual or × block. positions: for each held-out
    prompt, why the word is read there.
    """

    word: str
    spellings: tuple[Spelling, ...]
    found: LeverSearch
    positions: tuple[str, ...]
    prompts: Mapping[str, int]
    seconds: float
    unit: str
    verdict: str

    def to_document(self, limit: int | None = None) -> dict[str, Any]:
        """As `levers --json` prints it; `read_levers` reads it. limit: levers listed, all without one."""
        found = self.found
        best = found.best
        return {
            "word": self.word,
            "spellings": [write_record(one) for one in self.spellings],
            "base": found.base,
            "levers": [write_lever(one) for one in found.levers[:limit]],
            "best": None if best is None else [str(clamp) for clamp in best.clamps],
            "steerable": found.steerable,
            "controls": {
                "value_matched": None
                if best is None or best.largest_control is None
                else {"n": len(best.controls), "largest": best.largest_control},
                "search_matched": None if found.search_control is None else write_lever(found.search_control),
            },
            "shortlist": [write_record(one) for one in found.shortlist],
            "refused": [
                {"clamps": [str(clamp) for clamp in clamps], "reason": reason}
                for clamps, reason in found.refused
            ],
            "prompts": dict(self.prompts),
            "positions": list(self.positions),
            "seconds": self.seconds,
            "measured_in": self.unit,
            "verdict": self.verdict,
        }


def read_levers(document: Mapping[str, Any]) -> LeverAnswer:
    """The answer that `LeverAnswer.to_document` wrote, of earlier versions too. Raises IncompleteRecord."""
    found = {
        **document,
        "search_control": document["controls"]["search_matched"],
        "refused": [(one["clamps"], one["reason"]) for one in document["refused"]],
    }
    unit = document.get("measured_in", OF_RESIDUAL)
    return read_record(LeverAnswer, {**document, "found": found, "unit": unit})


def write_lever(lever: Lever) -> dict[str, Any]:
    """One lever, as JSON, with what follows from its numbers."""
    return write_record(lever) | {
        "largest_control": lever.largest_control,
        "steerable": lever.steerable,
        "anywhere": lever.anywhere,
    }


@dataclass(frozen=True)
class SweepControls:
    """Random neurons at the same values. band: the smallest and largest mean P(word) at each value; largest:
    over all values.
    """

    neurons: tuple[str, ...]
    band: tuple[tuple[float, float], ...]
    largest: float


@dataclass(frozen=True)
class SweepAnswer:
    """Dose curves of a word. base: P(word) on each prompt without clamps. unit, site,
    scope: of the clamps.
    """

    word: str
    spellings: tuple[Spelling, ...]
    unit: str
    site: str
    scope: str
    values: tuple[float, ...]
    base: tuple[float, ...]
    curves: tuple[DoseCurve, ...]
    controls: SweepControls | None
    positions: tuple[str, ...]
    verdict: str

    def to_document(self) -> dict[str, Any]:
        """As `sweep --json` prints it; `read_sweep` reads it."""
        controls = self.controls
        return {
            "word": self.word,
            "spellings": [write_record(one) for one in self.spellings],
            "unit": self.unit,
            "site": self.site,
            "scope": self.scope,
            "values": list(self.values),
            "base": {"probability": list(self.base), "mean": sum(self.base) / len(self.base)},
            "neurons": [write_curve(curve) for curve in self.curves],
            "controls": controls
            and {
                "n": len(controls.neurons),
                "neurons": list(controls.neurons),
                "band": [list(pair) for pair in controls.band],
                "largest": controls.largest,
            },
            "positions": list(self.positions),
            "verdict": self.verdict,
        }


def read_sweep(document: Mapping[str, Any]) -> SweepAnswer:
    """The answer that `SweepAnswer.to_document` wrote. Raises IncompleteRecord."""
    named = {"base": document["base"]["probability"], "curves": document["neurons"]}
    return read_record(SweepAnswer, {**document, **named})


def write_curve(curve: DoseCurve) -> dict[str, Any]:
    """One dose curve, as JSON."""
    points = [write_record(point) for point in curve.points]
    return {"address": str(curve.address), "reached": curve.reached, "points": points}
