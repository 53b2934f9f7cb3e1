"""Answers about removed concepts, and the one place where they become JSON and are read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from analysis.unlearning.edits.side_effects import KlSummary, SideEffects
from workbench.records import read_record, write_record
from workbench.unlearning.concepts.removals import PromptEffect


@dataclass(frozen=True)
class ReversedVector:
    """A vector that was reversed. vector: up, gate, down or head; cosine: with the concept, in [-1, 1]."""

    address: str
    vector: str
    cosine: float


@dataclass(frozen=True)
class ConceptAnswer:
    """One removed concept. target: P(concept) at the aim, without_head_rows: after the other edits alone;
    tried: vectors that were tried.

    effects: on other text, of all edits up to this one; zeroed: of its head rows zeroed alone.
    """

    concept: str
    verdict: str
    reached: bool
    holds: bool
    by_neurons: bool
    edits: tuple[ReversedVector, ...]
    target: float
    tried: int
    without_head_rows: float
    prompts: tuple[PromptEffect, ...]
    effects: SideEffects
    zeroed: SideEffects

    def take(self, split: str) -> tuple[PromptEffect, ...]:
        """The prompts of one split."""
        return tuple(one for one in self.prompts if one.split == split)

    @property
    def before(self) -> float:
        """Mean P(concept) over the prompts aimed with, in [0, 1]."""
        return fmean(one.before for one in self.take("aimed"))

    @property
    def after(self) -> float:
        """The same after the removal."""
        return fmean(one.after for one in self.take("aimed"))

    @property
    def after_zeroed(self) -> float:
        """The same with the concept's head rows zeroed alone."""
        return fmean(one.zeroed for one in self.take("aimed"))

    def to_document(self) -> dict[str, Any]:
        """As `tars --json` prints it among the concepts."""
        held_out, languages = (
            [[one.before, one.after] for one in self.take(split)] for split in ("held_out", "languages")
        )
        synonyms = [{"prompt": one.prompt, "says": one.says} for one in self.prompts if one.says]
        return {
            "concept": self.concept,
            "verdict": self.verdict,
            "reached": self.reached,
            "holds": self.holds,
            "by_neurons": self.by_neurons,
            "edits": [write_record(edit) for edit in self.edits],
            "target": self.target,
            "tried": self.tried,
            "without_head_rows": self.without_head_rows,
            "probability": {
                "aimed": [self.before, self.after],
                "held_out": held_out,
                "languages": languages,
                "synonyms": synonyms,
            },
            "prompts": [write_record(one) | {"counted": one.counted} for one in self.prompts],
            **_write_effects(self.effects),
        }

    def baseline_document(self) -> dict[str, Any]:
        """As `tars --json` prints it among the baselines."""
        held_out, languages = (
            [[one.before, one.zeroed] for one in self.take(split)] for split in ("held_out", "languages")
        )
        said = {
            "aimed": [self.before, self.after_zeroed],
            "held_out": held_out,
            "languages": languages,
        }
        return {"concept": self.concept, "probability": said, **_write_effects(self.zeroed)}


@dataclass(frozen=True)
class RemovalAnswer:
    """Concepts removed in sequence. other: share of the other prompts whose greedy answers stayed, and how
    many there are; None without any.
    """

    verdict: str
    concepts: tuple[ConceptAnswer, ...]
    other: tuple[float, int] | None
    version: str

    @property
    def effects(self) -> SideEffects:
        """On other text, of all edits together."""
        return self.concepts[-1].effects

    def to_document(self) -> dict[str, Any]:
        """As `tars --json` prints it; `read_removal` reads it."""
        return {
            "verdict": self.verdict,
            "concepts": [one.to_document() for one in self.concepts],
            **_write_effects(self.effects),
            "other_answers": None if self.other is None else {"share": self.other[0], "n": self.other[1]},
            "head_row_baseline": {"concepts": [one.baseline_document() for one in self.concepts]},
            "version": self.version,
        }


@dataclass(frozen=True)
class EarlierProbability:
    """Mean P(concept) behind the prompts, before and after, in [0, 1]."""

    before: float
    after: float


@dataclass(frozen=True)
class EarlierKl:
    """Median KL in nats over n positions of the reference text; None without any."""

    median: float | None
    n: int


@dataclass(frozen=True)
class EarlierRemoval:
    """A concept as version 1 removed it: measured at the first token of the answer, and on raw text alone.

    target: P(concept) at the aim.
    """

    concept: str
    edits: tuple[ReversedVector, ...]
    target: float
    probability: EarlierProbability
    kl: EarlierKl
    version: str

    def to_document(self) -> dict[str, Any]:
        """As version 1 stored it; `read_removal` reads it."""
        return write_record(self)


def read_removal(document: Mapping[str, Any]) -> RemovalAnswer | EarlierRemoval:
    """The answer that `to_document` wrote, of version 1 too. Raises IncompleteRecord."""
    if "concepts" not in document:
        return read_record(EarlierRemoval, document)
    other = document["other_answers"]
    pairs = zip(document["concepts"], document["head_row_baseline"]["concepts"], strict=True)
    return RemovalAnswer(
        verdict=document["verdict"],
        concepts=tuple(_read_concept(one, zeroed) for one, zeroed in pairs),
        other=other and (other["share"], other["n"]),
        version=document["version"],
    )


def _read_concept(document: Mapping[str, Any], zeroed: Mapping[str, Any]) -> ConceptAnswer:
    effects = {"effects": _read_effects(document), "zeroed": _read_effects(zeroed)}
    return read_record(ConceptAnswer, {**document, **effects})


def _write_effects(effects: SideEffects) -> dict[str, Any]:
    return {
        "kl": {"chat": _write_kl(effects.chat), "raw": _write_kl(effects.raw)},
        "answers_unchanged": {"share": effects.unchanged, "n": effects.answers},
    }


def _write_kl(kl: KlSummary | None) -> dict[str, Any] | None:
    return None if kl is None else {"median": kl.median, "p95": kl.p95, "max": kl.largest, "n": kl.n}


def _read_effects(document: Mapping[str, Any]) -> SideEffects:
    chat, raw, answers = document["kl"]["chat"], document["kl"]["raw"], document["answers_unchanged"]
    return SideEffects(chat and _read_kl(chat), _read_kl(raw), answers["share"], answers["n"])


def _read_kl(kl: Mapping[str, Any]) -> KlSummary:
    return KlSummary(kl["median"], kl["p95"], kl["max"], kl["n"])
