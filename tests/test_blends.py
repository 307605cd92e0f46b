"""Blends: closed forms, bit-tight in float32; weights are of the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import blends, functional, masks, ops, recipe, sources

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")
SIZE = (24, 30)
BOX = masks.Rectangle(height=(9, 16), width=(9, 20))


def pixels(n: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, *SIZE), dtype=torch.uint8, generator=generator)


# One texture of the images' size: the source is known to the bit.
TEXTURE = pixels(1, seed=9)
BANK = anoaug.TextureBank.from_tensors(TEXTURE)
BYTE = torch.tensor(1 / 255, dtype=torch.float32)
IMAGES = pixels(6)
FLOATS = torch.rand(6, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def blended(blend: blends.Blend, mask: masks.Mask = BOX, **more: Any) -> anoaug.Synthesizer:
    layer = anoaug.Layer(mask, sources.Texture(BANK), blend)
    return anoaug.Synthesizer(layer, p=1.0, **{"seed": 0, **more})


def column(synth: anoaug.Synthesizer, out: anoaug.AnomalyBatch, name: str) -> torch.Tensor:
    """A column of the blend, ``[B, 1, 1, 1]``."""
    columns = recipe.recipe(synth.laws(3, out.image.dtype)).describe(out.params.table.numpy())
    found = next(value for key, value in columns.items() if key.endswith(f".{name}"))
    return torch.from_numpy(np.array(found))[:, None, None, None]


def under(out: anoaug.AnomalyBatch, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    return torch.where(out.mask > 0, inside, outside)


# ---- opacity -------------------------------------------------------------------------------------


def test_opacity_weights_the_source() -> None:
    white = anoaug.Layer(masks.Everywhere(), sources.Constant(1.0), blends.Opacity(0.25))
    out = anoaug.Synthesizer(white, p=1.0)(torch.zeros(2, 1, 8, 8))
    assert (out.image == 0.25).all()


@pytest.mark.parametrize("opacity", [(0.2, 1.0), (0.0, 0.3), 0.5, 1.0])
def test_opacity_is_its_closed_form_in_float32(opacity: Any) -> None:
    synth = blended(blends.Opacity(opacity))
    out = synth(FLOATS, index=range(6), epoch=0)
    weight, source = column(synth, out, "opacity"), TEXTURE.float() * BYTE
    ours = weight * source + (1.0 - weight) * FLOATS
    assert torch.equal(out.image, under(out, ours, FLOATS))
    exact = weight.double() * (TEXTURE.double() / 255) + (1 - weight.double()) * FLOATS.double()
    assert (out.image - under(out, exact, FLOATS.double())).abs().max() < 2e-7


@pytest.mark.parametrize(("dtype", "peak"), [(torch.uint8, 255.0), (torch.uint16, 65535.0)])
def test_integers_are_rounded_half_up(dtype: torch.dtype, peak: float) -> None:
    synth = blended(blends.Opacity((0.2, 1.0)))
    images = (IMAGES.to(torch.int32) * int(peak // 255)).to(dtype)
    out = synth(images, index=range(6), epoch=0)
    weight, source = column(synth, out, "opacity"), TEXTURE.float() * (peak / 255)
    before = images.float()
    ours = torch.floor(weight * source + (1.0 - weight) * before + 0.5)
    assert torch.equal(out.image.float(), under(out, ours, before))
    exact = weight.double() * source.double() + (1 - weight.double()) * before.double()
    assert (out.image.double() - under(out, exact, before.double())).abs().max() < 0.5 + 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_blended_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    images = FLOATS.to(dtype)
    synth = blended(blends.Opacity((0.2, 1.0)))
    out = synth(images, index=range(6), epoch=0)
    weight = column(synth, out, "opacity")
    ours = weight * (TEXTURE.float() * BYTE) + (1.0 - weight) * images.float()
    assert torch.equal(out.image, under(out, ours.to(dtype), images))


def test_opacity_one_is_the_source_exactly() -> None:
    out = blended(blends.Opacity(1.0))(IMAGES)
    assert torch.equal(out.image, under(out, TEXTURE, IMAGES))


def test_opacity_zero_leaves_normal_samples() -> None:
    out = blended(blends.Opacity(0.0))(IMAGES)
    assert torch.equal(out.image, IMAGES)
    assert out.label.sum() == 0 and out.mask.sum() == 0


@pytest.mark.parametrize("blend", [blends.Opacity((0.2, 1.0)), blends.Feather(2.0, (0.2, 1.0))])
def test_opacity_is_uniform_above_its_lower_end(blend: blends.Blend) -> None:
    synth = blended(blend)
    blank = torch.zeros(1, 3, *SIZE, dtype=torch.uint8).expand(5000, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(5000), epoch=0)
    columns = recipe.recipe(synth.laws(3)).describe(table.numpy())
    drawn = next(v for k, v in columns.items() if k.endswith(".opacity")).astype(np.float64)
    assert 0.2 < drawn.min() < 0.21 and 0.99 < drawn.max() <= 1.0
    assert stats.kstest((drawn - 0.2) / 0.8, "uniform").pvalue > 1e-4


def test_opacity_can_be_normal_and_clipped() -> None:
    blank = IMAGES[:1].expand(20_000, -1, -1, -1)
    synth = blended(blends.Opacity((0.2, 0.5), std=0.1))
    columns = recipe.recipe(synth.laws(3)).describe(
        synth.sample(blank, index=range(20_000), epoch=0).numpy()
    )
    drawn = columns["layer0.blend.opacity.opacity"].astype(np.float64)
    ends = [np.isclose(drawn, end, atol=1e-7) for end in (0.2, 0.5)]
    for end in ends:  # 1.5 standard deviations off the middle
        assert stats.binomtest(int(end.sum()), len(drawn), stats.norm.sf(1.5)).pvalue > 1e-3
    assert drawn.min() >= np.float32(0.2) and drawn.max() <= np.float32(0.5)
    within = (drawn[~(ends[0] | ends[1])] - 0.35) / 0.1
    assert stats.kstest(within, stats.truncnorm(-1.5, 1.5).cdf).pvalue > 1e-3


class Extremes:
    """A context whose numbers are the ends of [0, 1), of a call without control."""

    wanted = None

    def uniform(self, count: int) -> np.ndarray:
        return np.tile([0.0, 1 - 2.0**-24], (count, 1))


@pytest.mark.parametrize("blend", [blends.Opacity((0.2, 1.0)), blends.Feather(2.0, (0.2, 1.0))])
def test_the_upper_end_of_opacity_is_reached_and_the_lower_is_not(blend: blends.Blend) -> None:
    drawn = blend.sample(Extremes())["opacity"]  # type: ignore[arg-type]
    assert drawn.max() == 1.0 and 0.2 < drawn.min() < 0.2 + 1e-6


# ---- hard, add, multiply -------------------------------------------------------------------------


@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["uint8", "float32"])
def test_a_hard_paste_is_the_source_exactly(images: torch.Tensor) -> None:
    out = blended(blends.Hard())(images)
    source = TEXTURE if images.dtype == torch.uint8 else TEXTURE.float() * BYTE
    assert out.label.all()
    assert torch.equal(out.image, under(out, source, images))


MIXES = {
    "over": lambda value, source, weight: weight * source + (1 - weight) * value,
    "add": lambda value, source, weight: value + weight * (source - 0.5),
    "multiply": lambda value, source, weight: value * (1 - weight + weight * source),
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("kind", ["hard", "opacity", "feather"])
def test_every_mix_is_its_formula_clipped_to_the_image_s_range(mix: str, kind: str) -> None:
    blend = {
        "hard": blends.Hard(mix),
        "opacity": blends.Opacity((0.2, 1.0), mix),
        "feather": blends.Feather(3.0, 0.8, mix),
    }[kind]
    synth = blended(blend, label="soft")
    out = synth(FLOATS, index=range(6), epoch=0)
    # The soft mask is the weight itself.
    weight = out.mask.double()
    exact = MIXES[mix](FLOATS.double(), TEXTURE.double() / 255, weight).clamp(0.0, 1.0)
    assert (out.image - torch.where(weight > 0, exact, FLOATS.double())).abs().max() < 3e-7


def test_adding_goes_both_ways_from_mid_grey_and_saturates() -> None:
    for value, start, expected in (
        (0.9, 0.8, 1.0),
        (0.1, 0.3, 0.0),
        (0.7, 0.3, 0.5),
        (0.5, 0.3, 0.3),
    ):
        layer = anoaug.Layer(masks.Everywhere(), sources.Constant(value), blends.Hard("add"))
        out = anoaug.Synthesizer(layer, p=1.0)(torch.full((1, 1, 4, 4), start))
        assert (out.image - expected).abs().max() < 1e-6


# ---- feather -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask", [BOX, masks.Perlin(threshold=0.2, cells=3.0)], ids=["box", "noise"]
)
@pytest.mark.parametrize("width", [0.15, 4.0])
def test_a_feather_is_a_ramp_of_the_level(mask: masks.Mask, width: float) -> None:
    out = blended(blends.Feather(width, 0.7), mask, label="soft")(FLOATS, index=range(6), epoch=0)
    level = functional.field(mask, SIZE, range(6)).double()
    ramp = (level / width).clamp(0.0, 1.0) * 0.7
    counted = out.label.bool()[:, None, None, None]
    assert counted.any()
    assert (out.mask - torch.where(counted, ramp, 0.0)).abs().max() < 1e-5


def test_a_feather_rises_from_the_edge_of_a_box_by_a_pixel_s_share_each() -> None:
    out = blended(blends.Feather(4.0), label="soft")(FLOATS, index=range(6), epoch=0)
    for weight in out.mask[:, 0]:
        rows = weight.amax(1)
        rows = rows[rows > 0]
        # Pixel centres lie half a pixel from the edge and then one further each.
        assert torch.allclose(rows[:4], torch.tensor([0.125, 0.375, 0.625, 0.875]))
        assert torch.allclose(rows[-4:].flip(0), rows[:4])


def test_the_width_of_a_feather_is_uniform() -> None:
    synth = blended(blends.Feather((2.0, 6.0)))
    blank = torch.zeros(1, 3, *SIZE, dtype=torch.uint8).expand(5000, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(5000), epoch=0)
    columns = recipe.recipe(synth.laws(3)).describe(table.numpy())
    width = 1 / next(v for k, v in columns.items() if k.endswith(".slope")).astype(np.float64)
    assert stats.kstest((width - 2) / 4, "uniform").pvalue > 1e-4


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    width=st.floats(0.01, 20),
    opacity=st.floats(0.01, 1),
    mix=st.sampled_from(blends.MIXES),
    index=st.integers(0, 2**40),
)
def test_the_hard_mask_is_where_the_weight_is_above_zero(
    width: float, opacity: float, mix: str, index: int
) -> None:
    blend = blends.Feather(width, opacity, mix)
    hard, soft = (
        blended(blend, label=label)(IMAGES[:1], index=[index], epoch=0)
        for label in ("hard", "soft")
    )
    assert torch.equal(hard.mask, (soft.mask > 0).float())
    assert soft.mask.max() <= opacity
    assert torch.equal(hard.image, soft.image)
    assert torch.equal(hard.image[hard.mask.expand(-1, 3, -1, -1) == 0],
                       IMAGES[:1][hard.mask.expand(-1, 3, -1, -1) == 0])  # fmt: skip


# ---- layers --------------------------------------------------------------------------------------


def test_layers_are_folded_in_order_over_one_another() -> None:
    first = anoaug.Layer(masks.Everywhere(), sources.Constant(1.0), blends.Opacity(0.5))
    second = anoaug.Layer(masks.Everywhere(), sources.Constant(0.0), blends.Opacity(0.25))
    for layers, expected in (((first, second), 0.375), ((second, first), 0.5)):
        out = anoaug.Synthesizer(*layers, p=1.0, label="soft")(torch.zeros(1, 1, 4, 4))
        assert (out.image == expected).all()
        # The soft mask is the greatest weight of any layer.
        assert (out.mask == 0.5).all()


def test_layers_take_their_patches_from_the_original() -> None:
    black = anoaug.Layer(masks.Everywhere(), sources.Constant(0.0))
    patch = anoaug.Layer(BOX, sources.Own())
    image = torch.full((4, 3, *SIZE), 200, dtype=torch.uint8)
    out = anoaug.Synthesizer(black, patch, p=1.0, seed=0)(image)
    alone = anoaug.Synthesizer(patch, p=1.0, seed=0)(image).mask
    assert 0 < alone.mean() < 1
    assert torch.equal(out.image, torch.where(alone.bool(), image, 0))


# ---- backends ------------------------------------------------------------------------------------

EVERY = [blends.Opacity(), blends.Feather((1.0, 5.0), (0.3, 0.9), "multiply"), blends.Hard("add")]


@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["uint8", "float32"])
@pytest.mark.parametrize("blend", EVERY, ids=lambda blend: type(blend).__name__)
def test_the_cpu_driver_equals_the_reference(blend: blends.Blend, images: torch.Tensor) -> None:
    ours, truth = (blended(blend, backend=b, label="soft")(images, index=range(6), epoch=0)
                   for b in ("auto", "torch"))  # fmt: skip
    assert torch.equal(ours.image, truth.image) and torch.equal(ours.mask, truth.mask)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["uint8", "float32"])
@pytest.mark.parametrize("blend", EVERY, ids=lambda blend: type(blend).__name__)
def test_the_kernel_equals_the_reference(blend: blends.Blend, images: torch.Tensor) -> None:
    images = images[:3].to(DEVICE)
    ours, truth = (blended(blend, backend=b, label="soft")(images, index=range(3), epoch=0)
                   for b in ("triton", "torch"))  # fmt: skip
    assert torch.equal(ours.image, truth.image) and torch.equal(ours.mask, truth.mask)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: blends.Opacity((0.5, 0.2)), "opacity: expected .low, high."),
        (lambda: blends.Opacity(1.5), "opacity: expected values within"),
        (lambda: blends.Opacity((-0.1, 1.0)), "opacity: expected values within"),
        (lambda: blends.Opacity(std=0), "std: expected a number above 0, or None, got 0"),
        (lambda: blends.Opacity(std=(0.1, 0.2)), "std: expected a number above 0"),  # type: ignore[arg-type]
        (lambda: blends.Feather(0.0), "width: expected values within"),
        (lambda: blends.Feather((5.0, 2.0)), "width: expected .low, high."),
        (lambda: blends.Feather(3.0, 2.0), "opacity: expected values within"),
        (lambda: blends.Hard("screen"), "mix: expected one of"),
        (lambda: blends.Opacity(mix="overlay"), "did you mean over"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
