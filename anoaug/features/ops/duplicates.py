"""``anoaug::feature_duplicates``: both noisy copies of a batch, their masks and labels, in one op.

The gradient of the features is the sum over their copies; masks, noise and labels are constants,
and nothing is stored for the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import ops as render_ops
from ... import recipe
from ...ops import INTERPRETED_TILE, current, interpreting, resolve_backend
from ...reference.features import duplicates as reference
from .. import cpu

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "feature_duplicates(Tensor features, Tensor? raw, Tensor keys, Tensor? given, Tensor? table, "
    "Tensor[] banks, str layout, Tensor? allowed, Tensor? real, Tensor? label, Tensor? noise, "
    "SymInt height, SymInt width, float sigma, bool full, bool overlap, bool bad, bool stochastic, "
    "str backend) -> (Tensor, Tensor, Tensor, Tensor)"
)

Duplicates = tuple[Tensor, Tensor, Tensor, Tensor]


def _duplicates(
    features: Tensor,
    raw: Tensor | None,
    keys: Tensor,
    given: Tensor | None,
    table: Tensor | None,
    banks: Sequence[Tensor],
    layout: str,
    allowed: Tensor | None,
    real: Tensor | None,
    label: Tensor | None,
    noise: Tensor | None,
    height: int,
    width: int,
    sigma: float,
    full: bool,
    overlap: bool,
    bad: bool,
    stochastic: bool,
    backend: str,
) -> Duplicates:
    chosen = resolve_backend(backend, features.device)
    # Given noise and float64 are for tests.
    if noise is not None or (chosen in ("cpu", "compiled") and features.dtype == torch.float64):
        chosen = "torch"
    if chosen == "triton":
        return _by_kernel(
            features, raw, keys, given, table, banks, layout, allowed, real, label, width, sigma,
            full, overlap, bad, stochastic,
        )  # fmt: skip
    if given is None:
        assert table is not None
        name = {"cpu": "auto"}.get(chosen, chosen)
        level = render_ops.field(table, list(banks), layout, height, width, name).flatten(1)
        active = table[:, recipe.ACTIVE, None] > 0
        given = torch.where(active, level > 0, full)
    noisy, union, labels = reference.marked(given, allowed, real, label, overlap, bad)
    pairs = [features] if raw is None else [features, raw]
    if chosen == "torch":
        outs = [reference.duplicate(x, keys, noisy, noise, sigma, stochastic) for x in pairs]
    else:
        outs = [reference.twice_like(x) for x in pairs]
        cpu.duplicate(pairs, outs, keys, noisy, sigma, stochastic, chosen == "compiled")
    return outs[0], features.new_empty(0) if raw is None else outs[1], _owned(union), labels


def _owned(mask: Tensor) -> Tensor:
    """The mask in memory of its own: an op must not hand back its input."""
    return mask.clone()


def _dense(plane: Tensor | None) -> Tensor | None:
    """The same, contiguous."""
    return None if plane is None else plane.contiguous()


def _by_kernel(
    features: Tensor,
    raw: Tensor | None,
    keys: Tensor,
    given: Tensor | None,
    table: Tensor | None,
    banks: Sequence[Tensor],
    layout: str,
    allowed: Tensor | None,
    real: Tensor | None,
    label: Tensor | None,
    width: int,
    sigma: float,
    full: bool,
    overlap: bool,
    bad: bool,
    stochastic: bool,
) -> Duplicates:
    from ...kernels.features import duplicates as kernels
    from ...kernels.features.noise import TILE

    batch, positions, _ = features.shape
    out = reference.twice_like(features)
    raw_out = features.new_empty(0) if raw is None else reference.twice_like(raw)
    mask = torch.empty(2 * batch, positions, dtype=torch.bool, device=features.device)
    labels = torch.zeros(2 * batch, dtype=torch.int64, device=features.device)
    if label is not None:
        labels = (label > 0).to(torch.int64).repeat(2)
    if table is None:
        program = kernels.NO_RECIPE
    else:
        constants = render_ops.kernel_constants(layout, -1, False, False)
        program = {n: constants[n] for n in ("MASKS", "MASK_OFFS", "MASK_OPTS", "DIGEST")}
        program["END"] = constants["SPANS"][1]
    if features.numel():
        tile = INTERPRETED_TILE if interpreting() else TILE
        with current(features.device):
            kernels.launch(
                features, raw, out, raw_out, mask, labels, keys, _dense(table), tuple(banks),
                _dense(given), _dense(allowed), _dense(real), label, width, sigma, full, overlap,
                bad, stochastic, program, tile,
            )  # fmt: skip
    return out, raw_out, mask, labels


def _fake(
    features: Tensor,
    raw: Tensor | None,
    keys: Tensor,
    *others: Any,
) -> Duplicates:
    batch, positions, _ = features.shape
    return (
        reference.twice_like(features),
        features.new_empty(0) if raw is None else reference.twice_like(raw),
        features.new_empty((2 * batch, positions), dtype=torch.bool),
        features.new_empty(2 * batch, dtype=torch.int64),
    )


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.raw, ctx.banks = inputs[1] is not None, len(inputs[5])


def _backward(
    ctx: Any, grad: Tensor, raw_grad: Tensor, mask: Tensor, label: Tensor
) -> tuple[Tensor | None, ...]:
    """The sum over the copies; in one pass, in float32 inside, as torch's sums are."""

    def summed(both: Tensor | None) -> Tensor | None:
        if both is None:
            return None
        first, second = both.chunk(2)
        return first + second

    banks: Any = [None] * ctx.banks
    second = summed(raw_grad) if ctx.raw else None
    return (summed(grad), second, None, None, None, banks, *[None] * 13)


_library.impl("feature_duplicates", _duplicates, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_duplicates", _fake)
torch.library.register_autograd("anoaug::feature_duplicates", _backward, setup_context=_setup)

feature_duplicates = torch.ops.anoaug.feature_duplicates.default
