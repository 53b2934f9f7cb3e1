"""Grids of scales over a matrix: one per tensor, per row, per group of a row, or per block."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

Block = tuple[int, int]
"""Rows and columns that share a scale."""


def find_block(
    key: str, shape: Block, grid: Block, stated: Collection[Block] = (), *, others: bool = True
) -> Block:
    """The block of a matrix with a grid of scales. stated: blocks that the configuration names, of which the
    last ones of a matrix may be smaller. others: whether equal blocks of another size are taken too, because
    the configuration leaves the size open.

    Raises NotAModel if none fits.
    """
    for block in stated:
        if grid == (-(-shape[0] // block[0]), -(-shape[1] // block[1])):
            return block
    if not others:
        blocks = " or ".join(f"{rows} × {columns}" for rows, columns in stated)
        raise NotAModel(
            f"{key} is {list(shape)} with {list(grid)} scales, which do not follow from the blocks of "
            f"{blocks} that config.json states; use the config.json that belongs to these weights"
        )
    if 0 in grid or shape[0] % grid[0] or shape[1] % grid[1]:
        raise NotAModel(f"{key} is {list(shape)}, which {list(grid)} scales do not divide into blocks{AGAIN}")
    return shape[0] // grid[0], shape[1] // grid[1]


def spread(grid: Tensor, block: Block, rows: range, columns: int) -> Tensor:
    """The entry of a grid (rows of blocks, columns of blocks) for every number of some rows: (n, columns)."""
    of_rows = grid[torch.arange(rows.start, rows.stop) // block[0]]
    return of_rows.repeat_interleave(block[1], 1)[:, :columns]
