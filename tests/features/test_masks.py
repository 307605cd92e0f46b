"""Masks at the resolution of features: four rules, and image-space masks on the grid."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import anoaug
from anoaug import masks as shapes
from anoaug.features import masks
from anoaug.features.masks import Rule, drawn, resize


def dots(*places: tuple[int, int], size: tuple[int, int] = (8, 8)) -> Tensor:
    mask = torch.zeros(1, 1, *size)
    for y, x in places:
        mask[0, 0, y, x] = 1
    return mask


# ---- the four rules ------------------------------------------------------------------------------


def test_the_rules_on_one_pixel_and_on_a_block() -> None:
    # Position (0, 0) holds a lone pixel off its corner, (1, 1) all of its 4 x 4 pixels.
    mask = dots((1, 2))
    mask[0, 0, 4:, 4:] = 1
    found = {rule.value: resize(mask, (2, 2), rule)[0, 0].flatten().tolist() for rule in Rule}
    assert found == {
        "maxpool": [1, 0, 0, 1],
        "area": [1, 0, 0, 1],
        "nearest": [0, 0, 0, 1],
        "bilinear": [0, 0, 0, 1],
    }


def test_soft_masks_count_from_one_half_and_areas_from_above_0() -> None:
    soft = torch.full((1, 1, 4, 4), 0.3)
    found = {rule.value: bool(resize(soft, (2, 2), rule).any()) for rule in Rule}
    assert found == {"maxpool": False, "area": True, "nearest": False, "bilinear": False}
    assert all(resize(soft + 0.2, (2, 2), rule).all() for rule in Rule)


def test_bilinear_takes_one_half() -> None:
    # The centre of a 2 x 2 block lies between all four pixels: two of them are one half.
    assert resize(dots((0, 0), (1, 1), size=(2, 2)), (1, 1), "bilinear").item() == 1
    assert resize(dots((0, 0), size=(2, 2)), (1, 1), "bilinear").item() == 0


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40),
    h=st.integers(1, 24), w=st.integers(1, 24), seed=st.integers(0, 99),
)  # fmt: skip
def test_pooling_misses_no_pixel_of_any_size(
    height: int, width: int, h: int, w: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, height, width, generator=generator) < 0.02).float()
    found = resize(mask, (h, w), "maxpool")
    assert found.shape == (2, 1, h, w)
    assert torch.equal(found, resize(mask, (h, w), "area"))
    assert torch.equal(found.flatten(1).any(1), mask.flatten(1).any(1))
    for b, y, x in mask.nonzero().tolist():  # every pixel's own position is inside
        assert found[b, 0, y * h // height, x * w // width]


def test_sizes_that_divide_are_plain_max_pooling() -> None:
    mask = (torch.rand(3, 1, 24, 36, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    expected = torch.nn.functional.max_pool2d(mask, (4, 6))
    assert torch.equal(resize(mask, (6, 6), "maxpool"), expected)


def test_coverage_of_a_sparse_mask_differs_tenfold() -> None:
    mask = torch.zeros(1, 1, 256, 256)
    at = torch.randperm(65536, generator=torch.Generator().manual_seed(0))[:636]  # 0.97 %
    mask.view(-1)[at] = 1
    share = {rule.value: resize(mask, (32, 32), rule).mean().item() for rule in Rule}
    # 64 pixels a position: 1 - 0.9903 ** 64 = 46 % where they lie apart.
    assert share["maxpool"] == share["area"] == pytest.approx(1 - 0.9903**64, abs=0.05)
    assert share["nearest"] == pytest.approx(0.0097, abs=0.01)
    assert share["bilinear"] < 0.01


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16])
def test_masks_of_any_kind(dtype: torch.dtype) -> None:
    mask = dots((3, 3)).to(dtype)
    if dtype == torch.uint8:
        mask *= 255
    assert resize(mask, (4, 4), "maxpool").sum() == 1
    assert resize(mask[:0], (4, 4), "area").shape == (0, 1, 4, 4)


def test_bad_masks_are_refused() -> None:
    with pytest.raises(TypeError, match="mask: expected a tensor"):
        resize([[1]], (2, 2), "area")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one plane for each image"):
        resize(torch.zeros(1, 3, 8, 8), (2, 2), "area")
    with pytest.raises(ValueError, match="rule"):
        resize(torch.zeros(1, 1, 8, 8), (2, 2), "average")
    with pytest.raises(ValueError, match="size"):
        resize(torch.zeros(1, 1, 8, 8), (0, 2), "area")


# ---- masks drawn on the grid ---------------------------------------------------------------------

INDEX = torch.arange(6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mask",
    [
        shapes.Perlin(),
        shapes.Rectangle() | ~shapes.Simplex(),
        shapes.Shape(anoaug.ShapeBank.procedural("blob", n=2, size=32)) & shapes.Perlin(),
    ],
    ids=["perlin", "expression", "bank"],
)
def test_any_expression_is_drawn_sample_by_sample(mask: shapes.Mask) -> None:
    found = drawn(mask, (20, 14), INDEX, 3, seed=5)
    assert found.shape == (6, 1, 20, 14) and found.dtype == torch.float32
    assert found.unique().tolist() == [0.0, 1.0]
    assert torch.equal(drawn(mask, (20, 14), [4, 1], 3, seed=5), found[[4, 1]])
    for other in ({"epoch": 4}, {"seed": 6}, {"stream": "other"}):
        assert not torch.equal(
            drawn(mask, (20, 14), INDEX, **{"epoch": 3, "seed": 5, **other}), found
        )


def test_a_chance_empties_masks() -> None:
    index = torch.arange(2000)
    found = drawn(shapes.Everywhere(), (2, 2), index, p=0.3).flatten(1)
    assert torch.equal(found.any(1), found.all(1))
    assert abs(found[:, 0].mean() - 0.3) < 5 * (0.21 / 2000) ** 0.5


def test_the_power_of_two_grid_is_resized_before_the_threshold() -> None:
    mask = masks.perlin((20, 14), 0.2)
    found = drawn(mask, (20, 14), INDEX, grid="power_of_two")
    fine = masks.drawing(mask)
    number = anoaug.synthesizer.Numbering(0)(INDEX, 0, 6)
    level = fine.level(fine.table(number, (32, 16), "mask", torch.device("cpu")), (32, 16), "auto")
    expected = torch.nn.functional.interpolate(
        level, (20, 14), mode="bilinear", align_corners=False
    )
    assert torch.equal(found, (expected > 0).float())
    same = drawn(masks.perlin((32, 16), 0.2), (32, 16), INDEX, grid="power_of_two")
    assert torch.equal(same, drawn(masks.perlin((32, 16), 0.2), (32, 16), INDEX))


@pytest.mark.parametrize(
    ("size", "finest"), [((64, 64), 5), ((32, 64), 5), ((16, 64), 4), ((9, 33), 4), ((1, 7), 0)]
)
def test_cells_never_get_smaller_than_a_position(size: tuple[int, int], finest: int) -> None:
    assert masks.perlin(size, 0.2).log2_cells == (0, finest)
    assert drawn(masks.perlin(size, 0.2), size, INDEX).shape == (6, 1, *size)


def test_masks_that_need_an_image_are_refused() -> None:
    for mask in (
        shapes.Foreground(),
        shapes.Perlin() & shapes.Given("plane"),
        shapes.ObjectPatch(),
    ):
        with pytest.raises(ValueError, match="needs no image"):
            drawn(mask, (4, 4), INDEX)
    with pytest.raises(TypeError, match=r"mask of anoaug\.masks"):
        drawn(torch.zeros(1), (4, 4), INDEX)  # type: ignore[arg-type]
