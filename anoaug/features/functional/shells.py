"""Steps along a gradient, and back onto a shell: the parts of adversarial ascent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ... import checks
from ..layouts import alike
from ..ops.rows import rows
from ..strength import refuse_overflow
from .door import beside, number, opened

ON_ZERO = ("direction", "stay")
# The papers' own, in float32: half precision would lose it.
EPS = 1e-10


def ascent_step(
    features: Tensor,
    gradient: Tensor,
    mask: Tensor | None = None,
    *,
    eta: float = 0.001,
    eps: float = EPS,
    layout: str | None = None,
    prefix: int = 0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Move each feature a step of one length along its gradient: g + eta d / (|d| + eps).

    GLASS (Chen et al., ECCV 2024), and DROCC (Goyal et al., ICML 2020) with ``eps=0``. Lengths are
    float32 whatever the dtype; a gradient of 0 leaves its feature. The step is a constant for
    autograd. Keep the features of a loop in float32: a step of 0.001 is lost in 16 bits.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        gradient: Like the features, of a loss that is to grow; a sum, rather than a mean, of
            losses keeps its values in range.
        mask: Positions to move, on the features' grid; None: all.
        eta: Length of the step.
        eps: Added to the gradient's length.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Moved features, and the mask of moved positions as float32 in the layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    size, floor = number("eta", eta, 0.0), number("eps", eps, 0.0)
    call = opened(features, mask, None, layout, prefix, None, backend, random=False)
    along = call.grid.view(alike("gradient", gradient, features)).detach()
    moved = rows(
        call.values, "ascend", size, floor, other=along, inside=call.inside, backend=call.backend
    )  # fmt: skip
    return call.result(moved, call.inside)


def annulus_project(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    r_lo: float | Tensor,
    r_hi: float | Tensor | None = None,
    base: Tensor | None = None,
    index: Tensor | None = None,
    eps: float = EPS,
    on_zero: str = "direction",
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Bring features onto the shell between two radii about a base.

    b + h clamp(|h|, r_lo, r_hi) / (|h| + eps) with h = g - b: GLASS (ECCV 2024) and DROCC (ICML
    2020, ``eps=0``). Features within the shell keep their bits. The gradient is that of the
    formula: within the shell the identity; a feature that is moved loses the radial component and
    is scaled; what it does not keep goes to the base, so that of a base that is the features
    themselves plus constants (GLASS's manifold mode) all of it arrives. Radii that require a
    gradient get one (anomalib's GLASS; the original detaches them).

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to project, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`, for ``on_zero="direction"``.
        r_lo: Inner radius, at least 0: a number, or a tensor that broadcasts to ``[G, P]``.
        r_hi: Outer radius, likewise; None: twice the inner. An outer radius below the inner one
            wins.
        base: Like the features, ``[P, C]``, ``[C]`` or, with ``index``, a table ``[K, C]``, which
            gets no gradient; None: the origin.
        index: int64 ``[G, P]``: rows of the table; has to be within it.
        eps: Added to the length in the division.
        on_zero: What becomes of a feature at its base: ``"direction"``: it goes to r_lo in a random
            direction, and gets no gradient; ``"stay"``: it stays, as published.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Projected features, and the mask of the positions that were looked at as float32 in the
        layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    random = checks.one_of("on_zero", on_zero, ON_ZERO) == "direction"
    low = _radius("r_lo", r_lo)
    high = low * 2 if r_hi is None else _radius("r_hi", r_hi)
    if isinstance(low, float) and isinstance(high, float) and high < low:
        raise ValueError(f"r_hi: expected at least r_lo = {low:g}, got {high:g}")
    floor = number("eps", eps, 0.0)
    call = opened(features, mask, rng, layout, prefix, noise, backend, random=random)
    if isinstance(low, float):
        refuse_overflow("radius", low, call.values)
    centre = call.values.new_zeros(call.grid.channels) if base is None else base
    other, table = beside("base", centre, call, index)
    moved = rows(
        call.values, "project", low, high, floor, other=other, index=table,
        keys=call.keys if random else None, noise=call.noise if random else None,
        inside=call.inside, backend=call.backend,
    )  # fmt: skip
    return call.result(moved, call.inside)


def _radius(name: str, value: Any) -> float | Tensor:
    return value if isinstance(value, Tensor) else number(name, value, 0.0)
