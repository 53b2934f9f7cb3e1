"""Targeted angular reversal (TARS): feed-forward vectors that point at a concept are reversed.

Davies 2024, arXiv 2412.10257 (METHODS §2).

1. v0: the residual stream after the last block, at the end of the detailed prompt with the largest
P(concept). 2. v*: v0 refined by random perturbation that is kept where it raises P(concept) through final
norm and head. 3. The cosine of v* with every vector that acts on the residual stream: up, gate, down, and
rows of the head. 4. Of the best aligned vectors as few as are needed become
−‖w‖ · v*/‖v*‖ (`tars_search`).

Rows of the head are compared with v* as the head reads it, through the final norm, and take its direction.
A vector that points away from v* is turned towards it: a neuron that writes −v* is one for the concept that
is held at negative values. A head row is not, since the model would then say its token instead.

Noise scale and threshold are unpublished; ours are parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import SITES, Site
from analysis.errors import SkillError, TextError
from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.head_states import final_norm, read_concept_probability, read_residuals
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars

METHOD_VERSION = "2"
"""1: the best aligned vectors were reversed, and their effect measured behind the prompt."""

NOISE = 0.5
"""Initial perturbation size, × the vector's root mean square; halved whenever none helps."""

ROUNDS, DRAWS = 60, 64
ENOUGH = 0.999
"""P(concept) at which the refinement stops."""

THRESHOLD = 0.1
"""Smallest |cosine| at which a vector is reversed."""

MOST_EDITS = 8
TRIED, ROWS = 32, 8
"""Best aligned vectors of neurons, and rows of the head, that are tried."""


@dataclass(frozen=True, eq=False)
class Target:
    """v* (d,) float32, and P(concept) through the head before and after its refinement."""

    vector: Tensor
    first: float
    probability: float


def check_noise(noise: float) -> None:
    """Refuse a perturbation size out of range. Raises SkillError."""
    if not 0 < noise <= 10:
        raise SkillError(f"noise {noise}: choose a number above 0 and up to 10")


def check_threshold(threshold: float, *, head_rows: bool) -> None:
    """Refuse a threshold out of range, or one that no vector exceeds. Raises SkillError."""
    if not 0 <= threshold <= 1:
        raise SkillError(f"a threshold of {threshold}: choose 0 to 1, it bounds the cosine without its sign")
    if threshold == 1 and not head_rows:
        raise SkillError("no vector has a cosine above 1, and head rows are left out; lower the threshold")


def aim_at_concept(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    noise: float = NOISE,
    seed: int = 0,
    earlier: Sequence[Reversal] = (),
) -> Target:
    """Compute v* for the concept given by these tokens, from prompts (token ids) up to where it is due.

    earlier: vectors that are replaced already. Raises TextError for no prompt, SkillError for the noise.
    """
    if not prompts or not tokens:
        raise TextError("TARS needs a concept and at least one prompt about it")
    check_noise(noise)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        states = read_residuals(loaded, prompts, earlier)
        said = read_concept_probability(loaded, states, tokens, earlier)
        vector, first = states[int(said.argmax())], float(said.max())
        best = first
        size = noise
        for _ in range(ROUNDS):
            if best >= ENOUGH or size < 1e-3:
                break
            scale = size * float(vector.square().mean().sqrt())
            draws = torch.randn(DRAWS, len(vector), generator=generator).to(vector.device)
            tried = vector + scale * draws
            found = read_concept_probability(loaded, tried, tokens, earlier)
            index = int(found.argmax())
            if float(found[index]) > best:
                vector, best = tried[index], float(found[index])
            else:
                size /= 2
    return Target(vector.cpu(), first, best)


def find_aligned(
    loaded: LoadedModel, target: Target, count: int = 20, *, head_rows: bool = True
) -> list[Reversal]:
    """The vectors with the largest |cosine| with v*, largest first, each with its replacement.

    head_rows: whether rows of the head are among them. Vectors of experts that share one parameter are not,
    since no hook reaches a single one.
    """
    unit = target.vector / target.vector.norm()
    found = find_aligned_rows(loaded, target, count) if head_rows else []
    for block in (block for block in loaded.anatomy.blocks if not block.fused):
        sites: tuple[Site, ...] = SITES if block.gated else ("up", "down")
        for site in sites:
            vectors = block.view(site).vectors(loaded.parameters)
            found += [
                Reversal(NeuronAddress(block.address, neuron), site, cosine, value)
                for neuron, cosine, value in _best(vectors, unit, count, both=True)
            ]
    return sorted(found, key=lambda edit: (-abs(edit.cosine), str(edit.address), edit.site))[:count]


