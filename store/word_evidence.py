"""Evidence of a word's levers and of a sweep, for pages and exports; missing or odd fields are tolerated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.odd_fields import read_bool, read_field, read_list, read_map, read_number, read_turns

_CLAMP = re.compile(r"(?P<address>[^:\s]+):key:set:(?P<value>-?[\d.]+(?:e-?\d+)?)r@last")
PURPOSES = {"select": "chosen on", "held_out": "held out", "other": "other kind due", "prompts": "swept on"}
"""Field of a question → what its prompts are for."""
LEVER_COLUMNS = (
    "clamps",
    "held-out P",
    "without",
    "best random",
    "selection P",
    "other kind P",
    "neutral KL",
    "repeats",
)
DOSE_COLUMNS = ("neuron", "value", "P", "random from", "to", "KL", "neutral KL", "repeats")


@dataclass(frozen=True)
class LeverFacts:
    """A measured lever. P in [0, 1], KL in nats a token; None: not known or not measured.

    probability: on each held-out prompt.
    """

    clamps: tuple[str, ...]
    probability: tuple[float | None, ...]
    held_out: float | None
    base: float | None
    control: float | None
    selection: float | None
    other: float | None
    neutral_kl: float | None
    collapse: bool | None

    def cells(self) -> tuple[object, ...]:
        """Its row under LEVER_COLUMNS: texts, numbers, and None."""
        measured = (self.held_out, self.base, self.control, self.selection, self.other, self.neutral_kl)
        return (self.name, *measured, say_yes(self.collapse))

    @property
    def name(self) -> str:
        """Its clamps, short: `L3.N290:-4r L3.N418:4r`."""
        return " ".join(map(shorten_clamp, self.clamps))


@dataclass(frozen=True)
class DoseFacts:
    """A neuron at one value. probability: on each prompt; low, high: of random neurons at the same value."""

    neuron: str
    value: float | None
    probability: tuple[float | None, ...]
    mean: float | None
    low: float | None
    high: float | None
    kl: float | None
    neutral_kl: float | None
    collapse: bool | None

    def cells(self) -> tuple[object, ...]:
        """Its row under DOSE_COLUMNS: texts, numbers, and None."""
        measured = (self.value, self.mean, self.low, self.high, self.kl, self.neutral_kl)
        return (self.neuron, *measured, say_yes(self.collapse))


@dataclass(frozen=True)
class PromptFacts:
    """A prompt of a question. purpose: one of PURPOSES' texts; turns: each begins a line with its role."""

    purpose: str
    prompt: str
    answer_prefix: str
    system: str
    turns: str
    raw: bool

    @property
    def line(self) -> str:
        """The prompt and the beginning of its answer."""
        return " … ".join(part for part in (self.prompt, self.answer_prefix) if part)


@dataclass(frozen=True)
class WordEvidence:
    """What a finding of levers or of a sweep holds. base: mean P(word) without clamps; unit: of the doses.

    forces: whether the best lever says the word where another kind is due as well.
    """

    word: str
    verdict: str
    steerable: bool | None
    forces: bool
    base: float | None
    unit: str
    levers: tuple[LeverFacts, ...]
    doses: tuple[DoseFacts, ...]
    prompts: tuple[PromptFacts, ...]


def read_word_evidence(evidence: Mapping[str, Any]) -> WordEvidence:
    """The readable part of such evidence; empty for evidence of another kind. Never raises."""
    document, question = read_map(evidence.get("document")), read_map(evidence.get("question"))
    base = document.get("base")
    return WordEvidence(
        word=read_field(document.get("word")),
        verdict=read_field(document.get("verdict")),
        steerable=read_bool(document.get("steerable")),
        forces=any(
            one.get("clamps") == document.get("best") and one.get("anywhere") is True
            for one in map(read_map, read_list(document.get("levers")))
        ),
        base=read_number(read_map(base).get("mean") if isinstance(base, Mapping) else base),
        unit={"residual": "× residual", "max": "× max"}.get(str(document.get("unit")), "raw"),
        levers=tuple(_read_lever(read_map(one)) for one in read_list(document.get("levers"))),
        doses=tuple(_read_doses(document)),
        prompts=tuple(
            _read_prompt(purpose, read_map(prompt))
            for name, purpose in PURPOSES.items()
            for prompt in read_list(question.get(name))
        ),
    )


def shorten_clamp(clamp: str) -> str:
    """`L3.N296:key:set:-2.8284271247461903r@last` → `L3.N296:-2.83r`; other clamps stay as they are typed."""
    match = _CLAMP.fullmatch(clamp)
    return clamp if match is None else f"{match['address']}:{float(match['value']):.3g}r"


def say_yes(value: bool | None) -> str:
    """`yes`, `no`, or a dash where it is not known."""
    return "–" if value is None else "yes" if value else "no"


def _read_lever(lever: Mapping[str, Any]) -> LeverFacts:
    return LeverFacts(
        clamps=tuple(map(read_field, read_list(lever.get("clamps")))),
        probability=tuple(map(read_number, read_list(lever.get("per_prompt")))),
        held_out=read_number(lever.get("held_out")),
        base=read_number(lever.get("base")),
        control=read_number(lever.get("largest_control")),
        selection=read_number(lever.get("selection")),
        other=read_number(lever.get("specificity")),
        neutral_kl=read_number(lever.get("neutral_kl")),
        collapse=read_bool(lever.get("collapse")),
    )


def _read_doses(document: Mapping[str, Any]) -> list[DoseFacts]:
    band = read_list(read_map(document.get("controls")).get("band"))
    found = []
    for curve in map(read_map, read_list(document.get("neurons"))):
        for at, point in enumerate(map(read_map, read_list(curve.get("points")))):
            ends = [*map(read_number, read_list(band[at] if at < len(band) else ())), None, None]
            found.append(
                DoseFacts(
                    neuron=read_field(curve.get("address")),
                    value=read_number(point.get("value")),
                    probability=tuple(map(read_number, read_list(point.get("probability")))),
                    mean=read_number(point.get("mean")),
                    low=ends[0],
                    high=ends[1],
                    kl=read_number(point.get("kl")),
                    neutral_kl=read_number(point.get("neutral_kl")),
                    collapse=read_bool(point.get("collapse")),
                )
            )
    return found


def _read_prompt(purpose: str, prompt: Mapping[str, Any]) -> PromptFacts:
    return PromptFacts(
        purpose,
        read_field(prompt.get("prompt")),
        read_field(prompt.get("answer_prefix")),
        read_field(prompt.get("system")),
        read_turns(prompt.get("turns")),
        prompt.get("raw") is True,
    )
