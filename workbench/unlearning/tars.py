"""TARS as a use case: a concept removed, and what that did to it and to other text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import word_tokens
from analysis.pulse import Pulse
from analysis.recipes.files import recipe_files
from analysis.running.prompts import prompt_ids, reference_windows
from analysis.skills.likelihoods import next_token_log_probabilities
from analysis.skills.metrics import divergence
from analysis.unlearning.edits import tars
from analysis.unlearning.edits.reversals import Tars
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD, aim, fit_tars
from store import RunSpec, Store, read_array, read_unit, stored_units
from workbench.kinds import Kind
from workbench.runs import UnitResult, run_spec

WINDOW = 32
"""Tokens of the reference text before each next token whose distribution is compared."""

STEPS = 5
"""Of a removal: aim, choose, P(concept), other text as it is, other text under the edits."""


@dataclass(frozen=True)
class Removal:
    """A concept removed. probability: mean over the prompts, before and after; kl_median (nats) over
    `positions` of the reference text, those left out where the concept itself was the likeliest before."""

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
) -> Removal:
    """Aim at a concept (a word of one token) from prompts that lead to it, and turn the best vectors round.

    Raises UnknownWord, TextError, SkillError.
    """
    tokens = word_tokens(loaded.vocabulary, loaded.tokenizer, concept)
    ids = [prompt_ids(loaded, prompt) for prompt in prompts]
    target = aim(loaded, ids, tokens, noise=noise, seed=seed)
    pulse(1, STEPS)
    change = fit_tars(loaded, target, edits=edits, threshold=threshold)
    pulse(2, STEPS)
    said = [_probability(loaded, ids, tokens, changes) for changes in ((), (change,))]
    pulse(3, STEPS)
    windows = [w[i : i + WINDOW] for w in reference_windows(loaded) for i in range(0, len(w), WINDOW)]
    base, _ = next_token_log_probabilities(loaded, windows)
    pulse(4, STEPS)
    after, refused = next_token_log_probabilities(loaded, windows, [change])
    other = ~torch.isin(base.argmax(-1), torch.tensor(tokens))
    found = divergence(base[other], after[other], refused[other], 0)
    return Removal(
        concept=concept,
        edits=change,
        aimed=target.probability,
        before=said[0],
        after=said[1],
        kl_median=found.kl_median,
        positions=found.n,
        recipe=recipe_files(loaded, [change], "recipe"),
    )


def _probability(
    loaded: LoadedModel, ids: Sequence[Sequence[int]], tokens: Sequence[int], changes: Sequence[Tars]
) -> float:
    log_p: Tensor = next_token_log_probabilities(loaded, ids, changes)[0]
    return float(log_p.double().exp()[:, list(tokens)].sum(-1).mean())


@dataclass(frozen=True)
class Concept:
    """What is asked of TARS: a word of one token, and prompts that lead to it."""

    concept: str
    prompts: tuple[str, ...]
    edits: int = MOST_EDITS
    threshold: float = THRESHOLD
    noise: float = NOISE
    seed: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job."""
        return vars(self) | {"prompts": list(self.prompts)}


def check_concept(loaded: LoadedModel, asked: Concept) -> None:
    """Refuse a concept or a prompt before work is asked for. Raises UnknownWord, TextError."""
    word_tokens(loaded.vocabulary, loaded.tokenizer, asked.concept)
    for prompt in asked.prompts:
        prompt_ids(loaded, prompt)


def removal_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that answers what `Concept.document` gave."""
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
    """A removal that was stored. document: as `tars --json` prints it; files: its recipe, by name."""

    run: str
    document: dict[str, Any]
    files: dict[str, bytes]


def stored_removal(loaded: LoadedModel, store: Store, asked: Concept) -> StoredRemoval | None:
    """The answer, if this was asked before; computes nothing."""
    key = removal_spec(loaded, asked.document()).key
    if not stored_units(store, key):
        return None
    unit = read_unit(store, key, 0)
    files = {name: read_array(store, key, 0, name).tobytes() for name in unit.arrays}
    return StoredRemoval(key, unit.payload, files)
