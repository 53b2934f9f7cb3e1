"""Projection of a layer's keys on their first two principal components, with the slice of a box.

A box is aligned with the neurons, not with the plane; its slice is the convex polygon

    {(a, b):  |a·u_j + b·v_j| ≤ α · k · σ_j for every j}

with u, v the plane's axes and μ, the centre of the box, at (0, 0). A key that is projected into the polygon
may still lie outside the box in a direction orthogonal to the plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.unlearning.guards.key_boxes import KeyBox

_FLAT = 1e-9
"""Length relative to the first axis below which a second axis is only rounding."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane in key space. origin (m,), axes (2, m) orthonormal, float32 on the CPU.

    shares (2,): of the keys' variance, how much lies along each axis, in [0, 1].
    """

    origin: Tensor
    axes: Tensor
    shares: Tensor

    def points(self, keys: Tensor) -> Tensor:
        """(n, 2) float32 where keys (n, m) are projected to."""
        return ((keys.double() - self.origin.double()) @ self.axes.double().T).float()


def fit_plane(keys: Tensor, origin: Tensor) -> Plane:
    """The plane through `origin` (m,) along the first two principal components of keys (n, m), n ≥ 1, m ≥ 2.

    Exact, in float64, and deterministic: each axis is oriented so that its largest entry is positive.
    """
    centred = keys.double() - keys.double().mean(0)
    n, m = centred.shape
    values, vectors = torch.linalg.eigh(centred @ centred.T if n <= m else centred.T @ centred)
    top = vectors[:, -2:].flip(1)
    axes = _orthonormal(centred.T @ top if n <= m else top)
    total = float(values.clamp(min=0).sum())
    spread = (centred @ axes).square().sum(0)
    shares = spread / total if total > 0 else torch.zeros(2, dtype=torch.float64)
    return Plane(origin.float(), axes.T.float().contiguous(), shares.float())


def _orthonormal(columns: Tensor) -> Tensor:
    """(m, 2) orthonormal, from (m, 1 or 2) columns that may be parallel or missing."""
    scale = float(columns.norm(dim=0).max())
    found: list[Tensor] = []
    for column in [*columns.T, *torch.eye(len(columns), 3, dtype=torch.float64).T]:
        for other in [*found, *found]:  # twice, because once leaves rounding errors
            column = column - (column @ other) * other
        if len(found) < 2 and float(column.norm()) > _FLAT * max(scale, _FLAT):
            unit = column / column.norm()
            found.append(unit * torch.sign(unit[unit.abs().argmax()]))
    return torch.stack(found, 1)


def slice_box(box: KeyBox, plane: Plane) -> Tensor:
    """(v, 2) float32 corners, in order, of the slice of box(1) with a plane through the box's centre.

    Those of box(α) are α times these.
    """
    half = box.k * box.sigma.double()
    normals = plane.axes.double() / half
    reach = float(half.norm())  # the axes are orthonormal, so that no corner is further out
    corners = reach * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    for _ in range(normals.shape[1]):
        out = (corners @ normals).abs().amax(0)
        if float(out.max()) <= 1 + 1e-9:
            break
        normal = normals[:, int(out.argmax())]
        corners = _clip(_clip(corners, normal), -normal)
    return corners.float()


def _clip(corners: Tensor, normal: Tensor) -> Tensor:
    """The part of a convex polygon (v, 2) with normal · p ≤ 1."""
    height = corners @ normal - 1
    kept: list[Tensor] = []
    for i in range(len(corners)):
        here, after = float(height[i]), float(height[(i + 1) % len(corners)])
        if here <= 0:
            kept.append(corners[i])
        if here * after < 0:
            share = here / (here - after)
            kept.append(corners[i] + share * (corners[(i + 1) % len(corners)] - corners[i]))
    return torch.stack(kept)
