"""Sources that fill: textures against an independent resampler, noise, colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

import anoaug
from anoaug import masks, sources
from anoaug.photometric import RandomOps
from tests.drawing import EVERYWHERE, columns_of, drawn, integers, painted, pixels, textures

# ---- textures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.uint8, 1), (torch.uint16, 257), (torch.float32, 1 / 255)]
)
def test_a_texture_of_the_same_size_is_reproduced_exactly(dtype: torch.dtype, scale: float) -> None:
    bank = textures(5, 40, 33)
    image = torch.zeros(6, 3, 40, 33).to(dtype)
    synth = painted(sources.Texture(bank), masks.Perlin(threshold=0.0))
    out = synth(image, index=range(6), epoch=0)
    chosen = integers(columns_of(synth, out.params.table, 3, "source")["image"])
    # The weight of a byte is rounded once to float32, as the byte's product with it is.
    expected = bank.data[chosen].float() * torch.tensor(scale, dtype=torch.float32)
    assert 0.2 < out.mask.mean() < 0.8
    assert torch.equal(out.image.float(), torch.where(out.mask.bool(), expected, 0.0))


@pytest.mark.parametrize("size", [(20, 17), (97, 64), (40, 80), (39, 33)])
@pytest.mark.parametrize("fill", ["zero", "border"])
def test_a_texture_of_another_size_is_stretched_as_torch_does(
    size: tuple[int, int], fill: str
) -> None:
    bank = textures(3, 40, 33)
    synth = painted(sources.Texture(bank, fill=fill))
    out = synth(torch.zeros(4, 3, *size), index=range(4), epoch=0)
    chosen = integers(columns_of(synth, out.params.table, 3, "source")["image"])
    stretched = torch.nn.functional.interpolate(
        bank.data[chosen].double() / 255, size, mode="bilinear", align_corners=False
    )
    assert (out.image - stretched).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(20, 66), (80, 11)])
def test_nearest_takes_one_pixel_of_the_texture(size: tuple[int, int]) -> None:
    bank = textures(3, 40, 33)
    synth = painted(sources.Texture(bank, interpolation="nearest"))
    out = synth(torch.zeros(4, 3, *size, dtype=torch.uint8), index=range(4), epoch=0)
    chosen = integers(columns_of(synth, out.params.table, 3, "source")["image"])
    y = (np.arange(size[0]) + 0.5) * 40 / size[0] - 0.5
    x = (np.arange(size[1]) + 0.5) * 33 / size[1] - 0.5
    rows, columns = (np.floor(c + 0.5).astype(int) for c in (y, x))
    assert torch.equal(out.image, bank.data[chosen][:, :, rows][:, :, :, columns])


def turned(plane: np.ndarray, degrees: float, size: tuple[int, int], mode: str) -> np.ndarray:
    """SciPy's bilinear resampling of a texture turned about the middle and stretched to a size."""
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = np.diag(np.divide(plane.shape, size)) @ rotation
    offset = (np.array(plane.shape) - 1) / 2 - matrix @ ((np.array(size) - 1) / 2)
    return ndimage.affine_transform(plane, matrix, offset, size, order=1, mode=mode)


@pytest.mark.parametrize("degrees", [-40.0, 25.0, 45.0])
@pytest.mark.parametrize(("fill", "mode"), [("zero", "grid-constant"), ("border", "nearest")])
def test_a_turned_texture_is_filled_as_scipy_does(degrees: float, fill: str, mode: str) -> None:
    bank = textures(1, 40, 40, channels=1)
    synth = painted(sources.Texture(bank, rotation=degrees, fill=fill))
    out = synth(torch.zeros(1, 1, 56, 56), index=[0], epoch=0)
    expected = turned(bank.data[0, 0].numpy() / 255.0, degrees, (56, 56), mode)
    ours = out.image[0, 0].numpy()
    if fill == "zero":
        # How a zero-filled edge fades over its last pixel is a matter of taste; beyond, it is 0.
        y, x = np.mgrid[:56, :56] - 27.5
        turn = np.radians(degrees)
        reach = np.maximum(
            np.abs(np.cos(turn) * y - np.sin(turn) * x), np.abs(np.sin(turn) * y + np.cos(turn) * x)
        )
        assert (ours[reach > 28.0 + 56 / 40] == 0.0).all()
        inside = reach < 28.0 - 56 / 40
        ours, expected = ours[inside], expected[inside]
    assert np.abs(ours - expected).max() < 2e-5


