"""Samples that lie apart as one planar batch. Twin of ``kernels/gather.py``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gathered(samples: Sequence[Tensor], interleaved: bool) -> Tensor:
    """Stack and, of interleaved samples, planes.

    Args:
        samples: ``[H, W, C]`` each if interleaved, else ``[C, H, W]``, of one shape and dtype.
        interleaved: Which of the two.

    Returns:
        ``[B, C, H, W]``, contiguous.
    """
    batch = torch.stack(tuple(samples))
    return batch.permute(0, 3, 1, 2).contiguous() if interleaved else batch
