"""Recorded questions and answers of findings, validated before they are run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import ModelRef
from analysis.recipes.recipes import use_recorded_raw
from analysis.running.generation import Sampling
from store import Finding
from workbench.generating.requests import GenerationRequest
from workbench.reruns import explain_incomplete

ROWS = ("base", "changed")


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
    document = finding.evidence
    if finding.kind != "generation":
        raise HeadlampError(
            f"finding {finding.id[:8]} is of the kind {finding.kind}; only generations, levers, sweeps, "
            "prunings, comparisons and unlearning run again"
        )
    with explain_incomplete():
        rows = [document["answer"][row] for row in ROWS]
        word = document.get("word")
        other_word = _find_other_word(word or {})
        return RecordedGeneration(
            ref=ModelRef(
                finding.model_name,
                revision=_text(document.get("revision")),
                device=_text(document.get("device")) or "cpu",
                dtype=_text(document.get("dtype")) or "auto",
            ),
            request=_request(document, str(word["word"]) if word else ""),
            base_ids=tuple(int(i) for i in document["base"]["token_ids"]),
            changed_ids=tuple(int(i) for i in document["changed"]["token_ids"]),
            answer={
                int(b["token_id"]): (float(b["probability"]), float(c["probability"]))
                for b, c in zip(*rows, strict=True)
            },
            word=(float(word["base"]), float(word["changed"])) if word and not other_word else None,
            other_word=other_word,
            prompt_ids=_ids(document.get("prompt_ids")),
            rendered=str(document.get("rendered_prompt") or ""),
        )


def _find_other_word(word: dict[str, Any]) -> str:
    """How an earlier version measured a finding's word; empty for today's way, and for no word."""
    if not word or "source" in word:
        return ""
    if "position" in word:
        return "at the first position after the prompt, together with the words that it begins,"
    return "by single tokens"


def _request(document: dict[str, Any], word: str) -> GenerationRequest:
    return GenerationRequest(
        prompt=str(document["prompt"]),
        clamps=use_recorded_raw(document["recipe"]),
        answer_prefix=str(document.get("answer_prefix") or ""),
        sampling=Sampling(
            int(document["max_new_tokens"]),
            float(document["temperature"]),
            int(document["seed"]),
            document.get("as_configured") is True,
        ),
        word=word,
        system=str(document.get("system") or ""),
        turns=tuple((str(role), str(said)) for role, said in document.get("turns") or ()),
        raw=document.get("raw") is True,
        fold_case=document.get("fold_case") is True,
    )


def _ids(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(int(i) for i in value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
