"""How torch.compile takes the call of several members: outside its graph, which breaks there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..batch import AnomalyBatch, Brought

# Filled on first use: Dynamo would trace through functools.lru_cache, and says so.
_LEFT_OUT: list[Callable[..., AnomalyBatch]] = []


def left_out() -> Callable[..., AnomalyBatch]:
    """The call as torch.compile has to take it: outside its graph, which breaks here.

    How many rows each member gets is known when they are drawn.
    """

    def call(synth: Any, images: Tensor, brought: Brought) -> AnomalyBatch:
        with synth._numbering.kept_if_refused():
            return synth._call(images, brought)  # type: ignore[no-any-return]

    if not _LEFT_OUT:
        # Not a decorator: that would import all of Dynamo, and Triton, with anoaug.
        _LEFT_OUT.append(torch.compiler.disable(call))
    return _LEFT_OUT[0]
