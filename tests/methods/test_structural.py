"""missing, displaced, rotated, extra, swapped: what changes, what counts, where they look."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import anoaug
from tests.scenes import ground, squares

NAMES = ("missing", "displaced", "rotated", "extra", "swapped")
IMAGES, SQUARES, _ = squares(8)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_mask_is_what_changed(name: str) -> None:
    out = anoaug.create(name, seed=0, p=1.0)(IMAGES, index=range(8), epoch=0)
    moved = (out.image.int() - IMAGES.int()).abs().amax(1, keepdim=True)
    assert torch.equal(out.mask > 0, moved > 0)
    assert out.label.float().mean() > 0.7
    assert torch.equal(out.image[out.label == 0], IMAGES[out.label == 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing", "displaced", "rotated", "extra"])
def test_a_component_may_be_given(name: str) -> None:
    synth = anoaug.create(name, seed=0, p=1.0, component="part")
    assert synth.slots == ("part",)
    part = torch.cat([SQUARES[:4], torch.zeros_like(SQUARES[4:])])
    out = synth(IMAGES, index=range(8), epoch=0, slots={"part": part})
    assert out.label.tolist() == [1] * 4 + [0] * 4


def test_what_is_even_has_no_component_to_miss() -> None:
    out = anoaug.create("missing", seed=0, p=1.0)(ground(12), index=range(12), epoch=0)
    assert not out.label.any()


@pytest.mark.slow
def test_the_share_of_anomalies() -> None:
    images = IMAGES[:1].expand(120, -1, -1, -1)
    part = SQUARES[:1].expand(120, -1, -1, -1)
    synth = anoaug.create("missing", seed=0, component="part")
    out = synth(images, index=range(120), epoch=0, slots={"part": part})
    assert stats.binomtest(int(out.label.sum()), 120, 0.5).pvalue > 1e-3
