"""Random subsets of positions on the CPU, as ops, which torch.compile need not look into.

NumPy's partition finds who belongs to a subset without an order of all, and one call of Philox
draws what a group and its positions need. On other devices torch's own functions do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...reference.features import GROUP, POSITION
from ...rng import Words
from ..cpu_draws import Numbers

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "feature_subset(Tensor keys, Tensor counts, SymInt positions, Tensor? allowed) -> Tensor"
)
_library.define(
    "feature_tokens(Tensor keys, SymInt positions, Tensor? allowed, int? count, int? most)"
    " -> Tensor"
)
# What is not allowed comes after all words.
_NEVER = np.uint64(1 << 32)
# Rows of fewer positions are put in order together.
SHORT = 128


def _subset(keys: Tensor, counts: Tensor, positions: int, allowed: Tensor | None) -> Tensor:
    drawn, _ = _first_words(keys, positions)
    return _chosen(drawn, counts.numpy(), allowed)


def _tokens(
    keys: Tensor, positions: int, allowed: Tensor | None, count: int | None, most: int | None
) -> Tensor:
    drawn, share = _first_words(keys, positions)
    limit = np.full(len(share), positions) if allowed is None else allowed.sum(1).numpy()
    if count is not None:
        return _chosen(drawn, np.minimum(limit, count), allowed)
    limit = limit if most is None else np.minimum(limit, most)
    number = np.minimum(1 + ((share.astype(np.int64) * limit) >> 32), limit)
    return _chosen(drawn, number, allowed)


def _first_words(keys: Tensor, positions: int) -> tuple[Words, Words]:
    """The first word of every position, uint32 ``[G, P]``, and of every group, ``[G]``."""
    groups = keys.shape[0]
    places = np.tile(np.append(np.arange(positions), 0), groups)
    sites = np.full((groups, positions + 1), POSITION)
    sites[:, positions] = GROUP
    each = keys.numpy().repeat(positions + 1, axis=0)
    words = Numbers().words(each, places, np.zeros(1, np.int64), sites.reshape(-1, 1), False)
    first = words[0].reshape(groups, positions + 1)
    return first[:, :positions], first[:, positions]


def _chosen(words: Words, counts: npt.NDArray[Any], allowed: Tensor | None) -> Tensor:
    """The least words of every row, of equal ones the first."""
    free = None if allowed is None else allowed.numpy()
    values = words if free is None else np.where(free, words, _NEVER)
    positions = values.shape[1]
    if positions < SHORT:
        order = np.argsort(values, axis=1, kind="stable")
        inside = np.empty(values.shape, bool)
        np.put_along_axis(inside, order, np.arange(positions) < counts[:, None], axis=1)
    else:
        inside = np.arange(positions) < counts[:, None]  # right where all or none are wanted
        for row in np.flatnonzero((counts > 0) & (counts < positions)):
            count = counts[row]
            last = np.partition(values[row], count - 1)[count - 1]
            np.less_equal(values[row], last, out=inside[row])
            many = np.count_nonzero(inside[row]) - count
            if many:
                inside[row, np.flatnonzero(values[row] == last)[-many:]] = False
    return torch.from_numpy(inside if free is None else inside & free)


def _fake(keys: Tensor, *others: Any) -> Tensor:
    positions = next(each for each in others if not isinstance(each, Tensor))
    return keys.new_empty((keys.shape[0], positions), dtype=torch.bool)


_library.impl("feature_subset", _subset, "CPU")
_library.impl("feature_tokens", _tokens, "CPU")
torch.library.register_fake("anoaug::feature_subset", _fake)
torch.library.register_fake("anoaug::feature_tokens", _fake)

feature_subset = torch.ops.anoaug.feature_subset.default
feature_tokens = torch.ops.anoaug.feature_tokens.default
