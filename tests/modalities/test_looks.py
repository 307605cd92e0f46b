"""What anomalies look like in each modality: units, ranges, channels, and what stays as it was."""

from __future__ import annotations

import pytest
import torch

import anoaug
from anoaug import Layer, Synthesizer
from anoaug.blends import Hard, Opacity
from anoaug.masks import Perlin, Rectangle
from anoaug.modalities import Depth, Infrared, Modality, XRay
from anoaug.sources import Noise, Own, Texture
from tests.modalities.sensors import (
    BANK,
    BATCH,
    EXTRA,
    IMAGES,
    changed,
    make,
    painted,
    same,
)
from tests.recipes import (
    DTYPES,
    LAYOUTS,
    assert_same,
    bits,
    pictures,
    small_box,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "signs"), [("dent", {1.0}), ("bump", {-1.0}), ("both", {1.0, -1.0})]
)
def test_depth_is_in_units_of_the_range(kind: str, signs: set[float]) -> None:
    """From 400 to 800 mm, 5 to 10 % are 20 to 40 mm at the deepest pixel."""
    before = torch.full((60, 1, 24, 24), 600.0)
    after, _ = painted(Depth((0.05, 0.1), kind, range=(400, 800)), before)
    moved = (after - before).flatten(1)
    deepest = moved.abs().amax(1)
    assert 20 - 1e-3 <= deepest.min() < 23 and 37 < deepest.max() <= 40 + 1e-3
    assert {float(s) for s in torch.where(moved.sum(1) > 0, 1.0, -1.0).unique()} == signs


@pytest.mark.slow
def test_xray_multiplies() -> None:
    before = torch.full((60, 1, 24, 24), 0.5)
    after, _ = painted(XRay((0.2, 0.4), "dense", width=1), before)
    ratio = (after / before).flatten(1).amin(1)
    assert 0.6 - 1e-5 <= ratio.min() < 0.63 and 0.77 < ratio.max() <= 0.8 + 1e-5
    after, _ = painted(XRay(0.4, "void", width=1), before)
    assert torch.equal(after[after != 0.5], torch.full_like(after[after != 0.5], 0.7))


def test_infrared_is_hottest_in_the_mask() -> None:
    before = torch.zeros(20, 1, 64, 64, dtype=torch.uint16)
    after, out = painted(Infrared(0.5), before)
    heat = after.to(torch.float32).flatten(1)
    assert torch.allclose(heat.amax(1), torch.tensor(0.5 * 65535), atol=1.0)
    assert out.mask.flatten(1).gather(1, heat.argmax(1, keepdim=True)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_untouched_pixels_keep_their_bits(dtype: torch.dtype) -> None:
    values = pictures(dtype, 4, 1, (40, 30))
    span = (-50.0, 0.9) if dtype.is_floating_point else (30, 200)
    after, out = painted(Depth(0.3, range=span), values)
    wide = values.to(torch.float32)
    apart = (wide < torch.tensor(span[0]).to(dtype)) | (wide > torch.tensor(span[1]).to(dtype))
    moved = changed(after, values)
    assert moved.any() and not (moved & ((out.mask == 0) | apart)).any()
    new = after.to(torch.float32)[moved]
    assert span[0] <= new.min() and new.max() <= span[1] + 4e-3


def test_holes_and_what_is_no_number_stay() -> None:
    values = torch.full((4, 1, 40, 40), 0.5)
    values[..., ::3, :] = 0.0
    values[..., 1::3, ::2] = float("nan")
    values[..., 5, :] = float("inf")
    after, out = painted(Depth(0.3), values, Perlin((0, 1), -9.0))
    plain = values == 0.5
    assert torch.equal(changed(after, values), plain & (out.mask > 0))
    assert torch.equal(bits(after[~plain]), bits(values[~plain]))


def test_twelve_bits() -> None:
    values = torch.randint(0, 4096, (8, 1, 32, 32), dtype=torch.int32).to(torch.uint16)
    after, _ = painted(XRay((0.9, 1.0), "void", range=(0, 4095)), values)
    moved = changed(after, values)
    assert moved.any() and int(after.to(torch.int32).max()) == 4095


def test_channels() -> None:
    points = torch.rand(4, 3, 32, 32) * 2 - 0.5
    after, out = painted(Depth(0.2, range=(-0.5, 1.5), channels=(2,)), points)
    assert torch.equal(bits(after[:, :2].contiguous()), bits(points[:, :2].contiguous()))
    assert torch.equal(after[:, 2:] != points[:, 2:], out.mask > 0)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_any_number_of_channels(channels: int, dtype: torch.dtype) -> None:
    """In the image, and in a modality, on the CPU's driver as in the reference."""
    images = pictures(dtype, 3, channels, (30, 40))
    layers = [Layer(small_box(), Own(place="elsewhere")), Layer(Perlin(), Noise(), Opacity())]
    both = []
    for backend in ("auto", "torch"):
        synth = Synthesizer(
            *layers, p=1.0, seed=2, backend=backend, clean="output", modalities={"it": Modality()}
        )
        both.append(synth(images, extra={"it": images.flip(1), "xray": images}))
    assert_same(*both)
    assert same(*both) and changed(both[0].image, images).any()
    assert changed(both[0].extras["it"], images.flip(1)).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_formats(name: str) -> None:
    extra = {one: LAYOUTS[name](EXTRA[one]) for one in ("depth", "rgb", "noise")}
    out, plain = make()(IMAGES, extra=extra), make()(IMAGES, extra=EXTRA)
    for one in extra:
        assert torch.equal(bits(out.extras[one].contiguous()), bits(plain.extras[one].contiguous()))
    last = name == "channels_last"
    assert out.extras["rgb"].is_contiguous(memory_format=torch.channels_last) == last


def test_a_bank_serves_grey_modalities() -> None:
    layer = Layer(Rectangle(), Texture(BANK), Hard())
    synth = Synthesizer(layer, p=1.0, seed=0, modalities={"grey": Modality()})
    before = pictures(batch=BATCH, channels=1)
    out = synth(IMAGES, extra={"grey": before})
    assert changed(out.extras["grey"], before).any()


def test_a_bank_of_the_image_may_not_fit_a_modality_that_does_not_read_it() -> None:
    layer = Layer(Rectangle(), Texture(BANK), Hard())
    synth = Synthesizer(layer, p=1.0, seed=0, modalities={"uv": Modality(Noise())})
    before = pictures(batch=BATCH, channels=5)
    assert changed(synth(IMAGES, extra={"uv": before}).extras["uv"], before).any()


def test_computed_sources() -> None:
    """A modality's picture is computed from the modality: a twin drawn together becomes equal."""
    kornia = pytest.importorskip("kornia.augmentation")
    blur = kornia.RandomGaussianBlur((5, 5), (2, 3), p=1.0)
    layer = Layer(small_box(), anoaug.sources.Kornia(blur))
    for together in (True, False):
        twin = {"twin": Modality(together=together)}
        synth = Synthesizer(layer, p=1.0, seed=0, modalities=twin)
        out = synth(IMAGES, extra={"twin": IMAGES})
        assert torch.equal(out.extras["twin"], out.image) == together
        moved = changed(out.extras["twin"], IMAGES)
        assert moved.any() and not (moved & (out.mask == 0)).any()
        again = synth(IMAGES, extra={"twin": IMAGES}, params=out.params)
        assert torch.equal(again.extras["twin"], out.extras["twin"])
