"""Subsets on the CPU: what an order of all words gives, whatever the number of positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anoaug import features
from anoaug.features.functional import random_subset, token_select
from anoaug.features.ops import subsets
from anoaug.reference import features as reference

SIZES = (1, 7, subsets.SHORT - 1, subsets.SHORT, 400)


def by_order(words: Tensor, counts: Tensor, allowed: Tensor | None) -> Tensor:
    """The least words, all of them put in order."""
    if allowed is not None:
        words = torch.where(allowed, words, 1 << 32)
    rank = torch.sort(words, dim=1, stable=True).indices.argsort(1)
    chosen = rank < counts[:, None]
    return chosen if allowed is None else chosen & allowed


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("positions", SIZES)
def test_a_subset_is_that_of_the_least_words(positions: int, masked: bool) -> None:
    keys = features.keys(3, range(5))
    generator = torch.Generator().manual_seed(0)
    allowed = torch.rand(5, positions, generator=generator) > 0.4 if masked else None
    counts = torch.tensor([0, 1, positions // 2, positions, positions + 3])
    words = reference.position_words(keys, positions)[0]
    found = random_subset(keys, counts, positions, allowed)
    assert torch.equal(found, by_order(words, counts, allowed))
    free = torch.full((5,), positions) if allowed is None else allowed.sum(1)
    number = (1 + ((reference.group_words(keys)[0] * free) >> 32)).minimum(free)
    mask = None if allowed is None else allowed.float()
    shown = token_select(torch.empty(5, positions, 1), mask, keys)
    assert torch.equal(shown.bool(), by_order(words, number, allowed))


def test_of_equal_words_the_first_are_chosen() -> None:
    words = np.random.default_rng(0).integers(0, 5, (6, 300)).astype(np.uint32)
    counts = np.array([0, 1, 50, 150, 299, 300])
    found = subsets._chosen(words, counts, None)
    expected = by_order(torch.from_numpy(words.astype(np.int64)), torch.from_numpy(counts), None)
    assert torch.equal(found, expected)


def test_of_no_image_nothing_is_chosen() -> None:
    keys = features.keys(3, range(0))
    assert random_subset(keys, torch.zeros(0, dtype=torch.int64), 9).shape == (0, 9)
    assert token_select(torch.empty(0, 9, 1), None, keys).shape == (0, 9)
