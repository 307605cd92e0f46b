"""The image itself with the cells of a grid exchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import anoaug
from anoaug.photometric import ColorJitter, RandomOps
from anoaug.sources import Shuffled
from tests.drawing import DEVICE, columns_of, needs_triton, painted, pixels, some
from tests.recipes import DTYPES, LAYOUTS, pictures

INVERT = RandomOps(("invert",), 1)


def orders(grid: int | tuple[int, int], size: tuple[int, int], rows: int) -> np.ndarray:
    """Which cell each cell shows, ``[rows, cells]``."""
    synth = painted(Shuffled(grid))
    blank = torch.zeros(1, 1, *size, dtype=torch.uint8).expand(rows, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(rows), epoch=0)
    held = columns_of(synth, table, 1, "source")["cells"]
    count = grid**2 if isinstance(grid, int) else grid[0] * grid[1]
    return np.ascontiguousarray(held).reshape(rows, -1).view(np.uint8)[:, :count]


def cut(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """The cells of images that the grid divides, ``[B, cells, C, h, w]``."""
    rows, columns = grid
    parts = images.unflatten(2, (rows, -1)).unflatten(4, (columns, -1))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


# ---- where the cells go --------------------------------------------------------------------------


@pytest.mark.slow
@given(rows=st.integers(1, 16), columns=st.integers(1, 16), side=st.integers(1, 4))
@some
def test_cells_are_exchanged_and_nothing_else(rows: int, columns: int, side: int) -> None:
    grid = (rows, columns)
    images = pixels(2, 3, max(rows * side, 2), max(columns * (side + 1), 2))
    if images.shape[2] % rows or images.shape[3] % columns:
        return
    out = painted(Shuffled(grid))(images, index=[4, 7], epoch=0).image
    order = torch.from_numpy(orders(grid, tuple(images.shape[2:]), 8)[[4, 7]].astype(np.int64))
    before, after = cut(images, grid), cut(out, grid)
    assert torch.equal(after, torch.stack([b[o] for b, o in zip(before, order, strict=True)]))


@pytest.mark.slow
@given(size=st.tuples(st.integers(2, 60), st.integers(2, 60)), grid=st.integers(1, 16))
@some
def test_any_size(size: tuple[int, int], grid: int) -> None:
    """Cell k begins at pixel k side // n; a larger cell goes on beyond a smaller one."""
    images = torch.arange(size[0] * size[1], dtype=torch.float32).view(1, 1, *size) / 4096
    out = painted(Shuffled(grid))(images, index=[3], epoch=0).image[0, 0]
    order = orders(grid, size, 4)[3]
    starts = [np.arange(grid) * side // grid for side in size]
    cells = [np.searchsorted(start, np.arange(side), "right") - 1
             for start, side in zip(starts, size, strict=True)]  # fmt: skip
    shown = order.reshape(grid, grid)[cells[0][:, None], cells[1][None, :]].astype(np.int64)
    y = np.arange(size[0])[:, None] - starts[0][cells[0]][:, None] + starts[0][shown // grid]
    x = np.arange(size[1])[None, :] - starts[1][cells[1]][None, :] + starts[1][shown % grid]
    expected = images[0, 0][np.minimum(y, size[0] - 1), np.minimum(x, size[1] - 1)]
    assert torch.equal(out, expected)


def test_every_order_is_equally_likely() -> None:
    drawn = orders((1, 4), (8, 8), 12_000)
    assert (np.sort(drawn, axis=1) == np.arange(4)).all()
    numbers = drawn.astype(np.int64) @ 4 ** np.arange(4)
    _, tally = np.unique(numbers, return_counts=True)
    assert len(tally) == 24 and stats.chisquare(tally).pvalue > 1e-3


def test_every_cell_goes_everywhere() -> None:
    drawn = orders(8, (16, 16), 4000)
    tally = np.stack([np.bincount(drawn[:, k], minlength=64) for k in range(64)])
    assert stats.chisquare(tally.ravel()).pvalue > 1e-3


# ---- what happens before the cut -----------------------------------------------------------------


def test_the_image_is_turned_before_it_is_cut() -> None:
    images = pixels(2, 3, 24, 24)
    call: dict[str, Any] = {"index": range(2), "epoch": 0}
    turned = painted(Shuffled(3, rotation=90))(images, **call).image
    plain = painted(Shuffled(3))(images.rot90(1, (2, 3)), **call).image
    other = painted(Shuffled(3))(images.rot90(-1, (2, 3)), **call).image
    assert torch.equal(turned, plain) or torch.equal(turned, other)


def test_what_turns_in_is_black() -> None:
    white = torch.full((1, 1, 32, 32), 255, dtype=torch.uint8)
    out = painted(Shuffled(1, rotation=45))(white).image[0, 0]
    assert (out[0, 0], out[16, 16], out[-1, -1]) == (0, 255, 0)
    assert 0.7 < out.float().mean() / 255 < 0.9  # an octagon


def test_colours_are_changed() -> None:
    images = pixels(3, 3, 16, 24)
    call: dict[str, Any] = {"index": range(3), "epoch": 0}
    plain, inverted = (painted(Shuffled(4, ops))(images, **call).image for ops in (None, INVERT))
    assert torch.equal(inverted, 255 - plain)


def test_ops_turn_and_mirror() -> None:
    images = pixels(1, 3, 16, 24)
    flipped = painted(Shuffled(1, RandomOps(("flip_x",), 1)))(images).image
    assert torch.equal(flipped, images.flip(3))
    turn = painted(Shuffled(1, RandomOps(("rotate",), 1)))(images).image
    assert not torch.equal(turn, images) and (turn == 0).all(1).any()


def test_a_jitter_is_taken() -> None:
    images = pixels(2, 3, 16, 16)
    out = painted(Shuffled(2, ColorJitter(0.5, 0.5, 0.5, 0.2)))(images).image
    assert not torch.equal(out, painted(Shuffled(2))(images).image)


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_cpu_driver_equals_the_reference(dtype: torch.dtype, layout: str) -> None:
    images = LAYOUTS[layout](pictures(dtype))
    source = Shuffled((3, 5), RandomOps(("gamma", "brightness", "solarize", "rotate"), 2))
    ours, true = (painted(source, backend=b)(images).image for b in ("auto", "torch"))
    assert torch.equal(ours, true)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
def test_the_kernel_equals_the_reference_on_a_large_grid() -> None:
    images = pictures(size=(70, 50)).to(DEVICE)
    ours, true = (painted(Shuffled(16), backend=b)(images).image for b in ("triton", "torch"))
    assert torch.equal(ours, true)


def test_a_sample_is_the_same_in_any_batch() -> None:
    images = pixels(5, 3, 16, 16)
    synth = painted(Shuffled(4, INVERT))
    whole = synth(images, index=range(5), epoch=2).image
    part = synth(images[[3, 1]], index=[3, 1], epoch=2).image
    assert torch.equal(part, whole[[3, 1]])


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [0, 17, (4, 17), (4,), (2.5, 3), (1, 2, 3)])
def test_bad_grids_are_refused(grid: Any) -> None:
    with pytest.raises(ValueError, match="grid: expected rows and columns of cells, 1 to 16"):
        Shuffled(grid)


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "stretch", "sharpness"])
def test_ops_that_need_the_image_before_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="leave out autocontrast, equalize, stretch and sharpness"):
        Shuffled(8, RandomOps((name,), 1))


def test_what_is_no_photometric_is_refused() -> None:
    with pytest.raises(TypeError, match="photometric: expected"):
        Shuffled(8, "invert")  # type: ignore[arg-type]


def test_it_is_a_change_without_a_box() -> None:
    layer = anoaug.Layer(anoaug.masks.Everywhere(), Shuffled())
    assert anoaug.Synthesizer(layer, p=1.0)(pixels(2, 3, 16, 16)).label.all()
