"""Noise on, copies over and exchanges within a random or salient subset of each image's tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...reference import features as reference
from ...rng import uniform
from ..ops.subsets import feature_tokens
from .door import Call, opened
from .noise import gaussian_noise
from .subsets import random_subset


def token_select(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    count: int | None = None,
    most: int | None = None,
    saliency: Tensor | None = None,
    layout: str | None = None,
    prefix: int = 0,
) -> Tensor:
    """Choose some tokens of each image, as GeneralAD does (Strater et al., ECCV 2024).

    Their number is drawn evenly from 1 to all, and is exact. They are random ones, or the most
    salient.

    Args:
        features: ``(B, P, C)``, or any other layout, whose positions are the tokens.
        mask: Tokens that may be chosen, on the features' grid; None: all. An image without any
            gets none.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        count: How many, instead of a random number; fewer where fewer may be chosen.
        most: Upper end of the random number; None: all that may be chosen.
        saliency: ``(B, P)``, such as a transformer's class attention, or ``(B, heads, P)``, of
            which each image draws a head; the largest are chosen. Without prefix tokens.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that are not looked at.

    Returns:
        float32 {0, 1} in the layout's shape: 1 for chosen tokens.

    Raises:
        TypeError, ValueError: Bad input.
    """
    call = opened(features, mask, rng, layout, prefix)
    return call.grid.shaped(_selected(call, count, most, saliency))


def patch_noise(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    count: int | None = None,
    most: int | None = None,
    saliency: Tensor | None = None,
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
    **strength: Any,
) -> tuple[Tensor, Tensor]:
    """Gaussian noise on the tokens that :func:`token_select` chooses.

    Args:
        features: See there, likewise all up to ``prefix``.
        mask: Tokens that may be chosen.
        rng: Keys.
        count: How many.
        most: Upper end of a random number.
        saliency: What to choose by.
        layout: Of the features.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.
        strength: Of :func:`gaussian_noise`: exactly one of its four. GeneralAD: ``sigma=0.25``.

    Returns:
        Features with noise, and the mask of :func:`token_select`.

    Raises:
        TypeError, ValueError: Bad input.
    """
    call = opened(features, mask, rng, layout, prefix)
    chosen = call.grid.shaped(_selected(call, count, most, saliency))
    return gaussian_noise(
        features, chosen, rng, layout=layout, prefix=prefix, noise=noise, backend=backend,
        **strength,
    )  # fmt: skip


def patch_copy(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    count: int | None = None,
    most: int | None = None,
    saliency: Tensor | None = None,
    layout: str | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor]:
    """Overwrite the tokens that :func:`token_select` chooses with random ones of the same image.

    No token is copied twice. One that meets itself counts as perturbed, as in GeneralAD's code.

    Args:
        features: See :func:`token_select`, likewise the others.
        mask: Tokens that may be overwritten; copies come from everywhere.
        rng: Keys.
        count: How many.
        most: Upper end of a random number.
        saliency: What to choose by.
        layout: Of the features.
        prefix: Tokens that stay as they are, and are not copied.

    Returns:
        Features with copies, and the mask of :func:`token_select`.

    Raises:
        TypeError, ValueError: Bad input.
    """
    call = opened(features, mask, rng, layout, prefix)
    chosen = _selected(call, count, most, saliency)
    words = reference.position_words(call.words(), call.grid.positions)[1]
    return _gathered(call, chosen, words.argsort(dim=1, stable=True))


def patch_shuffle(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    count: int | None = None,
    most: int | None = None,
    saliency: Tensor | None = None,
    layout: str | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor]:
    """Permute, at random, the tokens that :func:`token_select` chooses among themselves.

    One that stays where it was counts as perturbed, as in GeneralAD's code: of a subset of any
    size one does on average.

    Args:
        features: See :func:`token_select`, likewise the others.
        mask: Tokens that may be chosen.
        rng: Keys.
        count: How many.
        most: Upper end of a random number.
        saliency: What to choose by.
        layout: Of the features.
        prefix: Tokens that stay as they are.

    Returns:
        Features with permuted tokens, and the mask of :func:`token_select`.

    Raises:
        TypeError, ValueError: Bad input.
    """
    call = opened(features, mask, rng, layout, prefix)
    chosen = _selected(call, count, most, saliency)
    words = reference.position_words(call.words(), call.grid.positions)[1]
    # The chosen ones come first, in random order; words are below 2**32.
    order = torch.where(chosen, words, 1 << 32).argsort(dim=1, stable=True)
    return _gathered(call, chosen, order)


def token_mask(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    share: float | tuple[float, float] = (0.0, 1.0),
    token: Tensor | None = None,
    layout: str | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor]:
    """Hide a share of each image's tokens for a network that fills them in (AMI-Net).

    Args:
        features: ``(B, P, C)``, or any other layout.
        mask: Tokens that may be hidden, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`.
        share: Share of them, drawn evenly from a range; their number is rounded down.
        token: ``[C]`` that hidden tokens become, such as a parameter; None: zeros.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.

    Returns:
        Features with hidden tokens, and the mask of these, float32 in the layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    low, high = checks.interval("share", share, 0.0, 1.0)
    call = opened(features, mask, rng, layout, prefix)
    keys, values = call.words(), call.values
    positions, channels = values.shape[1:]
    token = values.new_zeros(channels) if token is None else token.to(values.dtype)
    if tuple(token.shape) != (channels,):
        raise ValueError(f"token: expected shape [{channels}], got {list(token.shape)}")
    number = positions if call.inside is None else call.inside.sum(1)
    drawn = low + uniform(reference.group_words(keys)[0]) * (high - low)
    hidden = random_subset(keys, torch.floor(drawn * number).long(), positions, call.inside)
    return call.result(torch.where(hidden[..., None], token, values), hidden)


def _selected(call: Call, count: int | None, most: int | None, saliency: Any) -> Tensor:
    """Bool ``[G, P]``: what :func:`token_select` chooses."""
    keys, positions = call.words(), call.grid.positions
    allowed = call.inside
    count = None if count is None else _whole("count", count)
    most = None if most is None else _whole("most", most)
    if saliency is None and keys.device.type == "cpu":
        return feature_tokens(keys, positions, allowed, count, most)
    drawn = reference.group_words(keys)
    limit = torch.full_like(drawn[0], positions) if allowed is None else allowed.sum(1)
    if count is not None:
        number = limit.clamp(max=count)
    else:
        if most is not None:
            limit = limit.clamp(max=most)
        number = (1 + ((drawn[0] * limit) >> 32)).minimum(limit)  # none of none
    if saliency is None:
        return random_subset(keys, number, positions, allowed)
    values = _salient(call, saliency, drawn[1])
    if allowed is not None:
        values = torch.where(allowed, values, -torch.inf)
    rank = values.argsort(dim=1, descending=True, stable=True).argsort(1)
    return rank < number[:, None]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected a whole number from 1 on, got {value!r}")
    return value


def _salient(call: Call, saliency: Any, words: Tensor) -> Tensor:
    """Float32 ``[G, P]``, finite; of several heads one for each image."""
    groups, positions = call.values.shape[:2]
    if not isinstance(saliency, Tensor):
        raise TypeError(f"saliency: expected a tensor (B, P), got {type(saliency).__name__}")
    shape = list(saliency.shape)
    fits = len(shape) in (2, 3) and shape[0] == groups and shape[-1] == positions and 0 not in shape
    if not fits and groups:
        raise ValueError(
            f"saliency: expected shape [{groups}, {positions}] or [{groups}, heads, {positions}], "
            f"got {shape}; without prefix tokens"
        )
    if saliency.device != call.values.device:
        raise ValueError(
            f"saliency: expected device {call.values.device} like the features, got "
            f"{saliency.device}"
        )
    values = saliency.detach().to(torch.float32)
    if values.dim() == 3:
        head = (words * max(shape[1], 1)) >> 32
        values = values.gather(1, head[:, None, None].expand(-1, 1, positions))[:, 0]
    least = torch.finfo(torch.float32).min
    return torch.nan_to_num(values, nan=least, neginf=least)


def _gathered(call: Call, chosen: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen tokens, one after the other, become those of ``order``; the rest stays."""
    groups, positions = order.shape
    turn = (chosen.cumsum(1) - 1).clamp(min=0)
    source = torch.where(
        chosen, order.gather(1, turn), torch.arange(positions, device=order.device)
    )
    # Whole tokens by an index of theirs: gather would want one for each channel.
    moved = call.values[torch.arange(groups, device=order.device)[:, None], source]
    return call.result(moved, chosen)
