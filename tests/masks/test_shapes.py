"""masks.Shape: where shapes of a bank lie, how large they are, what bends them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import anoaug
from anoaug import blends, masks, sources
from tests.drawing import (
    drawn,
    expect_uniform,
    levels,
    mask_columns,
    needs_triton,
    painted,
    some,
)

BLOBS = anoaug.ShapeBank.procedural("blob", n=16, size=64)
CRACKS = anoaug.ShapeBank.procedural("crack", n=8, size=128)
SIZE = (96, 130)
Y, X = np.mgrid[:40, :40] - 19.5
# A disc of radius 12 whose level is exact, and a box of 8 x 24.
DISC = anoaug.ShapeBank.from_tensors(
    torch.from_numpy(np.clip(128.5 + 8 * (12 - np.hypot(Y, X)), 0, 255).astype(np.uint8))[
        None, None
    ]
)
BOX = anoaug.ShapeBank.from_tensors(
    torch.from_numpy(
        np.clip(128.5 + 8 * np.minimum(4 - abs(Y), 12 - abs(X)), 0, 255).astype(np.uint8)
    )[None, None]
)


def upright(bank: anoaug.ShapeBank, **keywords: Any) -> masks.Shape:
    return masks.Shape(bank, **{"rotation": 0.0, "elastic": 0.0, "aspect": 1.0, **keywords})


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize("elastic", [0.0, 0.1])
@pytest.mark.triton_interpreter
def test_levels_are_equal_on_every_backend(backend: str, elastic: float) -> None:
    for mask in (
        masks.Shape(BLOBS, elastic=elastic),
        masks.Shape(CRACKS, elastic=elastic, place="anywhere", of="box", size=(0.1, 0.9)),
        masks.Shape(BLOBS, elastic=elastic) & ~masks.Shape(CRACKS, elastic=elastic),
    ):
        truth = levels(mask, (63, 50), range(4), seed=3, backend="torch")
        assert torch.equal(levels(mask, (63, 50), range(4), seed=3, backend=backend), truth)


@pytest.mark.slow
@pytest.mark.parametrize("bend", [0.0, 0.2])
def test_the_cpu_looks_for_a_shape_where_it_is(bend: float) -> None:
    """Its window holds the whole mask, at every rotation, stretch and displacement."""
    mask = masks.Shape(BLOBS, (0.01, 0.3), aspect=(0.2, 5), elastic=bend, place="anywhere")
    blank = torch.zeros(60, 1, *SIZE, dtype=torch.uint8)
    ours, truth = (
        painted(sources.Constant(1.0), mask, backend=backend)(blank, index=range(60), epoch=0)
        for backend in ("auto", "torch")
    )
    assert torch.equal(ours.mask, truth.mask) and ours.label.all()


# ---- size ----------------------------------------------------------------------------------------


@pytest.mark.slow
@some
@given(st.floats(0.02, 0.2), st.integers(0, 1000))
def test_the_share_covered_is_the_share_asked_for(share: float, index: int) -> None:
    mask = masks.Shape(BLOBS, size=share, aspect=1.0, elastic=0.0)
    found = float((levels(mask, (200, 200), [index]) > 0).float().mean())
    values = mask_columns(mask, (200, 200), 1)
    assert values["bend"] == 0
    assert found <= share * 1.06
    # Less only where a slender shape would not fit.
    area, top, bottom, left, right = BLOBS.outlines[:, :].T
    long = np.hypot(bottom - top, right - left) * np.sqrt(share * 200 * 200 / area)
    if long.max() < 200:
        assert found >= share * 0.94


def test_shares_are_uniform() -> None:
    mask = masks.Shape(DISC, size=(0.01, 0.1), elastic=0.0)
    values = mask_columns(mask, SIZE, 2000)
    scale = np.abs(values["yy"] * values["xx"] - values["yx"] * values["xy"])
    expect_uniform(DISC.outlines[0, 0] / scale / (SIZE[0] * SIZE[1]), 0.01, 0.1)


def test_the_box_covers_its_share_whatever_the_shape() -> None:
    mask = upright(BLOBS, of="box", size=(0.02, 0.15), aspect=(0.5, 2.0))
    for level in levels(mask, (256, 256), range(20)).numpy():
        inside = level > 0
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / 256**2
        assert 0.015 < box < 0.16


def test_aspects_are_log_uniform() -> None:
    frames = drawn(painted(sources.Own(), upright(DISC, of="box", aspect=(0.25, 4.0))), SIZE, 2000)
    columns = frames[1]
    ratio = np.abs(columns["yy"] / columns["xx"])  # height in the bank is its width: a disc
    expect_uniform(np.log(ratio).astype(np.float64), np.log(0.25), np.log(4.0))


def test_sides_in_pixels_are_whole_and_those_asked_for() -> None:
    mask = upright(BOX, height=(7, 22), width=(15, 31), mirror=False)
    columns = mask_columns(mask, (256, 256), 3000)
    height, width = 8 / columns["yy"], 24 / columns["xx"]
    for sides, low, high in ((height, 7, 21), (width, 15, 30)):
        assert np.abs(sides - np.round(sides)).max() < 1e-3
        assert set(np.round(sides).astype(int)) == set(range(low, high + 1))


def test_a_shape_that_does_not_fit_is_shrunk() -> None:
    mask = masks.Shape(CRACKS, size=0.5, elastic=0.0, aspect=1.0)
    found = levels(mask, SIZE, range(20)) > 0
    edges = torch.cat([found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]], 1)
    assert found.flatten(1).any(1).all() and edges.float().mean() < 0.02
    long = [np.hypot(*(np.ptp(axis) for axis in np.nonzero(one.numpy()))) for one in found]
    assert min(long) > 60


# ---- level ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.02, 0.1])
def test_levels_are_pixels_of_the_image(size: float) -> None:
    """As for a rectangle, so that a feather's width means the same."""
    mask = upright(DISC, size=size, mirror=False)
    columns = mask_columns(mask, (160, 160), 6)
    y, x = np.mgrid[:160, :160]
    for n, level in enumerate(levels(mask, (160, 160), range(6)).numpy()):
        scale = 1 / columns["yy"][n]
        cy, cx = ((19.5 - columns[name][n]) * scale for name in ("y0", "x0"))
        wanted = 12 * scale - np.hypot(y - cy, x - cx)
        near = np.abs(wanted) < 6 * scale
        # An eighth of the bank's pixel, and what bilinear interpolation of a cone leaves.
        assert np.abs(level - wanted)[near].max() < 0.15 * scale


