"""Targeted angular reversal (TARS): feed-forward vectors that point at a concept are reversed.

Davies 2024, arXiv 2412.10257 (METHODS §2).

1. v0: the residual stream after the last block, at the end of the detailed prompt with the largest
P(concept). 2. v*: v0 refined by random perturbation that is kept where it raises P(concept) through final
norm and head. 3. The cosine of v* with every vector that acts on the residual stream: up, gate, down, and
rows of the head. 4. The best aligned vectors w become −‖w‖ · v*/‖v*‖.

Noise scale and threshold are unpublished; ours are parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import SITES, Site
from analysis.anatomy.contract import head_logits
from analysis.errors import SkillError, TextError
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.running.batches import make_batches, run_batch
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars

METHOD_VERSION = "1"
NOISE = 0.5
"""Initial perturbation size, × the vector's root mean square; halved whenever none helps."""

ROUNDS, DRAWS = 60, 64
ENOUGH = 0.999
"""P(concept) at which the refinement stops."""

THRESHOLD = 0.2
"""Smallest cosine at which a vector is reversed."""

MOST_EDITS = 3


@dataclass(frozen=True, eq=False)
class Target:
    """v* (d,) float32, and P(concept) through the head before and after its refinement."""

    vector: Tensor
    first: float
    probability: float


def read_residuals(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(n, d) float32: the final norm's input at each prompt's last token."""
    reading = _ReadResidual([])
    for batch in make_batches(loaded, prompts):
        run_batch(loaded, batch, [reading])
    return torch.cat(reading.seen)


@dataclass(frozen=True, eq=False)
class _ReadResidual:
    """Records the final norm's input at each row's last token; changes nothing."""

    seen: list[Tensor]

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """See Watch."""
        norm = final_norm(step.loaded)
        yield norm.register_forward_pre_hook(lambda m, args: self.seen.append(args[0][:, -1].float()))


def final_norm(loaded: LoadedModel) -> nn.Module:
    """The norm before the head. Raises SkillError if the model has no named one."""
    name = loaded.anatomy.final_norm.parameter
    if name is None:
        raise SkillError(
            f"{loaded.ref.name} has no final norm of its own, so TARS cannot aim through its head"
        )
    module: nn.Module = loaded.model.get_submodule(name.rpartition(".")[0])
    return module


def read_concept_probability(loaded: LoadedModel, states: Tensor, tokens: Sequence[int]) -> Tensor:
    """(n,) P(any of the tokens) of residual states (n, d) passed through final norm and head."""
    weight = next(final_norm(loaded).parameters())
    normed = final_norm(loaded)(states.to(weight.device, weight.dtype))
    logits = loaded.vocabulary.restrict(head_logits(loaded.anatomy.head, loaded.parameters, normed))
    return logits.double().softmax(-1)[..., list(tokens)].sum(-1)


def aim_at_concept(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    noise: float = NOISE,
    seed: int = 0,
) -> Target:
    """Compute v* for the concept given by these tokens, from prompts about it. Raises TextError for none."""
    if not prompts or not tokens:
        raise TextError("TARS needs a concept and at least one prompt about it")
    if not 0 < noise <= 10:
        raise SkillError(f"noise {noise}: choose a number above 0 and up to 10")
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        states = read_residuals(loaded, prompts)
        said = read_concept_probability(loaded, states, tokens)
        vector, first = states[int(said.argmax())], float(said.max())
        best = first
        size = noise
        for _ in range(ROUNDS):
            if best >= ENOUGH or size < 1e-3:
                break
            scale = size * float(vector.square().mean().sqrt())
            draws = torch.randn(DRAWS, len(vector), generator=generator).to(vector.device)
            tried = vector + scale * draws
            found = read_concept_probability(loaded, tried, tokens)
            index = int(found.argmax())
            if float(found[index]) > best:
                vector, best = tried[index], float(found[index])
            else:
                size /= 2
    return Target(vector.cpu(), first, best)


def find_aligned(loaded: LoadedModel, target: Target, count: int = 20) -> list[Reversal]:
    """The vectors with the largest cosine with v*, largest first, each with its replacement."""
    unit = target.vector / target.vector.norm()
    vocabulary = loaded.vocabulary
    rows = loaded.parameters[loaded.anatomy.head.parameter][: len(vocabulary)]
    best = _best(rows, unit, count + len(vocabulary.holes))
    kept = [one for one in best if one[0] not in vocabulary.holes][:count]
    found = [Reversal(HeadRow(token), "head", cosine, value) for token, cosine, value in kept]
    for block in loaded.anatomy.blocks:
        sites: tuple[Site, ...] = SITES if block.gated else ("up", "down")
        for site in sites:
            vectors = block.view(site).vectors(loaded.parameters)
            found += [
                Reversal(NeuronAddress(block.address, neuron), site, cosine, value)
                for neuron, cosine, value in _best(vectors, unit, count)
            ]
    return sorted(found, key=lambda edit: (-edit.cosine, str(edit.address), edit.site))[:count]


def _best(vectors: Tensor, unit: Tensor, count: int) -> list[tuple[int, float, Tensor]]:
    """The vectors of (n, d) nearest to the unit vector (d,): index, cosine, and −‖w‖ · unit."""
    vectors = vectors.detach().float().cpu()
    norms = vectors.norm(dim=-1).clamp(min=1e-12)
    best = (vectors @ unit / norms).topk(min(count, len(norms)))
    return [
        (int(i), float(cosine), -float(norms[i]) * unit)
        for cosine, i in zip(best.values, best.indices, strict=True)
    ]


def fit_tars(
    loaded: LoadedModel, target: Target, *, edits: int = MOST_EDITS, threshold: float = THRESHOLD
) -> Tars:
    """Reverse the `edits` best aligned vectors above the threshold. Raises SkillError if there are none."""
    if edits < 1 or not -1 <= threshold <= 1:
        raise SkillError(f"{edits} edits above a cosine of {threshold}: choose at least 1, within −1 to 1")
    best = find_aligned(loaded, target, edits)
    chosen = tuple(edit for edit in best if edit.cosine > threshold)
    if not chosen:
        raise SkillError(
            f"no vector has a cosine above {threshold:g} with the concept, the largest is "
            f"{best[0].cosine:.3f}; "
            "lower the threshold, or write prompts that lead to the concept"
        )
    return Tars(chosen)


def combine_reversals(*edits: Tars) -> Tars:
    """Several concepts removed at once; if two reverse the same vector, the last one counts."""
    places = {(e.address, e.site): e for one in edits for e in one.edits}
    return replace(edits[0], edits=tuple(places.values()))
