"""``anoaug::feature_noise``: Gaussian noise, one op with a backend for each device.

The gradient is the identity: noise is a constant, whatever it was scaled by. Nothing is stored for
the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...ops import INTERPRETED_TILE, current, interpreting, resolve_backend
from ...reference.features import noise as reference
from .. import cpu

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "feature_noise(Tensor features, Tensor keys, Tensor? inside, Tensor? gain, Tensor? spread, "
    "Tensor? noise, float sigma, int mixture, float growth, bool stochastic, str backend) -> Tensor"
)


def _noise(
    features: Tensor,
    keys: Tensor,
    inside: Tensor | None,
    gain: Tensor | None,
    spread: Tensor | None,
    noise: Tensor | None,
    sigma: float,
    mixture: int,
    growth: float,
    stochastic: bool,
    backend: str,
) -> Tensor:
    chosen = resolve_backend(backend, features.device)
    plain = features.dtype == torch.float32 and spread is None
    if (
        noise is not None
        and plain
        and chosen in ("cpu", "compiled")
        and noise.dtype == features.dtype
    ):
        scale = reference.amplitudes(keys, features.shape[1], sigma, gain, mixture, growth)
        out = torch.empty_like(features)
        cpu.add_given(features, out, inside, scale.expand(features.shape[:2]), noise)
        return out
    # Given noise and float64 are for tests.
    if noise is not None or (chosen in ("cpu", "compiled") and features.dtype == torch.float64):
        chosen = "torch"
    if chosen == "torch":
        return reference.add_noise(
            features, keys, inside, gain, spread, noise, sigma, mixture, growth, stochastic
        )
    out = torch.empty_like(features)
    if not features.numel():
        return out
    arguments = (features, out, keys, inside, gain, spread, sigma, mixture, growth, stochastic)
    if chosen == "triton":
        from ...kernels.features import noise as kernels

        with current(features.device):
            kernels.launch(*arguments, INTERPRETED_TILE if interpreting() else kernels.TILE)
    else:
        cpu.add_noise(*arguments, compiled=chosen == "compiled")
    return out


def _fake(features: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(features)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (grad, *[None] * 10)


_library.impl("feature_noise", _noise, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_noise", _fake)
torch.library.register_autograd("anoaug::feature_noise", _backward, setup_context=_setup)

feature_noise = torch.ops.anoaug.feature_noise.default
