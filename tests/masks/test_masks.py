"""Masks: rectangles, given tensors and the algebra; Perlin has a file of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import functional, masks, parts, sources
from tests.drawing import (
    DEVICE,
    expect_uniform,
    levels,
    mask_columns,
    needs_triton,
    sizes,
    some,
)

MANY = 4000


# ---- rectangles ----------------------------------------------------------------------------------


rectangles = st.one_of(
    st.builds(
        masks.Rectangle,
        area=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)).map(lambda r: tuple(sorted(r))),
        aspect=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(lambda r: tuple(sorted(r))),
        aspect_law=st.sampled_from(["log", "split"]),
    ),
    st.builds(
        masks.Rectangle,
        height=st.floats(1, 30),
        width=st.tuples(st.floats(1, 9), st.floats(10, 90)),
    ),
)


@pytest.mark.slow
@some
@given(mask=rectangles, size=sizes)
def test_an_upright_rectangle_covers_exactly_its_pixels(mask: Any, size: tuple[int, int]) -> None:
    drawn, box = levels(mask, size, range(4)) > 0, mask_columns(mask, size, 4)
    for n in range(4):
        height, width = 2 * box["half_h"][n], 2 * box["half_w"][n]
        rows, columns = drawn[n].any(1).nonzero(), drawn[n].any(0).nonzero()
        assert (len(rows), len(columns), int(drawn[n].sum())) == (height, width, height * width)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    height=st.floats(1, 25),
    width=st.floats(1, 25),
    rotation=st.floats(-180, 180),
    size=st.tuples(st.integers(37, 60), st.integers(37, 60)),
)
def test_a_turned_rectangle_lies_inside_the_image(
    height: float, width: float, rotation: float, size: tuple[int, int]
) -> None:
    box = mask_columns(masks.Rectangle(height=height, width=width, rotation=rotation), size, 6)
    cos, sin = np.abs(box["cos"]), np.abs(box["sin"])
    reach_y = cos * box["half_h"] + sin * box["half_w"]
    reach_x = cos * box["half_w"] + sin * box["half_h"]
    for centre, reach, side in ((box["cy"], reach_y, size[0]), (box["cx"], reach_x, size[1])):
        assert (centre - reach >= -0.5 - 1e-4).all()
        assert (centre + reach <= side - 0.5 + 1e-4).all()


@some
@given(rotation=st.floats(-180, 180), height=st.floats(1, 20), width=st.floats(1, 20), size=sizes)
def test_the_level_of_a_rectangle_is_the_distance_to_its_edge(
    rotation: float, height: float, width: float, size: tuple[int, int]
) -> None:
    mask = masks.Rectangle(height=height, width=width, rotation=rotation)
    box = {name: value[0] for name, value in mask_columns(mask, size, 1).items()}
    y, x = np.mgrid[: size[0], : size[1]] - np.array([box["cy"], box["cx"]])[:, None, None]
    turn = math.radians(rotation)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    expected = np.minimum(box["half_w"] - np.abs(along), box["half_h"] - np.abs(across))
    assert np.abs(levels(mask, size, [0])[0].numpy() - expected).max() < 1e-4


def test_scars_turn_either_way_and_keep_their_area() -> None:
    mask = masks.Rectangle(height=(10, 25), width=(2, 16), rotation=(-45, 45))
    size = (128, 100)
    box, drawn = mask_columns(mask, size, 500), levels(mask, size, range(500)) > 0
    exact = 4 * box["half_h"] * box["half_w"]
    found = drawn.sum((1, 2)).double().numpy()
    # A turned edge gains or loses part of the pixels that it crosses, never whole rows.
    assert np.abs(found - exact).max() < 12
    assert abs((found / exact).mean() - 1) < 0.02
    angle = np.degrees(np.arctan2(box["sin"], box["cos"]))
    expect_uniform(angle.clip(-45, 45), -45, 45)


def test_area_is_uniform_in_its_range() -> None:
    box = mask_columns(masks.Rectangle(area=(0.02, 0.15)), (512, 512), MANY)
    area = 4 * box["half_h"] * box["half_w"] / 512**2
    # Whole pixels: up to one row and one column off.
    expect_uniform(area.clip(0.02, 0.15), 0.02, 0.15)
    assert area.min() > 0.0195 and area.max() < 0.1515


def test_aspect_is_log_uniform() -> None:
    box = mask_columns(masks.Rectangle(aspect=(0.3, 1 / 0.3)), (512, 512), MANY)
    aspect = np.log(box["half_w"] / box["half_h"]) / math.log(1 / 0.3)
    expect_uniform(aspect.clip(-1, 1), -1, 1)


def test_split_aspect_is_a_fair_coin_between_two_linear_ranges() -> None:
    box = mask_columns(masks.Rectangle(aspect=(0.3, 3.3), aspect_law="split"), (512, 512), MANY)
    aspect = box["half_w"] / box["half_h"]
    # Rounding to whole pixels lets some of the two ranges meet at 1: leave those out of the count.
    below, above = aspect[aspect < 1], aspect[aspect > 1]
    near = MANY - len(below) - len(above)
    assert near < 0.03 * MANY
    assert abs(len(below) - len(above)) < near + 5 * math.sqrt(MANY)
    expect_uniform(below.clip(0.3, 1), 0.3, 1)
    expect_uniform(above.clip(1, 3.3), 1, 3.3)


@pytest.mark.parametrize("aspect", [(0.2, 0.8), (1.5, 4.0)])
def test_split_aspect_on_one_side_of_1_is_linear(aspect: tuple[float, float]) -> None:
    box = mask_columns(masks.Rectangle(aspect=aspect, aspect_law="split"), (512, 512), MANY)
    drawn = box["half_w"] / box["half_h"]
    expect_uniform(drawn.clip(*aspect), *aspect)


def test_sides_in_pixels_are_whole_and_equally_often() -> None:
    box = mask_columns(masks.Rectangle(height=(10, 25), width=(2, 16)), (256, 256), MANY)
    for half, low, high in ((box["half_h"], 10, 25), (box["half_w"], 2, 16)):
        tally = np.bincount((2 * half).astype(int))
        assert (2 * half == np.round(2 * half)).all() and tally[:low].sum() == 0
        assert len(tally) == high
        assert stats.chisquare(tally[low:]).pvalue > 1e-4


def test_every_place_is_reached_equally_often() -> None:
    box = mask_columns(masks.Rectangle(height=5, width=8), (12, 14), MANY)
    top, left = box["cy"] - box["half_h"] + 0.5, box["cx"] - box["half_w"] + 0.5
    table = stats.contingency.crosstab(top, left)
    assert [list(e) for e in table.elements] == [list(range(8)), list(range(7))]
    assert stats.chisquare(table.count.ravel()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("law", "rows"), [({"area": 1.0, "aspect": 5.0}, 11), ({"height": 90, "width": 90}, 20)]
)
def test_sides_end_at_the_image(law: dict[str, Any], rows: int) -> None:
    drawn = levels(masks.Rectangle(**law), (20, 30), range(5)) > 0
    assert (drawn.any(1).sum(1) == 30).all()
    assert (drawn.any(2).sum(1) == rows).all()


@pytest.mark.triton_interpreter
@needs_triton
def test_rectangles_of_the_kernel_equal_the_reference() -> None:
    mask = masks.Rectangle(height=(3, 25), width=(2, 16), rotation=(-90, 90))
    ours, truth = (
        levels(mask, (33, 47), range(8), backend=backend, device=DEVICE)
        for backend in ("triton", "torch")
    )
    assert torch.equal(ours, truth)


# ---- algebra -------------------------------------------------------------------------------------


@parts.part
@dataclass(frozen=True)
class SecondPerlin(masks.Perlin):
    """A field with a stream of its own, so that it is the same alone and in an expression."""


@parts.part
@dataclass(frozen=True)
class SecondRectangle(masks.Rectangle):
    """Likewise."""


LEAVES = (
    masks.Perlin(threshold=0.1),
    masks.Rectangle(area=(0.1, 0.5), rotation=(-45, 45)),
    SecondPerlin(threshold=-0.1, log2_cells=(0, 3)),
    SecondRectangle(area=(0.2, 0.6)),
    masks.Everywhere(),
)


@st.composite
def expressions(draw: Any) -> tuple[masks.Mask, Any]:
    """A mask of some leaves, each at most once, and the same of their levels."""
    chosen = draw(st.lists(st.sampled_from(range(5)), unique=True, min_size=1, max_size=5))
    nodes: list[tuple[masks.Mask, Any]] = [(LEAVES[k], lambda each, k=k: each[k]) for k in chosen]
    while len(nodes) > 1 or draw(st.booleans()):
        mask, value = nodes.pop(draw(st.integers(0, len(nodes) - 1)))
        operator = draw(st.sampled_from("~&|" if nodes else "~"))
        if operator == "~":
            nodes.append((~mask, lambda each, v=value: -v(each)))
            continue
        other, second = nodes.pop(draw(st.integers(0, len(nodes) - 1)))
        if operator == "&":
            both = lambda each, v=value, w=second: torch.minimum(v(each), w(each))  # noqa: E731
            nodes.append((mask & other, both))
        else:
            either = lambda each, v=value, w=second: torch.maximum(v(each), w(each))  # noqa: E731
            nodes.append((mask | other, either))
    return nodes[0]


@lru_cache(maxsize=1)
def leaf_levels() -> list[torch.Tensor]:
    return [levels(leaf, (30, 34), range(3), seed=4, backend="torch") for leaf in LEAVES]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pair=expressions())
def test_expressions_are_minimum_maximum_and_negation_of_levels(pair: Any) -> None:
    mask, value = pair
    for backend in ("torch", "auto"):
        ours = levels(mask, (30, 34), range(3), seed=4, backend=backend)
        assert torch.equal(ours, value(leaf_levels()))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@settings(max_examples=8, deadline=None)
@given(pair=expressions())
def test_expressions_of_the_kernel_are_the_same(pair: Any) -> None:
    mask, _ = pair
    ours, truth = (
        levels(mask, (30, 34), range(3), seed=4, backend=backend, device=DEVICE)
        for backend in ("triton", "torch")
    )
    assert torch.equal(ours, truth)


def test_operators_are_those_of_sets() -> None:
    first, second = leaf_levels()[0] > 0, leaf_levels()[1] > 0
    a, b = LEAVES[:2]
    for mask, expected in (
        (a & b, first & second),
        (a | b, first | second),
        (~a, ~first),
        (a & ~b, first & ~second),
        (~(a | b), ~first & ~second),
    ):
        assert torch.equal(levels(mask, (30, 34), range(3), seed=4) > 0, expected)


def test_everywhere_is_everywhere() -> None:
    assert (levels(masks.Everywhere(), (7, 9), range(2)) > 0).all()
    assert not (levels(~masks.Everywhere(), (7, 9), range(2)) > 0).any()


def test_a_mask_twice_in_an_expression_is_two_masks() -> None:
    drawn = levels(masks.Rectangle() & masks.Rectangle(), (64, 64), range(200)) > 0
    alone = levels(masks.Rectangle(), (64, 64), range(200)) > 0
    assert drawn.sum() < 0.5 * alone.sum()
    assert not (drawn & ~alone).any(), "the first of the two keeps its numbers"


@pytest.mark.parametrize("other", [3, None, sources.Constant(), "perlin"])
def test_only_masks_combine_with_masks(other: Any) -> None:
    with pytest.raises(TypeError, match="expected a mask to combine with"):
        masks.Perlin() & other


# ---- given tensors -------------------------------------------------------------------------------


def given_plane() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(4, 1, 63, 50, generator=generator)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.float16])
def test_a_given_tensor_is_the_mask(images: torch.Tensor, dtype: torch.dtype) -> None:
    inside = given_plane() > 0.7
    # A byte counts where it is not 0, a float above one half.
    high, low = (3, 0) if dtype == torch.uint8 else (1, 0)
    plane = torch.where(inside, high, low).to(dtype)
    if dtype.is_floating_point:
        plane = given_plane().clamp(0, 1).to(dtype)
        inside = plane > 0.5
    layer = anoaug.Layer(masks.Given("spots"), sources.Constant(1.0))
    out = anoaug.Synthesizer(layer, p=1.0, seed=1)(images, slots={"spots": plane})
    assert torch.equal(out.mask > 0, inside)


def test_given_tensors_combine_with_drawn_masks(images: torch.Tensor) -> None:
    inside = given_plane() > 0.7
    rectangle = masks.Rectangle(area=(0.2, 0.4))
    mask = rectangle & masks.Given("spots") | masks.Given("holes") & masks.Foreground()
    holes, front = given_plane().flip(0) > 0.9, given_plane().flip(2) > 0.5
    synth = anoaug.Synthesizer(anoaug.Layer(mask, sources.Constant(1.0)), p=1.0, seed=1)
    out = synth(
        images, index=range(4), epoch=0, foreground=front, slots={"spots": inside, "holes": holes}
    )
    drawn = functional.field(rectangle, (63, 50), range(4), seed=1) > 0
    assert torch.equal(out.mask > 0, drawn & inside | holes & front)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masks.Rectangle(area=(0.0, 1.5)), "area: expected values within"),
        (lambda: masks.Rectangle(area=(0.2, 0.1)), "area: expected .low, high."),
        (lambda: masks.Rectangle(aspect=0.0), "aspect: expected values within"),
        (lambda: masks.Rectangle(aspect_law="even"), "aspect_law: expected one of"),
        (lambda: masks.Rectangle(height=5), "expected height and width together"),
        (lambda: masks.Rectangle(height=0.5, width=5), "height: expected values within"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
