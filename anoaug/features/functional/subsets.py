"""Random subsets of positions, of exact sizes, without a loop over images."""

from __future__ import annotations

import torch
from torch import Tensor

from ...reference import features as reference
from ..ops.subsets import feature_subset


def random_subset(
    keys: Tensor, counts: Tensor, positions: int, allowed: Tensor | None = None
) -> Tensor:
    """Choose positions of every group, all subsets of a size being equally likely.

    Args:
        keys: int64 ``[G, 2]``; the first word of every position is drawn.
        counts: int64 ``[G]``: how many; where fewer are allowed, all of those.
        positions: P.
        allowed: bool ``[G, P]``: positions that may be chosen; None: all.

    Returns:
        bool ``[G, P]``.
    """
    if keys.device.type == "cpu":
        return feature_subset(keys, counts, positions, allowed)
    words = reference.position_words(keys, positions)[0]
    if allowed is not None:
        # Words are below 2**32.
        words = torch.where(allowed, words, 1 << 32)
    # Stable, so that equal words have one order everywhere.
    order = torch.sort(words, dim=1, stable=True).indices
    first = torch.arange(positions, device=words.device) < counts[:, None]
    chosen = torch.zeros_like(first).scatter(1, order, first)
    return chosen if allowed is None else chosen & allowed
