"""What the functional ops of single rows share: the door."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import checks
from ...ops import BACKENDS, default_backend
from .. import layouts
from .noise import checked_rng


class Call(NamedTuple):
    """A checked call.

    Attributes:
        features: As they were given.
        grid: How they lie.
        values: ``[G, P, C]``, a view of them where strides allow, in their own dtype.
        inside: bool ``[G, P]`` or None for all positions.
        keys: int64 ``[G, 2]`` or None.
        noise: ``[G, P, C]`` or None.
        backend: A name.
    """

    features: Tensor
    grid: layouts.Grid
    values: Tensor
    inside: Tensor | None
    keys: Tensor | None
    noise: Tensor | None
    backend: str

    def result(self, moved: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
        """Moved ``[G, P, C]`` and the mask of moved positions, as the features lie."""
        if inside is None:
            inside = self.values.new_ones(self.values.shape[:2], dtype=torch.bool)
        return self.grid.restore(moved, self.features), self.grid.shaped(inside)

    def words(self) -> Tensor:
        """The keys, where words beside the noise are drawn of them.

        Raises:
            TypeError: There are none.
        """
        return checked_rng(self.keys, self.grid, self.features)


def opened(
    features: Any, mask: Any, rng: Any, layout: str | None, prefix: int, noise: Any = None,
    backend: str | None = None, random: bool = True,
) -> Call:  # fmt: skip
    """Check what every op of single rows takes.

    Args:
        features: See :func:`anoaug.features.layouts.grid`, likewise ``layout`` and ``prefix``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys, or None.
        layout: Of the features.
        prefix: Tokens that stay.
        noise: Like the features, or None.
        backend: A name of ``anoaug.ops.BACKENDS``; None: ANOAUG_BACKEND.
        random: Whether keys or noise are needed.

    Raises:
        TypeError, ValueError: Bad input.
    """
    groups = len(rng) if isinstance(rng, Tensor) else None
    grid = layouts.grid(features, layout, groups=groups, prefix=prefix)
    inside = None if mask is None else grid.flat("mask", mask, features)
    name = checks.one_of("backend", backend or default_backend(), BACKENDS)
    drawn = None
    if noise is not None:
        drawn = grid.view(layouts.alike("noise", noise, features))
    keys = None
    if rng is not None or (random and noise is None):
        keys = checked_rng(rng, grid, features)
    return Call(features, grid, grid.view(features), inside, keys, drawn, name)


def beside(name: str, value: Any, call: Call, index: Any = None) -> tuple[Tensor, Tensor | None]:
    """Another vector for every position: ``[G, P, C]``, or a table ``[K, C]`` with its index.

    Args:
        name: Of the argument.
        value: Like the features; ``[G, P, C]``; ``[P, C]``, one for every position of all groups;
            ``[C]``; or with ``index`` a table ``[K, C]``.
        call: The call.
        index: int64 ``[G, P]``: rows of the table. Not looked at: it has to be within the table.

    Raises:
        TypeError, ValueError: Neither.
    """
    groups, positions, channels = call.values.shape
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if value.device != call.values.device:
        raise ValueError(
            f"{name}: expected device {call.values.device} like the features, got {value.device}"
        )
    if index is not None:
        if not isinstance(index, Tensor) or index.dtype != torch.int64:
            raise TypeError(f"index: expected an int64 tensor [{groups}, {positions}]")
        if tuple(index.shape) != (groups, positions) or value.dim() != 2:
            raise ValueError(
                f"index: expected [{groups}, {positions}] into a table [K, {channels}], got "
                f"{list(index.shape)} into {list(value.shape)}"
            )
        if value.shape[1] != channels:
            raise ValueError(f"{name}: expected {channels} channels, got {value.shape[1]}")
        return value, index
    if value.shape == call.features.shape:
        return call.grid.view(value), None
    shape = tuple(value.shape)
    if shape not in ((groups, positions, channels), (positions, channels), (channels,)):
        raise ValueError(
            f"{name}: expected a tensor like the features, [P, C] = [{positions}, {channels}] or "
            f"[{channels}], got {list(shape)}; of rows pass rng= or index= to say how many images"
        )
    return value.expand(groups, positions, channels), None


def number(name: str, value: Any, low: float, *, above: bool = False) -> float:
    """A finite number from ``low`` on, or above it.

    Raises:
        TypeError: Not a number.
        ValueError: Out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not checks.finite(value) or value < low or (above and value == low):
        side = "above" if above else "of at least"
        raise ValueError(f"{name}: expected a finite number {side} {low:g}, got {value!r}")
    return float(value)
