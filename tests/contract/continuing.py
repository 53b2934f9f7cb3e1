"""Whether a model continues a text as the app has it do: told positions, token by token from a cache."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests.contract.builder import in_one_line
from tests.contract.edits import IDS, POSITIONS, logits_of
from tests.contract.expectations import off

CUT = 4
"""Tokens of the prompt; the one after them is fed alone."""


def why_not_continued(model: PreTrainedModel) -> str:
    """Empty where the logits are those of the whole text read at once; else what is wrong."""
    whole = logits_of(model)
    try:
        steps = _in_steps(model)
    except Exception as error:  # whatever a family's own code raises is the reason
        return f"{type(error).__name__}: {in_one_line(error)}"
    if off(_read(model, CUT)[:, -1], whole[:, CUT - 1]) > 1e-3:
        return "later tokens change what earlier ones are answered"
    if off(steps[0], whole[:, CUT - 1]) > 1e-3:
        return "told positions from 0, it does not answer as when told none"
    if off(steps[1], whole[:, CUT]) > 1e-3:
        return "a token fed alone is not answered as in the whole text"
    return ""


@torch.no_grad()
def _read(model: PreTrainedModel, length: int) -> Tensor:
    return model(input_ids=IDS[:, :length], use_cache=False).logits  # type: ignore[no-any-return]


@torch.no_grad()
def _in_steps(model: PreTrainedModel) -> list[Tensor]:
    """(2, V) logits after the prompt and after one more token."""
    cache, answers = DynamicCache(config=model.config), []
    for first, last in ((0, CUT), (CUT, CUT + 1)):
        output = model(
            input_ids=IDS[:, first:last],
            position_ids=POSITIONS[:, first:last],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        answers.append(output.logits[:, -1])
    return answers
