"""Answers about a word and its neurons, and the one place where they become JSON and are read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.intervening.residual_units import OF_RESIDUAL
from analysis.levers.readings import Clamps
from analysis.levers.results import Lever, LeverSearch, Shortlisted
from analysis.levers.sweeping import DoseCurve, DosePoint
from analysis.running.words import Spelling


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

    def to_document(self) -> dict[str, Any]:
        """As `levers --json` prints it; `read_levers` reads it."""
        found = self.found
        best = found.best
        return {
            "word": self.word,
            "spellings": [write_spelling(one) for one in self.spellings],
            "base": found.base,
            "levers": [write_lever(one) for one in found.levers],
            "best": None if best is None else [str(clamp) for clamp in best.clamps],
            "steerable": found.steerable,
            "controls": {
                "value_matched": None
                if best is None or best.largest_control is None
                else {"n": len(best.controls), "largest": best.largest_control},
                "search_matched": None if found.search_control is None else write_lever(found.search_control),
            },
            "shortlist": [asdict(one) | {"address": str(one.address)} for one in found.shortlist],
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
    """The answer that `LeverAnswer.to_document` wrote."""
    random = document["controls"]["search_matched"]
    return LeverAnswer(
        word=document["word"],
        spellings=read_spellings(document["spellings"]),
        found=LeverSearch(
            levers=tuple(read_lever(one) for one in document["levers"]),
            search_control=None if random is None else read_lever(random),
            shortlist=tuple(
                Shortlisted(**{**one, "address": parse_address(one["address"])})
                for one in document["shortlist"]
            ),
            refused=tuple((read_clamps(one["clamps"]), one["reason"]) for one in document["refused"]),
            base=document["base"],
        ),
        positions=tuple(document["positions"]),
        prompts=document["prompts"],
        seconds=document["seconds"],
        unit=document.get("measured_in", OF_RESIDUAL),
        verdict=document["verdict"],
    )


def write_lever(lever: Lever) -> dict[str, Any]:
    """One lever, as JSON."""
    return asdict(lever) | {
        "clamps": [str(clamp) for clamp in lever.clamps],
        "per_prompt": list(lever.per_prompt),
        "controls": list(lever.controls),
        "largest_control": lever.largest_control,
        "steerable": lever.steerable,
        "anywhere": lever.anywhere,
    }


def read_lever(document: Mapping[str, Any]) -> Lever:
    """What `write_lever` wrote."""
    judged = ("largest_control", "steerable", "anywhere")
    given = {name: value for name, value in document.items() if name not in judged}
    tuples = {name: tuple(document[name]) for name in ("per_prompt", "controls")}
    return Lever(**{**given, **tuples, "clamps": read_clamps(document["clamps"])})


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
            "spellings": [write_spelling(one) for one in self.spellings],
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
    """The answer that `SweepAnswer.to_document` wrote."""
    controls = document["controls"]
    return SweepAnswer(
        word=document["word"],
        spellings=read_spellings(document["spellings"]),
        unit=document["unit"],
        site=document["site"],
        scope=document["scope"],
        values=tuple(document["values"]),
        base=tuple(document["base"]["probability"]),
        curves=tuple(read_curve(one) for one in document["neurons"]),
        controls=controls
        and SweepControls(
            tuple(controls["neurons"]),
            tuple((low, high) for low, high in controls["band"]),
            controls["largest"],
        ),
        positions=tuple(document["positions"]),
        verdict=document["verdict"],
    )


def write_curve(curve: DoseCurve) -> dict[str, Any]:
    """One dose curve, as JSON."""
    points = [asdict(point) | {"probability": list(point.probability)} for point in curve.points]
    return {"address": str(curve.address), "reached": curve.reached, "points": points}


def read_curve(document: Mapping[str, Any]) -> DoseCurve:
    """What `write_curve` wrote."""
    points = (DosePoint(**{**one, "probability": tuple(one["probability"])}) for one in document["points"])
    return DoseCurve(parse_address(document["address"]), tuple(points), document["reached"])


def write_spelling(spelling: Spelling) -> dict[str, Any]:
    """One spelling, as JSON."""
    return {"text": spelling.text, "token_ids": list(spelling.token_ids)}


def read_spellings(documents: Sequence[Mapping[str, Any]]) -> tuple[Spelling, ...]:
    """What `write_spelling` wrote."""
    return tuple(Spelling(one["text"], tuple(one["token_ids"])) for one in documents)


def read_clamps(texts: Sequence[str]) -> Clamps:
    """Clamps as they are typed."""
    found: list[Clamp] = [parse_clamp(text) for text in texts]
    return tuple(found)
