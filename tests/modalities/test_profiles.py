"""Profiles of finished masks: SciPy's distances and means, row by row, on every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from anoaug import modalities
from anoaug.modalities import profiles
from tests.drawing import DEVICE, expect_uniform, mask_columns, sizes, some

SIZE = (41, 30)


def blobs(batch: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Masks of smooth blobs, the last row without any, uint8 ``[B, 1, H, W]``."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(batch, *size)), (0, 3, 3))
    inside = torch.from_numpy(smooth > np.quantile(smooth, 0.7)).to(torch.uint8)[:, None]
    inside[-1] = 0
    return inside


def ramp(mask: torch.Tensor, width: Any, most: int) -> torch.Tensor:
    return profiles._ramp(mask, torch.as_tensor(width, dtype=torch.float32), most)[:, 0] - 0.5


def spread(mask: torch.Tensor, radius: Any) -> torch.Tensor:
    return profiles._spread(mask, torch.as_tensor(radius, dtype=torch.int32))[:, 0] - 0.5


def scaled(values: np.ndarray) -> np.ndarray:
    return values / max(values.max(), 1e-12)


@some
@given(sizes, st.integers(0, 99), st.floats(1.0, 12.0, width=32))
def test_a_ramp_is_of_the_distance_to_the_edge(
    size: tuple[int, int], seed: int, width: float
) -> None:
    mask = blobs(3, size, seed)
    ours = ramp(mask, [width] * 3, 12)
    for row, inside in zip(ours.numpy(), mask[:, 0].numpy(), strict=True):
        # SciPy knows no distance where there is no edge.
        far = ndimage.distance_transform_edt(inside) if not inside.all() else inside * 99.0
        t = np.minimum(far / width, 1.0)
        np.testing.assert_allclose(row, scaled(t * t * (3 - 2 * t)), atol=2e-6)


@some
@given(sizes, st.integers(0, 99), st.integers(0, 20))
def test_a_spread_is_three_box_means_along_each_axis(
    size: tuple[int, int], seed: int, radius: int
) -> None:
    mask = blobs(3, size, seed)
    ours = spread(mask, [radius] * 3)
    for row, inside in zip(ours.numpy(), mask[:, 0].numpy(), strict=True):
        heat = inside.astype(np.float64)
        for axis in (0, 0, 0, 1, 1, 1):
            heat = ndimage.uniform_filter1d(heat, 2 * radius + 1, axis, mode="nearest")
        np.testing.assert_allclose(row, scaled(heat), atol=2e-6)


def test_a_spread_is_nearly_gaussian() -> None:
    mask = torch.zeros(1, 1, 101, 101, dtype=torch.uint8)
    mask[..., 50, 50] = 1
    heat = spread(mask, [8])[0].numpy()
    true = ndimage.gaussian_filter(mask[0, 0].numpy().astype(np.float64), np.sqrt(8 * 9))
    assert np.abs(heat - true / true.max()).max() < 0.1


def test_the_greatest_is_one_and_outside_is_exactly_none() -> None:
    mask = blobs(4, SIZE)
    for level, outside in ((ramp(mask, [9.0] * 4, 9), mask[:, 0] == 0), (spread(mask, [4] * 4), 0)):
        assert torch.equal(level.amax((1, 2)), torch.tensor([1.0, 1.0, 1.0, 0.0]))
        if isinstance(outside, torch.Tensor):
            assert torch.equal(level == 0, outside)


def test_a_line_of_one_pixel_has_the_whole_ramp() -> None:
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    mask[..., 7, 3:17] = 1
    assert torch.equal(ramp(mask, [8.0], 8)[0], mask[0, 0].float())


def test_a_width_of_one_is_the_mask() -> None:
    mask = blobs(4, SIZE)
    assert torch.equal(ramp(mask, [1.0] * 4, 1), mask[:, 0].float())


def test_no_heat_leaves_through_the_border() -> None:
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    mask[..., :10] = 1
    heat = spread(mask, [3])[0]
    assert torch.equal(heat[:, 0], torch.ones(40)) and torch.equal(heat, heat[:1].expand(40, 40))


@pytest.mark.parametrize("made", [ramp, spread])
def test_rows_are_independent(made: Any) -> None:
    mask, lengths = blobs(5, SIZE), [2, 5, 3, 7, 4]
    more = (7,) if made is ramp else ()
    whole = made(mask, lengths, *more)
    for k in range(5):
        assert torch.equal(whole[k : k + 1], made(mask[k : k + 1], lengths[k : k + 1], *more))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_devices_agree_bit_for_bit() -> None:
    mask, lengths = blobs(5, (200, 170)), [2, 5, 3, 7, 4]
    theirs = [ramp(mask.cuda(), torch.tensor(lengths).cuda(), 7).cpu()]
    theirs.append(spread(mask.cuda(), torch.tensor(lengths).cuda()).cpu())
    assert torch.equal(theirs[0], ramp(mask, lengths, 7))
    assert torch.equal(theirs[1], spread(mask, lengths))


@pytest.mark.parametrize("name", ["ramp", "spread"])
def test_ops(name: str) -> None:
    mask = blobs(2, SIZE)
    lengths = torch.tensor([2, 3], dtype=torch.int32 if name == "spread" else torch.float32)
    try:
        torch.library.opcheck(
            getattr(torch.ops.anoaug, name).default, (mask, lengths, *((4,) * (name == "ramp")))
        )
    except ImportError as error:  # this torch's compiler does not know the Triton beside it
        pytest.skip(str(error))


def test_laws() -> None:
    widths = mask_columns(modalities.Ramp((2, 8)), (20, 20), 4000)["pixels"]
    expect_uniform(widths, 2, 8)
    radii = mask_columns(modalities.Spread((2.0, 2.2)), (20, 20), 50)["pixels"].astype(np.float32)
    # Boxes of radius r have, three times, a standard deviation of sqrt(r (r + 1)).
    assert set(radii.view(np.int32)) == {2}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: modalities.Ramp(0.5),
        lambda: modalities.Ramp((3, 129)),
        lambda: modalities.Spread(-1),
        lambda: modalities.Spread((5, 501)),
    ],
)
def test_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected values within"):
        wrong()
