"""Discriminators to whose fake rows the true ones matter by one batch normalisation alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

# Which treat the entries of the first axis one by one; by their very types, whose forward we know.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_ROWWISE = {
    *_LAYERS, nn.Identity, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.CELU, nn.SELU,
    nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.LayerNorm,
    nn.GroupNorm,
}  # fmt: skip
_DROPOUTS = {nn.Dropout, nn.Dropout1d, nn.Dropout2d}
_NORMS = {nn.BatchNorm1d, nn.BatchNorm2d}


class Halves:
    """A chain of layers that gives the fake rows their logits without the true rows' company.

    Rows meet in batch normalisation, through its sums over both halves. During an ascent those of
    the true one stand still: they are taken once, and each step adds the fake half's. Results,
    gradients and running statistics are those of both halves joined, but for rounding.

    Args:
        before: Row-wise layers.
        norm: Batch normalisation that uses the batch's statistics, or None.
        after: Row-wise layers.
        true: The true half, as the discriminator gets it.
    """

    def __init__(
        self, before: list[nn.Module], norm: Any, after: list[nn.Module], true: Tensor
    ) -> None:
        self.before, self.norm, self.after = before, norm, after
        if norm is not None:
            with torch.no_grad():
                value = _through(before, true)
            _check(norm, value)
            wide = value.to(torch.promote_types(value.dtype, torch.float32))
            self._shift = wide.mean(_over(wide))
            self._square = (wide - _along(self._shift, wide)).square().sum(_over(wide))

    def __call__(self, fake: Tensor) -> Tensor:
        """Logits of the fake half."""
        return self.rest(self.first(fake))

    def first(self, fake: Tensor) -> Tensor:
        """What the first layer gives."""
        return self.before[0](fake)

    def rest(self, value: Tensor) -> Tensor:
        """Logits from what the first layer gives, a leaf perhaps."""
        if any(getattr(part, "inplace", False) for part in self.before[1:]):
            value = value.clone()
        value = _through(self.before[1:], value)
        return _through(self.after, value if self.norm is None else self._normalised(value))

    def _normalised(self, value: Tensor) -> Tensor:
        norm = self.norm
        weight, bias = (None if of is None else of.detach() for of in (norm.weight, norm.bias))
        read = (value, self._shift, self._square, weight, bias, norm.eps)
        # Dynamo captures no symbolic numbers for a Function, and the compiler fuses by itself.
        made = _joined(*read) if torch.compiler.is_compiling() else _Normalised.apply(*read)
        out, mean, square = made[:3]
        if norm.training and norm.track_running_stats and norm.running_mean is not None:
            with torch.no_grad():
                _track(norm, mean, square, 2 * (value.numel() // value.shape[1]))
        return out


def split(discriminator: nn.Module, true: Tensor) -> Halves | None:
    """A discriminator as :class:`Halves`, or None where it is not known to be equal.

    Known are ``nn.Sequential``, nested ones too, that begin with a linear layer or a convolution
    and have one batch normalisation in training mode, or none. Others may be equal as well, but
    that cannot be seen: a forward of its own, a second batch normalisation (which sees true rows
    that move with the first one's sums), dropout (whose draws go by the place in the batch),
    SyncBatchNorm, hooks, parametrised and compiled layers.

    Args:
        discriminator: The module.
        true: The true half, as the discriminator gets it.
    """
    parts = None if torch_module._has_any_global_hook() else _chain(discriminator)
    if not parts or type(parts[0]) not in _LAYERS:
        return None
    norms = [at for at, part in enumerate(parts) if type(part) in _NORMS and _of_batch(part)]
    rest = [part for at, part in enumerate(parts) if at not in norms]
    if len(norms) > 1 or not all(_rowwise(part) for part in rest):
        return None
    if not norms:
        return Halves(parts, None, [], true)
    at = norms[0]
    return Halves(parts[:at], parts[at], parts[at + 1 :], true)


def _chain(module: Any) -> list[nn.Module] | None:
    """The layers of nested sequences in their order, or None."""
    if (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl is not None
        or "forward" in module.__dict__
    ):
        return None
    kind = type(module)
    if kind.forward is not nn.Sequential.forward or kind.__call__ is not nn.Module.__call__:
        return [module]
    parts: list[nn.Module] = []
    for child in module._modules.values():
        inner = _chain(child)
        if inner is None:
            return None
        parts += inner
    return parts


def _of_batch(norm: Any) -> bool:
    return norm.training or (norm.running_mean is None and norm.running_var is None)


def _rowwise(part: Any) -> bool:
    kind = type(part)
    if kind in _DROPOUTS:
        return not part.training or part.p == 0
    if kind is nn.Flatten:
        return part.start_dim > 0
    return kind in _ROWWISE or (kind in _NORMS and not _of_batch(part))


def _through(parts: list[nn.Module], value: Tensor) -> Tensor:
    for part in parts:
        value = part(value)
    return value


def _over(value: Tensor) -> list[int]:
    """All axes but that of the channels."""
    return [axis for axis in range(value.dim()) if axis != 1]


def _along(channels: Tensor, value: Tensor) -> Tensor:
    return channels.view(-1, *[1] * (value.dim() - 2))


def _check(norm: Any, value: Tensor) -> None:
    """What the layer itself would refuse.

    Raises:
        ValueError: Another number of axes or channels.
    """
    norm._check_input_dim(value)
    if value.shape[1] != norm.num_features:
        raise ValueError(
            f"discriminator: expected {norm.num_features} channels for {norm}, got "
            f"{list(value.shape)}"
        )


def _track(norm: Any, mean: Tensor, square: Tensor, count: int) -> None:
    """Move the running statistics as the layer would, without its look at its counter."""
    share: float | Tensor | None = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if share is None:
            share = norm.num_batches_tracked.to(mean.dtype).reciprocal()
    found = ((norm.running_mean, mean), (norm.running_var, square / (count - 1)))
    for running, value in found:
        running.copy_(running.to(value.dtype).lerp(value, 0.0 if share is None else share))


def _joined(
    value: Tensor, shift: Tensor, square: Tensor, weight: Tensor | None, bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The fake half, normalised by the sums of both; their statistics; what a backward reads.

    Sums are of distances from the true half's mean, so that nothing cancels: however far both lie
    from 0, and because what the two means are apart is in the common variance, too.
    """
    wide = value.to(shift.dtype)
    count = 2 * (wide.numel() // wide.shape[1])
    away = wide - _along(shift, wide)
    apart = away.sum(_over(away)) / count
    square = square + away.square().sum(_over(away)) - apart.square() * count
    invert = (square / count + eps).rsqrt()
    scale = invert if weight is None else invert * weight
    level = -apart * scale if bias is None else bias - apart * scale
    out = torch.addcmul(_along(level, away), away, _along(scale, away)).to(value.dtype)
    return out, shift + apart, square, away, apart, invert, scale


class _Normalised(torch.autograd.Function):
    """:func:`_joined` in fewer passes than autograd needs for it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        """The normalised half, and mean and sum of squared distances from it of both halves."""
        out, mean, square, *read = _joined(value, *rest)
        ctx.save_for_backward(*read)
        ctx.mark_non_differentiable(mean, square)
        return out, mean, square

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient of the fake half, also through the statistics it shares."""
        away, apart, invert, scale = ctx.saved_tensors
        grad = grads[0].to(away.dtype)
        count = 2 * (away.numel() // away.shape[1])
        total = grad.sum(_over(away))
        slope = ((grad * away).sum(_over(away)) - apart * total) * invert.square() / count
        level = (apart * slope - total / count) * scale
        found = torch.addcmul(_along(level, away), away, _along(slope * scale, away), value=-1)
        found = found.addcmul_(grad, _along(scale, away)).to(grads[0].dtype)
        return found, None, None, None, None, None
