"""CutPaste, its scar and their union: sizes, shapes, places, views."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import recipe

MANY = 4000
NAMES = ("cutpaste", "cutpaste_scar", "cutpaste_union")


@lru_cache(maxsize=16)
def boxes(name: str, size: tuple[int, int] = (256, 256), **keywords: Any) -> dict[str, np.ndarray]:
    """Mask columns of 4,000 samples of the first layer."""
    synth = anoaug.create(name, seed=4, **keywords)
    blank = torch.zeros(1, 3, *size, dtype=torch.uint8).expand(MANY, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(MANY), epoch=0).numpy()
    found = recipe.recipe(synth.laws(3)).describe(table)
    return {
        column.split(".")[-1]: values.astype(np.float64)
        for column, values in found.items()
        if column.startswith("layer0.mask.")
    }


def pixels(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(shape[0])
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def expect_uniform(values: np.ndarray, low: float, high: float) -> None:
    assert low <= values.min() and values.max() <= high
    assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-4


# ---- CutPaste ------------------------------------------------------------------------------------


def test_area_is_2_to_15_percent_uniformly() -> None:
    box = boxes("cutpaste")
    area = 4 * box["half_h"] * box["half_w"] / 256**2
    # Whole pixels: up to half a row and half a column off.
    assert area.min() > 0.019 and area.max() < 0.152
    expect_uniform(area.clip(0.02, 0.15), 0.02, 0.15)


def test_aspect_is_log_uniform_by_default() -> None:
    box = boxes("cutpaste")
    aspect = np.log(box["half_w"] / box["half_h"]) / math.log(1 / 0.3)
    expect_uniform(aspect.clip(-1, 1), -1, 1)


def test_the_papers_aspect_is_two_linear_intervals() -> None:
    box = boxes("cutpaste", size=(512, 512), aspect=(0.3, 3.3), aspect_law="split")
    aspect = box["half_w"] / box["half_h"]
    below, above = aspect[aspect < 1], aspect[aspect > 1]
    near = MANY - len(below) - len(above)
    assert abs(len(below) - len(above)) < near + 5 * math.sqrt(MANY)
    expect_uniform(below.clip(0.3, 1), 0.3, 1)
    expect_uniform(above.clip(1, 3.3), 1, 3.3)


def test_patches_stand_upright_anywhere() -> None:
    box = boxes("cutpaste")
    assert (box["sin"] == 0).all() and (box["cos"] == 1).all()
    for centre, half in ((box["cy"], box["half_h"]), (box["cx"], box["half_w"])):
        free = 256 - 2 * half
        start = centre - half + 0.5
        assert (start == np.round(start)).all() and (start >= 0).all() and (start <= free).all()
        assert stats.kstest((start + 0.5) / (free + 1), "uniform").pvalue > 1e-4


@pytest.mark.slow
def test_realised_areas_are_those_of_the_common_port() -> None:
    out = anoaug.create("cutpaste", seed=4, p=1.0)(
        torch.zeros(300, 1, 256, 256, dtype=torch.uint8), index=range(300), epoch=0
    )
    area = out.mask.mean((1, 2, 3)).double().numpy()
    # Measured of it at 256 x 256: 8.5 % on average, 2.0 to 15.0 %.
    assert abs(area.mean() - 0.085) < 3.5 * area.std() / math.sqrt(300)
    assert 0.019 < area.min() < 0.03 and 0.14 < area.max() < 0.152


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cutpaste", "cutpaste_scar"])
@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_without_jitter_a_patch_shows_pixels_of_the_image_alone(
    name: str, size: tuple[int, int]
) -> None:
    # Every pixel has a colour of its own, so that each pasted one tells where it is from.
    count = size[0] * size[1]
    colours = torch.arange(1, count + 1).reshape(1, 1, *size)
    image = torch.cat([colours // 256, colours % 256, torch.full_like(colours, 77)], 1)
    images = image.to(torch.uint8).expand(40, -1, -1, -1)
    out = anoaug.create(name, seed=4, p=1.0, jitter=0.0)(images, index=range(40), epoch=0)
    assert out.label.all()
    taken = out.image[:, 0].long() * 256 + out.image[:, 1].long()
    # Common ports paste black from beyond the edge on images that are not square.
    assert taken.min() >= 1 and taken.max() <= count and (out.image[:, 2] == 77).all()
    for n in range(40):
        inside = out.mask[n, 0] > 0
        y, x = inside.nonzero().T
        from_y, from_x = (taken[n][inside] - 1) // size[1], (taken[n][inside] - 1) % size[1]
        assert torch.equal(taken[n][~inside], colours[0, 0][~inside])
        if name == "cutpaste":
            assert len((from_y - y).unique()) == len((from_x - x).unique()) == 1
        else:
            # An upright box: nothing further apart than its sides.
            box = out.params.table[n]
            found = recipe.recipe(anoaug.create(name, jitter=0.0).laws(3)).describe(
                box[None].numpy()
            )
            height, width = (2 * found[f"layer0.mask.rectangle.half_{s}"][0] for s in "hw")
            assert from_y.max() - from_y.min() < height and from_x.max() - from_x.min() < width


def test_jitter_changes_colours_a_little() -> None:
    # Grey ramps: hue and saturation leave them, brightness and contrast move them.
    ramp = (
        torch.arange(64, dtype=torch.uint8).mul(3).add(30)[None, None, None].expand(60, 3, 64, 64)
    )
    plain, ours = (
        anoaug.create("cutpaste", seed=4, p=1.0, **jitter)(ramp, index=range(60), epoch=0)
        for jitter in ({"jitter": 0.0}, {})
    )
    assert torch.equal(plain.mask, ours.mask)
    inside = plain.mask.bool().expand_as(ramp)
    before, after = plain.image[inside].double(), ours.image[inside].double()
    # At most a tenth of brightness, then a tenth of contrast about mid-grey, and rounding.
    assert (after - before).abs().max() < 0.1 * 255 + 0.1 * 128 + 4
    assert (after - before).abs().mean() > 3


# ---- scar ----------------------------------------------------------------------------------------


def test_scars_are_2_to_16_by_10_to_25_pixels() -> None:
    box = boxes("cutpaste_scar")
    for half, low, high in ((box["half_w"], 2, 16), (box["half_h"], 10, 25)):
        side = (2 * half).astype(int)
        assert (side == 2 * half).all() and side.min() == low and side.max() == high - 1
        # The port truncates U(low, high) to whole pixels.
        assert stats.chisquare(np.bincount(side)[low:high]).pvalue > 1e-4


def test_scars_do_not_grow_with_the_image() -> None:
    small, large = boxes("cutpaste_scar"), boxes("cutpaste_scar", size=(512, 512))
    assert np.array_equal(small["half_w"], large["half_w"])
    assert np.array_equal(small["half_h"], large["half_h"])


def test_scars_turn_up_to_45_degrees_either_way() -> None:
    box = boxes("cutpaste_scar")
    angle = np.degrees(np.arctan2(box["sin"], box["cos"]))
    expect_uniform(angle.clip(-45, 45), -45, 45)


@pytest.mark.slow
def test_scars_cover_what_the_common_ports_do() -> None:
    out = anoaug.create("cutpaste_scar", seed=4, p=1.0)(
        torch.zeros(300, 1, 256, 256, dtype=torch.uint8), index=range(300), epoch=0
    )
    area = out.mask.mean((1, 2, 3)).double().numpy()
    # Measured of the port at 256 x 256: 0.24 % on average, at most 0.6 %.
    assert 0.0019 < area.mean() < 0.0025 and area.max() < 0.006


# ---- union and views -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_union_is_a_fair_coin_between_patch_and_scar() -> None:
    synth = anoaug.create("cutpaste_union", seed=4, p=1.0)
    assert synth.kinds == ("normal", "cutpaste", "cutpaste_scar", "given")
    blank = torch.zeros(600, 1, 64, 64, dtype=torch.uint8)
    out = synth(blank, index=range(600), epoch=0)
    tally = np.bincount(out.kind.numpy(), minlength=3)
    assert tally[0] == 0 and stats.chisquare(tally[1:]).pvalue > 1e-3
    # At 64 pixels a scar is as large as a patch, but never upright.
    table = recipe.recipe(synth.laws(1)).describe(out.params.table.numpy())
    gates = np.stack([table["layer0.gate"], table["layer1.gate"]])
    assert np.array_equal(gates.argmax(0) + 1, out.kind.numpy())


@pytest.mark.slow
def test_the_weights_of_the_union_can_be_changed() -> None:
    out = anoaug.create("cutpaste_union", seed=4, p=1.0, weights=(0.8, 0.2))(
        torch.zeros(600, 1, 64, 64, dtype=torch.uint8), index=range(600), epoch=0
    )
    assert stats.binomtest(int((out.kind == 1).sum()), 600, 0.8).pvalue > 1e-3


@pytest.mark.parametrize("kind", [1, 2])
def test_a_patch_of_the_union_is_what_its_own_method_draws(kind: int) -> None:
    images = pixels(20, 3, 64, 64)
    union = anoaug.create("cutpaste_union", seed=4, views=True)(images, index=range(20), epoch=0)
    if kind == 1:
        alone = anoaug.create("cutpaste", seed=4, p=1.0)(images, index=range(20), epoch=0)
        assert torch.equal(union.image[20:40], alone.image)
        assert torch.equal(union.mask[20:40], alone.mask)
    else:
        # The second rectangle of a recipe has numbers of its own, but the same laws.
        area = union.mask[40:].sum((1, 2, 3))
        assert area.min() > 10 and area.max() < 16 * 25 + 12


def test_views_are_normal_patch_and_scar() -> None:
    images = pixels(5, 3, 64, 64)
    out = anoaug.create("cutpaste_union", seed=4, views=True)(images, index=range(5), epoch=0)
    assert out.image.shape == (15, 3, 64, 64)
    assert out.kind.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert out.label.tolist() == [0] * 5 + [1] * 10
    assert out.extras["source_row"].tolist() == list(range(5)) * 3
    assert torch.equal(out.image[:5], images) and not out.mask[:5].any()
    assert torch.equal(out.clean, images.repeat(3, 1, 1, 1))
    untouched = (out.mask == 0).expand_as(out.image)
    assert torch.equal(out.image[untouched], out.clean[untouched])
    assert (out.mask[5:].flatten(1).any(1)).all()


def test_views_take_no_notice_of_p() -> None:
    images = pixels(5, 3, 64, 64)
    out = anoaug.create("cutpaste_union", seed=4, views=True, p=0.0)(images)
    assert out.label.sum() == 10


def test_views_of_an_image_do_not_depend_on_its_batch() -> None:
    images = pixels(5, 3, 64, 64)
    synth = anoaug.create("cutpaste_union", seed=4, views=True)
    whole = synth(images, index=range(5), epoch=0).image.unflatten(0, (3, 5))
    alone = synth(images[3:4], index=[3], epoch=0).image
    assert torch.equal(whole[:, 3], alone)


# ---- normal samples ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_normal_samples_are_bit_identical(name: str, dtype: torch.dtype) -> None:
    images = pixels(40, 3, 33, 47)
    images = (images.float() / 255).to(dtype) if dtype.is_floating_point else images.to(dtype)
    out = anoaug.create(name, seed=4)(images, index=range(40), epoch=0)
    normal = out.label == 0
    assert stats.binomtest(int(normal.sum()), 40, 0.5).pvalue > 1e-3
    word = torch.uint8 if dtype == torch.uint8 else torch.int16
    if dtype == torch.float32:
        word = torch.int32
    assert torch.equal(out.image.view(word)[normal], images.view(word)[normal])
    assert not out.mask[normal].any() and not out.kind[normal].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_p_is_the_share_of_anomalous_samples(name: str) -> None:
    images = torch.zeros(800, 1, 48, 48, dtype=torch.uint8)
    out = anoaug.create(name, seed=4, p=0.3)(images, index=range(800), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 800, 0.3).pvalue > 1e-3
