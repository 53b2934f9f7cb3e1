"""TARS as a use case: remove a concept, and measure the effect on it and on other text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import find_word_tokens
from analysis.pulse import Pulse
from analysis.recipes.files import write_recipe_files
from analysis.running.prompts import encode_prompt, reference_windows
from analysis.skills.likelihoods import score_next_tokens
from analysis.skills.metrics import measure_divergence
from analysis.unlearning.edits import tars
from analysis.unlearning.edits.reversals import Tars
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD, aim_at_concept, fit_tars
from store import RunSpec, Store, list_stored_units, read_array, read_unit
from workbench.kinds import Kind
from workbench.runs import UnitResult, run_spec

WINDOW = 32
"""Length of the context, in tokens of the reference text, before each compared next-token distribution."""

STEPS = 5
"""Steps of a removal: aim, choose, P(concept), other text in base, other text under the edits."""


@dataclass(frozen=True)
class ConceptRemoval:
    """A removed concept. probability: mean over the prompts, before and after; kl_median (nats) over
    `positions` of the reference text, without those where the concept was the likeliest token before.
    """

    concept: str
    edits: Tars
    aimed: float
    before: float
    after: float
    kl_median: float | None
    positions: int
    recipe: dict[str, bytes]

    def document(self) -> dict[str, Any]:
        """As `tars --json` prints it."""
        return {
            "concept": self.concept,
            "edits": [
                {"address": str(edit.address), "vector": edit.site, "cosine": edit.cosine}
                for edit in self.edits.edits
            ],
            "target": self.aimed,
            "probability": {"before": self.before, "after": self.after},
            "kl": {"median": self.kl_median, "n": self.positions},
            "version": tars.METHOD_VERSION,
        }


def remove_concept(
    loaded: LoadedModel,
    concept: str,
    prompts: Sequence[str],
    *,
    edits: int = MOST_EDITS,
    threshold: float = THRESHOLD,
    noise: float = NOISE,
    seed: int = 0,
    pulse: Pulse = lambda done, total: None,
) -> ConceptRemoval:
    """Aim at a concept (a word of one token) with prompts that lead to it, and reverse the best aligned
    vectors.

    Raises UnknownWord, TextError, SkillError.
    """
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, concept)
    ids = [encode_prompt(loaded, prompt) for prompt in prompts]
    target = aim_at_concept(loaded, ids, tokens, noise=noise, seed=seed)
    pulse(1, STEPS)
    change = fit_tars(loaded, target, edits=edits, threshold=threshold)
    pulse(2, STEPS)
    said = [_probability(loaded, ids, tokens, changes) for changes in ((), (change,))]
    pulse(3, STEPS)
    windows = [w[i : i + WINDOW] for w in reference_windows(loaded) for i in range(0, len(w), WINDOW)]
    base, _ = score_next_tokens(loaded, windows)
    pulse(4, STEPS)
    after, refused = score_next_tokens(loaded, windows, [change])
    other = ~torch.isin(base.argmax(-1), torch.tensor(tokens))
    found = measure_divergence(base[other], after[other], refused[other], 0)
    return ConceptRemoval(
        concept=concept,
        edits=change,
        aimed=target.probability,
        before=said[0],
        after=said[1],
        kl_median=found.kl_median,
        positions=found.n,
        recipe=write_recipe_files(loaded, [change], "recipe"),
    )


def _probability(
    loaded: LoadedModel, ids: Sequence[Sequence[int]], tokens: Sequence[int], changes: Sequence[Tars]
) -> float:
    log_p: Tensor = score_next_tokens(loaded, ids, changes)[0]
    return float(log_p.double().exp()[:, list(tokens)].sum(-1).mean())


@dataclass(frozen=True)
class ConceptQuestion:
    """A TARS question: a word of one token, and prompts that lead to it."""

    concept: str
    prompts: tuple[str, ...]
    edits: int = MOST_EDITS
    threshold: float = THRESHOLD
    noise: float = NOISE
    seed: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job."""
        return vars(self) | {"prompts": list(self.prompts)}


def check_concept(loaded: LoadedModel, asked: ConceptQuestion) -> None:
    """Refuse a concept or a prompt before a job is requested. Raises UnknownWord, TextError."""
    find_word_tokens(loaded.vocabulary, loaded.tokenizer, asked.concept)
    for prompt in asked.prompts:
        encode_prompt(loaded, prompt)


def removal_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that answers a question from `ConceptQuestion.document`."""
    return run_spec(loaded, "tars", tars.METHOD_VERSION, asked, units=1, seed=asked["seed"])


def _units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    for index in units:
        how = {name: asked[name] for name in ("edits", "threshold", "noise", "seed")}
        found = remove_concept(loaded, asked["concept"], asked["prompts"], **how, pulse=pulse)
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in found.recipe.items()}
        yield index, UnitResult(asked["concept"], arrays, found.document())


TARS = Kind(
    name="tars",
    unit="concepts",
    parameters=("concept", "prompts", "edits", "threshold", "noise", "seed"),
    title=lambda asked: f"Remove the concept {asked['concept']}",
    spec=removal_spec,
    compute=_units,
    together="steps",
)


@dataclass(frozen=True)
class StoredRemoval:
    """A stored removal. document: as `tars --json` prints it; files: its recipe, by name."""

    run: str
    document: dict[str, Any]
    files: dict[str, bytes]


def find_removal(loaded: LoadedModel, store: Store, asked: ConceptQuestion) -> StoredRemoval | None:
    """The stored answer, if any; computes nothing."""
    key = removal_spec(loaded, asked.document()).key
    if not list_stored_units(store, key):
        return None
    unit = read_unit(store, key, 0)
    files = {name: read_array(store, key, 0, name).tobytes() for name in unit.arrays}
    return StoredRemoval(key, unit.payload, files)
