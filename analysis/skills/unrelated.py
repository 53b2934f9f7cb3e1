"""Queries of no skill: pieces of the texts that ship with Headlamp."""

from __future__ import annotations

from contextlib import suppress

from analysis.calibration import evaluation_text, reference_text
from analysis.errors import PromptTooLong
from analysis.models import LoadedModel
from analysis.texts import prompt_ids

NAME, COUNT = "unrelated text", 100
"""What they are called beside skills, and how many of them stand for text of no skill."""

WORDS = 20
"""Words in a piece; fewer where the model's context holds no more."""


def unrelated_texts(count: int) -> list[str]:
    """At most `count` pieces of the reference and the evaluation text, spread evenly; no two overlap."""
    words = [*reference_text().split(), *evaluation_text().split()]
    starts = range(0, len(words) - WORDS + 1, WORDS)
    step = max(1.0, len(starts) / max(count, 1))
    chosen = [starts[int(i * step)] for i in range(min(count, len(starts)))]
    return [" ".join(words[start : start + WORDS]) for start in chosen]


def unrelated_queries(loaded: LoadedModel, count: int) -> list[tuple[str, list[int]]]:
    """Pieces of those texts with their token ids, cut where the context is too short for one."""
    found = []
    for text in unrelated_texts(count):
        words = text.split()
        while words:
            with suppress(PromptTooLong):
                found.append((" ".join(words), prompt_ids(loaded, " ".join(words))))
                break
            words = words[: len(words) // 2]
    return found
