"""Warp: three deformations, the label of what visibly changes."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import anoaug
from tests.recipes import pictures


@pytest.mark.slow
def test_half_are_bent_a_quarter_bulged_a_quarter_twisted() -> None:
    images = pictures(torch.uint8, 600, 1, (40, 40))
    synth = anoaug.create("warp", seed=0, p=1.0, min_area=1)
    out = synth(images, index=range(600), epoch=0)
    assert synth.kinds[1:4] == ("warp_bent", "warp_bulged", "warp_twisted") and out.label.all()
    tally = torch.bincount(out.kind, minlength=4)[1:4]
    assert stats.chisquare(tally, [300, 150, 150]).pvalue > 1e-3


def test_the_mask_is_what_changed() -> None:
    images = pictures(torch.uint8, 60, 3, (64, 64))
    out = anoaug.create("warp", seed=0, p=1.0)(images, index=range(60), epoch=0)
    moved = (out.image.int() - images.int()).abs().amax(1, keepdim=True)
    assert torch.equal(out.mask > 0, moved > 0)
    assert 0.01 < out.mask.mean() < 0.15


def test_a_warp_of_nothing_is_normal() -> None:
    images = torch.full((20, 3, 64, 64), 90, dtype=torch.uint8)
    out = anoaug.create("warp", seed=0, p=1.0)(images, index=range(20), epoch=0)
    assert not out.label.any() and torch.equal(out.image, images)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_the_share_of_anomalies(p: float) -> None:
    images = pictures(torch.uint8, 400, 1, (48, 48))
    out = anoaug.create("warp", seed=0, p=p)(images, index=range(400), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 400, p).pvalue > 1e-3
