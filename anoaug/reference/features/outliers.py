"""Samples of a Gaussian's tail and about a boundary, in torch, on every device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .randomness import GROUP, gaussians, position_words, words

# Newton's method doubles the digits each time, from Wilson and Hilferty's two or three.
_NEWTON = 6


def chi_upper(share: Tensor, channels: int) -> Tensor:
    """The length that a share of standard normal vectors of C channels exceeds.

    Args:
        share: float64 in (0, 1].
        channels: C.

    Returns:
        float64 lengths, exact to about 1e-10.
    """
    half = 0.5 * channels
    order = torch.full((), half, dtype=torch.float64, device=share.device)
    # Wilson and Hilferty (1931) say where to start; the logarithm of the share is concave, so that
    # Newton's method ends at the root from anywhere.
    normal = -torch.special.ndtri(share.clamp(max=1.0 - 1e-12))
    start = 1.0 - 1.0 / (9.0 * half) + normal / (3.0 * math.sqrt(half))
    value = half * start.clamp(min=0.01) ** 3
    for _ in range(_NEWTON):
        above = torch.special.gammaincc(order, value).clamp(min=1e-300)
        density = (half - 1.0) * value.log() - value - math.lgamma(half)
        step = (above.log() - share.log()) * (above.log() - density).exp()
        value = (value + step).clamp(min=1e-24)
    return (2.0 * value).sqrt()


def tail_lengths(rng: Tensor, count: int, channels: int, draws: int, select: int = 1) -> Tensor:
    """Lengths of the ``select`` longest of ``draws`` standard normal vectors, over and over.

    One number each: the largest of n uniform numbers is U^(1/n), the next one U^(1/(n - 1)) of it.

    Args:
        rng: Keys int64 ``[G, 2]``.
        count: How many for each group; every ``select`` in a row, from the longest down, are of the
            same draws.
        channels: C.
        draws: n.
        select: At most n.

    Returns:
        float64 ``[G, count]``.
    """
    rounds = -(-count // select)
    word = position_words(rng, rounds * select)[1].double()
    level = ((word + 0.5) * 2.0**-32).log().view(len(rng), rounds, select)
    left = draws - torch.arange(select, dtype=torch.float64, device=rng.device)
    share = -torch.expm1((level / left).cumsum(2))
    return chi_upper(share.flatten(1)[:, :count].clamp(min=1e-290), channels)


def tail(keys: Tensor, count: int, channels: int, draws: int, select: int) -> tuple[Tensor, Tensor]:
    """Lengths float32 ``[G, count]`` of :func:`tail_lengths`, and directions ``[G, count, C]``."""
    lengths = tail_lengths(keys, count, channels, draws, select).float()
    return lengths, torch.nn.functional.normalize(gaussians(keys, count, channels), dim=2)


def kth_distances(rows: Tensor, among: Tensor, k: int, tile: int = 1 << 20) -> Tensor:
    """Distance of every row to its k-th nearest vector, both of unit length, ``[N]``.

    Args:
        rows: float32 ``[N, C]``.
        among: float32 ``[L, C]``.
        k: From 1 (the nearest) to L.
        tile: Elements of the largest intermediate matrix.
    """
    found = []
    for part in rows.split(max(tile // len(among), 1)):
        # The k-th largest cosine; of unit vectors |a - b|^2 = 2 - 2 a.b.
        cosine = (part @ among.T).kthvalue(len(among) - k + 1, dim=1).values
        found.append((2.0 - 2.0 * cosine).clamp(min=0.0).sqrt())
    return torch.cat(found) if found else rows.new_zeros(0)


def boundary_samples(
    rows: Tensor, rng: Tensor, k: int, boundary: int, points: int, candidates: int, sigma: float,
    keep: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See ``features.functional.knn_boundary``."""
    groups, channels = len(rng), rows.shape[-1]
    turn = torch.arange(boundary, device=rng.device)[:, None]
    order = torch.stack(words(rng, turn, 0, GROUP))[0, ..., 0].argsort(dim=1, stable=True)[
        :, :points
    ]
    samples, distances = [], []
    with torch.autocast(rows.device.type, enabled=False):
        edges: list[Tensor] = []
        for group in range(groups):
            own = rows if rows.dim() == 2 else rows[group]
            unit = torch.nn.functional.normalize(own, dim=1)
            if rows.dim() == 3 or not edges:
                edges = [kth_distances(unit, unit, k).topk(boundary).indices]
            middle = own[edges[0][order[group]]]
            noise = gaussians(rng[group, None], points * candidates, channels)[0]
            made = middle[:, None] + sigma * noise.view(points, candidates, channels)
            flat = torch.nn.functional.normalize(made.flatten(0, 1), dim=1)
            far = kth_distances(flat, unit, k).view(points, candidates)
            values, index = far.topk(keep, dim=1)
            samples.append(made.gather(1, index[..., None].expand(-1, -1, channels)).flatten(0, 1))
            distances.append(values.flatten())
    if not samples:
        return rows.new_zeros(0, points * keep, channels), rows.new_zeros(0, points * keep)
    return torch.stack(samples), torch.stack(distances)
