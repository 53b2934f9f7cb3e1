"""Queries of no skill: pieces of the texts that ship with Headlamp.

Those of the reference text may be fitted on; what is told of unrelated text is of the evaluation text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from analysis.errors import PromptTooLong
from analysis.opening.models import LoadedModel
from analysis.running.calibration import evaluation_text, reference_text
from analysis.running.prompts import prompt_ids

NAME, COUNT = "unrelated text", 100
"""What they are called beside skills, and how many of them stand for text of no skill."""

PROBES = 34
"""Pieces of the reference text that are fitted on."""

WORDS = 20
"""Words in a piece; fewer where the model's context holds no more."""


def pieces(text: str, count: int) -> list[str]:
    """At most `count` pieces of a text, spread evenly; no two overlap."""
    words = text.split()
    starts = range(0, len(words) - WORDS + 1, WORDS)
    step = max(1.0, len(starts) / max(count, 1))
    chosen = [starts[int(i * step)] for i in range(min(count, len(starts)))]
    return [" ".join(words[start : start + WORDS]) for start in chosen]


def unrelated_queries(loaded: LoadedModel, count: int) -> list[tuple[str, list[int]]]:
    """At most `count` pieces of the evaluation text with their token ids."""
    return _asked(loaded, pieces(evaluation_text(), count))


def unrelated_probes(loaded: LoadedModel) -> list[list[int]]:
    """The token ids of the reference text's pieces, to fit on."""
    return [ids for _, ids in _asked(loaded, pieces(reference_text(), PROBES))]


def _asked(loaded: LoadedModel, texts: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Texts with their token ids, cut where the context is too short for one."""
    found = []
    for text in texts:
        words = text.split()
        while words:
            with suppress(PromptTooLong):
                found.append((" ".join(words), prompt_ids(loaded, " ".join(words))))
                break
            words = words[: len(words) // 2]
    return found