def test_a_feather_is_as_wide_as_it_says() -> None:
    mask = masks.Shape(DISC, 0.1, aspect=1.0, elastic=0.0)
    layer = anoaug.Layer(mask, sources.Constant(1.0), blends.Feather(6.0))
    synth = anoaug.Synthesizer(layer, p=1.0, seed=0, label="soft")
    weight = synth(torch.zeros(4, 1, 160, 160, dtype=torch.uint8), index=range(4), epoch=0).mask
    radius = np.sqrt(0.1 * 160 * 160 / np.pi)
    weight = weight.numpy()
    whole, part = (weight == 1).sum((1, 2, 3)), (weight > 0).sum((1, 2, 3))
    assert np.allclose(np.sqrt(whole / np.pi), radius - 6, atol=0.4)
    assert np.allclose(np.sqrt(part / np.pi), radius, atol=0.4)


# ---- place ---------------------------------------------------------------------------------------


def test_shapes_lie_inside_at_every_rotation() -> None:
    """A shape cut off would cover less than its share."""
    mask = masks.Shape(BOX, size=(0.02, 0.1), elastic=0.0)
    columns = mask_columns(mask, SIZE, 60)
    scale = np.abs(columns["yy"] * columns["xx"] - columns["yx"] * columns["xy"])
    area = (levels(mask, SIZE, range(60)) > 0).flatten(1).sum(1).numpy()
    assert np.abs(area * scale / (8 * 24) - 1).max() < 0.1


def test_centres_are_uniform_over_the_image_anywhere() -> None:
    mask = masks.Shape(DISC, elastic=0.0, place="anywhere", mirror=False, rotation=0.0)
    columns = mask_columns(mask, SIZE, 3000)
    cy = (19.5 - columns["y0"]) / columns["yy"]
    cx = (19.5 - columns["x0"]) / columns["xx"]
    for centre, side in ((cy, SIZE[0]), (cx, SIZE[1])):
        assert set(np.round(centre).astype(int)) == set(range(side))