def test_a_texture_is_drawn_equally_often_and_turned_uniformly() -> None:
    synth = painted(sources.Texture(textures(7, 24, 24), rotation=(-30, 60)))
    source, _ = drawn(synth, (24, 24), 3000)
    assert stats.chisquare(np.bincount(integers(source["image"]), minlength=7)).pvalue > 1e-4
    angle = np.degrees(np.arctan2(source["xy"], source["xx"]).astype(np.float64))
    assert angle.min() >= -30.001 and angle.max() <= 60.001
    assert stats.kstest((angle + 30) / 90, "uniform").pvalue > 1e-4


def test_a_grey_texture_serves_colour_images() -> None:
    bank = textures(2, 20, 20, channels=1)
    out = painted(sources.Texture(bank))(torch.zeros(3, 3, 20, 20, dtype=torch.uint8))
    assert (out.image == out.image[:, :1]).all() and out.image.float().std() > 50


def test_a_colour_texture_serves_grey_images_by_its_luma() -> None:
    bank = textures(1, 20, 20)
    out = painted(sources.Texture(bank))(torch.zeros(1, 1, 20, 20, dtype=torch.uint8))
    red, green, blue = bank.data[0].double()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (out.image[0, 0].double() - luma).abs().max() <= 0.5


def ops_of(name: str, bank: anoaug.TextureBank, size: tuple[int, int]) -> Any:
    """A texture under one op, and the columns it was drawn with."""
    synth = painted(sources.Texture(bank, RandomOps((name,), 1)))
    image = torch.zeros(12, 3, *size, dtype=torch.uint8)
    out = synth(image, index=range(12), epoch=0)
    return out, columns_of(synth, out.params.table, 3, "source")


def test_sharpness_is_pillow_s() -> None:
    enhance = pytest.importorskip("PIL.ImageEnhance")
    pillow = pytest.importorskip("PIL.Image")
    bank = textures(4, 30, 26)
    out, source = ops_of("sharpness", bank, (30, 26))
    assert source["sharpness"].min() < 0.8 and source["sharpness"].max() > 1.2
    for n in range(12):
        texture = bank.data[integers(source["image"])[n]].permute(1, 2, 0).numpy()
        enhancer = enhance.Sharpness(pillow.fromarray(texture))
        expected = np.asarray(enhancer.enhance(float(source["sharpness"][n])), int)
        ours = out.image[n].permute(1, 2, 0).numpy().astype(int)
        # Truncation makes a whole level of a rounding error in the last place.
        assert np.abs(ours - expected).max() <= 1
        assert (ours == expected).mean() > 0.995


