"""REB: DefectMaker's boxes, fills, opacities and places."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import recipe
from tests.drawing import expect_uniform, pixels

BLANK = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
SHAPES = anoaug.ShapeBank.procedural(("blob", "clump"), n=24, size=64)


def reb(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("reb", **{"shapes": SHAPES, "seed": 3, **keywords})


@lru_cache(maxsize=2)
def columns(fill: str = "cut") -> dict[str, np.ndarray]:
    """Columns of 3,000 samples."""
    synth = reb(p=1.0, fill=fill)
    table = synth.sample(BLANK.expand(3000, -1, -1, -1), index=torch.arange(3000), epoch=0)
    return recipe.recipe(synth.laws(3)).describe(table.numpy())


def of_layer(number: int, name: str, role: str = "mask", fill: str = "cut") -> np.ndarray:
    found = [
        value
        for key, value in columns(fill).items()
        if key.startswith(f"layer{number}.{role}.") and key.endswith(f".{name}")
    ]
    assert len(found) == 1
    return found[0].astype(np.float64)


def box(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of the boxes, but for the whole pixel they are rounded up to."""
    return of_layer(number, "tall"), of_layer(number, "wide")


def test_one_of_three_kinds() -> None:
    assert reb().kinds == ("normal", "reb_blob_cut", "reb_scar_cut", "reb_clump_cut", "given")
    assert reb(fill="noise").kinds[1] == "reb_blob_noise"
    gates = np.stack([columns()[f"layer{n}.gate"] for n in range(3)])
    assert (gates.sum(0) == 1).all()
    assert stats.chisquare(gates.sum(1)).pvalue > 1e-3


@pytest.mark.parametrize(("layer", "most"), [(0, 3.3), (2, 3.0)])
def test_boxes_of_blobs_and_clumps(layer: int, most: float) -> None:
    height, width = box(layer)
    area = height * width / 256**2
    # Rounded up, both sides.
    assert area.min() > 0.02 and area.max() < 0.15 + 0.012
    expect_uniform(np.clip(area - 0.003, 0.02, 0.15), 0.0195, 0.151)
    ratio = np.log(width / height)
    assert abs(ratio.mean()) < 0.05 and np.abs(ratio).max() < np.log(most) + 0.05


def test_boxes_of_scars() -> None:
    height, width = box(1)
    assert set(width.astype(int)) == set(range(7, 22))
    assert set(height.astype(int)) == set(range(15, 31))
    angle = np.degrees(np.arctan2(-of_layer(1, "yx"), of_layer(1, "yy")))
    folded = (angle + 90) % 180 - 90  # mirrored or not
    expect_uniform(np.abs(folded), 0.0, 45.0)


def test_opacity_is_whole_but_for_clumps() -> None:
    for layer in (0, 1):
        assert (of_layer(layer, "opacity", "blend") == 1).all()
    expect_uniform(of_layer(2, "opacity", "blend"), 0.5, 1.0)


def test_edges_are_four_or_two_pixels_wide_at_most() -> None:
    for layer, most in ((0, 4.0), (1, 2.0), (2, 2.0)):
        expect_uniform(1.0 / of_layer(layer, "slope", "blend"), 1e-3, most)


@pytest.mark.slow
def test_noise_has_the_means_and_strengths_of_the_original() -> None:
    means = [of_layer(n, "mean", "source", "noise") for n in range(3)]
    expect_uniform(np.concatenate(means), 50 / 255, 190 / 255)
    images = BLANK.expand(300, -1, -1, -1)
    out = reb(p=1.0, fill="noise", foreground=None, softness=0.0)(images, index=range(300), epoch=0)
    spreads = [
        image[0][mask[0] > 0].float().std()
        for image, mask, kind in zip(out.image, out.mask, out.kind, strict=True)
        if kind == 1
    ]
    # Uniform within +-45 has a deviation of 26; theirs are uniform from 0 up.
    assert 10 < np.mean(spreads) < 16 and max(spreads) < 32


@pytest.mark.slow
def test_shapes_lie_about_salient_pixels() -> None:
    images = torch.full((30, 3, 128, 128), 90, dtype=torch.uint8)
    images[:, :, 70:100, 20:60] = pixels(30, 3, 30, 40)
    synth = reb(p=1.0, weights=(0, 1, 0))
    out = synth(images, index=range(30), epoch=0)
    salient = anoaug.prepare.Foreground("saliency")(images)
    assert out.label.all() and salient.any()
    near = torch.nn.functional.max_pool2d(salient.float(), 41, 1, 20)
    assert (near[out.mask > 0] > 0).all()


def test_where_nothing_is_salient_everything_is() -> None:
    assert reb(p=1.0, fill="noise")(BLANK.expand(8, -1, -1, -1)).label.all()


def test_crops_come_from_donors_where_there_are_any() -> None:
    images = torch.zeros(12, 3, 96, 96, dtype=torch.uint8)
    donors = torch.full((3, 3, 96, 96), 200, dtype=torch.uint8)
    out = reb(p=1.0, donors=donors, jitter=0.0, softness=0.0, weights=(1, 1, 0))(images)
    inside = (out.mask > 0).expand_as(images)
    assert out.label.all() and (out.image[inside] == 200).all()


def test_shapes_of_any_bank_can_be_used() -> None:
    marks = anoaug.ShapeBank.procedural("stain", n=3, size=64)
    synth = reb(shapes=marks, p=1.0)
    assert synth._binding.banks == (marks,)
    assert synth(pixels(4, 3, 64, 64)).label.all()


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"fill": "colour"}, ValueError, "fill: expected one of"),
        ({"shapes": "blob"}, TypeError, "shapes: expected a ShapeBank or None, got str"),
        ({"softness": -1}, ValueError, "softness: expected"),
    ],
)
def test_what_makes_no_sense_is_refused(keywords: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        reb(**keywords)
