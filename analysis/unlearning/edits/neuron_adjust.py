"""Neuron Adjust: neurons driven by the forget skill are mirrored into their retain distribution.

Li, Hsu and Weng 2025, arXiv 2503.21730 (METHODS §4). Site gate (plain blocks: before the activation),
every layer. Gaussians N(μ_f, σ_f) and N(μ_r, σ_r) per neuron; selected are the top q % by μ_f − μ_r over the
whole model.

    where log p_f ≥ log p_r:  with probability sigmoid(log p_f − log p_r):  x' = μ_r − σ_r · (x − μ_f)/σ_f

`as_released` follows the authors' code where it differs from the paper: σ_f is μ_f itself, σ_r the population
variance; one draw for all of a layer's neurons and positions in a forward call; position 0 belongs to the
fit; no deviation is floored, so every neuron can be selected; selection by a threshold
(`select_above_threshold`). Their loop has one query at a time. Here a draw is keyed by (seed, query, last
position fed, layer), so that each query of a batch is adjusted as if it were alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import SkillError
from analysis.intervening.clamps import ClampSite
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.running.probing import Moments, Place
from analysis.unlearning.edits.counter_draws import draw_uniform
from analysis.unlearning.edits.selective_prune import check_neurons, select_neurons
from analysis.unlearning.edits.site_edits import Rule, SiteEdit, attach_edit

METHOD_VERSION = "2"
FLOOR = 1e-6
"""Smallest σ, × the median σ of the block; a neuron that needs it is never selected."""


@dataclass(frozen=True, eq=False)
class AdjustedBlock:
    """Selected neurons (k,) int64 of one block with both Gaussians: mean and sigma (k,) float32, finite."""

    address: BlockAddress
    neurons: Tensor
    forget_mean: Tensor
    forget_sigma: Tensor
    retain_mean: Tensor
    retain_sigma: Tensor

    def __post_init__(self) -> None:
        arrays = (self.forget_mean, self.forget_sigma, self.retain_mean, self.retain_sigma)
        if any(array.shape != self.neurons.shape for array in arrays):
            raise SkillError(f"the neurons of {self.address} and their Gaussians are not of one length")
        if not all(bool(torch.isfinite(array).all()) for array in arrays):
            raise SkillError(f"the Gaussians of {self.address} are not finite")

    @property
    def has_width(self) -> bool:
        """Whether all σ are above 0."""
        return bool((self.forget_sigma > 0).all()) and bool((self.retain_sigma > 0).all())


@dataclass(frozen=True, eq=False)
class NeuronAdjust:
    """The intervention. q: selected share in %; seed: of the draws. as_released: as the module says; a σ may
    then be 0 or negative, and its neuron is never adjusted.
    """

    blocks: tuple[AdjustedBlock, ...]
    q: float
    seed: int = 0
    as_released: bool = False

    def __post_init__(self) -> None:
        for block in () if self.as_released else self.blocks:
            if not block.has_width:
                raise SkillError(f"the Gaussians of {block.address} have zero width")

    @property
    def count(self) -> int:
        """How many neurons are selected."""
        return sum(len(block.neurons) for block in self.blocks)

    def check(self, loaded: LoadedModel) -> None:
        """Raise AddressOutOfRange or SkillError for neurons this model does not have."""
        for adjusted in self.blocks:
            check_neurons(loaded, adjusted.address, adjusted.neurons)

    def attach(self, step: ForwardStep, rows: Sequence[int] | None) -> Iterator[Handle]:
        """See Attaching."""
        for adjusted in self.blocks:
            block = step.loaded.anatomy.blocks[step.loaded.anatomy.index(adjusted.address)]
            rule = self._rule(adjusted, step)
            yield from attach_edit(step, SiteEdit(block, gate_site(block), adjusted.neurons, rule), rows)

    def _rule(self, adjusted: AdjustedBlock, step: ForwardStep) -> Rule:
        examples = torch.tensor(step.examples or [0] * len(step.positions), device=step.positions.device)
        last, place = step.positions.amax(1), number_block(adjusted.address)

        def rule(values: Tensor, row: Tensor, position: Tensor) -> Tensor:
            x = values.float()
            keys: tuple[Tensor | int, ...] = (position[:, None], place, adjusted.neurons.to(x.device))
            if self.as_released:
                keys = (last.to(x.device)[row][:, None], adjusted.address.layer)
            draw = draw_uniform(self.seed, examples.to(x.device)[row][:, None], *keys)
            return mirror_values(adjusted, x, draw)

        return rule


def mirror_values(adjusted: AdjustedBlock, x: Tensor, draw: Tensor) -> Tensor:
    """Values x (n, k) of a block's neurons, each mirrored where its draw in [0, 1) is below its probability.

    log p_f − log p_r is NaN where a σ is not above 0 (as released alone), and no comparison with NaN holds:
    such a value stays.
    """
    f_mean, f_sigma, r_mean, r_sigma = (
        array.to(x.device)
        for array in (
            adjusted.forget_mean,
            adjusted.forget_sigma,
            adjusted.retain_mean,
            adjusted.retain_sigma,
        )
    )
    z = (x - f_mean) / f_sigma
    ratio = ((x - r_mean) / r_sigma).square() / 2 + r_sigma.log() - z.square() / 2 - f_sigma.log()
    chosen = (ratio >= 0) & (draw < torch.sigmoid(ratio.double()))
    return torch.where(chosen, r_mean - r_sigma * z, x)


def gate_site(block: Block) -> ClampSite:
    """The site of a block's values before its activation."""
    return "gate" if block.gated else "up"


