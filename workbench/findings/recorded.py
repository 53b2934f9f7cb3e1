"""Recorded questions and answers of findings, validated before they are run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import ModelRef
from analysis.recipes.recipes import use_recorded_raw
from analysis.running.generation import Sampling
from store import Finding
from workbench.generating.requests import GenerationRequest
from workbench.records import read_record
from workbench.reruns import explain_incomplete


@dataclass(frozen=True)
class RecordedGeneration:
    """A finding's recorded question and answer. answer: token id → (base, changed) probability.

    word: None too where an earlier version measured it otherwise; other_word says how.
    prompt_ids, rendered: what was fed, as tokens and as text; None and "" in findings of earlier versions.
    """

    ref: ModelRef
    request: GenerationRequest
    base_ids: tuple[int, ...]
    changed_ids: tuple[int, ...]
    answer: dict[int, tuple[float, float]]
    word: tuple[float, float] | None
    prompt_ids: tuple[int, ...] | None = None
    rendered: str = ""
    other_word: str = ""


def read_recorded(finding: Finding) -> RecordedGeneration:
    """Read a finding's evidence completely before anything is generated; it may be untrusted.

    Raises HeadlampError.
    """
    if finding.kind != "generation":
        raise HeadlampError(
            f"finding {finding.id[:8]} is of the kind {finding.kind}; only generations, levers, sweeps, "
            "prunings, comparisons and unlearning run again"
        )
    with explain_incomplete():
        found = read_record(_Evidence, finding.evidence)
        word = found.word
        return RecordedGeneration(
            ref=ModelRef(
                finding.model_name,
                revision=found.revision or None,
                device=found.device or "cpu",
                dtype=found.dtype or "auto",
            ),
            request=_read_request(found),
            base_ids=found.base.token_ids,
            changed_ids=found.changed.token_ids,
            answer={
                base.token_id: (base.probability, changed.probability)
                for base, changed in zip(found.answer.base, found.answer.changed, strict=True)
            },
            word=None if word is None or word.measured_otherwise else (word.base, word.changed),
            other_word="" if word is None else word.measured_otherwise,
            prompt_ids=found.prompt_ids,
            rendered=found.rendered_prompt or "",
        )


@dataclass(frozen=True)
class _Text:
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Token:
    token_id: int
    probability: float


@dataclass(frozen=True)
class _Answer:
    base: tuple[_Token, ...]
    changed: tuple[_Token, ...]


@dataclass(frozen=True)
class _Word:
    """P(word); source, position: None where an earlier version did not say them."""

    word: str
    base: float
    changed: float
    source: str | None = None
    position: int | None = None

    @property
    def measured_otherwise(self) -> str:
        """How an earlier version measured it; empty for today's way."""
        if self.source is not None:
            return ""
        if self.position is not None:
            return "at the first position after the prompt, together with the words that it begins,"
        return "by single tokens"


@dataclass(frozen=True)
class _Evidence:
    """What `pair_evidence` wrote, of earlier versions too: what is asked again."""

    prompt: str
    recipe: Mapping[str, Any]
    max_new_tokens: int
    temperature: float
    seed: int
    base: _Text
    changed: _Text
    answer: _Answer
    word: _Word | None = None
    answer_prefix: str | None = None
    system: str | None = None
    turns: tuple[tuple[str, str], ...] | None = None
    raw: bool | None = None
    fold_case: bool | None = None
    as_configured: bool | None = None
    prompt_ids: tuple[int, ...] | None = None
    rendered_prompt: str | None = None
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None


def _read_request(found: _Evidence) -> GenerationRequest:
    sampling = Sampling(
        found.max_new_tokens, float(found.temperature), found.seed, found.as_configured is True
    )
    return GenerationRequest(
        prompt=found.prompt,
        clamps=use_recorded_raw(found.recipe),
        answer_prefix=found.answer_prefix or "",
        sampling=sampling,
        word="" if found.word is None else found.word.word,
        system=found.system or "",
        turns=found.turns or (),
        raw=found.raw is True,
        fold_case=found.fold_case is True,
    )
