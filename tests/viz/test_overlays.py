"""What is shown of a batch: its bytes, masks over them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug import viz

TINT = torch.tensor(viz.TINT, dtype=torch.float32)


def blob(height: int = 9, width: int = 11) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., 2:7, 3:9] = 1.0
    return mask


def test_pixels_round_floats_as_the_library_does():
    values = torch.tensor([0.0, 0.5 / 255, 0.49 / 255, 254.5 / 255, 1.0]).expand(1, 3, 2, 5)
    assert viz.pixels(values)[0, 0, 0].tolist() == [0, 1, 0, 255, 255]


def test_pixels_show_the_high_byte_of_16_bits():
    values = torch.tensor([0, 255, 256, 65535], dtype=torch.uint16).expand(1, 3, 2, 4)
    assert viz.pixels(values)[0, 0, 0].tolist() == [0, 0, 1, 255]


def test_pixels_repeat_grey(images: torch.Tensor):
    assert torch.equal(viz.pixels(images[:, :1]), images[:, :1].repeat(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (torch.zeros(1, 2, 8, 8), "1 or 3 channels"),
        (torch.full((1, 3, 8, 8), 2.0), "divide by 255"),
        (torch.zeros(3, 8, 8), "rank 4"),
    ],
)
def test_pixels_refuse(value: torch.Tensor, hint: str):
    with pytest.raises(ValueError, match=hint):
        viz.pixels(value)


@given(seed=st.integers(0, 2**32), outline=st.booleans())
@settings(max_examples=20, deadline=None)
def test_overlay_changes_nothing_outside_the_mask(seed: int, outline: bool):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, 7, 5), dtype=torch.uint8, generator=generator)
    masks = torch.rand(2, 1, 7, 5, generator=generator) > 0.6
    before = images.clone()
    shown = viz.overlay(images, masks, outline=outline)
    outside = ~masks.expand_as(images)
    assert torch.equal(shown[outside], images[outside])
    assert torch.equal(images, before)


def test_overlay_mixes_the_tint_by_its_strength():
    images = torch.full((1, 3, 9, 11), 100, dtype=torch.uint8)
    shown = viz.overlay(images, blob(), strength=0.25)
    expected = (100 + 0.25 * (TINT - 100) + 0.5).to(torch.uint8)
    assert torch.equal(shown[0, :, 4, 5], expected)


def test_overlay_weighs_soft_masks():
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    shown = viz.overlay(images, torch.full((1, 1, 4, 4), 0.5), strength=1.0, outline=False)
    assert torch.equal(shown[0, :, 1, 1], (0.5 * TINT + 0.5).to(torch.uint8))


def test_overlay_outlines_the_inner_edge_alone():
    images = torch.zeros(1, 3, 9, 11, dtype=torch.uint8)
    full = (viz.overlay(images, blob()) == TINT.to(torch.uint8)[:, None, None]).all(1)[0]
    expected = blob()[0, 0] > 0
    expected[3:6, 4:8] = False
    assert torch.equal(full, expected)


def test_overlay_draws_no_edge_along_the_border_of_the_picture():
    images = torch.zeros(1, 3, 6, 6, dtype=torch.uint8)
    shown = viz.overlay(images, torch.ones(1, 1, 6, 6), strength=0.5)
    assert (shown == shown[:, :, :1, :1]).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16])
def test_overlay_takes_masks_of_any_kind(dtype: torch.dtype, images: torch.Tensor):
    masks = (images[:, :1] > 128).to(dtype)
    expected = viz.overlay(images, (images[:, :1] > 128).float())
    assert torch.equal(viz.overlay(images, masks), expected)


def test_overlay_of_nothing_is_nothing():
    shown = viz.overlay(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, 1, 4, 4))
    assert shown.shape == (0, 3, 4, 4)


def test_overlay_refuses_masks_of_another_size(images: torch.Tensor):
    with pytest.raises(ValueError, match=r"masks: expected shape \[4, 1, 63, 50\]"):
        viz.overlay(images, torch.zeros(4, 1, 50, 63))


def test_overlay_refuses_a_strength_beyond_one(images: torch.Tensor):
    with pytest.raises(ValueError, match="strength: expected a number in"):
        viz.overlay(images, images[:, :1], strength=1.5)
