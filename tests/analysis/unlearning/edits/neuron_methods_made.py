"""What several tests share of neuron methods made."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.opening.models import LoadedModel
from analysis.running.batches import make_batches, run_batch
from analysis.unlearning.edits.neuron_adjust import AdjustedBlock, NeuronAdjust

PROMPTS = [[1, *range(10 + n, 15 + n + n % 3)] for n in range(8)]


NEURONS = torch.tensor([2, 5, 7])


def adjusting(loaded: LoadedModel, seed: int = 0, **how: bool) -> NeuronAdjust:
    """Neurons of layer 1 with Gaussians that make about half the positions adjust."""
    means = torch.tensor([0.5, -0.2, 1.0]), torch.tensor([-0.5, 0.1, 0.0])
    sigmas = torch.tensor([1.0, 2.0, 0.7]), torch.tensor([0.8, 1.0, 1.5])
    block = AdjustedBlock(loaded.anatomy.blocks[1].address, NEURONS, means[0], sigmas[0], means[1], sigmas[1])
    return NeuronAdjust((block,), 1.0, seed, **how)


def outputs(loaded: LoadedModel, changes: list[object], size: int = 32) -> Tensor:
    """(n, V) last logits in the prompts' order."""
    rows = torch.zeros(len(PROMPTS), loaded.anatomy.head.vocab)
    for batch in make_batches(loaded, PROMPTS, size=size):
        rows[list(batch.indices)] = run_batch(loaded, batch, changes)[0][:, -1]  # type: ignore[arg-type]
    return rows
