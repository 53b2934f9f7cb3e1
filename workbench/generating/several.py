"""The same changes under several prompts: a pair of texts each, and the mean of P(word) over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from store import Store
from workbench.generating.clamping import Generation, generate_pair
from workbench.generating.prompt_files import PromptLine, name_line
from workbench.generating.requests import GenerationRequest, check_request
from workbench.generating.word_places import spell_word
from workbench.runs import Progress

DRAWS = 2000
"""Bootstrap draws of an interval."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class WordMean:
    """P(word) at the answer position over n prompts: means in [0, 1], and of changed − base.

    intervals: 95 %, by bootstrap over the prompts, paired; None for a single prompt.
    """

    n: int
    base: float
    changed: float
    change: float
    intervals: tuple[Interval, Interval, Interval] | None

    def to_document(self) -> dict[str, Any]:
        """As `generate --prompts --json` prints it."""
        names = ("base", "changed", "change")
        return {
            "n": self.n,
            "mean": {name: getattr(self, name) for name in names},
            "interval": self.intervals
            and {name: list(pair) for name, pair in zip(names, self.intervals, strict=True)},
        }


def generate_pairs(
    loaded: LoadedModel,
    store: Store,
    lines: Sequence[PromptLine],
    common: GenerationRequest,
    name: str,
    progress: Progress = lambda done, total: None,
) -> Iterator[Generation]:
    """Generate or load a pair for each prompt, in order; each is stored when it is finished.

    All prompts are checked first. Raises HeadlampError, naming the file and the prompt.
    """
    requests = check_prompts(loaded, lines, common, name)
    for number, request in enumerate(requests):
        try:
            yield generate_pair(loaded, store, request)
        except HeadlampError as error:
            raise name_line(error, name, number) from error
        progress(number + 1, len(requests))


def check_prompts(
    loaded: LoadedModel, lines: Sequence[PromptLine], common: GenerationRequest, name: str
) -> list[GenerationRequest]:
    """The request of each prompt. Raises HeadlampError for an impossible one, naming file and prompt."""
    requests = [line.ask(common) for line in lines]
    for number, request in enumerate(requests):
        try:
            check_request(loaded, request)
            spell_word(loaded, request)
        except HeadlampError as error:
            raise name_line(error, name, number) from error
    return requests


def average_word(pairs: Sequence[Generation], seed: int) -> WordMean | None:
    """The mean of P(word) over the pairs that have one; None if none has."""
    found = np.array([pair.word for pair in pairs if pair.word is not None]).reshape(-1, 2)
    if not len(found):
        return None
    values = np.column_stack([found, found[:, 1] - found[:, 0]])
    intervals = None
    if len(values) > 1:
        drawn = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
        low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5], axis=0)
        first, second, third = zip(low.tolist(), high.tolist(), strict=True)
        intervals = first, second, third
    base, changed, change = values.mean(0).tolist()
    return WordMean(len(values), base, changed, change, intervals)
