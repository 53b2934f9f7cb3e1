"""What a model's generation_config asks for beyond greedy text, and its application by transformers' classes.

Only `--as-configured` applies it. Scores are changed as in transformers' `generate`, in its order; the
draw is ours (`generation`), from noise that both rows share.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import logits_process as processes

from analysis.errors import ModelError, first_line
from analysis.opening.models import LoadedModel

NEUTRAL: Mapping[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "forced_bos_token_id": None,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "renormalize_logits": False,
    "remove_invalid_values": False,
}
"""Settings that can be applied, with the value that changes nothing."""

UNKNOWN: Mapping[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "top_h": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "diversity_penalty": 0.0,
    "guidance_scale": 1.0,
    "constraints": None,
    "force_words_ids": None,
    "forced_eos_token_id": None,
    "stop_strings": None,
    "token_healing": False,
    "watermarking_config": None,
}
"""Settings that change the text and cannot be applied here, with the value that changes nothing."""

SAMPLED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that act only where `do_sample` is set."""
TOP_K = 50
"""What `generate` takes for top_k where the file has none."""


def list_settings(loaded: LoadedModel) -> dict[str, Any]:
    """What the model's generation_config holds that changes its text and is not applied by default."""
    config = loaded.model.generation_config
    every = {**NEUTRAL, **UNKNOWN}
    held = {} if config is None else {name: getattr(config, name, None) for name in every}
    nothing: tuple[Any, ...] = (None, [], {})
    return {name: value for name, value in held.items() if value not in (*nothing, every[name])}


def describe_settings(loaded: LoadedModel) -> str:
    """`temperature 0.6, top_p 0.9`; empty where there is nothing."""
    return ", ".join(f"{name} {value}" for name, value in list_settings(loaded).items())


def check_settings(loaded: LoadedModel) -> None:
    """Raise ModelError if generation_config asks for what cannot be applied here."""
    asked = [name for name in list_settings(loaded) if name in UNKNOWN]
    if asked:
        raise ModelError(
            f"the generation_config of {loaded.ref.name} sets {', '.join(asked)}, which Headlamp does not "
            "have; generate without --as-configured, or remove it from generation_config.json"
        )


def samples(loaded: LoadedModel) -> bool:
    """Whether generation_config asks for drawn tokens."""
    return bool(list_settings(loaded).get("do_sample"))


def build_scorer(loaded: LoadedModel, prompt_length: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of the ids (n, T) fed so far and of logits (n, V): the scores (n, V) that choose a token.

    Raises ModelError as `check_settings`.
    """
    check_settings(loaded)
    config = copy.deepcopy(loaded.model.generation_config) or GenerationConfig()
    found = LogitsProcessorList(_list_processors(loaded, config, prompt_length))

    def score(ids: Tensor, logits: Tensor) -> Tensor:
        size = logits.shape[-1]  # settings may name padding rows, which the model's own logits have
        whole = pad(logits, (0, loaded.anatomy.head.vocab - size), value=-torch.inf)
        try:
            scores: Tensor = found(ids, whole)
        except (TypeError, ValueError, IndexError) as error:
            raise _explain_unusable(loaded, error) from error
        return scores[:, :size]

    return score


def _explain_unusable(loaded: LoadedModel, error: Exception) -> ModelError:
    return ModelError(
        f"the generation_config of {loaded.ref.name} cannot be applied ({first_line(error)}); correct "
        "generation_config.json, or generate without --as-configured"
    )


def _list_processors(loaded: LoadedModel, config: GenerationConfig, prompt_length: int) -> list[Any]:
    """The processors in the order of transformers' `generate`; those of sampling last."""
    ends = torch.tensor(_ends(config), dtype=torch.long, device=loaded.device)
    made: dict[str, Callable[[Any], Any]] = {
        "sequence_bias": lambda v: processes.SequenceBiasLogitsProcessor(v),
        "repetition_penalty": lambda v: processes.RepetitionPenaltyLogitsProcessor(float(v)),
        "no_repeat_ngram_size": lambda v: processes.NoRepeatNGramLogitsProcessor(v),
        "bad_words_ids": lambda v: processes.NoBadWordsLogitsProcessor(v, ends),
        "min_length": lambda v: processes.MinLengthLogitsProcessor(v, ends, device=loaded.device),
        "min_new_tokens": lambda v: processes.MinNewTokensLengthLogitsProcessor(
            prompt_length, v, ends, device=loaded.device
        ),
        "forced_bos_token_id": lambda v: processes.ForcedBOSTokenLogitsProcessor(v),
        "remove_invalid_values": lambda v: processes.InfNanRemoveLogitsProcessor(),
        "exponential_decay_length_penalty": lambda v: processes.ExponentialDecayLengthPenalty(
            v, ends, prompt_length
        ),
        "suppress_tokens": lambda v: processes.SuppressTokensLogitsProcessor(v, device=loaded.device),
        "begin_suppress_tokens": lambda v: processes.SuppressTokensAtBeginLogitsProcessor(
            v, _first_free(config, prompt_length), device=loaded.device
        ),
        "temperature": lambda v: processes.TemperatureLogitsWarper(float(v)),
        "top_k": lambda v: processes.TopKLogitsWarper(v),
        "top_p": lambda v: processes.TopPLogitsWarper(float(v)),
        "min_p": lambda v: processes.MinPLogitsWarper(v),
        "typical_p": lambda v: processes.TypicalLogitsWarper(v),
        "epsilon_cutoff": lambda v: processes.EpsilonLogitsWarper(v),
        "eta_cutoff": lambda v: processes.EtaLogitsWarper(v, device=loaded.device),
        "renormalize_logits": lambda v: processes.LogitNormalization(),
    }
    asked = list_settings(loaded)
    if asked.get("do_sample"):
        if getattr(config, "top_k", None) is None:
            asked["top_k"] = TOP_K
    else:
        asked = {name: value for name, value in asked.items() if name not in SAMPLED}
    if not len(ends):
        asked = {name: value for name, value in asked.items() if name not in ("min_length", "min_new_tokens")}
    try:
        return [make(asked[name]) for name, make in made.items() if name in asked]
    except (TypeError, ValueError, IndexError) as error:
        raise _explain_unusable(loaded, error) from error


def _ends(config: GenerationConfig) -> list[int]:
    stated = config.eos_token_id
    return [int(i) for i in (stated if isinstance(stated, list) else [stated]) if i is not None]


def _first_free(config: GenerationConfig, prompt_length: int) -> int:
    """Where the first token is that begin_suppress_tokens acts on."""
    return prompt_length + int(prompt_length <= 1 and config.forced_bos_token_id is not None)
