"""Massive activations: the size of the residual after each layer, and whether the layer's FFN formed it.

    massive: |h| > 100 and > 1000 × median |h| over one sequence         Sun et al. 2024, arXiv 2402.17762
    formed by layer l: massive after l, and the FFN output of l supplies at least half of it there

Residuals are read behind the layers by hooks: a model's last `hidden_states` are normed already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.intervening.steps import ForwardStep, Handle
from analysis.super_experts.residual_layers import ResidualLayer, first_output

Array = np.ndarray[Any, Any]
MASSIVE, TIMES_MEDIAN, SUPPLIED = 100.0, 1000.0, 0.5
"""Smallest |h| of a massive activation, absolute and in medians, and the FFN's smallest share of it."""
KINDS = ("first", "others")
"""Residual positions kept apart: the first token of a sequence, and all others."""


@dataclass(frozen=True)
class ResidualPeaks:
    """The residual after each of n layers, over B sequences.

    largest (2, n): max |h| at the first token and at all others, float32; token (2, n): where, counted
    through the flattened batch; dimension (2, n). median (2, n, B): of |h|, per sequence, the lower one.
    formed (n,): the largest massive h, with its sign, of which the layer's own FFN supplies at least half; 0
    if there is none. formed_token, formed_dimension (n,): where; supplied (n,): the FFN's part of it.
    massive (n,): sequences with a massive activation after the layer, whatever formed it.
    """

    largest: Array
    token: Array
    dimension: Array
    median: Array
    formed: Array
    formed_token: Array
    formed_dimension: Array
    supplied: Array
    massive: Array

    def __post_init__(self) -> None:
        if self.largest.shape != self.median.shape[:2] or len(self.formed) != self.largest.shape[1]:
            raise ValueError(f"residual peaks of {self.largest.shape} and {self.median.shape} do not fit")

    @classmethod
    def empty(cls, layers: int, sequences: int) -> ResidualPeaks:
        """An empty result."""
        sizes: dict[str, tuple[int, ...]] = {"median": (len(KINDS), layers, sequences)}
        sizes |= dict.fromkeys(("largest", "token", "dimension"), (len(KINDS), layers))
        whole = ("token", "dimension", "formed_token", "formed_dimension", "massive")
        return cls(
            **{
                one.name: np.zeros(sizes.get(one.name, (layers,)), np.int32 if one.name in whole else "f4")
                for one in fields(cls)
            }
        )


@dataclass(frozen=True)
class MassiveHere:
    """The massive activations after one layer: row, position, dimension (k,), their values h (k,), float32.

    written (B, T, d): the layer's FFN output before its factor; None where it is unknown.
    """

    row: Tensor
    position: Tensor
    dimension: Tensor
    h: Tensor
    written: Tensor | None


@dataclass
class WatchResiduals:
    """Records the residual after some layers in one step; all sequences have equal length. `peaks` holds the
    result.

    note: called once each layer has ended, with its index and what is massive after it, if anything.
    """

    layers: Sequence[ResidualLayer]
    note: Callable[[int, MassiveHere | None], None] = lambda at, here: None
    peaks: ResidualPeaks = field(init=False)
    _written: dict[str, Tensor] = field(default_factory=dict)

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach it; yields handles, each to be removed."""
        self.peaks = ResidualPeaks.empty(len(self.layers), len(step.positions))
        for at, layer in enumerate(self.layers):
            for name in layer.writer.modules if layer.writer else ():
                yield step.loaded.model.get_submodule(name).register_forward_hook(self._keep(name))
            yield step.loaded.model.get_submodule(layer.module).register_forward_hook(self._read(at, layer))

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._written[name] = first_output(output)

        return hook

    def _read(self, at: int, layer: ResidualLayer) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            residual = first_output(output)
            written = [self._written.pop(n) for n in (layer.writer.modules if layer.writer else ())]
            sizes = residual.abs().float().cpu().numpy()
            self._note_largest(at, sizes)
            added = torch.stack([w.reshape(residual.shape) for w in written]).sum(0) if written else None
            here = self._find_massive(at, residual, added, sizes) if sizes.max() > MASSIVE else None
            if here is not None and layer.writer is not None:
                self._note_formed(at, here, layer.writer.factor)
            self._note_medians(at, sizes)
            self.note(at, here)

        return hook

    def _note_largest(self, at: int, sizes: Array) -> None:
        """sizes (B, T, d): |h|; NaN counts as the largest of all."""
        length = sizes.shape[1]
        for kind, part in enumerate((sizes[:, :1], sizes[:, 1:])):
            if part.size:
                row, position, dimension = np.unravel_index(part.argmax(), part.shape)
                self.peaks.largest[kind, at] = part[row, position, dimension]
                self.peaks.token[kind, at] = row * length + position + kind
                self.peaks.dimension[kind, at] = dimension

    def _find_massive(
        self, at: int, residual: Tensor, written: Tensor | None, sizes: Array
    ) -> MassiveHere | None:
        """residual, sizes (B, T, d): h and |h|; None if nothing is massive."""
        flat = sizes.reshape(len(sizes), -1)
        least = np.maximum(MASSIVE, TIMES_MEDIAN * _lower_median(flat))
        places = np.nonzero(sizes > least[:, None, None])
        self.peaks.massive[at] = len(np.unique(places[0]))
        row, position, dimension = (torch.from_numpy(place).to(residual.device) for place in places)
        h = residual[row, position, dimension].float()
        return MassiveHere(row, position, dimension, h, written) if len(h) else None

    def _note_formed(self, at: int, here: MassiveHere, factor: float) -> None:
        """Record the largest massive activation of which the layer's FFN supplies enough."""
        assert here.written is not None
        where = here.row, here.position, here.dimension
        h = here.h.cpu().numpy()
        share = factor * here.written[where].float().cpu().numpy() / h
        formed = np.flatnonzero(share >= SUPPLIED)
        if len(formed):
            best = formed[np.abs(h[formed]).argmax()]
            row, position, dimension = (int(place[best]) for place in where)
            self.peaks.formed[at] = h[best]
            self.peaks.supplied[at] = share[best]
            self.peaks.formed_token[at] = row * here.written.shape[1] + position
            self.peaks.formed_dimension[at] = dimension

    def _note_medians(self, at: int, sizes: Array) -> None:
        for kind, part in enumerate((sizes[:, :1], sizes[:, 1:])):
            if part.size:
                self.peaks.median[kind, at] = _lower_median(part.reshape(len(part), -1))


def _lower_median(rows: Array) -> Array:
    """(B,) the median of each row, the lower of the two in the middle, as torch.median."""
    middle = (rows.shape[1] - 1) // 2
    return np.asarray(np.partition(rows, middle, axis=1)[:, middle])
