"""Fractal: the shapes' sizes and places, what fills them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from tests.drawing import columns_of

MANY = 400


@lru_cache(maxsize=1)
def area() -> np.ndarray:
    images = torch.zeros(MANY, 1, 256, 256, dtype=torch.uint8)
    out = anoaug.create("fractal", seed=4, p=1.0)(images, index=range(MANY), epoch=0)
    return out.mask.mean((1, 2, 3)).double().numpy()


@pytest.mark.slow
def test_half_of_the_samples_are_anomalous() -> None:
    images = torch.zeros(300, 1, 64, 64, dtype=torch.uint8)
    out = anoaug.create("fractal", seed=4)(images, index=range(300), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 300, 0.5).pvalue > 1e-3


@pytest.mark.slow
def test_shapes_cover_up_to_a_quarter_of_the_image() -> None:
    # Squares of 10 to 50 %, of which shapes fill some two fifths: 0.43 / 5 * ... of the image.
    assert (area() > 0).all() and area().max() < 0.25
    squares = (0.5**3 - 0.1**3) / 3 / 0.4
    assert area().mean() == pytest.approx(0.41 * squares, rel=0.2)


def test_shapes_are_no_boxes() -> None:
    images = torch.zeros(60, 1, 128, 128, dtype=torch.uint8)
    out = anoaug.create("fractal", seed=4, p=1.0)(images, index=range(60), epoch=0)
    filling = []
    for mask in out.mask[:, 0]:
        y, x = mask.nonzero().T
        filling.append(len(y) / float((y.max() - y.min() + 1) * (x.max() - x.min() + 1)))
    assert np.mean(filling) < 0.6 and np.std(filling) > 0.08


@pytest.mark.slow
def test_without_jitter_the_shape_shows_pixels_of_the_image_turned_and_mirrored() -> None:
    # Every pixel has a colour of its own, so that each pasted one tells where it is from.
    colours = torch.arange(1, 96 * 96 + 1).reshape(1, 1, 96, 96)
    images = torch.cat([colours // 256, colours % 256, colours * 0], 1).to(torch.uint8)
    synth = anoaug.create("fractal", seed=4, p=1.0, jitter=0.0)
    out = synth(images.expand(80, -1, -1, -1), index=range(80), epoch=0)
    drawn = columns_of(synth, out.params.table, 3, "source")
    signs = set()
    for n in range(80):
        inside = out.mask[n, 0] > 0
        taken = (out.image[n, 0].long() * 256 + out.image[n, 1].long())[inside] - 1
        assert taken.min() >= 0
        if len(taken) < 50:
            continue
        y, x = inside.nonzero().T.double()
        from_y, from_x = (taken // 96).double(), (taken % 96).double()
        # The affine map from a pixel to its origin, by least squares.
        design = torch.stack([y, x, torch.ones_like(y)], 1)
        matrix = torch.linalg.lstsq(design, torch.stack([from_y, from_x], 1)).solution[:2].T
        turn = torch.tensor([[drawn["yy"][n], drawn["yx"][n]], [drawn["xy"][n], drawn["xx"][n]]])
        assert (matrix - turn).abs().max() < 0.1
        sign_y, sign_x = np.sign(drawn["yy"][n]), np.sign(drawn["xx"][n])
        signs.add((float(sign_y), float(sign_x)))
        angle = np.degrees(np.arctan2(sign_x * drawn["xy"][n], sign_y * drawn["yy"][n]))
        assert 15 - 1e-3 <= angle <= 75 + 1e-3
    assert len(signs) == 4


def test_jitter_changes_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(60, 190, (30, 3, 64, 64), dtype=torch.uint8, generator=generator)
    plain, ours = (
        anoaug.create("fractal", seed=4, p=1.0, **jitter)(images, index=range(30), epoch=0)
        for jitter in ({"jitter": 0.0}, {})
    )
    assert torch.equal(plain.mask, ours.mask)
    inside = plain.mask.expand_as(images) > 0
    moved = (ours.image[inside].double() - plain.image[inside].double()).abs()
    assert 5 < moved.mean() < 60


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_both_torch_ways_give_the_same_bits(dtype: torch.dtype, images: Any) -> None:
    batch = images.to(dtype) if dtype != torch.float32 else images / 255
    ours, truth = (
        anoaug.create("fractal", seed=4, p=1.0, backend=name)(batch, index=range(4), epoch=0)
        for name in ("auto", "torch")
    )
    assert torch.equal(ours.image.float(), truth.image.float())
    assert torch.equal(ours.mask, truth.mask)
