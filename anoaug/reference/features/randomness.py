"""Randomness of feature perturbations in torch: the twin of ``kernels/features/randomness.py``.

A group of positions (an image's, or a batch's rows) has a 64-bit key; the Philox counter is
``(channel // 4, position, site, 0)``. Four neighbouring channels share a call, whatever the memory
layout, so that a map, its tokens and its rows get the same numbers. A *site* is what the words are
for, see ``SITES``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...rng import gaussian_pair, philox

# Words for every channel of a position; one set for a position; one set for a group; words for
# rounding every channel of a position.
SITES = ELEMENT, POSITION, GROUP, ROUNDING = range(4)


def words(
    keys: Tensor, positions: Tensor | int, quads: Tensor | int, site: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four int64 words in [0, 2**32) of the broadcast shape ``[G, P, Q]``.

    Args:
        keys: int64 ``[G, 2]``, words in [0, 2**32).
        positions: int64 ``[P, 1]`` or ``[G, P, 1]`` positions within the group, or 0.
        quads: int64 ``[Q]``, or 0.
        site: One of ``SITES``.
    """
    first, second = keys[:, 0, None, None], keys[:, 1, None, None]
    return philox((first, second), (quads, positions, site, 0))


def gaussians(keys: Tensor, positions: int, channels: int) -> Tensor:
    """Standard normal float32 ``[G, P, C]``, one for every channel of every position."""
    place = torch.arange(positions, device=keys.device)[:, None]
    quad = torch.arange(-(-channels // 4), device=keys.device)
    drawn = words(keys, place, quad, ELEMENT)
    values = torch.stack((*gaussian_pair(*drawn[:2]), *gaussian_pair(*drawn[2:])), dim=3)
    return values.flatten(2)[:, :, :channels]


def element_words(keys: Tensor, positions: int, channels: int, site: int) -> Tensor:
    """int64 ``[G, P, C]`` in [0, 2**32): a word for every channel of every position."""
    place = torch.arange(positions, device=keys.device)[:, None]
    quad = torch.arange(-(-channels // 4), device=keys.device)
    return torch.stack(words(keys, place, quad, site), dim=3).flatten(2)[:, :, :channels]


def position_words(keys: Tensor, positions: int) -> Tensor:
    """int64 ``[4, G, P]`` in [0, 2**32): four words for each position."""
    place = torch.arange(positions, device=keys.device)[:, None]
    return torch.stack(words(keys, place, 0, POSITION))[..., 0]


def group_words(keys: Tensor) -> Tensor:
    """int64 ``[4, G]`` in [0, 2**32): four words for each group."""
    return torch.stack(words(keys, 0, 0, GROUP))[..., 0, 0]
