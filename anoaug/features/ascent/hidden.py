"""Steps of an ascent among the first layer's outputs, where they cost less than among features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .halves import Halves


class Hidden:
    """Steps whose gradients and features are multiplied out once, not at every step.

    Between two projections a fake moves along gradients W^T u alone, u being the gradient at the
    first layer's outputs, and its output moves along W W^T u, of which u^T W W^T u is the squared
    length of the gradient. So a step needs one product, with W W^T, instead of W's and W^T's; the
    features' way is W^T times the sum of the steps. Equal to steps of features but for rounding,
    which is squared with the length: a gradient below a thousandth of |W| |u|, of units that
    cancel, has no length to rely on.

    Args:
        halves: What the discriminator does with the fake half.
        eta: Length of a step.
        eps: Added to the length of gradients.
        loss: Logits, what they are of and how many of them count, to the loss without axes.
    """

    def __init__(
        self, halves: Halves, eta: float, eps: float, loss: Callable[[Any, Tensor, int], Tensor]
    ) -> None:
        self._halves, self._eta, self._eps, self._loss = halves, eta, eps, loss
        layer: Any = halves.before[0]
        self._weight = layer.weight.detach()
        self._gram = self._weight @ self._weight.T

    def __call__(
        self, fake: Tensor, inside: Tensor | None, count: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Where so many steps lead.

        Args:
            fake: ``[..., C]``, as the discriminator gets them.
            inside: bool ``[..., 1]``; others stay; None: all.
            count: Of the steps.

        Returns:
            What is to be added to the fakes, and the loss before each step.
        """
        losses = []
        value = self._halves.first(fake).detach()
        total = torch.zeros_like(value)
        for _ in range(count):
            leaf = value.detach().requires_grad_()
            loss = self._loss(self._halves.rest(leaf), leaf, len(leaf))
            (slope,) = torch.autograd.grad(loss, leaf)
            losses.append(loss.detach())
            # Of unit length before it is squared once more: small gradients would vanish.
            size = torch.linalg.vector_norm(slope, dim=-1, keepdim=True)
            moves = size > 0 if inside is None else inside & (size > 0)
            unit = slope / torch.where(moves, size, 1.0)
            along = unit @ self._gram
            steep = (unit * along).sum(-1, keepdim=True).clamp(min=0.0).sqrt()
            length = size * steep
            moves = moves & (length > 0)
            share = self._eta * size / torch.where(moves, length + self._eps, 1.0)
            share = torch.where(moves, share, 0.0)
            value, total = value.addcmul(along, share), total.addcmul(unit, share)
        return total @ self._weight, losses


def worthwhile(halves: Halves, values: Tensor, steps: int, every: int) -> bool:
    """Whether :class:`Hidden` takes fewer products than steps of features, as it mostly does.

    Args:
        halves: Of the discriminator.
        values: The true half ``[..., C]``, as the discriminator gets it.
        steps: Of the ascent.
        every: Steps between projections, where features are needed.
    """
    layer = halves.before[0]
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter:
        return False
    if layer.weight.dtype != values.dtype or not _exact(values.dtype, values.device.type):
        return False
    width, channels = layer.out_features, layer.in_features
    rows = values.numel() // channels
    ours = 2 * -(-steps // every) * rows * channels + steps * rows * width + channels * width
    return ours < 2 * steps * rows * channels


def _exact(dtype: torch.dtype, device: str) -> bool:
    """Whether products have the digits that sums of many steps want; TF32 has not."""
    if dtype != torch.float32:
        return dtype == torch.float64
    backend = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    found = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    if found is None:  # torch below 2.9
        return torch.get_float32_matmul_precision() == "highest"
    return found not in ("tf32", "bf16")


# Dynamo cannot follow it, and watches these settings by itself.
_exact._dynamo_marked_constant = True  # type: ignore[attr-defined]