def fit_neuron_adjust(
    loaded: LoadedModel,
    forget: Mapping[Place, Moments],
    retain: Mapping[Place, Moments],
    q: float,
    *,
    seed: int = 0,
    as_released: bool = False,
    scores: Tensor | None = None,
) -> NeuronAdjust:
    """Select the top q % of the model's neurons by μ_f − μ_r, excluding those with a floored σ.

    forget, retain: moments at the gate site over all positions but 0; as_released: over all of them. scores:
    (neurons,) to select by instead, for a control. Raises SkillError for q outside (0, 100].
    """
    fit_block = _fit_as_released if as_released else _fit
    fits = [
        fit_block(block, *(found[block.address, gate_site(block)] for found in (forget, retain)))
        for block in loaded.anatomy.blocks
    ]
    own_scores = torch.cat([fit.score for fit in fits])
    if scores is not None:
        own_scores = torch.where(own_scores.isfinite(), scores, own_scores)
    selected = select_neurons(own_scores, q, as_released=as_released)
    blocks, start = [], 0
    for fit in fits:
        own = torch.where(selected[start : start + len(fit.score)])[0]
        start += len(fit.score)
        if len(own):
            arrays = (fit.forget_mean, fit.forget_sigma, fit.retain_mean, fit.retain_sigma)
            blocks.append(AdjustedBlock(fit.address, own, *(array[own].float() for array in arrays)))
    return NeuronAdjust(tuple(blocks), q, seed, as_released)


@dataclass(frozen=True, eq=False)
class _Fit:
    address: BlockAddress
    score: Tensor
    forget_mean: Tensor
    forget_sigma: Tensor
    retain_mean: Tensor
    retain_sigma: Tensor


def _fit(block: Block, forget: Moments, retain: Moments) -> _Fit:
    if min(forget.count, retain.count) < 2:
        return _unreached(block)
    score = forget.mean - retain.mean
    floored = torch.zeros(block.d_ff, dtype=torch.bool)
    sigmas = []
    for sigma in (forget.deviation, retain.deviation):
        floor = FLOOR * sigma.median()
        floored |= ~(sigma > floor)
        sigmas.append(sigma.clamp(min=max(float(floor), 1e-30)))
    score[floored] = -torch.inf
    return _Fit(block.address, score, forget.mean, sigmas[0], retain.mean, sigmas[1])


def _fit_as_released(block: Block, forget: Moments, retain: Moments) -> _Fit:
    if not min(forget.count, retain.count):
        return _unreached(block)
    score = forget.mean - retain.mean
    return _Fit(block.address, score, forget.mean, forget.mean, retain.mean, retain.population_variance)


def _unreached(block: Block) -> _Fit:
    """Of an expert that received too few tokens of one of the sets: none of its neurons is selected."""
    score = torch.full((block.d_ff,), -torch.inf, dtype=torch.float64)
    ones = torch.ones(block.d_ff, dtype=torch.float64)
    return _Fit(block.address, score, ones, ones, ones, ones)


def number_block(address: BlockAddress) -> int:
    """A distinct number for each block, by which its draws are keyed."""
    expert = 0 if address.expert is None else 2 * address.expert + 1 + address.shared
    return address.layer * 2_000_003 + expert
