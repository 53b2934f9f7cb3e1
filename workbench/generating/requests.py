"""What is to be generated, and the key of the run that answers it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change, check_changes
from analysis.intervening.pruning import PruneExpert
from analysis.intervening.residual_units import OF_BLOCK, name_unit
from analysis.intervening.steps import Reach
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import kind_words_of
from analysis.recipes.files import digest_change
from analysis.running import generation
from analysis.running.configured import check_settings, describe_settings
from analysis.running.conversations import Conversation, Turn
from analysis.running.generation import Sampling
from analysis.running.prompts import encode_conversation
from store import RunSpec
from workbench.neurons.profiles import digest_reference
from workbench.runs import run_spec


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate: prompt, recipe, sampling, and the word whose probability is reported.

    system, turns, raw: for a chat model, as in `Conversation`. fold_case: whether every case of the word
    counts.
    """

    prompt: str
    clamps: tuple[Change, ...] = ()
    answer_prefix: str = ""
    sampling: Sampling = Sampling()
    word: str = ""
    system: str = ""
    turns: tuple[Turn, ...] = ()
    raw: bool = False
    fold_case: bool = False

    @property
    def conversation(self) -> Conversation:
        """The prompt with its surroundings. Raises TextError for an empty prompt, or what makes no sense."""
        return Conversation(self.prompt, self.answer_prefix, self.system, self.turns, self.raw)


def check_request(loaded: LoadedModel, request: GenerationRequest) -> None:
    """Refuse an impossible request before anything is measured. Raises HeadlampError."""
    encode_conversation(loaded, request.conversation)
    check_changes(loaded, request.clamps)
    if request.sampling.as_configured:
        check_settings(loaded)


def describe_unapplied(loaded: LoadedModel) -> str:
    """What the model's generation_config asks for and only `as_configured` applies; empty for nothing."""
    return describe_settings(loaded)


def generation_spec(
    loaded: LoadedModel, request: GenerationRequest, ids: Sequence[int], rerun: str = ""
) -> RunSpec:
    """The key of a generation: everything that changes its answer, with every clamp's raw value.

    ids: the prompt's token ids, which a template may render otherwise tomorrow.
    """
    parameters: dict[str, Any] = {
        "prompt": request.prompt,
        "answer_prefix": request.answer_prefix,
        "prompt_ids": digest_ids(ids),
        "clamps": [name_change(change) for change in request.clamps],
        "max_new_tokens": request.sampling.max_new_tokens,
        "temperature": request.sampling.temperature,
        "word": request.word.strip(),
        "reference": digest_reference(),
    }
    parameters |= list_surroundings(request)
    if request.word.strip():
        parameters["kind_words"] = list(kind_words_of(request.word))
    if request.sampling.as_configured:
        parameters["as_configured"] = True
    if rerun:
        parameters["rerun"] = rerun
    version = generation.WORD_VERSION if request.word.strip() else generation.METHOD_VERSION
    seed = request.sampling.seed
    return run_spec(loaded, "generate", version, parameters, units=1, seed=seed)


def describe_residual(loaded: LoadedModel, clamp: Clamp) -> str:
    """What a clamp in × residual means in this model, as a clause. Raises ClampError as find_residual."""
    unit = name_unit(loaded, clamp)
    verb = "writes" if clamp.mode == "set" else "adds"
    what = (
        "the size of its block's output before the norm behind it"
        if unit == OF_BLOCK
        else "the size of the residual that its block's output is added to"
    )
    return (
        f"{clamp.value:.3g} {unit}: at each position the neuron {verb} {clamp.value:.3g} times {what} "
        "(position 0: the median of the other positions)"
    )


def describe_used(loaded: LoadedModel, changes: Sequence[Change], reach: Reach) -> list[str]:
    """The raw values that clamps in × residual put in, a sentence for each clamp that acted."""
    return [
        f"{change}: {name_unit(loaded, change)}, raw {format_range(values)}."
        for change, values in zip(changes, reach.used, strict=False)
        if isinstance(change, Clamp) and values
    ]


def format_range(values: Sequence[float]) -> str:
    """Raw values as `3.21` or `3.21 to 8.9`."""
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def digest_ids(ids: Any) -> str:
    """A digest of token ids, of one prompt or of several: what is fed, which a template may render otherwise
    tomorrow.
    """
    plain = [one if isinstance(one, int) else list(one) for one in ids]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def list_surroundings(request: GenerationRequest) -> dict[str, Any]:
    """System prompt, earlier turns, `raw` and `fold_case`, where given: part of the key, and of a finding."""
    found = {
        "system": request.system,
        "turns": [list(turn) for turn in request.turns],
        "raw": request.raw,
        "fold_case": request.fold_case and bool(request.word.strip()),
    }
    return {name: value for name, value in found.items() if value}


def name_change(change: Change) -> list[Any]:
    """A change as part of the key: a clamp with its raw value, tensors by their digest."""
    if isinstance(change, Clamp):
        return [str(change), change.raw]
    return (
        [str(change), 0.0]
        if isinstance(change, PruneExpert)
        else [type(change).__name__, digest_change(change)]
    )
