"""Coarse to fine: structure from one source, detail from another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

import anoaug
from anoaug import Layer, Synthesizer, TextureBank, blends, masks, sources
from anoaug.blends import Detail
from anoaug.sources import CoarseToFine, Constant, Own, Texture
from anoaug.sources.bands import joined, smoothed
from tests.masks.test_patches import BANK, FIND
from tests.masks.test_patches import IMAGES as PRODUCTS

DTYPES = (torch.uint8, torch.uint16, torch.float32)


def noise(dtype: torch.dtype = torch.uint8, rows: int = 4, size: Any = (40, 52)) -> Tensor:
    values = torch.rand(rows, 3, *size, generator=torch.Generator().manual_seed(rows))
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * (1 << 8 * dtype.itemsize)).to(torch.int32).to(dtype)


def peak(dtype: torch.dtype) -> float:
    return {torch.uint8: 255.0, torch.uint16: 65535.0}.get(dtype, 1.0)


def every(scale: float, rows: int = 4) -> Any:
    return np.full(rows, scale)


IMAGES = noise()
TEXTURES = TextureBank.from_tensors(noise(rows=5, size=(30, 30)))
CALL: dict[str, Any] = {"index": range(4), "epoch": 0}


def synth(source: Any = None, blend: Any = None, **keywords: Any) -> Synthesizer:
    layer = Layer(masks.Everywhere(), source or Constant(1.0), blend or blends.Hard())
    return Synthesizer(layer, **{"p": 1.0, "seed": 1, **keywords})


# ---- the two bands -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 128), (101, 90)])
@pytest.mark.parametrize("scale", [0.01, 0.03, 0.08, 0.3])
def test_smoothed_is_a_gaussian_s(size: tuple[int, int], scale: float) -> None:
    """Of an image with shading and edges, against SciPy's in float64."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    plane = 120 + 60 * np.sin(x / 17) + 40 * np.cos(y / 9) + 30.0 * (x > size[1] / 2)
    image = torch.from_numpy(plane.clip(0, 255).astype(np.uint8))[None, None]
    sigma = scale * min(size)
    total, shares = (
        ndimage.gaussian_filter(each, sigma, mode="constant", truncate=9)
        for each in (image[0, 0].numpy().astype(float), np.ones(size))
    )
    found = smoothed(image, every(scale, 1), scale)[0, 0].numpy()
    assert np.abs(found - total / shares).max() < 1.5
    assert np.abs(smoothed(image, every(scale, 1))[0, 0].numpy() - total / shares).max() < 0.02


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [0.0, 0.02, 0.2, 5.0])
def test_a_flat_picture_stays_as_it_is(dtype: torch.dtype, scale: float) -> None:
    flat = torch.full((2, 1, 33, 47), 0.25 * peak(dtype)).to(dtype)
    assert torch.allclose(smoothed(flat, every(scale, 2), scale), flat.float(), rtol=0, atol=1e-5)


