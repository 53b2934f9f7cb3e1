"""Unrelated queries: passages of the bundled texts, which belong to no skill.

Passages of the reference text may be fitted on; results on unrelated text use only the evaluation text.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from analysis.errors import PromptTooLong
from analysis.opening.models import LoadedModel
from analysis.running.calibration import evaluation_text, reference_text
from analysis.running.prompts import encode_prompt

NAME, COUNT = "unrelated text", 100
"""Their name beside skills, and how many of them represent unrelated text."""

PROBES = 34
"""Passages of the reference text used for fitting."""

WORDS = 20
"""Words in a passage; fewer if the model's context is shorter."""


def cut_passages(text: str, count: int) -> list[str]:
    """At most `count` passages of a text, evenly spaced, without overlap."""
    words = text.split()
    starts = range(0, len(words) - WORDS + 1, WORDS)
    step = max(1.0, len(starts) / max(count, 1))
    chosen = [starts[int(i * step)] for i in range(min(count, len(starts)))]
    return [" ".join(words[start : start + WORDS]) for start in chosen]


def read_unrelated_queries(loaded: LoadedModel, count: int) -> list[tuple[str, list[int]]]:
    """At most `count` passages of the evaluation text with their token ids."""
    return _encode_passages(loaded, cut_passages(evaluation_text(), count))


def read_unrelated_probes(loaded: LoadedModel) -> list[list[int]]:
    """The token ids of the reference text's passages, for fitting."""
    return [ids for _, ids in _encode_passages(loaded, cut_passages(reference_text(), PROBES))]


def _encode_passages(loaded: LoadedModel, texts: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Texts with their token ids, truncated to the context."""
    found = []
    for text in texts:
        words = text.split()
        while words:
            with suppress(PromptTooLong):
                found.append((" ".join(words), encode_prompt(loaded, " ".join(words))))
                break
            words = words[: len(words) // 2]
    return found
