"""Tiny random models for levers, and rows of clamps on them, run one by one in the plainest way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.intervening.interventions import intervene
from analysis.intervening.residual_units import find_writers
from analysis.levers.passes import HeldRow, SharedTexts
from analysis.opening.models import LoadedModel
from tests.analysis.conftest import loaded_from, tiny_model
from tests.contract.builder import build

IDS = (1, 5, 9, 4, 40, 11, 7, 23, 61, 6, 8, 30, 17, 52, 33, 9, 71, 12, 5, 44)
"""A prompt longer than the sliding windows of the tiny models."""
OTHER = (1, 8, 2, 60, 7, 11, 35, 3, 90, 15, 4, 77, 28, 66, 10, 5, 19, 41, 25, 13)
TINY = {
    "llama": {"num_hidden_layers": 3},
    "gpt2": {"n_layer": 3},
    "gemma2": {"num_hidden_layers": 3, "sliding_window": 6},
    "mixtral": {"num_hidden_layers": 3},
    "qwen2_moe": {"num_hidden_layers": 3},
}
"""Families made by tiny_model, each with three layers; any other name is an entry of the contract."""


@cache
def made(family: str) -> LoadedModel:
    """A random model of three layers, one for all tests of a process; never change its weights."""
    return fresh(family)


def fresh(family: str) -> LoadedModel:
    """A random model of three layers of the test's own."""
    if family in TINY:
        return loaded_from(tiny_model(family, **TINY[family]))
    return loaded_from(build(family))


def clamp(text: str) -> Clamp:
    """A clamp as typed, resolved."""
    return parse_clamp(text).resolve(largest=1.0, mean=0.0)


def list_rows(loaded: LoadedModel, scope: str) -> list[tuple[Clamp, ...]]:
    """Rows of clamps in the first, middle and last layer, at every site, in every mode, and sets of them."""
    blocks = loaded.anatomy.blocks
    first, middle, last = blocks[0], blocks[len(blocks) // 2], blocks[-1]
    rows: list[tuple[Clamp, ...]] = [()]
    for block in (first, middle, last):
        name = f"{block.address}.N7"
        rows.append((clamp(f"{name}:set:3@{scope}"),))
        rows.append((clamp(f"{name}:up:add:-2@{scope}"),))
        if block.gated:
            rows.append((clamp(f"{name}:gate:set:4@{scope}"),))
        if bool(find_writers(loaded, block)[7]):
            rows += [(clamp(f"{name}:{change}@{scope}"),) for change in ("set:1r", "add:-1.5r")]
    rows.append((clamp(f"{middle.address}.N7:scale:-3@{scope}"), clamp(f"{last.address}.N2:ablate@{scope}")))
    rows.append(tuple(clamp(f"{block.address}.N5:set:2@{scope}") for block in (last, first, last)))
    rows.append((clamp(f"{last.address}.N7:set:5@{scope}"), clamp(f"{last.address}.N7:add:1r@{scope}")))
    return rows


def gather(texts: SharedTexts, rows: Sequence[HeldRow]) -> tuple[Tensor, list[int]]:
    """(n, keep, V) logits of rows in their order, and on how many positions each acted."""
    found: dict[int, tuple[Tensor, int]] = {}
    for out in texts.run(rows):
        for at, index in enumerate(out.rows):
            assert index not in found
            found[index] = out.logits[at], out.acted[at]
    ordered = [found[index] for index in range(len(rows))]
    return torch.stack([logits for logits, _ in ordered]), [acted for _, acted in ordered]


def run_alone(
    loaded: LoadedModel, ids: Sequence[int], clamps: Sequence[Clamp], prompt_length: int
) -> tuple[Tensor, int]:
    """(T, V) float32 logits of one text under clamps, fed alone and whole; how often they acted."""
    fed = torch.tensor([list(ids)])
    positions = torch.arange(len(ids))[None]
    with (
        intervene(loaded, clamps, positions=positions, prompt_length=prompt_length) as reach,
        torch.no_grad(),
    ):
        logits = loaded.model(input_ids=fed, position_ids=positions, use_cache=False).logits[0]
    return loaded.vocabulary.restrict(logits.float()), sum(reach.acted)


def measure_log_odds(logits: Tensor) -> Tensor:
    """Log-odds (…, V) of every token, float64, from logits."""
    log_p = logits.double().log_softmax(-1)
    return log_p - (-torch.expm1(log_p)).log()


def count_hooks(loaded: LoadedModel) -> int:
    """How many hooks and replaced forwards the model has."""
    found = 0
    for module in loaded.model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        found += sum(map(len, hooks)) + ("forward" in vars(module))
    return found
