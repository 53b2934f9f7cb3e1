"""Key Space Detection: a box around a skill's keys, and a guard that abstains inside it.

Li, Hsu and Weng 2025, arXiv 2503.21730 (METHODS §4). A key is the key site of the last token of a query.

    box(α):  |x_j − μ_j| ≤ α · k · σ_j · (1 + 1e-5)  for every j
    k = max over probes and j of |x_j − μ_j| / σ_j,   σ_j ← max(σ_j, 1e-4 · median σ)

A key's *depth* is the smallest α whose box holds it. The paper takes one layer. A guard of several boxes, one
a layer, abstains where a key lies in all of them: its depth is then the largest of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from analysis.addresses import BlockAddress
from analysis.anatomy import Block
from analysis.errors import SkillError, TooFewExamples
from analysis.hooks import at_positions, site_module
from analysis.models import LoadedModel
from analysis.probing import Moments
from analysis.steps import Handle, Step

METHOD_VERSION = "1"
FEWEST_PROBES = 30
FLOOR = 1e-4
"""Smallest σ, × the median σ of the layer."""

SLACK = 1 + 1e-5
"""Rounding that a probe on the box's own face is allowed."""

REFUSAL = "Sorry, I do not know."
Check = Literal["prefill", "each_step"]


@dataclass(frozen=True, eq=False)
class KeyBox:
    """A box in one layer's key space. mean, sigma (m,) float32 on the CPU; sigma > 0.

    n: probes it was fitted on. k: largest |x − μ|/σ among them; own_k (m,) the same per neuron.
    """

    layer: int
    mean: Tensor
    sigma: Tensor
    k: float
    n: int
    own_k: Tensor

    def __post_init__(self) -> None:
        if self.mean.dim() != 1 or not self.mean.shape == self.sigma.shape == self.own_k.shape:
            raise SkillError(f"a box needs mean, sigma and k of one width, not {tuple(self.mean.shape)}")
        sound = bool(torch.isfinite(self.mean).all()) and bool((self.sigma > 0).all())
        if not sound or not 0 < self.k < math.inf:
            raise SkillError(f"the box of layer {self.layer} holds numbers that bound nothing")

    def depths(self, keys: Tensor) -> Tensor:
        """(…,) the smallest α whose box holds each key (…, m); inside box(α) ⇔ depth ≤ α · SLACK."""
        mean, sigma = self.mean.to(keys.device), self.sigma.to(keys.device)
        return ((keys.float() - mean).abs() / sigma).amax(-1) / self.k

    def deciding(self, key: Tensor, count: int = 10) -> list[tuple[int, float]]:
        """The neurons in which a key (m,) lies furthest out, with |x − μ|/(k·σ), furthest first."""
        out = (key.float() - self.mean).abs() / self.sigma / self.k
        best = out.topk(min(count, len(out)))
        return [(int(i), float(v)) for v, i in zip(best.values, best.indices, strict=True)]


def fit_box(layer: int, moments: Moments) -> KeyBox:
    """The box of a layer from the moments of its probes' last keys.

    Raises TooFewExamples under 30 probes, SkillError where the probes' keys are all the same.
    """
    if moments.count < FEWEST_PROBES:
        raise TooFewExamples(
            f"{moments.count} probes: a box needs at least {FEWEST_PROBES}, or the next query lies outside "
            "whatever it is; give more examples, or a larger share of them as probes"
        )
    median = float(moments.deviation.median())
    if not median > 0:
        raise SkillError(
            f"at least half the neurons of layer {layer} have the same key for all {moments.count} probes, "
            "so that there is no box; give probes that differ"
        )
    mean = moments.mean.float()
    sigma = moments.deviation.clamp(min=FLOOR * median).float()
    furthest = torch.maximum(moments.high - mean.double(), mean.double() - moments.low)
    own_k = (furthest / sigma.double()).float()
    return KeyBox(layer, mean, sigma, float(own_k.max()), moments.count, own_k)


def dense_block(loaded: LoadedModel, layer: int) -> Block:
    """The one dense block of a layer. Raises SkillError for a layer of experts or none."""
    found = [b for b in loaded.anatomy.blocks if b.address.layer == layer]
    if [b.address for b in found] != [BlockAddress(layer)]:
        dense = sorted(b.address.layer for b in loaded.anatomy.blocks if b.address.expert is None)
        raise SkillError(
            f"layer {layer} has no dense FFN block, whose keys every query has; choose one of "
            f"{', '.join(f'L{n}' for n in dense) or 'another model: this one has none'}"
        )
    return found[0]


