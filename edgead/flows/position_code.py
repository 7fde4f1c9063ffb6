"""Sinusoidal position code, the condition of conditional flows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgead.errors import ConfigError


def position_code(channels: int, height: int, width: int) -> Tensor:
    r"""Position code `(1, P, height, width)`: sines and cosines of the column in the first half, of the row in the second.

    CFLOW-AD (Gudovskiy et al., 2021, arXiv:2107.12571, section 4; P = 128), HGAD (P = 256): angular frequencies
    :math:`10000^{-2i/(P/2)}`, sine at even and cosine at odd channels, indices not scaled by the size of the map. The
    code is the sum of a function of the column and one of the row, which `export/fold.py` uses.

    Raises:
        ConfigError: If `channels` is not a positive multiple of 4.

    Example:
        >>> position_code(8, 3, 5).shape
        torch.Size([1, 8, 3, 5])
    """
    if channels < 4 or channels % 4:
        raise ConfigError(f"model.position_channels must be a multiple of 4 (got {channels}).")
    half = channels // 2
    frequencies = torch.exp(-2.0 * math.log(1e4) / half * torch.arange(half // 2, dtype=torch.float64))
    code = torch.zeros(1, channels, height, width, dtype=torch.float64)
    for first, count, shape in ((0, width, (1, width)), (half, height, (height, 1))):
        angles = frequencies[:, None] * torch.arange(count, dtype=torch.float64)
        code[0, first : first + half : 2] = torch.sin(angles).reshape(-1, *shape)
        code[0, first + 1 : first + half : 2] = torch.cos(angles).reshape(-1, *shape)
    return code.to(torch.get_default_dtype())
