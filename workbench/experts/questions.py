"""Questions about experts, as JSON: what a job needs to profile or prune them anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.records import read_record, write_record

Variant = tuple[str, ...]
"""Parts pruned together, by address; none for the unchanged model."""
LONGEST_SAMPLE = 4096
"""Most tokens of a sample."""


@dataclass(frozen=True)
class ProfileQuestion:
    """A text to profile the experts on, by its digest. split: whether every fourth window is held out;
    window: tokens of a window; released: whether it is read as the authors' code reads it.
    """

    text: str
    split: bool
    window: int
    released: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job; as before there was a choice where there is none."""
        return _write(self, {"released": False})


@dataclass(frozen=True)
class PruneQuestion:
    """Sets of parts to prune: the chosen one, those drawn from any layer, those from the same layers.

    text, split, window: as in ProfileQuestion, of the evaluation. length: tokens of its windows; 0, as in
    orders of earlier versions: `window`. draws: of either kind; prompt, new_tokens: of the sample, in tokens.
    """

    text: str
    split: bool
    window: int
    groups: tuple[tuple[Variant, ...], ...]
    draws: int
    prompt: int
    new_tokens: int
    length: int = 0

    def __post_init__(self) -> None:
        counts = (self.window, self.draws, self.prompt, self.new_tokens, self.length)
        if min(counts) < 0 or self.new_tokens > LONGEST_SAMPLE or min(self.window, self.shortest) < 2:
            raise ValueError("a count of the question is out of range")
        if len(self.groups) != 3 or len(self.groups[0]) != 1 or not self.groups[0][0]:
            raise ValueError("the question names no pruned set")

    @property
    def shortest(self) -> int:
        """Tokens of an evaluation window."""
        return self.length or self.window

    @property
    def pruned(self) -> Variant:
        """The chosen set."""
        return self.groups[0][0]

    @property
    def random(self) -> tuple[Variant, ...]:
        """The sets drawn from any layer."""
        return self.groups[1]

    @property
    def same_layer(self) -> tuple[Variant, ...]:
        """The sets drawn from the same layers."""
        return self.groups[2]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every set to evaluate, each once: none, the pruned one, the random ones."""
        return tuple(dict.fromkeys([(), self.pruned, *self.random, *self.same_layer]))

    @property
    def sampled(self) -> frozenset[Variant]:
        """The sets with which the sample is continued: the first of each group."""
        return frozenset(group[0] for group in self.groups if group)

    @property
    def evaluation(self) -> dict[str, Any]:
        """The parameters that say which windows are read, and that runs of equal length have in common."""
        parts = {"text": self.text, "split": self.split, "window": self.window}
        return parts | ({"length": self.length} if self.length else {})

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job; as before there was a choice where there is none."""
        return _write(self, {"length": 0})


def read_profile_question(document: Mapping[str, Any]) -> ProfileQuestion:
    """The question of `ProfileQuestion.document`. Raises IncompleteRecord."""
    return read_record(ProfileQuestion, document)


def read_prune_question(document: Mapping[str, Any]) -> PruneQuestion:
    """The question of `PruneQuestion.document`. Raises IncompleteRecord, and ValueError for what is odd."""
    return read_record(PruneQuestion, document)


def _write(question: object, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """A question without what is as it was in earlier versions."""
    return {
        name: value
        for name, value in write_record(question).items()
        if name not in earlier or value != earlier[name]
    }
