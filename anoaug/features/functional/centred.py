"""Perturbations about centres of normal features: PBAS's push and CRAS's noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ... import checks
from ..ops import feature_noise
from ..ops.rows import feature_distances, feature_gaussians, feature_noise_lengths, rows
from ..strength import refuse_overflow
from .door import beside, number, opened
from .shells import ON_ZERO

Average = Callable[[Tensor], Tensor]
# Below this a distance has no direction and no meaning.
NOTHING = 1e-12


def mean_of(values: Tensor) -> Tensor:
    """The mean, of nothing 0."""
    return values.sum() / max(values.numel(), 1)


def radial_push(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    centres: Tensor,
    index: Tensor | None = None,
    k: float = 0.25,
    average: Average = mean_of,
    on_zero: str = "direction",
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Push features away from their centres, all by one length: f + k r (f - c) / |f - c|.

    PBAS (Chen et al., TCSVT 2025), r being the mean distance of all positions. The offset is a
    constant: the gradient is the identity. Deterministic but for features at their centre, where
    the published division gives NaN.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to push, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`, for ``on_zero="direction"``.
        centres: Like the features, ``[P, C]``, ``[C]`` or, with ``index``, a table ``[K, C]``.
        index: int64 ``[G, P]``: rows of the table; has to be within it.
        k: Length of the push over the mean distance.
        average: Distances ``[G, P]`` to their mean; the default is this process's, for another see
            :class:`anoaug.features.methods.pbas.PBAS`.
        on_zero: What becomes of a feature at its centre: ``"direction"``: a random one;
            ``"stay"``.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Pushed features; the mask of pushed positions as float32 in the layout's shape; and the
        distances ``[G, P]``, differentiable: their mean is PBAS's SVDD loss.

    Raises:
        TypeError, ValueError: Bad input.
    """
    random = checks.one_of("on_zero", on_zero, ON_ZERO) == "direction"
    size = number("k", k, 0.0)
    call = opened(features, mask, rng, layout, prefix, noise, backend, random=random)
    other, table = beside("centres", centres, call, index)
    other = other.detach()
    far = feature_distances(call.values, other, table, call.backend)
    moved = rows(
        call.values, "push", size * average(far.detach()), other=other, index=table,
        keys=call.keys if random else None, noise=call.noise if random else None,
        inside=call.inside, backend=call.backend,
    )  # fmt: skip
    return *call.result(moved, call.inside), far


def distance_scaled_noise(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    centres: Tensor,
    index: Tensor | None = None,
    sigma: float = 0.015,
    k: float = 0.3,
    average: Average = mean_of,
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Add Gaussian noise, more of it to features near their centre: f + s sigma e.

    CRAS (2025): s = 1 + k (n / d / mean(n / d) - 1) of the noise's length n and the distance d to
    the centre, so that s is 1 in the mean and at least 1 - k. A feature at its centre has no n / d:
    it is left out of the mean and gets s = 1. The noise is a constant: the gradient is the
    identity.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        centres: Like the features, ``[P, C]``, ``[C]`` or, with ``index``, a table ``[K, C]``.
        index: int64 ``[G, P]``: rows of the table; has to be within it.
        sigma: Standard deviation of the noise.
        k: How much the distance counts, in [0, 1].
        average: As in :func:`radial_push`, of n / d at the positions that have one.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Perturbed features; the mask of perturbed positions as float32 in the layout's shape; and s,
        float32 ``[G, P]``.

    Raises:
        TypeError, ValueError: Bad input.
    """
    checks.probability("k", k)
    size = number("sigma", sigma, 0.0)
    call = opened(features, mask, rng, layout, prefix, noise, backend)
    refuse_overflow("sigma", size, call.values)
    other, table = beside("centres", centres, call, index)
    values = call.values.detach()
    far = feature_distances(values, other.detach(), table, call.backend)
    keys = call.keys
    if keys is None:
        keys = torch.zeros(len(far), 2, dtype=torch.int64, device=far.device)
    noise = call.noise
    if noise is None and keys.device.type == "cpu" and call.backend != "triton":
        # Drawn once and held: twice takes longer than the memory's way.
        noise = feature_gaussians(keys, *values.shape[1:], call.backend)
    if noise is None:
        length = feature_noise_lengths(keys, *values.shape[1:], call.backend)
    else:
        length = torch.linalg.vector_norm(noise, dim=-1, dtype=far.dtype)
    known = far > NOTHING
    share = torch.where(known, size * length / torch.where(known, far, 1.0), 0.0)
    # The mean of those that have one, as the mean of all over the share that has.
    mean = average(share) / average(known.to(share.dtype)).clamp(min=NOTHING)
    gain = 1.0 + k * (share / torch.where(mean > 0.0, mean, 1.0) - 1.0)
    gain = torch.where(known & (mean > 0.0), gain, 1.0).to(torch.float32)
    moved = feature_noise(
        call.values, keys, call.inside, gain, None, noise, size, 1, 1.0, False, call.backend
    )  # fmt: skip
    return *call.result(moved, call.inside), gain
