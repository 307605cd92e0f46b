"""Samples of a tail and about a boundary as ops, which torch.compile need not look into."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...reference.features import outliers as reference

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "feature_tail(Tensor keys, SymInt count, SymInt channels, int draws, int select) "
    "-> (Tensor, Tensor)"
)
_library.define(
    "feature_boundary(Tensor rows, Tensor keys, int k, int boundary, SymInt points, "
    "int candidates, float sigma, int keep) -> (Tensor, Tensor)"
)


def _tail_fake(keys: Tensor, count: int, channels: int, *_: Any) -> tuple[Tensor, Tensor]:
    lengths = keys.new_empty((keys.shape[0], count), dtype=torch.float32)
    return lengths, keys.new_empty((keys.shape[0], count, channels), dtype=torch.float32)


def _boundary_fake(
    rows: Tensor, keys: Tensor, k: int, boundary: int, points: int, candidates: int, sigma: float,
    keep: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    apart = rows.new_empty((keys.shape[0], points * keep))
    return rows.new_empty((keys.shape[0], points * keep, rows.shape[-1])), apart


_library.impl("feature_tail", reference.tail, "CompositeExplicitAutograd")
_library.impl("feature_boundary", reference.boundary_samples, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_tail", _tail_fake)
torch.library.register_fake("anoaug::feature_boundary", _boundary_fake)

feature_tail = torch.ops.anoaug.feature_tail.default
feature_boundary = torch.ops.anoaug.feature_boundary.default
