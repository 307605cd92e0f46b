"""Poisson correction equals OpenCV's, solves its equation, and leaves alone what it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anoaug import poisson
from anoaug.functional import poisson_blend
from anoaug.reference import poisson as reference
from tests.blending import (
    DEVICE,
    SIZE,
    SMALL,
    boxes_of,
    everywhere,
    far,
    needs_triton,
    opencv,
    scene,
    seeded,
    wide,
)

# ---- OpenCV --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", poisson.MODES)
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("size", "rows", "share"),
    [
        ((24, 31), 18, 0.01),
        ((64, 64), 18, 0.01),
        ((97, 128), 15, 0.02),
        ((256, 200), 6, 0.05),
        ((512, 512), 2, 0.2),
    ],
)
def test_equal_to_opencv_within_a_grey_level(
    size: tuple[int, int], rows: int, share: float, channels: int, mode: str
) -> None:
    """Up to where OpenCV's own rounding, of eigenvalues to float32, moves it across a level."""
    destination, source, mask = scene(size, rows, channels, seed=1)
    expected = [opencv(*sample, mode) for sample in zip(destination, source, mask, strict=True)]
    blended = poisson_blend(destination, source, mask, mode)
    error = far(blended, torch.stack(expected))
    assert error.max() <= 1
    # Where nothing is added, OpenCV cuts a level off half of the pixels.
    moved = far(blended, destination).amax((2, 3)) > 0
    assert moved.sum() >= rows * channels // 3
    assert (error[moved] > 0).double().mean() < share


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize("mode", poisson.MODES)
def test_windows_of_one_size_equal_opencv_too(mode: str, backend: str) -> None:
    destination, source, mask = scene(SMALL, 6, seed=2)
    expected = [opencv(*sample, mode) for sample in zip(destination, source, mask, strict=True)]
    blended = poisson_blend(destination, source, mask, mode, backend=backend)
    assert far(blended, torch.stack(expected)).max() <= 1


