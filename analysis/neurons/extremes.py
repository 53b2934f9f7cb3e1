"""The k largest or smallest of every row of a matrix that is seen tile by tile, exact, without a sort.

Columns are grouped by 64: the k groups with the largest maxima hold the k largest entries (METHODS §1).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GROUP = 64
"""Columns of a group."""

Best = tuple[Tensor, Tensor]
"""Values (n, k), best first, and their columns or token ids (n, k)."""


class Extremes:
    """The k best groups of every one of n rows among the tiles seen so far, with their entries.

    sign +1: the largest, −1: the smallest; what is kept is sign · z, so that the best is the largest. Of
    equal entries the first are best. rounded: the entries are bfloat16's, of which many are equal, and which
    of these are kept is open.
    """

    def __init__(self, n: int, k: int, *, sign: int, rounded: bool, device: torch.device) -> None:
        self._k, self._sign, self._rounded = k, sign, rounded
        self._heights = torch.empty(n, 0, device=device)
        self._entries = torch.empty(n, 0, GROUP, device=device)
        self._places = torch.empty(n, 0, dtype=torch.int64, device=device)

    def add(self, rows: Tensor, heights: Tensor, first: int) -> None:
        """Add a tile's logits z as rows (n, g, GROUP), with the largest sign · z of every group as heights
        (n, g); first: the number of its first group, counted over all tiles.
        """
        kept = self._heights.shape[1]
        every = torch.cat([self._heights, heights], 1)
        if every.shape[1] <= self._k:
            self._entries = torch.cat([self._entries, self._take(rows)], 1)
            self._heights, self._places = every, self._number(first, every.shape[1] - kept)
            return
        chosen = self._choose(every, self._k, self._places)
        if kept < self._k:
            both = torch.cat([self._entries, self._take(rows)], 1) if kept else rows
            places = self._number(first, heights.shape[1])
            where = _list_columns(chosen, self._k)
            self._heights, self._places = every.gather(1, where), places.gather(1, where)
            taken = _take_groups(both, where)
            self._entries = taken if kept else self._take(taken)
            return
        self._replace(rows, heights, first, chosen)

    def finish(self, k: int) -> Best:
        """The k best entries of sign · z times the sign again, and their places, group · GROUP + offset."""
        entries, every = self._entries.flatten(1), _spread(self._places)
        columns = _list_columns(self._choose(entries, k, every), k)
        places = every.gather(1, columns)
        places, order = places.sort(dim=-1)
        values, best = entries.gather(1, columns.gather(1, order)).sort(dim=-1, descending=True, stable=True)
        return self._sign * values, places.gather(1, best)

    def _take(self, entries: Tensor) -> Tensor:
        return entries.float() * self._sign

    def _number(self, first: int, count: int) -> Tensor:
        new = torch.arange(first, first + count, device=self._places.device)
        return torch.cat([self._places, new.expand(len(self._places), -1)], 1)

    def _replace(self, rows: Tensor, heights: Tensor, first: int, chosen: Tensor) -> None:
        """Put a tile's chosen groups in the slots of those that they displace, as many in every row."""
        at, slot = _nonzero(~chosen[:, : self._k])
        row, group = _nonzero(chosen[:, self._k :])
        self._entries[at, slot] = self._take(rows[row, group])
        self._heights[at, slot] = heights[row, group]
        self._places[at, slot] = group + first

    def _choose(self, values: Tensor, k: int, places: Tensor) -> Tensor:
        """The k largest of every row of values (n, c) as a mask; of equal ones the first.

        places (n, p): those of the first p columns, which lie before all others.
        """
        if self._rounded:  # what bfloat16 tells apart, 2⁻⁸, is more than any step here
            step = torch.arange(values.shape[1], device=values.device) * -(2.0**-10 / values.shape[1])
            values = torch.addcmul(values, values.abs(), step)
        mask = values >= _find_least(values, k)
        wrong = (mask.sum(-1) != k).nonzero()[:, 0]  # equal ones at the edge, or NaN
        if len(wrong):
            mask[wrong] = _choose_first(values[wrong], k, places[wrong])
        return mask


def _spread(groups: Tensor) -> Tensor:
    """The place of every entry (n, g · GROUP) of groups with these numbers (n, g)."""
    inside = torch.arange(GROUP, device=groups.device)
    return (groups[..., None] * GROUP + inside).flatten(1)


def _choose_first(values: Tensor, k: int, places: Tensor) -> Tensor:
    """The mask of `_choose` by stable sorts: slow, and right for equal values too."""
    order = places.argsort(dim=-1)
    rest = torch.arange(order.shape[1], values.shape[1], device=values.device)
    order = torch.cat([order, rest.expand(len(values), -1)], 1)
    best = values.gather(1, order).sort(dim=-1, descending=True, stable=True).indices[:, :k]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order.gather(1, best), True)


def _find_least(values: Tensor, k: int) -> Tensor:
    """The k-th largest of every row (n, 1). On the CPU NumPy sorts rows many times as fast as torch."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1)[:, -k, None].copy())
    return values.topk(k).values[:, -1:]


def _nonzero(mask: Tensor) -> tuple[Tensor, Tensor]:
    if mask.device.type == "cpu":
        found = np.nonzero(mask.numpy())
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    row, column = mask.nonzero().unbind(1)
    return row, column


def _list_columns(mask: Tensor, k: int) -> Tensor:
    """(n, k) the columns, ascending, of a mask that is true k times in every row."""
    return _nonzero(mask)[1].view(-1, k)


def _take_groups(entries: Tensor, groups: Tensor) -> Tensor:
    """(n, k, GROUP) some groups (n, k) of every row of entries (n, g, GROUP)."""
    rows = torch.arange(len(entries), device=entries.device)[:, None]
    return entries[rows, groups]
