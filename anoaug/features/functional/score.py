"""Noise that a score network has to undo: how well it does tells normal features apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...ops import BACKENDS, default_backend
from ...reference import features as reference
from ...rng import uniform
from .. import layouts
from ..ops.rows import gaussians
from .noise import _groups, checked_rng

# A network of noisy values like the features and times ``[G]``: gradients of the log density.
Score = Callable[[Tensor, Tensor], Tensor]


def perturbation_deviation(time: float | Tensor, sigma: float = 25.0) -> Any:
    """Standard deviation of the variance-exploding process, sqrt((sigma^2t - 1) / (2 ln sigma)).

    Args:
        time: In (0, 1]; a number, or a tensor of them.
        sigma: Above 1.
    """
    if not isinstance(time, Tensor):
        return math.sqrt(math.expm1(2.0 * time * math.log(sigma)) / (2.0 * math.log(sigma)))
    return (torch.expm1(2.0 * time * math.log(sigma)) / (2.0 * math.log(sigma))).sqrt()


def score_perturbation(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    score: Score,
    time: float = 1e-3,
    sigma: float = 25.0,
    repeats: int = 3,
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Perturb features and measure how badly a score network takes the perturbation back.

    Shin et al., "Anomaly Detection using Score-based Perturbation Resilience", ICCV 2023: noise
    n of deviation s at a small time is added, the network's step back is s^2 times its score, and
    what is left, the mean over channels of (s^2 score + n)^2, averaged over repeats, is small where
    the network knows the features. The paper has images for features and averages
    the result over 31 x 31 pixels (``torch.nn.functional.avg_pool2d(map, 31, 1, 15)``).

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        score: The network: noisy float32 features in their layout (prefix tokens as they are) and
            times float32, one per entry of the first axis, to scores like the features.
        time: t in (0, 1]; the published 1e-3 is a deviation of 0.032.
        sigma: Of the process, above 1.
        repeats: Draws of noise.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests; in every
            repeat.
        backend: Of the noise, a name of ``anoaug.ops.BACKENDS``; None: ANOAUG_BACKEND.

    Returns:
        The features of the first draw, rounded once to their dtype; the mask of perturbed
        positions, float32 in the layout's shape; what is left, like it, 0 where not perturbed.

    Raises:
        TypeError, ValueError: Bad input.
    """
    _check(time, sigma, repeats)
    chosen = checks.one_of("backend", backend or default_backend(), BACKENDS)
    grid = layouts.grid(features, layout, groups=_groups(rng), prefix=prefix)
    inside = None if mask is None else grid.flat("mask", mask, features)
    values = grid.view(features)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    like = features.to(wide.dtype)
    scale = perturbation_deviation(time, sigma)
    times = wide.new_full((len(features),), time, dtype=torch.float32)
    first, left = wide, wide.new_zeros(wide.shape[:2])
    _, positions, channels = wide.shape
    for number in range(repeats):
        if noise is None:
            keys = _repeated(checked_rng(rng, grid, features), number)
            drawn = gaussians(keys, positions, channels, chosen).to(wide.dtype)
        else:
            drawn = grid.view(noise).to(wide.dtype)
        step = drawn * scale
        step = step if inside is None else torch.where(inside[..., None], step, 0.0)
        noisy = grid.restore(wide + step, like)
        answer = _answer(score, noisy, times)
        rest = grid.view(answer).to(wide.dtype) * scale**2 + step
        rest = rest.square().mean(-1) / repeats
        left = left + (rest if inside is None else torch.where(inside, rest, 0.0))
        first = wide + step if number == 0 else first
    if inside is None:
        inside = values.new_ones(values.shape[:2], dtype=torch.bool)
    shown = left.to(torch.float32).reshape(grid.mask_shape(len(left)))
    return grid.restore(first, features), grid.shaped(inside), shown


def score_loss(
    features: Tensor,
    rng: Tensor,
    *,
    score: Score,
    sigma: float = 25.0,
    earliest: float = 1e-5,
    layout: str | None = None,
    prefix: int = 0,
    backend: str | None = None,
) -> Tensor:
    """The loss a score network is trained with on normal features: denoising score matching.

    The mean over images, or rows' shares, of the summed (s score + n)^2, where n is standard normal
    noise and s its deviation at a time of each one's own, uniform in [earliest, 1].

    Args:
        features: See :func:`score_perturbation`, likewise the rest.
        rng: Keys, of another stream or epoch in each step.
        score: The network.
        sigma: Of the process.
        earliest: Smallest time, above 0.
        layout: Of the features.
        prefix: Tokens that stay as they are and do not count.
        backend: See :func:`score_perturbation`.

    Returns:
        A loss without axes.

    Raises:
        TypeError, ValueError: Bad input.
    """
    _check(earliest, sigma, 1)
    chosen = checks.one_of("backend", backend or default_backend(), BACKENDS)
    grid = layouts.grid(features, layout, groups=_groups(rng), prefix=prefix)
    values = grid.view(features)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    words = reference.group_words(checked_rng(rng, grid, features))
    times = uniform(words[0]).to(torch.float32) * (1.0 - earliest) + earliest
    _, positions, channels = wide.shape
    drawn = gaussians(rng, positions, channels, chosen).to(wide.dtype)
    scale = perturbation_deviation(times, sigma).to(wide.dtype)[:, None, None]
    noisy = grid.restore(wide + drawn * scale, features.to(wide.dtype))
    each = times.repeat_interleave(len(features) // max(len(times), 1))
    answer = grid.view(_answer(score, noisy, each)).to(wide.dtype)
    return (answer * scale + drawn).square().sum() / max(len(times), 1)


def _repeated(keys: Tensor, number: int) -> Tensor:
    """Keys of a further draw; the first has its own."""
    if number == 0:
        return keys
    one, other, _, _ = reference.words(keys, number, 0, reference.GROUP)
    return torch.cat((one[..., 0], other[..., 0]), 1)


def _answer(score: Score, noisy: Tensor, times: Tensor) -> Tensor:
    if not callable(score):
        raise TypeError(f"score: expected a network, got {type(score).__name__}")
    answer = score(noisy, times)
    if not isinstance(answer, Tensor) or answer.shape != noisy.shape:
        got = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"score: expected a tensor like the features, {list(noisy.shape)}, got {got}; it is "
            "the gradient of the log density with respect to them"
        )
    return answer


def _check(time: Any, sigma: Any, repeats: Any) -> None:
    if not checks.interval("time", time, 0.0, 1.0)[0] > 0.0:
        raise ValueError(f"time: expected a number in (0, 1], got {time!r}")
    if not 1.0 < checks.interval("sigma", sigma, 1.0)[0] < math.inf:
        raise ValueError(f"sigma: expected a finite number above 1, got {sigma!r}")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeats: expected a whole number from 1 on, got {repeats!r}")
