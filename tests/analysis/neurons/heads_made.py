"""Heads made of given rows, for decoding and search."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix


def head_of(rows: Tensor) -> HeadMatrix:
    """The head whose rows (V, d) are these, with their mean and covariance in float64."""
    mean = rows.double().mean(0)
    return HeadMatrix(rows, mean, rows.double().T @ rows.double() / len(rows) - torch.outer(mean, mean))
