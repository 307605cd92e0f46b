"""Filling: the shift is the one that brute force finds, and where there is none a membrane."""

from __future__ import annotations

import pytest
import torch

from anoaug.sources.structure.filling import best_shift, fill
from tests.scenes import ground


def textured(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """A smooth random texture that repeats every 20 rows and 24 columns."""
    generator = torch.Generator().manual_seed(seed)
    tile = torch.rand(1, 3, 10, 12, generator=generator)
    tile = tile.repeat_interleave(2, 2).repeat_interleave(2, 3)
    copies = (1, 1, -(-size[0] // 20), -(-size[1] // 24))
    return tile.repeat(copies)[..., : size[0], : size[1]]


def region(size: tuple[int, int], top: int, left: int, side: int) -> torch.Tensor:
    plane = torch.zeros(1, 1, *size, dtype=torch.uint8)
    plane[..., top : top + side, left : left + side] = 1
    return plane


@pytest.mark.parametrize("size", [(90, 110), (200, 260), (300, 420)])
def test_a_pattern_is_continued_by_whole_repeats(size: tuple[int, int]) -> None:
    """On a pattern whose tile differs everywhere only a whole repeat fits the ring."""
    images, where = textured(size), region(size, size[0] // 2, size[1] // 2, 9)
    # What is hidden differs from the rest: its own colours must not count.
    hidden = torch.where(where > 0, 1.0 - images, images)
    shift, found = best_shift(hidden, where)
    assert found.all() and shift.abs().sum() > 0
    filled = fill(hidden, where)
    inside = where.expand_as(images) > 0
    repeats = (shift[0, 0] % 20 == 0) and (shift[0, 1] % 24 == 0)
    if repeats:
        assert (filled - images)[inside].abs().max() < 0.02
    # Or else somewhere plainer, which the colours then still meet.
    assert torch.equal(filled[~inside], hidden[~inside])


def test_on_even_ground_what_was_there_leaves_no_trace() -> None:
    bare = ground(3, (80, 90)).float() / 255
    where = region((80, 90), 30, 40, 16).expand(3, -1, -1, -1)
    marked = torch.where(where > 0, 1.0, bare)
    filled = fill(marked, where)
    assert (filled - bare).abs().max() < 0.06


def test_texture_is_never_taken_from_what_is_barred() -> None:
    images = ground(1, (64, 64)).float() / 255
    where, barred = region((64, 64), 20, 20, 10), torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    barred[..., :, 34:] = barred[..., 34:, :] = barred[..., :18, :] = 1
    shift, found = best_shift(images, where, barred)
    # Rows 18 to 33 and columns 0 to 33 are left: room for it to the left alone.
    assert found.all()
    top, left = 20 + shift[0, 0], 20 + shift[0, 1]
    assert top >= 18 and top + 10 <= 34 and left >= 0 and left + 10 <= 20


def test_where_no_place_is_large_enough_a_membrane_spans_it() -> None:
    slope = (torch.linspace(0.2, 0.8, 48)).expand(1, 1, 48, 48).contiguous()
    where = region((48, 48), 6, 6, 36)
    images = torch.where(where > 0, 0.0, slope)
    shift, found = best_shift(images, where)
    assert not found.any()
    filled = fill(images, where)
    # Linear on the edge is linear within.
    assert (filled - slope).abs().max() < 0.05