def test_real_surfaces_equal_opencv(data_dir: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    files = sorted((data_dir / "textures_cc0").glob("*.jpg"))[:8]
    size = (160, 192)
    planes = [np.asarray(image.open(f).convert("RGB"))[: size[0], : size[1]] for f in files]
    images = torch.from_numpy(np.stack(planes)).permute(0, 3, 1, 2).contiguous().to(DEVICE)
    mask = scene(size, len(files), seed=3)[2]
    others = images.roll(1, 0)
    blended = poisson_blend(images, others, mask)
    expected = [opencv(*one, "normal") for one in zip(images, others, mask, strict=True)]
    assert far(blended, torch.stack(expected)).max() <= 1


# ---- the equation --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_laplacian_of_the_result_is_the_divergence_asked_for(backend: str) -> None:
    """In a rectangle that lies in the image, by differences written out here."""
    rng = np.random.default_rng(5)
    low, high = (torch.from_numpy(0.4 + 0.2 * rng.random((1, 1, 40, 50))).float() for _ in "ab")
    top, left, height, width = 5, 7, 30, 35
    mask = torch.zeros(1, 1, 40, 50)
    mask[..., top : top + height, left : left + width] = 0.75
    given = (tensor.to(DEVICE) for tensor in (low, high, mask))
    out = wide(poisson_blend(*given, backend=backend))[0, 0].cpu()
    eroded = torch.zeros(40, 50, dtype=torch.float64)
    eroded[top + 3 : top + height - 3, left + 3 : left + width - 3] = 0.75

    def gradient(image: Tensor, axis: int) -> Tensor:
        return wide(image)[0, 0].roll(-1, axis) - wide(image)[0, 0]

    wanted = torch.zeros(40, 50, dtype=torch.float64)
    for axis in (0, 1):
        field = eroded * gradient(high, axis) + (1 - eroded) * gradient(low, axis)
        wanted += field - field.roll(1, axis)
    laplacian = sum(out.roll(step, axis) for step in (1, -1) for axis in (0, 1)) - 4 * out
    inner = (slice(top + 1, top + height - 1), slice(left + 1, left + width - 1))
    torch.testing.assert_close(laplacian[inner], wanted[inner], atol=2e-6, rtol=0)
    outside = torch.ones(40, 50, dtype=torch.bool)
    outside[inner] = False
    assert torch.equal(out[outside], wide(low)[0, 0][outside])


def test_a_source_without_a_gradient_of_its_own_changes_nothing() -> None:
    """OpenCV darkens pixels by a level here, by truncating what is not quite an integer."""
    destination, _, mask = scene()
    assert torch.equal(poisson_blend(destination, destination, mask), destination)
    dim, bright = destination // 2, destination // 2 + 60
    assert torch.equal(poisson_blend(dim, bright, mask), dim)


def test_half_a_weight_gives_half_the_correction() -> None:
    low, high = (0.4 + 0.2 * torch.rand(1, 3, *SIZE, generator=seeded()) for _ in "ab")
    mask = torch.ones(1, 1, *SIZE)
    whole, half = (poisson_blend(low, high, mask * weight) for weight in (1.0, 0.5))
    torch.testing.assert_close(half, (low + whole) / 2, atol=1e-6, rtol=0)


def test_the_sine_matrix_is_its_own_inverse_but_for_a_factor() -> None:
    for length in (1, 2, 61, 508):
        matrix, eigenvalues = poisson.sine_matrix(length)
        product = wide(matrix) @ wide(matrix) * (2 / (length + 1))
        torch.testing.assert_close(
            product, torch.eye(length, dtype=torch.float64), atol=1e-6, rtol=0
        )
        number = torch.arange(1, length + 1, dtype=torch.float64)
        exact = 2 * torch.cos(np.pi * number / (length + 1)) - 2
        torch.testing.assert_close(wide(eigenvalues), exact, rtol=1e-6, atol=1e-12)


def test_windows_hold_the_same_sine_matrices() -> None:
    matrices, eigenvalues = poisson._sines(torch.tensor([0, -2, 1, 20, 500]).int(), 504)
    assert not matrices[:2].any()
    for n, length in ((2, 1), (3, 20), (4, 500)):
        matrix, values = poisson.sine_matrix(length)
        padded = torch.zeros(504, 504)
        padded[:length, :length] = matrix
        torch.testing.assert_close(matrices[n], padded, atol=6e-7, rtol=0)
        torch.testing.assert_close(eigenvalues[n, :length, 0], values, rtol=1e-6, atol=0)


# ---- rectangles and boxes ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(2, 20), st.integers(0, 5))
def test_rectangles_bound_the_mask_without_the_outermost_pixels(
    seed: int, height: int, width: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[rng.integers(0, height, count), rng.integers(0, width, count)] = 3
    found = reference.rectangles(torch.from_numpy(mask)[None, None])[0].tolist()
    ys, xs = np.nonzero(mask[1:-1, 1:-1])
    if len(ys) == 0:
        assert found[3:] == [0, 0]
        return
    top, left = int(ys.min()) + 1, int(xs.min()) + 1
    assert found == [0, top, left, int(ys.max()) + 2 - top, int(xs.max()) + 2 - left]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_boxes_that_bound_the_masks_change_nothing(backend: str) -> None:
    destination, source, mask = scene((150, 140), 8)
    found = poisson_blend(destination, source, mask, backend=backend)
    boxes = boxes_of(mask)
    told = poisson_blend(destination, source, mask, boxes=boxes, backend=backend)
    if backend == "auto" and DEVICE == "cpu":
        assert torch.equal(told, found)
    error = far(told, found)
    assert error.max() <= 1 and (error > 0).double().mean() < 1e-3
    again = poisson_blend(destination, source, mask, boxes=boxes.tolist(), backend=backend)
    assert torch.equal(again, told)


def test_a_box_is_the_edge_on_which_the_destination_stays() -> None:
    destination, source, _ = scene()
    mask = torch.zeros(6, 1, *SIZE, dtype=torch.uint8, device=DEVICE)
    mask[..., 15:30, 15:35] = 255
    larger = poisson_blend(destination, source, mask, boxes=[[5, 6, 35, 40]] * 6)
    changed = far(larger, destination).amax((0, 1)) > 0
    ys, xs = changed.nonzero().unbind(1)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (6, 38, 7, 44)
    # A box that cuts the mask counts what is outside as 0.
    cut = torch.zeros_like(mask)
    cut[..., 15:30, 15:28] = 255
    expected = poisson_blend(destination, source, cut)
    assert torch.equal(
        poisson_blend(destination, source, mask, boxes=[[15, 15, 15, 13]] * 6), expected
    )


def test_outermost_pixels_do_not_count_in_boxes_either() -> None:
    destination, source, _ = scene()
    mask = torch.full((6, 1, *SIZE), 255, dtype=torch.uint8, device=DEVICE)
    whole = poisson_blend(destination, source, mask, boxes=[[0, 0, *SIZE]] * 6)
    assert torch.equal(whole, poisson_blend(destination, source, mask))


def test_rectangles_of_like_size_share_a_window() -> None:
    boxes = torch.tensor([[0, 0, 300, 40], [5, 5, 60, 9], [0, 0, 6, 90], [9, 9, 64, 64]])
    known = poisson.host_rectangles(boxes, torch.Size((4, 3, 400, 400)))
    groups = poisson._groups(torch.zeros(4, 1, 400, 400), known)
    got = [(rects[:, 0].tolist(), rows, columns) for rects, rows, columns in groups]
    # The third is too small for the erosion; the first loses its outermost pixels.
    assert got == [([1, 3], 64, 64), ([0], 300, 40)]
    assert all(
        (rows, columns) == (-(-rows // 4) * 4, -(-columns // 4) * 4) for _, rows, columns in got
    )


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_sample_is_what_it_is_alone(backend: str) -> None:
    destination, source, mask = scene((90, 120), 8)
    together = poisson_blend(destination, source, mask, "mixed", backend=backend)
    alone = torch.cat(
        [
            poisson_blend(d[None], s[None], m[None], "mixed", backend=backend)
            for d, s, m in zip(destination, source, mask, strict=True)
        ]
    )
    if backend == "auto" and DEVICE == "cpu":
        assert torch.equal(together, alone)
    error = far(together, alone)
    assert error.max() <= 1 and (error > 0).double().mean() < 1e-3


# ---- what stays ----------------------------------------------------------------------------------


@pytest.mark.slow
@everywhere
def test_confined_it_keeps_every_pixel_outside_the_mask(backend: str) -> None:
    destination, source, mask = scene(SMALL, 4)
    free = poisson_blend(destination, source, mask, backend=backend)
    held = poisson_blend(destination, source, mask, confine_to_mask=True, backend=backend)
    outside = (mask == 0).expand_as(destination)
    assert (free != destination)[outside].any()
    assert torch.equal(held, torch.where(outside, destination, free))


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("side", [0, 1, 2, 3, 6])
def test_what_erosion_leaves_nothing_of_changes_nothing(side: int, backend: str) -> None:
    destination, source, _ = scene(SMALL, 2)
    mask = torch.zeros(2, 1, *SMALL, dtype=torch.uint8, device=DEVICE)
    mask[0, :, 9 : 9 + side, 3:] = 255
    mask[1, :, 3:, 9 : 9 + side] = 255
    assert torch.equal(poisson_blend(destination, source, mask, backend=backend), destination)


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("size", [(2, 2), (5, 30), (8, 40), (9, 9), (40, 9)])
def test_small_images(size: tuple[int, int], backend: str) -> None:
    destination, source, mask = scene(size, 2)
    mask[:] = 255
    blended = poisson_blend(destination, source, mask, backend=backend)
    changes = min(size) > 8
    assert bool((blended != destination).any()) == changes
    expected = [opencv(*one, "normal") for one in zip(destination, source, mask, strict=True)]
    if changes:
        assert far(blended, torch.stack(expected)).max() <= 1


@everywhere
@pytest.mark.parametrize("boxes", [None, torch.zeros(0, 4, dtype=torch.int64)])
def test_no_images(boxes: Tensor | None, backend: str) -> None:
    empty = torch.zeros(0, 3, *SIZE, dtype=torch.uint8, device=DEVICE)
    out = poisson_blend(empty, empty, empty[:, :1], boxes=boxes, backend=backend)
    assert out.shape == empty.shape


def test_inputs_are_only_read() -> None:
    given = scene()
    copies = [tensor.clone() for tensor in given]
    for backend in ("auto", "torch"):
        poisson_blend(*given, backend=backend)
    assert all(torch.equal(*pair) for pair in zip(given, copies, strict=True))