def find_aligned_rows(
    loaded: LoadedModel, target: Target, count: int = ROWS, own: Collection[int] = ()
) -> list[Reversal]:
    """The head's rows with the largest cosine with v*, largest first, each with its replacement.

    own: tokens whose rows are among them, however small their cosine, if it is positive.

    v* counts as the head reads it, through the final norm: reversed along the residual stream itself a row
    would say its token on half of all other text (Oslo, SmolLM2: median KL .94 nats, and .002 so).
    """
    vocabulary = loaded.vocabulary
    rows = loaded.parameters[loaded.anatomy.head.parameter][: len(vocabulary)]
    norm = final_norm(loaded)
    weight = next(norm.parameters())
    with torch.inference_mode():
        read = norm(target.vector.to(weight.device, weight.dtype)).float().cpu()
    unit = read / read.norm()
    best = _best(rows, unit, count + len(vocabulary.holes), both=False)
    kept = [one for one in best if one[0] not in vocabulary.holes][:count]
    listed = sorted({*own} - {token for token, _, _ in kept})
    found = [(token, one) for token in listed for one in _best(rows[[token]], unit, 1, both=False)]
    kept += [(token, cosine, value) for token, (_, cosine, value) in found if cosine > 0]
    return [Reversal(HeadRow(token), "head", cosine, value) for token, cosine, value in kept]


def _best(vectors: Tensor, unit: Tensor, count: int, *, both: bool) -> list[tuple[int, float, Tensor]]:
    """The vectors of (n, d) nearest to the unit vector (d,): index, cosine, and ∓‖w‖ · unit, against the
    cosine's sign. both: those nearest to its opposite, too.
    """
    vectors = vectors.detach().float().cpu()
    norms = vectors.norm(dim=-1).clamp(min=1e-12)
    cosines = vectors @ unit / norms
    best = (cosines.abs() if both else cosines).topk(min(count, len(norms))).indices
    return [
        (int(i), float(cosines[i]), -float(norms[i]) * (unit if cosines[i] >= 0 else -unit)) for i in best
    ]


def list_candidates(
    loaded: LoadedModel,
    target: Target,
    *,
    threshold: float = THRESHOLD,
    head_rows: bool = True,
    taken: Collection[Reversal] = (),
    own: Collection[int] = (),
) -> list[Reversal]:
    """The vectors that may be reversed, largest |cosine| first: above the threshold, and not taken already.

    The TRIED best of the neurons, and with head_rows the ROWS best of the head, wherever they stand, and the
    concept's own rows (tokens `own`), whatever their cosine.
    Raises SkillError if there are none.
    """
    check_threshold(threshold, head_rows=head_rows)
    places = {(edit.address, edit.site) for edit in taken}
    best = find_aligned(loaded, target, TRIED + len(places), head_rows=False)
    if head_rows:
        best += find_aligned_rows(loaded, target, ROWS + len(places), own)
    free = [edit for edit in best if (edit.address, edit.site) not in places]
    mine = {HeadRow(token) for token in own}
    above = (edit for edit in free if abs(edit.cosine) > threshold or edit.address in mine)
    chosen = sorted(above, key=lambda edit: (-abs(edit.cosine), str(edit.address), edit.site))
    if not chosen:
        largest = max((abs(edit.cosine) for edit in free), default=0.0)
        raise SkillError(
            f"no vector has a cosine above {threshold:g} with the concept, the largest is {largest:.3f}; "
            "lower the threshold, or write prompts that lead to the concept"
        )
    return chosen


def combine_reversals(*edits: Tars) -> Tars:
    """Several concepts removed at once; if two reverse the same vector, the last one counts."""
    places = {(e.address, e.site): e for one in edits for e in one.edits}
    return replace(edits[0], edits=tuple(places.values()))
