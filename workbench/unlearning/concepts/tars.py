"""TARS as a job: concepts removed and measured once, stored with their recipe, and read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.recipes.files import write_recipe_files
from analysis.unlearning.edits import tars
from store import RunSpec, Store, list_stored_units, read_array, read_unit
from workbench.kinds import Kind
from workbench.runs import UnitResult, run_spec
from workbench.unlearning.concepts.answers import EarlierRemoval, RemovalAnswer, ReversedVector, read_removal
from workbench.unlearning.concepts.questions import DEFAULTS, ConceptQuestion, read_concept_question
from workbench.unlearning.concepts.removals import check_concepts, remove_concepts
from workbench.unlearning.concepts.verdicts import answer_removal

EARLIER = ("concept", "prompts", "edits", "threshold", "noise", "seed")
"""The parameters of a run of version 1, which removed one concept."""


def removal_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that answers a question from `ConceptQuestion.document`."""
    question = read_concept_question(asked)
    return run_spec(loaded, "tars", tars.METHOD_VERSION, question.document(), units=1, seed=question.seed)


def _units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    question = read_concept_question(asked)
    for index in units:
        found = remove_concepts(loaded, question, pulse)
        recipe = write_recipe_files(loaded, [found.edits], "recipe")
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in recipe.items()}
        answer = answer_removal(found, question.goal, question.max_kl)
        yield index, UnitResult(", ".join(one.word for one in found.concepts), arrays, answer.to_document())


def _title(asked: Mapping[str, Any]) -> str:
    first, *more = read_concept_question(asked).concepts
    return f"Remove the concept {first.word}" + (f" and {len(more)} more" if more else "")


def _check(loaded: LoadedModel, asked: Mapping[str, Any]) -> None:
    check_concepts(loaded, read_concept_question(asked))


TARS = Kind(
    name="tars",
    unit="concepts",
    parameters=EARLIER,
    title=_title,
    spec=removal_spec,
    compute=_units,
    together="steps",
    check=_check,
    defaults=DEFAULTS,
)


@dataclass(frozen=True)
class StoredRemoval:
    """A stored removal. answer: of version 1 with what was measured then; files: its recipe, by name."""

    run: str
    answer: RemovalAnswer | EarlierRemoval
    files: dict[str, bytes]

    @property
    def earlier(self) -> bool:
        """Whether an earlier version measured it, at the first token of the answer alone."""
        return isinstance(self.answer, EarlierRemoval)

    @property
    def edits(self) -> tuple[ReversedVector, ...]:
        """The vectors that were reversed, of every concept."""
        parts = [self.answer] if isinstance(self.answer, EarlierRemoval) else self.answer.concepts
        return tuple(edit for part in parts for edit in part.edits)


def find_removal(loaded: LoadedModel, store: Store, asked: ConceptQuestion) -> StoredRemoval | None:
    """The stored answer, if any, of an earlier version too; computes nothing."""
    document = asked.document()
    keys = [removal_spec(loaded, document).key]
    if all(document[name] == value for name, value in DEFAULTS.items()):
        earlier = {name: document[name] for name in EARLIER}
        keys.append(run_spec(loaded, "tars", "1", earlier, units=1, seed=asked.seed).key)
    for key in keys:
        if list_stored_units(store, key):
            unit = read_unit(store, key, 0)
            files = {name: read_array(store, key, 0, name).tobytes() for name in unit.arrays}
            return StoredRemoval(key, read_removal(unit.payload), files)
    return None