def dense_layers(loaded: LoadedModel) -> tuple[int, ...]:
    """The layers that can have a box."""
    return tuple(b.address.layer for b in loaded.anatomy.blocks if b.address.expert is None)


def fit_boxes(
    moments: Mapping[tuple[BlockAddress, Any], Moments], layers: Sequence[int]
) -> tuple[KeyBox, ...]:
    """The box of each layer."""
    return tuple(fit_box(layer, moments[BlockAddress(layer), "key"]) for layer in layers)


def joint_depths(boxes: Sequence[KeyBox], keys: Mapping[BlockAddress, Tensor]) -> Tensor:
    """(n,) the smallest α at which all boxes hold a query; keys (n, m) per layer."""
    return torch.stack([box.depths(keys[BlockAddress(box.layer)]) for box in boxes]).amax(0)


def refusal_ids(loaded: LoadedModel, refusal: str) -> list[int]:
    """A refusal as token ids, at least one: an end of text where the tokenizer has no token for any of it."""
    text = refusal if loaded.tokenizer.chat_template else f" {refusal}"
    ids = [int(i) for i in loaded.tokenizer.encode(text, add_special_tokens=False)]
    return ids or sorted(loaded.ends_of_text)[:1] or [0]


@dataclass(frozen=True, eq=False)
class KeyGuard:
    """Abstain where a query's key lies in all of the boxes at α.

    check: at the prompt's last token, or at each generated token too. as_released: one flag for the whole
    batch, as the paper's code has it: one row inside makes every row abstain.
    """

    boxes: tuple[KeyBox, ...]
    alpha: float
    check_at: Check = "prefill"
    refusal: str = REFUSAL
    as_released: bool = False

    def __post_init__(self) -> None:
        if not self.boxes:
            raise SkillError("a guard needs at least one box")
        if not 0 < self.alpha < 1e6:
            raise SkillError(f"alpha {self.alpha}: choose a number above 0, such as 1")
        if self.check_at not in ("prefill", "each_step"):
            raise SkillError(f"check {self.check_at!r} is unknown; choose prefill or each_step")

    def check(self, loaded: LoadedModel) -> None:
        """Raises SkillError where a box is not of this model's width."""
        for box in self.boxes:
            block = dense_block(loaded, box.layer)
            if block.d_ff != len(box.mean):
                raise SkillError(
                    f"the box of layer {box.layer} has {len(box.mean)} dimensions, the model's keys there "
                    f"{block.d_ff}; it belongs to another model"
                )

    def attach(self, step: Step, rows: Sequence[int] | None) -> Iterator[Handle]:
        """See Attaching. Reads keys alone; which rows abstain is in the step's reach."""
        reading = _Reading(self, step, rows)
        for box in self.boxes if reading.asked else ():
            block = dense_block(step.loaded, box.layer)
            module = step.loaded.model.get_submodule(site_module(block, "key"))
            yield module.register_forward_pre_hook(reading.hook(block, box))


class _Reading:
    """One forward step of a guard: the queried positions, and which of them every box so far holds."""

    def __init__(self, guard: KeyGuard, step: Step, rows: Sequence[int] | None) -> None:
        self.guard, self.step = guard, step
        last = step.lengths[:, None] - 1
        asked = step.positions == last if guard.check_at == "prefill" else step.positions >= last
        self.row, self.column = torch.where(asked & step.in_rows(rows))
        self.asked = len(self.row) > 0
        self.inside = torch.ones_like(self.row, dtype=torch.bool)
        self.left = len(guard.boxes)

    def hook(self, block: Block, box: KeyBox) -> Callable[..., None]:
        def read(module: nn.Module, args: tuple[Any, ...]) -> None:
            states = at_positions(args[0].contiguous(), self.step, block)
            keys = states[self.row.to(states.device), self.column.to(states.device)]
            inside = box.depths(keys) <= self.guard.alpha * SLACK
            self.inside &= inside.to(self.inside.device)
            self.left -= 1
            if not self.left and bool(self.inside.any()):
                self._abstain()

        return read

    def _abstain(self) -> None:
        abstained = set(self.row[self.inside].tolist())
        if self.guard.as_released:
            abstained = set(self.row.tolist())
        self.step.reach.abstained = sorted({*self.step.reach.abstained, *abstained})
