"""Discriminators inside an ascent: statistics left alone, a first layer that is not repeated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

Discriminator = Callable[[Tensor], Tensor]
# Layers that treat the entries of the first axis one by one.
_ROWWISE = (nn.Linear, nn.Conv1d, nn.Conv2d)


def unwrapped(discriminator: Any) -> Any:
    """The module inside DistributedDataParallel, whose forward would broadcast buffers each time.

    Raises:
        TypeError: Not callable.
    """
    if not callable(discriminator):
        raise TypeError(
            "discriminator: expected a callable that returns logits, got "
            f"{type(discriminator).__name__}; pass the module, at construction or in the call"
        )
    if isinstance(discriminator, DistributedDataParallel):
        return discriminator.module
    return discriminator


def dtype_of(discriminator: Any, default: torch.dtype) -> torch.dtype:
    """The dtype of a module's parameters, or the default."""
    if isinstance(discriminator, nn.Module):
        for parameter in discriminator.parameters():
            return parameter.dtype
    return default


@contextmanager
def frozen_statistics(discriminator: Any, frozen: bool) -> Iterator[None]:
    """Batch normalisation uses the statistics it would, but its running ones stay as they are.

    Raises:
        TypeError: ``frozen``, and not a module whose layers can be found.
    """
    if not frozen:
        yield
        return
    if not isinstance(discriminator, nn.Module):
        raise TypeError(
            "discriminator: expected a module for bn='freeze', got "
            f"{type(discriminator).__name__}; pass the module itself, or bn='track'"
        )
    norms: list[Any] = [
        part
        for part in discriminator.modules()
        if part.training and getattr(part, "track_running_stats", False)
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class FirstLayer:
    """The first layer of a discriminator, which remembers what it gives for the true features.

    During an ascent weights and true features stand still, so only the fake half is computed again.
    The layer's ``forward`` is replaced while the context is entered. ``joined`` are both halves, as
    the discriminator gets them, and ``moved`` the fake one.

    Args:
        discriminator: A module whose first layer is linear or a convolution of the features.

    Raises:
        TypeError, ValueError: No such layer, or one whose weight changes from call to call.
    """

    def __init__(self, discriminator: Any) -> None:
        if not isinstance(discriminator, nn.Module):
            raise TypeError(
                "discriminator: expected a module for cache_first_linear=True, got "
                f"{type(discriminator).__name__}; pass the module itself"
            )
        compiled = getattr(discriminator, "_compiled_call_impl", None) is not None
        if compiled or hasattr(discriminator, "_orig_mod"):
            raise ValueError(
                "discriminator: expected one that is not compiled for cache_first_linear=True, "
                f"got {type(discriminator).__name__}; pass the module that was compiled"
            )
        found = [part for part in discriminator.modules() if isinstance(part, _ROWWISE)]
        if not found:
            raise ValueError(
                "discriminator: expected a linear layer or a convolution for "
                "cache_first_linear=True, got none"
            )
        self.layer: nn.Module = found[0]
        if parametrize.is_parametrized(self.layer) or self.layer._forward_pre_hooks:
            raise ValueError(
                "discriminator: expected a first layer with a plain weight for "
                "cache_first_linear=True, got a parametrised one; its weight may change per call"
            )
        self.joined: Tensor | None = None
        self.moved: Tensor | None = None
        self._kept: Tensor | None = None
        self._used = False

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Remember while the context is entered; then the layer is as it was."""
        original = self.layer.forward
        own = "forward" in self.layer.__dict__

        def forward(value: Tensor) -> Tensor:
            if not _alike(value, self.joined) or len(value) % 2:
                raise ValueError(
                    "discriminator: expected its first layer to get the features as they are for "
                    f"cache_first_linear=True, got something else {list(value.shape)}"
                )
            half = len(value) // 2
            if self._kept is None:
                with torch.no_grad():
                    self._kept = original(value[:half])
            self._used = True
            # Not through the joined ones, whose gradient would be as large as both halves.
            fake = self.moved if value is self.joined else None
            return torch.cat((self._kept, original(value[half:] if fake is None else fake)))

        self.layer.forward = forward
        try:
            yield
        finally:
            if own:
                self.layer.forward = original
            else:
                del self.layer.forward
            self._kept = self.joined = self.moved = None

    def check_used(self) -> None:
        """Refuse a discriminator that went round the layer.

        Raises:
            ValueError: It was not called.
        """
        if not self._used:
            raise ValueError(
                "discriminator: expected its first layer to be called for "
                "cache_first_linear=True, got a forward without it; set it to False"
            )


def _alike(value: Tensor, joined: Tensor | None) -> bool:
    """Whether a value is the joined features, or these in another shape and the same order."""
    if value is joined or joined is None:
        return value is joined
    return (
        _owner(value) is _owner(joined)
        and value.numel() == joined.numel()
        and value.is_contiguous()
        and joined.is_contiguous()
    )


def _owner(value: Tensor) -> Tensor:
    return value if value._base is None else value._base


def warn_of_probabilities(logits: Tensor) -> bool:
    """Warn where values look like probabilities: all within [0, 1]. Reads them on the host.

    Returns:
        Whether it looked; fewer than 16 may lie there by chance.
    """
    if logits.numel() < 16:
        return False
    ends = torch.aminmax(logits.detach())
    low, high = float(ends.min), float(ends.max)  # host: once per synthesizer
    if low >= 0.0 and high <= 1.0:
        warnings.warn(
            f"discriminator: expected logits, got values from {low:.3g} to {high:.3g}; if it ends "
            "in a sigmoid, pass what comes before: the loss saturates and its gradients vanish",
            stacklevel=2,
        )
    return True
