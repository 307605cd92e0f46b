"""Components: found where they are, filled as if not there, moved as asked, the same anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import masks, sources
from tests.drawing import drawn, expect_uniform, painted
from tests.scenes import ground, squares

IMAGES, SQUARES, BARE = squares(8)
GIVEN = masks.Everywhere() | masks.Given("part")


def run(source: sources.Source, images: torch.Tensor = IMAGES, **more: Any) -> Any:
    synth = painted(source, label_rule="changed", tolerance=0.03, **more)
    return synth(images, index=range(len(images)), epoch=0)


def run_given(source: sources.Source, images: torch.Tensor = IMAGES, plane: Any = SQUARES) -> Any:
    synth = painted(source, GIVEN, label_rule="changed", tolerance=0.03)
    return synth(images, index=range(len(images)), epoch=0, slots={"part": plane})


def away(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Largest difference over the channels, ``[B, 1, H, W]``."""
    return (first.int() - second.int()).abs().amax(1, keepdim=True)


# ---- missing -------------------------------------------------------------------------------------


def test_a_given_component_vanishes() -> None:
    rim = anoaug.prepare.dilation(SQUARES, 3)
    out = run_given(sources.Missing("part"), plane=rim)
    # The ground is known up to its noise of 3 levels, and so is what stands in its place.
    assert away(out.image, BARE).max() < 20
    assert (away(out.image, BARE) <= 7).float().mean() > 0.99
    assert torch.equal(
        out.image[(rim == 0).expand_as(IMAGES)], IMAGES[(rim == 0).expand_as(IMAGES)]
    )
    assert (out.mask[SQUARES > 0] > 0).float().mean() > 0.99


def test_what_fills_it_is_as_rough_as_the_ground() -> None:
    rim = anoaug.prepare.dilation(SQUARES, 3)
    out = run_given(sources.Missing("part"), plane=rim).image.float()
    steps = (out - BARE.float()).diff(dim=3)[rim[..., 1:].expand(-1, 3, -1, -1) > 0]
    rough = BARE.float().diff(dim=3).std()
    # The difference of two independent noises is as rough as sqrt(2) of one.
    assert 0.8 * rough < steps.std() < 1.8 * rough


def test_it_is_found_where_nobody_says_where_it_is() -> None:
    out = run(sources.Missing())
    found = (out.mask > 0) & (SQUARES > 0)
    share = found.sum((1, 2, 3)) / SQUARES.sum((1, 2, 3))
    assert (share > 0.85).all() and (share > 0.95).sum() >= 5
    assert ((out.mask > 0) & (anoaug.prepare.dilation(SQUARES, 15) == 0)).float().mean() < 0.001


def test_an_empty_plane_changes_nothing() -> None:
    out = run_given(sources.Missing("part"), plane=torch.zeros_like(SQUARES))
    assert torch.equal(out.image, IMAGES) and not out.label.any()


def test_in_the_foreground_alone() -> None:
    left = torch.zeros_like(SQUARES)
    left[..., :56] = 1
    synth = painted(sources.Missing(), label_rule="changed", tolerance=0.03)
    out = synth(IMAGES, index=range(8), epoch=0, foreground=left)
    assert not (out.mask * (1 - left)).any()


def test_a_pattern_s_missing_element_is_not_its_neighbour() -> None:
    """The next repeat fits the ring best; what is wanted is the ground."""
    images = ground(1, (128, 128))
    for top in range(8, 120, 32):
        for left in range(8, 120, 32):
            images[..., top : top + 10, left : left + 10] = 220
    plane = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    plane[..., 37:53, 37:53] = 1
    out = run_given(sources.Missing("part"), images, plane).image
    assert out[..., 37:53, 37:53].max() < 140


# ---- moved ---------------------------------------------------------------------------------------


def centre(plane: torch.Tensor) -> torch.Tensor:
    y, x = (torch.arange(n, dtype=torch.float32) for n in plane.shape[2:])
    weight = (plane > 0).float()
    total = weight.sum((1, 2, 3))
    cy = (weight * y[:, None]).sum((1, 2, 3)) / total
    return torch.stack([cy, (weight * x).sum((1, 2, 3)) / total], 1)


def test_a_component_goes_where_it_is_sent() -> None:
    source = sources.Moved("part", distance=0.5, direction=0.0)
    rim = anoaug.prepare.dilation(SQUARES, 3)
    out = run_given(source, plane=rim).image
    # Half of a side of 18 pixels to the right.
    there = IMAGES.roll(9, 3)
    inside = SQUARES.roll(9, 3).expand_as(there) > 0
    assert torch.equal(out[inside], there[inside])
    uncovered = ((rim > 0) & (rim.roll(9, 3) == 0)).expand_as(out)
    assert (out[uncovered].int() - BARE[uncovered].int()).abs().max() < 20


def test_an_extra_one_leaves_the_first_where_it_is() -> None:
    source = sources.Moved("part", distance=(1.6, 2.5), keep=True, goals=8)
    out = run_given(source).image
    assert torch.equal(out[SQUARES.expand_as(out) > 0], IMAGES[SQUARES.expand_as(out) > 0])
    bright = ((out[:, 0] > 200) & (out[:, 2] < 100)).sum((1, 2))
    once = ((IMAGES[:, 0] > 200) & (IMAGES[:, 2] < 100)).sum((1, 2))
    assert (bright > 1.8 * once).float().mean() > 0.8


