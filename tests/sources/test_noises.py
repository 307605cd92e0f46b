"""Sources of smooth noise: equal backends, mean and amplitude, channels, adding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import anoaug
from anoaug import blends, functional, masks, sources
from anoaug.cpu import _FEW
from tests.drawing import DEVICE, drawn, expect_uniform, needs_triton, painted, pixels, some

DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32]


def batch(dtype: torch.dtype, channels: int, size: tuple[int, int]) -> torch.Tensor:
    eight = pixels(3, channels, *size)
    if dtype.is_floating_point:
        return (eight / 255).to(dtype)
    return (eight.to(torch.int32) * (257 if dtype == torch.uint16 else 1)).to(dtype)


def rendered(backend: str, images: torch.Tensor, law: dict[str, Any], mix: str) -> torch.Tensor:
    layer = anoaug.Layer(masks.Rectangle(), sources.Simplex(**law), blends.Hard(mix=mix))
    synth = anoaug.Synthesizer(layer, p=1.0, seed=3, backend=backend)
    return synth(images, index=range(len(images)), epoch=0).image


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    words = torch.int16 if first.dtype == torch.uint16 else first.dtype
    return torch.equal(first.view(words), second.view(words))


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.slow
@some
@given(
    dtype=st.sampled_from(DTYPES),
    channels=st.sampled_from([1, 3, 4, 5]),
    size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    mix=st.sampled_from(["over", "add"]),
    octaves=st.integers(1, 6),
    channelwise=st.booleans(),
)
def test_the_cpu_driver_equals_the_reference(
    dtype: torch.dtype, channels: int, size: Any, mix: str, octaves: int, channelwise: bool
) -> None:
    images = batch(dtype, channels, size)
    law = {"octaves": octaves, "channelwise": channelwise, "cells": (1.0, 20.0)}
    ours, truth = (rendered(name, images, law, mix) for name in ("auto", "torch"))
    assert same_bits(ours, truth)


def test_the_cpu_driver_equals_the_reference_on_many_pixels_as_on_few() -> None:
    images = batch(torch.float32, 3, (200, 130))
    assert images[0, 0].numel() > _FEW
    for area in (0.05, 1.0):
        law = masks.Rectangle(area=area, aspect=1.0)
        ours, truth = (
            painted(sources.Simplex(octaves=3), law, backend=name)(images, index=range(3), epoch=0)
            for name in ("auto", "torch")
        )
        assert torch.equal(ours.image, truth.image)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize(
    ("dtype", "channels", "channelwise"),
    [
        (torch.uint8, 1, False),
        (torch.uint8, 5, True),
        (torch.uint16, 3, False),
        (torch.uint16, 1, True),
        (torch.float16, 5, False),
        (torch.float32, 3, True),
    ],
    ids=str,
)
def test_the_kernel_equals_the_reference(
    dtype: torch.dtype, channels: int, channelwise: bool
) -> None:
    images = batch(dtype, channels, (33, 47)).to(DEVICE)
    law = {"octaves": 3, "persistence": 0.6, "channelwise": channelwise}
    ours, truth = (rendered(name, images, law, "add") for name in ("triton", "torch"))
    assert same_bits(ours, truth)


# ---- what it gives -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "amplitude"), [(0.5, 0.5), (0.3, 0.1), (0.5, 0.0)])
def test_it_is_mean_and_amplitude_times_noise(mean: float, amplitude: float) -> None:
    source = sources.Simplex(amplitude, mean, cells=4.0, rotation=0.0)
    out = painted(source)(torch.zeros(40, 1, 64, 64), index=range(40), epoch=0).image
    noise = functional.simplex(40, (64, 64), (4.0, 4.0)).std()
    assert abs(out.mean() - mean) < 0.1 * amplitude + 1e-6
    assert abs(out.std() - amplitude * noise) < 0.05 * amplitude + 1e-6
    assert (out - mean).abs().max() <= amplitude + 1e-6


def test_grey_noise_is_the_same_in_all_channels_and_the_other_is_not() -> None:
    blank = torch.zeros(20, 5, 48, 48)
    grey, own = (
        painted(sources.Simplex(channelwise=channelwise))(blank, index=range(20), epoch=0).image
        for channelwise in (False, True)
    )
    assert (grey == grey[:, :1]).all()
    # The first channel is the grey one's, the others are noise of their own.
    assert torch.equal(own[:, 0], grey[:, 0])
    correlation = np.corrcoef(own.transpose(0, 1).flatten(1).numpy()) - np.eye(5)
    assert np.abs(correlation).max() < 0.1


def test_added_noise_leaves_the_image_s_own_texture() -> None:
    images = torch.full((30, 3, 40, 40), 0.5) + 0.1 * torch.linspace(-1, 1, 40)
    layer = anoaug.Layer(
        masks.Everywhere(), sources.Simplex(0.2, cells=3.0), blends.Hard(mix="add")
    )
    out = anoaug.Synthesizer(layer, p=1.0, seed=0)(images, index=range(30), epoch=0)
    added = out.image - images
    assert added.abs().max() <= 0.2 + 1e-6 and abs(added.mean()) < 0.02
    over = painted(sources.Simplex(0.2, cells=3.0))(images, index=range(30), epoch=0)
    # The very numbers that stand about mid-grey where the noise replaces the image.
    assert (added - (over.image - 0.5)).abs().max() < 1e-6


def test_several_octaves_are_rougher() -> None:
    blank = torch.zeros(30, 1, 64, 64)
    one, six = (
        painted(sources.Simplex(0.2, cells=3.0, octaves=n, persistence=0.6))(
            blank, index=range(30), epoch=0
        ).image
        for n in (1, 6)
    )
    steps = [image.diff(dim=3).std() / image.std() for image in (one, six)]
    assert steps[1] > 2 * steps[0]


def test_amplitude_mean_cells_and_rotation_are_uniform() -> None:
    source = sources.Simplex((0.1, 0.3), (0.4, 0.6), ((2.0, 4.0), (8.0, 12.0)), rotation=0.0)
    found, _ = drawn(painted(source), (50, 80), 3000)
    for name, low, high in (("amplitude", 0.1, 0.3), ("mean", 0.4, 0.6)):
        expect_uniform(found[name].astype(np.float64).clip(low, high), low, high)
    expect_uniform((found["yy"].astype(np.float64) * 50).clip(2, 4), 2, 4)
    expect_uniform((found["xx"].astype(np.float64) * 80).clip(8, 12), 8, 12)
    turned, _ = drawn(painted(sources.Simplex(cells=1.0)), (60, 60), 3000)
    angle = np.degrees(np.arctan2(turned["xy"], turned["yy"]).astype(np.float64))
    expect_uniform(angle.clip(-90, 90), -90, 90)


def test_mask_and_source_of_one_name_have_streams_of_their_own() -> None:
    layer = anoaug.Layer(masks.Simplex(threshold=0.0, cells=8.0), sources.Simplex(cells=8.0))
    out = anoaug.Synthesizer(layer, p=1.0, seed=0)(
        torch.zeros(40, 1, 64, 64), index=range(40), epoch=0
    )
    inside = out.mask > 0
    # Noise of the mask's own key would be above mid-grey wherever it is painted.
    assert abs(out.image[inside].mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"amplitude": 1.5}, "amplitude: expected values within"),
        ({"mean": (0.6, 0.4)}, "mean: expected .low, high."),
        ({"octaves": 9}, "octaves: expected an integer from 1 to 8"),
        ({"persistence": -0.1}, "persistence: expected values within"),
        ({"cells": 0.0}, "cells: expected values within"),
        ({"rotation": (9, 1)}, "rotation: expected .low, high."),
        ({"channelwise": "yes"}, "channelwise: expected True or False"),
    ],
)
def test_bad_settings_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        sources.Simplex(**law)
