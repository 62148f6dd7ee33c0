"""Sinusoidal position tables (Vaswani et al. 2017, arXiv:1706.03762), for sequences and for grids of patches."""

from __future__ import annotations

import torch
from torch import Tensor


def sine_sequence(length: int, width: int) -> Tensor:
    """(length, width) table of a sequence; even channels hold sines, odd ones cosines."""
    channel = torch.arange(width, dtype=torch.float64)
    frequency = 10000 ** (-2 * (channel // 2) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # (length, width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


def sine_grid(side: int, width: int) -> Tensor:
    """(side * side, width) table of a grid, row by row; rows fill the first half of the channels, columns the second.

    Positions count from 0 and are not scaled, as in the reference; DETR's count from 1 and are scaled to 2 pi.
    """
    line = sine_sequence(side, width // 2)
    rows = line[:, None].expand(side, side, width // 2)
    columns = line[None, :].expand(side, side, width // 2)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, width)