@given(
    scale=st.floats(0, 2), least=st.floats(0, 1), dtype=st.sampled_from(DTYPES),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_picture_s_own_bands_give_it_back(
    scale: float, least: float, dtype: torch.dtype, size: tuple[int, int]
) -> None:
    image = noise(dtype, 2, size)
    made = joined(image, image, every(scale, 2), every(1.0, 2), peak(dtype), least * scale)
    assert made.dtype == dtype
    error = (made.double() - image.double()).abs().max()
    assert error <= (1e-6 if dtype.is_floating_point else 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_limits_of_the_scale(dtype: torch.dtype) -> None:
    one, other, white = noise(dtype), noise(dtype).flip(0), peak(dtype)
    made = joined(one, other, every(0.0), every(1.0), white)
    assert (made.double() - one.double()).abs().max() <= (1e-7 if white == 1.0 else 0)
    made = joined(one, other, every(1e6), every(1.0), white, 1e6)
    means = (each.double().mean((2, 3), keepdim=True) for each in (one, other))
    first, second = means
    wanted = (first + other.double() - second).clamp(0, white)
    assert (made.double() - wanted).abs().max() < white * 0.005


def test_a_constant_structure_and_the_gain() -> None:
    flat = torch.full_like(IMAGES, 128)
    detail = IMAGES.float() - smoothed(IMAGES, every(0.1))
    for gain in (0.0, 0.5, 2.0):
        made = joined(flat, IMAGES, every(0.1), every(gain), 255.0)
        wanted = (128 + gain * detail).clamp(0, 255)
        assert (made.float() - wanted).abs().max() <= 0.5
    assert torch.equal(joined(IMAGES, flat, every(0.1), every(1.0), 255.0),
                       torch.floor(smoothed(IMAGES, every(0.1)) + 0.5).to(torch.uint8))  # fmt: skip


@given(
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=6), dtype=st.sampled_from(DTYPES),
    least=st.sampled_from([0.0, 0.05, 0.2]),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_a_row_does_not_depend_on_the_others(
    rows: list[int], dtype: torch.dtype, least: float
) -> None:
    images, scale = noise(dtype, 6), np.linspace(0.2, 0.5, 6)
    whole = smoothed(images, scale, least)
    part = smoothed(torch.stack([images[row] for row in rows]), scale[rows], least)
    assert torch.equal(part, whole[rows])


# ---- the source ----------------------------------------------------------------------------------


def test_the_image_s_texture_under_a_stain() -> None:
    out = synth(CoarseToFine(Constant(0.25), "image", scale=0.1))(IMAGES, **CALL)
    wanted = joined(torch.full_like(IMAGES, 64), IMAGES, every(0.1), every(1.0), 255.0, 0.1)
    assert torch.equal(out.image, wanted)


def test_a_texture_s_detail_on_the_image_s_shading() -> None:
    given = sources.Given("what")
    other = noise(rows=4).flip(0, 3)
    out = synth(CoarseToFine("image", given, scale=0.1, gain=0.5))(
        IMAGES, slots={"what": other}, **CALL
    )
    assert torch.equal(out.image, joined(IMAGES, other, every(0.1), every(0.5), 255.0, 0.1))


def test_two_sources_draw_apart_and_as_they_would_alone() -> None:
    both = synth(CoarseToFine(TEXTURES, Texture(TEXTURES, rotation=(0, 90)), scale=0.1))
    images = noise(rows=40)
    call: dict[str, Any] = {"index": range(40), "epoch": 0}
    table = both(images, **call).params.table
    laws = anoaug.recipe.recipe(both.laws(3))
    columns = {name.split(".")[-1]: at for name, (at, _) in laws.columns.items()}
    picked = [
        table[:, columns[f"{name}_image"]].contiguous().view(torch.int32)
        for name in ("structure", "detail")
    ]
    assert 0.05 < (picked[0] == picked[1]).float().mean() < 0.45  # of 5 textures
    assert all(len(each.unique()) == 5 for each in picked)
    turned = table[:, columns["detail_yx"]]
    assert (table[:, columns["structure_yx"]] == 0).all() and len(turned.unique()) == 40


@pytest.mark.slow
def test_scale_and_gain_are_drawn_within_their_ranges() -> None:
    one = synth(CoarseToFine(Constant(0.5), "image", scale=(0.1, 0.3), gain=(0.5, 2.0)))
    table = one(noise(rows=200), index=range(200), epoch=0).params.table
    scale, gain = table[:, -2], table[:, -1]
    width = recipe_columns(one)
    scale, gain = table[:, width["scale"]], table[:, width["gain"]]
    for drawn, (low, high) in ((scale, (0.1, 0.3)), (gain, (0.5, 2.0))):
        assert low <= drawn.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < drawn.max() <= high
    assert abs(np.corrcoef(scale, gain)[0, 1]) < 0.2


def recipe_columns(one: Synthesizer) -> dict[str, int]:
    laws = anoaug.recipe.recipe(one.laws(3))
    return {name.split(".")[-1]: at for name, (at, _) in laws.columns.items()}


def test_the_image_is_what_the_layers_before_left() -> None:
    below = Layer(masks.Everywhere(), Constant(0.5))
    above = Layer(masks.Everywhere(), CoarseToFine("image", Constant(0.9), scale=0.1))
    out = Synthesizer(below, above, p=1.0, seed=1)(IMAGES, **CALL)
    assert (out.image == 128).all()


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32], ids=str
)
def test_in_any_batch_and_again(dtype: torch.dtype) -> None:
    images = noise(dtype)
    one = synth(CoarseToFine(TEXTURES, Own(place="same")), blends.Opacity((0.4, 1.0)), p=0.7)
    out = one(images, **CALL)
    assert 0 < out.label.sum() < 4 or out.label.all()
    for n in range(4):
        alone = one(images[n : n + 1], index=[n], epoch=0)
        assert torch.equal(alone.image[0], out.image[n])
    assert torch.equal(one(images, params=out.params).image, out.image)
    normal = out.label == 0
    assert torch.equal(out.image[normal], images[normal])


@pytest.mark.slow
@pytest.mark.triton_interpreter
def test_backends_agree() -> None:
    outs = [
        synth(CoarseToFine(TEXTURES, "image"), blends.Opacity(0.7), backend=name)(IMAGES, **CALL)
        for name in ("torch", "auto", "triton")
    ]
    for out in outs[1:]:
        assert torch.equal(out.image, outs[0].image) and torch.equal(out.mask, outs[0].mask)


