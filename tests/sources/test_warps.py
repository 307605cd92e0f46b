"""Warps: equal backends, nothing outside the ellipse, no fold, the laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import anoaug
from anoaug import masks, sources
from tests.drawing import DEVICE, drawn, expect_uniform, needs_triton, painted, some
from tests.recipes import DTYPES, LAYOUTS, bits, pictures

BOX = masks.Rectangle(area=(0.1, 0.4), aspect=(0.4, 2.5), rotation=(-90, 90))
ANY = sources.Warp((0.0, 0.6), zoom=(0.0, 1.0), twist=(0.0, 90.0))


def rendered(backend: str, images: torch.Tensor, source: sources.Source = ANY) -> Any:
    synth = painted(source, BOX, backend=backend)
    return synth(images, index=range(len(images)), epoch=0)


def ramps(rows: int, size: tuple[int, int]) -> torch.Tensor:
    """Images whose colour is the place, float32 ``[rows, 2, H, W]`` in [0, 1]."""
    y, x = torch.meshgrid(*(torch.arange(n) / 256 for n in size), indexing="ij")
    return torch.stack([y, x]).expand(rows, -1, -1, -1).contiguous()


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.slow
@some
@given(
    dtype=st.sampled_from(DTYPES),
    channels=st.sampled_from([1, 3, 5]),
    size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    layout=st.sampled_from(sorted(LAYOUTS)),
)
def test_the_cpu_driver_equals_the_reference(
    dtype: torch.dtype, channels: int, size: Any, layout: str
) -> None:
    images = LAYOUTS[layout](pictures(dtype, 3, channels, size))
    ours, truth = (rendered(name, images).image for name in ("auto", "torch"))
    assert torch.equal(bits(ours), bits(truth))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["planar", "channels_last"])
def test_the_compiled_loops_equal_the_reference(layout: str) -> None:
    pytest.importorskip("numba")
    images = LAYOUTS[layout](pictures(torch.uint8))
    ours, truth = (rendered(name, images).image for name in ("compiled", "torch"))
    assert torch.equal(ours, truth)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize("layout", ["planar", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_the_kernel_equals_the_reference(dtype: torch.dtype, layout: str) -> None:
    images = LAYOUTS[layout](pictures(dtype, size=(33, 47))).to(DEVICE)
    ours, truth = (rendered(name, images).image for name in ("triton", "torch"))
    assert torch.equal(bits(ours), bits(truth))


# ---- the displacement ----------------------------------------------------------------------------


def test_outside_the_ellipse_nothing_moves() -> None:
    images = pictures(torch.float32, 20, 3, (64, 80))
    synth = painted(ANY, BOX)
    out = synth(images, index=range(20), epoch=0)
    _, where = drawn(synth, (64, 80), 20)
    y, x = np.mgrid[:64, :80]
    for n in range(20):
        dy, dx = y - where["cy"][n], x - where["cx"][n]
        u = (where["cos"][n] * dx + where["sin"][n] * dy) / where["half_w"][n]
        v = (where["cos"][n] * dy - where["sin"][n] * dx) / where["half_h"][n]
        moved = (out.image[n] != images[n]).any(0).numpy()
        assert not moved[u * u + v * v > 1.001].any()
        assert moved[u * u + v * v < 0.8].mean() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [sources.Warp(0.6), sources.Warp(0.0, zoom=1.0), sources.Warp(0.0, twist=80.0)],
    ids=["bend", "zoom", "twist"],
)
def test_nothing_is_folded_over(source: sources.Warp) -> None:
    """The map of places keeps its orientation everywhere."""
    size = (120, 160)
    aspect = 1.0 if source.twist != (0.0, 0.0) else (0.3, 1 / 0.3)
    box = masks.Rectangle(area=(0.1, 0.3), aspect=aspect, rotation=(-90, 90))
    synth = painted(source, box)
    out = synth(ramps(40, size), index=range(40), epoch=0).image.double() * 256
    (down_y, down_x), (right_y, right_x) = (
        out.diff(dim=dim)[:, :, : size[0] - 1, : size[1] - 1].unbind(1) for dim in (2, 3)
    )
    area = down_y * right_x - down_x * right_y
    assert area.min() > 0.0


@pytest.mark.slow
def test_the_centre_shows_what_lies_the_shift_away() -> None:
    size, rows = (64, 64), 200
    box = masks.Rectangle(height=31, width=41)
    synth = painted(sources.Warp(0.4, direction=(0.0, 0.0)), box)
    out = synth(ramps(rows, size), index=range(rows), epoch=0).image * 256
    _, where = drawn(synth, size, rows)
    cy, cx = (where[name].astype(int) for name in ("cy", "cx"))
    shown = out[torch.arange(rows), :, cy, cx].numpy()
    # Things move along the columns by 0.4 of half of 31.
    assert np.allclose(shown[:, 0], cy, atol=1e-3)
    assert np.allclose(shown[:, 1], np.maximum(cx - 0.4 * 15.5, 0.0), atol=1e-3)


@pytest.mark.slow
def test_a_zoom_enlarges_or_shrinks_and_a_twist_turns() -> None:
    size, rows = (61, 61), 300
    box = masks.Rectangle(height=61, width=61)
    images = ramps(rows, size)
    for source, expected in (
        (sources.Warp(0.0, zoom=0.5), {1.5, 1 / 1.5}),
        (sources.Warp(0.0, twist=30.0), {1.0}),
    ):
        out = painted(source, box)(images, index=range(rows), epoch=0).image * 256
        # Derivative at the centre, where the window is flat.
        step = (out[:, :, 30, 31] - out[:, :, 30, 29]) / 2
        scale = step.norm(dim=1).numpy()
        found = {min(expected, key=lambda one, s=s: abs(one - s)) for s in scale}
        assert found == expected
        assert all(min(abs(one - s) for one in expected) < 0.01 for s in scale)
        angle = torch.atan2(step[:, 0], step[:, 1]).rad2deg().numpy()
        assert np.allclose(np.abs(angle), 30.0 if expected == {1.0} else 0.0, atol=0.5)
        if expected == {1.0}:
            assert 0.4 < (angle > 0).mean() < 0.6


def test_bend_and_direction_are_uniform() -> None:
    box = masks.Rectangle(height=20, width=30, rotation=(-90, 90))
    found, where = drawn(painted(sources.Warp((0.1, 0.5)), box), (100, 100), 3000)
    ty, tx = (found[name].astype(np.float64) for name in ("ty", "tx"))
    expect_uniform((np.hypot(ty, tx) / 10).clip(0.1, 0.5), 0.1, 0.5)
    expect_uniform(np.degrees(np.arctan2(ty, tx)), -180, 180)
    # In the box's own axes, as asked for.
    along, _ = drawn(painted(sources.Warp(0.3, direction=(0, 0)), box), (100, 100), 50)
    for name, axis in (("tx", "cos"), ("ty", "sin")):
        assert np.allclose(along[name], -3.0 * where[axis][:50], atol=1e-5)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"bend": -0.1}, "bend: expected values within"),
        ({"zoom": 1.5}, "zoom: expected values within"),
        ({"twist": (90, 10)}, "twist: expected .low, high."),
        ({"direction": 999.0}, "direction: expected values within"),
    ],
)
def test_bad_settings_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sources.Warp(**law)


def test_it_may_stand_behind_any_mask() -> None:
    """Without a box the ellipse is that of the whole image."""
    images = pictures(torch.uint8, 4)
    layer = anoaug.Layer(masks.Everywhere(), sources.Warp(0.5))
    out = anoaug.Synthesizer(layer, p=1.0, seed=0, label_rule="changed")(images)
    corners = out.mask[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert out.mask.mean() > 0.5 and not corners.any()