@pytest.mark.slow
def test_a_frame_holds_the_shape() -> None:
    """What a source takes from elsewhere is a box of the image: nothing of its edge is repeated."""
    mask = masks.Shape(BLOBS, size=(0.02, 0.1), elastic=(0.0, 0.1))
    source, where = drawn(painted(sources.Own(), mask), SIZE, 200)
    found = levels(mask, SIZE, range(200)).numpy() > 0
    for n in range(200):
        y, x = np.nonzero(found[n])
        sy = source["yy"][n] * y + source["yx"][n] * x + source["y0"][n]
        sx = source["xy"][n] * y + source["xx"][n] * x + source["x0"][n]
        assert sy.min() > -1 and sy.max() < SIZE[0] and sx.min() > -1 and sx.max() < SIZE[1]


def test_shapes_are_mirrored_along_each_axis_half_of_the_time() -> None:
    columns = mask_columns(upright(BOX), SIZE, 4000)
    for name in ("yy", "xx"):
        assert abs((columns[name] < 0).mean() - 0.5) < 0.03
    straight = mask_columns(upright(BOX, mirror=False), SIZE, 500)
    assert (straight["yy"] > 0).all() and (straight["xx"] > 0).all()


def test_every_shape_is_taken() -> None:
    columns = mask_columns(masks.Shape(BLOBS), SIZE, 2000)
    image = columns["image"].astype(np.float32).view(np.int32)
    counts = np.bincount(image, minlength=len(BLOBS))
    assert len(counts) == len(BLOBS) and counts.min() > 80


# ---- elastic -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("elastic", [0.02, 0.05, 0.1])
def test_displacement_is_bounded(elastic: float) -> None:
    """A pixel's level is one that the unbent shape has within the greatest displacement."""
    bent, straight = (
        levels(upright(DISC, size=0.1, elastic=e, place="anywhere"), SIZE, range(30))
        for e in (elastic, 0.0)
    )
    scale = float(np.sqrt(0.1 * SIZE[0] * SIZE[1] / DISC.outlines[0, 0]))
    near = straight > -2 * scale
    change = (bent - straight)[near].abs().max()
    # Along both axes at once, and an eighth of the bank's pixel.
    assert elastic * 40 * scale * 0.2 < change < elastic * 40 * scale * 2**0.5 + scale / 8


def test_columns_of_displacement() -> None:
    columns = mask_columns(masks.Shape(DISC, elastic=(0.05, 0.1)), SIZE, 2000)
    expect_uniform(columns["bend"] * 1.5 / 40, 0.05, 0.1)
    assert np.allclose(columns["frequency"], 0.1)


# ---- laws and refusals ---------------------------------------------------------------------------


def test_another_bank_refuses_the_replay() -> None:
    blank = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
    synth, other = (painted(sources.Own(), masks.Shape(bank)) for bank in (BLOBS, CRACKS))
    params = synth(blank, index=range(2), epoch=0).params
    assert torch.equal(synth(blank, params=params).mask, synth(blank, index=range(2), epoch=0).mask)
    with pytest.raises(ValueError, match="same banks"):
        other(blank, params=params)


def test_layers_share_a_bank() -> None:
    synth = anoaug.Synthesizer(
        anoaug.Layer(masks.Shape(BLOBS), sources.Own()),
        anoaug.Layer(masks.Shape(BLOBS) | masks.Shape(CRACKS), sources.Own()),
    )
    assert synth._binding.banks == (BLOBS, CRACKS)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"size": 0.0}, ValueError, "size: expected shares above 0"),
        ({"size": 1.2}, ValueError, "size: expected values within"),
        ({"elastic": 0.3}, ValueError, "elastic: expected values within"),
        ({"of": "shape"}, ValueError, "of: expected one of"),
        ({"place": "salient"}, ValueError, "place: expected one of"),
        ({"height": 3}, ValueError, "height and width together"),
        ({"height": 0.5, "width": 3}, ValueError, "height: expected values within"),
    ],
)
def test_what_makes_no_sense_is_refused(keywords: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        masks.Shape(BLOBS, **keywords)


def test_a_bank_of_images_is_refused() -> None:
    images = anoaug.TextureBank.procedural(2, 32)
    with pytest.raises(TypeError, match="expected a ShapeBank, got TextureBank"):
        masks.Shape(images)  # type: ignore[arg-type]