def test_a_computed_source_within() -> None:
    bent = sources.Missing()
    box = masks.Rectangle(height=14, width=14)
    layer = Layer(box, CoarseToFine(bent, "image", scale=0.1))
    out = Synthesizer(layer, p=1.0, seed=1)(IMAGES, **CALL)
    plain = Synthesizer(Layer(box, bent), p=1.0, seed=1)(IMAGES, **CALL)
    assert torch.equal(out.mask, plain.mask) and not torch.equal(out.image, plain.image)
    corrected = Layer(masks.CutPatch(), sources.Poisson(CoarseToFine(TEXTURES, "image")))
    assert Synthesizer(corrected, p=1.0, seed=1)(PRODUCTS).label.any()


def test_under_a_mask_that_seeks_its_place() -> None:
    def made(**keywords: Any) -> anoaug.AnomalyBatch:
        layer = Layer(masks.ObjectPatch(), sources.Donor(BANK), blends.Hard(**keywords))
        found = Synthesizer(layer, p=1.0, seed=4, foreground=FIND)
        return found(PRODUCTS, index=range(12), epoch=0)

    out, plain = made(detail="image"), made()
    assert torch.equal(out.mask, plain.mask) and out.label.any()
    assert not torch.equal(out.image, plain.image)


def test_a_member_of_one_of() -> None:
    one = synth(CoarseToFine(TEXTURES, "image"), name="fine")
    out = anoaug.OneOf([(one, 1), ("cutpaste", 1)], p=1.0, seed=1)(IMAGES, **CALL)
    rows = out.params.choice == 0
    assert rows.any() and torch.equal(out.image[rows], one(IMAGES, **CALL).image[rows])


# ---- as an option of the blend -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detail", "source"),
    [
        ("image", CoarseToFine(Texture(TEXTURES), "image")),
        ("source", CoarseToFine("image", Texture(TEXTURES))),
        (Constant(0.5), CoarseToFine(Texture(TEXTURES), Constant(0.5))),
        (TEXTURES, CoarseToFine(Texture(TEXTURES), TEXTURES)),
        (Detail("source", 0.1, (0.5, 2)), CoarseToFine("image", Texture(TEXTURES), 0.1, (0.5, 2))),
    ],
    ids=["image", "source", "another", "bank", "detail"],
)
@pytest.mark.parametrize("blend", [blends.Hard, blends.Opacity, blends.Feather])
def test_a_blend_s_detail_makes_the_source(detail: Any, source: CoarseToFine, blend: Any) -> None:
    layer = Layer(masks.Perlin(), Texture(TEXTURES), blend(detail=detail))
    assert layer.source == source and layer.blend == blend()
    assert Layer(layer.mask, layer.source, layer.blend) == layer


METHODS = {"draem": {}, "destseg": {}, "memseg": {}, "realnet": {"bank": BANK}, "glass_las": {}}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_methods_with_textures_take_it(name: str) -> None:
    keywords: dict[str, Any] = {"textures": TEXTURES, "p": 1.0, "seed": 3, **METHODS[name]}
    plain = anoaug.create(name, **keywords)
    fine = anoaug.create(name, **keywords, detail="image")
    assert all(isinstance(layer.source, CoarseToFine) for layer in fine.layers)
    assert not any(isinstance(layer.source, CoarseToFine) for layer in plain.layers)
    one, other = (s(PRODUCTS, index=range(12), epoch=0) for s in (fine, plain))
    assert torch.equal(one.mask, other.mask) and not torch.equal(one.image, other.image)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "the image twice": (lambda: CoarseToFine(), ValueError, "the image as both"),
    "a word": (
        lambda: CoarseToFine("own", Constant(1.0)),
        ValueError,
        "structure: expected one of",
    ),
    "a number": (lambda: CoarseToFine(Constant(1.0), 3), TypeError, "detail: expected a source"),
    "a scale below 0": (lambda: CoarseToFine(Constant(1.0), scale=-1.0), ValueError, "scale: "),
    "a gain backwards": (lambda: Detail("image", gain=(2, 1)), ValueError, "gain: .*swap the two"),
    "a blend's word": (
        lambda: Layer(masks.Perlin(), Constant(1.0), blends.Hard(detail="imge")),
        ValueError,
        "detail: expected one of .*did you mean image",
    ),
    "a blend's number": (
        lambda: Layer(masks.Perlin(), Constant(1.0), blends.Hard(detail=2)),  # type: ignore[arg-type]
        TypeError,
        "detail: expected 'image', 'source', a source",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
