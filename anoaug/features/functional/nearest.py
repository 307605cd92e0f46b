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
        prepared = _prepared(c, metric)
        parts = [_nearest(one, *prepared, across) for one in x.split(high, 1)]
        places, values = (torch.cat(each, 1).reshape(lead) for each in zip(*parts, strict=True))
    return places, values


def _tile(batch: int, codes: int, tile: int) -> tuple[int, int]:
    """Rows and codes of a tile."""
    across = max(1, min(codes, tile // max(batch, 1)))
    return max(1, tile // (across * max(batch, 1))), across


def _prepared(codes: Tensor, metric: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Codes ``[G, K, C]`` for the products, what rows lose before and products gain after.

    Both are None for cosines, whose rows are of unit length instead.
    """
    if metric == "cosine":
        return torch.nn.functional.normalize(codes, dim=2), None, None
    middle = codes.mean(1, keepdim=True)
    codes = codes - middle
    return codes, middle, -0.5 * codes.square().sum(2)[:, None]


def _nearest(
    x: Tensor, codes: Tensor, middle: Tensor | None, offset: Tensor | None, across: int
) -> tuple[Tensor, Tensor]:
    """Of rows ``[G, n, C]`` that are few enough."""
    x = torch.nn.functional.normalize(x, dim=2) if middle is None else x - middle
    best, place = None, None
    for first in range(0, codes.shape[1], across):
        some = slice(first, first + across)
        tile = x @ codes[:, some].transpose(1, 2)
        if offset is not None:
            tile += offset[:, :, some]  # in place: the largest there is
        value, index = tile.max(2)
        del tile  # before the next one is made
        if best is None or place is None:
            best, place = value, index
            continue
        better = value > best
        best = torch.where(better, value, best)
        place = torch.where(better, index + first, place)
    assert best is not None and place is not None
    if middle is None:
        return place, best
    return place, (x.square().sum(2) - 2.0 * best).clamp(min=0.0).sqrt()
