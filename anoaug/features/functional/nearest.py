"""The nearest of many vectors, tile by tile."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import checks

# Elements of a tile of similarities: 16 MB of float32.
TILE = 1 << 22
METRICS = ("cosine", "euclidean")


@torch.no_grad()
def nearest(
    rows: Tensor, codes: Tensor, metric: str = "cosine", tile: int = TILE
) -> tuple[Tensor, Tensor]:
    """Which of K vectors is nearest to each of N, without the N x K matrix.

    Euclidean distances are those of rows and codes less the codes' mean, which keeps the digits
    that |x|^2 - 2 x.c + |c|^2 would lose where features are far from zero.

    Args:
        rows: ``[..., N, C]`` floats.
        codes: ``[K, C]``, or ``[G, K, C]`` for rows ``[G, N, C]``.
        metric: ``"cosine"`` (of zero vectors: 0) or ``"euclidean"``.
        tile: Elements of the largest intermediate matrix.

    Returns:
        int64 ``[..., N]`` places, the first of equals; and cosine similarities or distances.

    Raises:
        ValueError: Another number of channels, no codes, or an unknown metric.
    """
    checks.one_of("metric", metric, METRICS)
    if rows.shape[-1] != codes.shape[-1] or codes.shape[-2] < 1:
        raise ValueError(
            f"codes: expected at least one of {rows.shape[-1]} channels, got {list(codes.shape)}"
        )
    with torch.autocast(rows.device.type, enabled=False):
        lead = rows.shape[:-1]
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        batch = codes.shape[0] if codes.dim() == 3 else 1
        x = wide.reshape(batch, lead.numel() // max(batch, 1), wide.shape[-1])
        c = codes.to(x.dtype).reshape(batch, *codes.shape[-2:])
        high, across = _tile(batch, c.shape[1], tile)
        parts = [_nearest(one, c, metric, across) for one in x.split(high, 1)]
        places, values = (torch.cat(each, 1).reshape(lead) for each in zip(*parts, strict=True))
    return places, values


def _tile(batch: int, codes: int, tile: int) -> tuple[int, int]:
    """Rows and codes of a tile."""
    across = max(1, min(codes, tile // max(batch, 1)))
    return max(1, tile // (across * max(batch, 1))), across


def _nearest(x: Tensor, codes: Tensor, metric: str, across: int) -> tuple[Tensor, Tensor]:
    """Of rows ``[G, n, C]`` that are few enough."""
    if metric == "cosine":
        x = torch.nn.functional.normalize(x, dim=2)
        codes = torch.nn.functional.normalize(codes, dim=2)
        offset = codes.new_zeros(codes.shape[:2])[:, None]
    else:
        middle = codes.mean(1, keepdim=True)
        x, codes = x - middle, codes - middle
        offset = -0.5 * codes.square().sum(2)[:, None]
    best = x.new_full(x.shape[:2], float("-inf"))
    place = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
    for first in range(0, codes.shape[1], across):
        some = slice(first, first + across)
        value, index = (x @ codes[:, some].transpose(1, 2) + offset[:, :, some]).max(2)
        better = value > best
        best = torch.where(better, value, best)
        place = torch.where(better, index + first, place)
    if metric == "cosine":
        return place, best
    return place, (x.square().sum(2) - 2.0 * best).clamp(min=0.0).sqrt()