def test_equalize_uses_the_histogram_of_the_texture_drawn() -> None:
    pil_ops = pytest.importorskip("PIL.ImageOps")
    pillow = pytest.importorskip("PIL.Image")
    # Dark, narrow and skewed in their own ways, so that a wrong histogram shows.
    data = torch.stack([pixels(3, 30, 26, seed=k) // (k + 2) + 20 * k for k in range(4)])
    bank = anoaug.TextureBank.from_tensors(data)
    out, source = ops_of("equalize", bank, (30, 26))
    assert len(set(integers(source["image"]))) > 2
    for n in range(12):
        texture = bank.data[integers(source["image"])[n]].permute(1, 2, 0).numpy()
        expected = np.asarray(pil_ops.equalize(pillow.fromarray(texture)))
        assert np.array_equal(out.image[n].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(("name", "axis"), [("flip_x", 3), ("flip_y", 2)])
def test_flips_reverse_the_texture(name: str, axis: int) -> None:
    bank = textures(4, 30, 26)
    out, source = ops_of(name, bank, (30, 26))
    assert torch.equal(out.image, bank.data[integers(source["image"])].flip(axis))


def test_ops_turn_the_texture_on_top_of_its_own_rotation() -> None:
    bank = textures(2, 24, 24)
    plain, _ = drawn(painted(sources.Texture(bank, rotation=10.0)), (24, 24), 300)
    synth = painted(sources.Texture(bank, RandomOps(("rotate",), 1), rotation=10.0))
    more, _ = drawn(synth, (24, 24), 300)
    angle = np.degrees(np.arctan2(more["xy"], more["xx"]) - np.arctan2(plain["xy"], plain["xx"]))
    assert angle.min() < -35 and angle.max() > 35 and np.abs(angle).max() <= 45.001


# ---- noise and colours ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_uniform_noise_fills_its_range_in_every_channel(channels: int) -> None:
    out = painted(sources.Noise(0.2, 0.7))(torch.zeros(2, channels, 64, 64))
    assert out.image.min() >= 0.2 - 1e-7 and out.image.max() <= 0.7
    for plane in out.image.flatten(0, 1).flatten(1).double().numpy():
        assert stats.kstest(((plane - 0.2) / 0.5).clip(0, 1), "uniform").pvalue > 1e-5


def test_gaussian_noise_has_the_mean_and_deviation_asked_for() -> None:
    out = painted(sources.Noise(0.5, 0.1, law="gaussian"))(torch.zeros(2, 5, 64, 64))
    for plane in out.image.flatten(0, 1).flatten(1).double().numpy():
        assert stats.kstest((plane - 0.5) / 0.1, "norm").pvalue > 1e-5


@pytest.mark.parametrize("law", ["uniform", "gaussian"])
def test_noise_is_white_over_pixels_channels_and_samples(law: str) -> None:
    image = torch.zeros(2, 6, 64, 64)
    planes = painted(sources.Noise(0.4, 0.5, law=law))(image).image.double().numpy()
    rows = planes.reshape(12, -1)
    assert np.abs(np.corrcoef(rows) - np.eye(12)).max() < 5 / 64
    for shift in ((0, 1), (1, 0), (1, 1)):
        moved = np.roll(planes, shift, (2, 3))
        assert abs(np.corrcoef(planes.ravel(), moved.ravel())[0, 1]) < 5 / np.sqrt(planes.size)


def test_noise_of_eight_bits_reaches_every_level_equally_often() -> None:
    out = painted(sources.Noise(0.0, 1.0))(torch.zeros(2, 3, 128, 128, dtype=torch.uint8))
    tally = np.bincount(out.image.flatten().numpy(), minlength=256)
    # Rounding half up leaves the ends half a level each.
    shares = np.r_[0.5, np.ones(254), 0.5] / 255
    assert stats.chisquare(tally, shares * tally.sum()).pvalue > 1e-4


def test_two_layers_of_noise_are_two_noises() -> None:
    layer = anoaug.Layer(EVERYWHERE, sources.Noise(), anoaug.blends.Opacity(0.5))
    out = anoaug.Synthesizer(layer, layer, p=1.0, seed=0)(torch.zeros(1, 1, 64, 64))
    # Half of one on top of a quarter of the other; the same twice would have a deviation of 0.217.
    assert abs(float(out.image.std()) - np.sqrt((0.5**2 + 0.25**2) / 12)) < 0.01


@pytest.mark.parametrize(
    ("dtype", "peak"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1)]
)
def test_a_number_is_that_grey(dtype: torch.dtype, peak: float) -> None:
    out = painted(sources.Constant(0.4))(torch.zeros(2, 3, 8, 8).to(dtype))
    expected = torch.tensor(0.4 * peak + (0.5 if peak > 1 else 0), dtype=torch.float32).to(dtype)
    assert (out.image.float() == expected.float()).all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_range_is_one_colour_per_sample(channels: int) -> None:
    out = painted(sources.Constant((0.2, 0.8)))(torch.zeros(600, channels, 4, 4))
    colours = out.image[:, :, 0, 0].double().numpy()
    assert (out.image == out.image[:, :, :1, :1]).all()
    for c in range(channels):
        assert stats.kstest((colours[:, c] - 0.2) / 0.6, "uniform").pvalue > 1e-4
    for c in range(1, min(channels, 4)):
        assert abs(np.corrcoef(colours[:, 0], colours[:, c])[0, 1]) < 0.2