def test_a_quarter_turn() -> None:
    source = sources.Moved("part", distance=0.0, rotation=(90.0, 90.0))
    out = run_given(source).image
    turns = set()
    for n in range(len(out)):
        rows, columns = SQUARES[n, 0].nonzero().T
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        before, after = IMAGES[n, 0][box], out[n, 0][box]
        fits = [k for k in (1, 3) if torch.equal(after, before.rot90(k))]
        turns.update(fits)
        assert fits
    assert turns == {1, 3}


def test_the_laws_of_a_move_are_uniform() -> None:
    source = sources.Moved(distance=(0.5, 2.0), rotation=(10.0, 60.0), goals=3)
    found, _ = drawn(painted(source), (64, 80), 3000)
    for n in range(3):
        dy, dx = (found[f"{axis}{n}"].astype(np.float64) for axis in ("dy", "dx"))
        expect_uniform(np.hypot(dy, dx).clip(0.5, 2.0), 0.5, 2.0)
        expect_uniform(np.degrees(np.arctan2(dy, dx)), -180, 180)
    angle = np.degrees(np.arctan2(found["sin"], found["cos"]).astype(np.float64))
    expect_uniform(np.abs(angle).clip(10, 60), 10, 60)
    assert stats.binomtest(int((angle > 0).sum()), 3000, 0.5).pvalue > 1e-3


def test_boxes_lie_in_the_image_and_their_laws_are_uniform() -> None:
    source = sources.Missing(side=(0.2, 0.4), aspect=(0.5, 2.0), tries=4)
    found, _ = drawn(painted(source), (60, 90), 2000)
    half_h, half_w, cy, cx = (
        found[name].astype(np.float64) for name in ("half_h", "half_w", "cy", "cx")
    )
    assert (cy - half_h >= -0.501).all() and (cy + half_h <= 59.501).all()
    assert (cx - half_w >= -0.501).all() and (cx + half_w <= 89.501).all()
    side = 2 * np.sqrt(half_h * half_w) / 60
    expect_uniform(side.ravel().clip(0.2, 0.4), 0.2, 0.4)
    expect_uniform(np.log2(half_w / half_h).ravel().clip(-1, 1), -1, 1)
    place = (cy - half_h + 0.5) / (60 - 2 * half_h)
    expect_uniform(place.ravel().clip(0, 1), 0, 1)


# ---- swapped -------------------------------------------------------------------------------------


def test_two_components_take_each_other_s_place() -> None:
    images = ground(1, (96, 128))
    images[..., 30:46, 24:40] = 230
    images[..., 50:66, 84:100] = 10
    synth = painted(sources.Swapped(side=(0.18, 0.24), aspect=1.0, tries=64), label_rule="changed")
    good = 0
    for epoch in range(6):
        out = synth(images, index=[0], epoch=epoch).image.int()
        first, second = out[..., 34:42, 28:36].float().mean(), out[..., 54:62, 88:96].float().mean()
        good += bool(first < 40 and second > 200)
    assert good >= 4


# ---- the same anywhere ---------------------------------------------------------------------------

SOURCES = {
    "missing": sources.Missing(),
    "displaced": sources.Moved(rotation=(0.0, 15.0)),
    "extra": sources.Moved(distance=(1.0, 4.0), keep=True, goals=6),
    "swapped": sources.Swapped(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_a_sample_is_the_same_in_any_batch(name: str) -> None:
    synth = painted(SOURCES[name], label_rule="changed")
    whole = synth(IMAGES, index=range(8), epoch=0)
    some = synth(IMAGES[[5, 2]], index=[5, 2], epoch=0)
    assert torch.equal(some.image, whole.image[[5, 2]])
    again = synth(IMAGES, params=whole.params)
    assert torch.equal(again.image, whole.image) and torch.equal(again.mask, whole.mask)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32, torch.bfloat16])
def test_any_dtype_gives_the_same_anomaly(name: str, dtype: torch.dtype) -> None:
    images = (IMAGES / 255 if dtype.is_floating_point else IMAGES.int() * 257).to(dtype)
    eight, other = run(SOURCES[name]).image, run(SOURCES[name], images).image
    assert other.dtype == dtype
    scale = 255.0 if dtype.is_floating_point else 255.0 / 65535.0
    difference = (other.float() * scale - eight.float()).abs()
    # bfloat16 has steps of one level and finds other places where two are as good.
    assert (difference > 2.0).float().mean() < (0.02 if dtype == torch.bfloat16 else 0.001)
    assert torch.isfinite(other.float()).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_every_backend_pastes_the_same_picture(backend: str) -> None:
    if backend == "compiled":
        pytest.importorskip("numba")
    ours = run(SOURCES["displaced"], backend=backend).image
    assert (away(ours, run(SOURCES["displaced"]).image) > 1).float().mean() < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2, 2), (7, 5), (16, 300)])
def test_odd_sizes_pass(size: tuple[int, int]) -> None:
    images = ground(2, size)
    for source in SOURCES.values():
        out = run(source, images)
        assert out.image.shape == images.shape


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sources.Missing(side=2.0), "side: expected values within"),
        (lambda: sources.Missing(shape="star"), "shape: expected"),
        (lambda: sources.Missing(tries=0), "tries: expected an integer from 1 to 64"),
        (lambda: sources.Moved(goals=99), "goals: expected an integer from 1 to 16"),
        (lambda: sources.Moved(distance=-1.0), "distance: expected values within"),
        (lambda: sources.Swapped("part"), "given: expected None"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_plane_that_the_mask_does_not_read_is_refused() -> None:
    with pytest.raises(ValueError, match=r"given: expected a mask that reads 'part'"):
        run(sources.Missing("part"))
