"""Chips: on the outline, out of the object, in the colours of the background."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import anoaug
from anoaug import sources
from tests.drawing import drawn, expect_uniform, painted
from tests.scenes import ground


def plates(rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright plate on dark ground, and where it is."""
    images = ground(rows, (100, 120))
    inside = torch.zeros(rows, 1, 100, 120, dtype=torch.uint8)
    inside[..., 25:75, 30:90] = 1
    return torch.where(inside > 0, images // 4 + 200, images // 2).to(torch.uint8), inside


IMAGES, INSIDE = plates()
SYNTH = painted(sources.Chip(side=0.2), label_rule="changed", tolerance=0.1)


def test_a_chip_is_background_at_the_plate_s_edge() -> None:
    out = SYNTH(IMAGES, index=range(12), epoch=0, foreground=INSIDE)
    assert out.label.all()
    assert not (out.mask * (1 - INSIDE)).any()
    edge = INSIDE * (1 - anoaug.prepare.erosion(INSIDE, 3))
    assert (out.mask * edge).flatten(1).any(1).all()
    # No further in than half of the diameter, 20 pixels.
    assert not (out.mask * anoaug.prepare.erosion(INSIDE, 25)).any()
    shown = out.image[(out.mask > 0).expand_as(IMAGES)].float()
    ground_colour = IMAGES[(INSIDE == 0).expand_as(IMAGES)].float()
    # Around the bite a pixel is mixed, as a camera does.
    assert abs(shown.median() - ground_colour.mean()) < 10
    assert shown.quantile(0.7) < 70


@pytest.mark.slow
def test_points_lie_all_along_the_outline() -> None:
    images, inside = (plane[:1].expand(300, -1, -1, -1) for plane in (IMAGES, INSIDE))
    synth = painted(sources.Chip(side=0.06), label_rule="changed", tolerance=0.1)
    out = synth(images, index=range(300), epoch=0, foreground=inside)
    marks = out.mask[:, 0].sum(0)
    sides = (marks[25], marks[74], marks[:, 30], marks[:, 89])
    counts = torch.stack([side.sum() for side in sides])
    assert (counts > 0.12 * counts.sum()).all()


@pytest.mark.parametrize("value", [0, 1])
def test_without_an_outline_nothing_changes(value: int) -> None:
    out = SYNTH(IMAGES, index=range(12), epoch=0, foreground=torch.full_like(INSIDE, value))
    assert torch.equal(out.image, IMAGES) and not out.label.any()


def test_without_a_foreground_it_says_so() -> None:
    with pytest.raises(ValueError, match="foreground: a chip needs it"):
        SYNTH(IMAGES, index=range(12), epoch=0)


@pytest.mark.slow
def test_a_sample_is_the_same_in_any_batch() -> None:
    whole = SYNTH(IMAGES, index=range(12), epoch=0, foreground=INSIDE)
    one = SYNTH(IMAGES[[7]], index=[7], epoch=0, foreground=INSIDE[[7]])
    assert torch.equal(one.image, whole.image[[7]])
    again = SYNTH(IMAGES, params=whole.params, foreground=INSIDE)
    assert torch.equal(again.image, whole.image)


def test_discs_lie_within_the_diameter() -> None:
    found, _ = drawn(
        painted(sources.Chip(side=0.3)),
        (100, 120),
        500,
    )
    radius, dy, dx = (found[name].astype(np.float64) for name in ("radius", "dy", "dx"))
    assert (np.hypot(dy, dx) + radius <= 15.001).all()
    expect_uniform((radius.ravel() / 15).clip(0.35, 0.75), 0.35, 0.75)


def test_the_method_finds_the_object_by_rule() -> None:
    synth = anoaug.create("chip", seed=0, p=1.0)
    out = synth(IMAGES, index=range(12), epoch=0)
    assert out.label.float().mean() > 0.8 and not (out.mask * (1 - INSIDE)).any()
    with pytest.raises(ValueError, match="foreground: a chip needs it"):
        anoaug.create("chip", seed=0, p=1.0, foreground=None)(IMAGES)


@pytest.mark.slow
def test_holes_and_specks_of_a_threshold_have_no_outline() -> None:
    """Dark relief within an object is none of its edge, and breaks off with it."""
    generator = torch.Generator().manual_seed(2)
    holes = (torch.rand(12, 1, 100, 120, generator=generator) < 0.04).to(torch.uint8)
    rough = INSIDE * (1 - holes)
    rough[..., 5, 5] = rough[..., 90:92, 100] = 1
    whole, out = (SYNTH(IMAGES, index=range(12), epoch=0, foreground=x) for x in (INSIDE, rough))
    assert out.label.all() and not (out.mask * (1 - INSIDE)).any()
    edge = INSIDE * (1 - anoaug.prepare.erosion(INSIDE, 5))
    assert (out.mask * edge).flatten(1).any(1).all()
    share = out.mask.flatten(1).sum(1) / whole.mask.flatten(1).sum(1)
    assert share.min() > 0.4 and share.max() < 2.5
