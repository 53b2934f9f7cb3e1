"""Documents of a finished pair of texts: printed, and kept as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.errors import HeadlampError
from analysis.intervening.interventions import Change
from analysis.intervening.steps import AttachableChange
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from analysis.running.prompts import is_rendered
from workbench.generating.clamping import Generation
from workbench.generating.requests import list_surroundings

_PLACE = ("answer_prefix", "source")
"""What is said of the answer position, its number apart."""


def check_keepable(changes: Sequence[Change]) -> None:
    """Raise HeadlampError if a change carries tensors, which a finding cannot hold."""
    if any(isinstance(change, AttachableChange) for change in changes):
        raise HeadlampError(
            "a finding cannot hold tensors, which guards and unlearned skills consist of; keep the recipe "
            "with the safetensors file beside it instead"
        )


def collect_evidence(loaded: LoadedModel, result: Generation) -> dict[str, Any]:
    """The evidence of a generation: enough to show it, and to run it again.

    Raises HeadlampError as check_keepable.
    """
    check_keepable(result.request.clamps)
    sampling = result.request.sampling
    return {
        "run": result.run,
        "recipe": result.recipe,
        "clamps": [str(clamp) for clamp in result.request.clamps],
        "prompt": result.request.prompt,
        "answer_prefix": result.request.answer_prefix,
        **list_surroundings(result.request),
        "rendered_prompt": result.rendered,
        "conversation": is_rendered(loaded, result.request.conversation),
        "prompt_ids": list(result.prompt_ids),
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "max_new_tokens": sampling.max_new_tokens,
        **({"as_configured": True} if sampling.as_configured else {}),
        **list_outputs(result),
        "word": result.word and {"word": result.request.word} | (_word(result) or {}),
        "dtype": loaded.dtype,
        "device": loaded.ref.device,
        "revision": loaded.ref.revision,
        "controls": None,
        "reach": result.reach.counts(),
        "versions": versions(),
    }


def _text(text: str, ids: Sequence[int], reasoning: str | None) -> dict[str, Any]:
    """One row's text, with what its reasoning block says where it has one."""
    found = {"text": text, "token_ids": list(ids)}
    return found if reasoning is None else found | {"reasoning": reasoning}


def list_outputs(result: Generation) -> dict[str, Any]:
    """base, changed, answer and word, as `generate --json` prints them."""
    return {
        "base": _text(result.base_text, result.base_ids, result.base_reasoning),
        "changed": _text(result.changed_text, result.changed_ids, result.changed_reasoning),
        "answer": {
            row: [
                {"token_id": t.token_id, "token": t.token, "probability": getattr(t, row)}
                for t in result.answer
            ]
            for row in ("base", "changed")
        },
        "word": _word(result),
    }


def _word(result: Generation) -> dict[str, Any] | None:
    """P(word) at the answer position and, where it was measured, at every generated position."""
    if result.word is None:
        return None
    paths = result.per_position
    return {
        "base": result.word[0],
        "changed": result.word[1],
        "position": result.position,
        "per_position": paths and {"base": list(paths[0]), "changed": list(paths[1])},
        **({} if result.place is None else {name: getattr(result.place, name) for name in _PLACE}),
    }
