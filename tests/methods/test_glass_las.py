"""GLASS's image branch: two fields joined, how large, how opaque, of which ops."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

import anoaug
from anoaug import prepare, recipe
from anoaug.photometric import RandomOps
from tests.drawing import pixels, textures

BANK = textures(5, 32, 32)
GREY = textures(5, 32, 32, 1)
# Of the code at 288 pixels: draws until there is a mask; mean and quantiles of its area then.
DRAWS, AREA, QUANTILES = 1.10, 0.053, {0.05: 0.001, 0.5: 0.048, 0.95: 0.126}
POOLED = 0.14


def glass(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("glass_las", **{"textures": BANK, "seed": 4, **keywords})


@lru_cache(maxsize=1)
def drawn_masks() -> Tensor:
    """400 masks at 288 pixels."""
    blank = torch.zeros(400, 1, 288, 288, dtype=torch.uint8)
    return glass(textures=GREY, ops=None)(blank, index=range(400), epoch=0).mask


@lru_cache(maxsize=1)
def columns() -> dict[str, np.ndarray]:
    """Columns of 5,000 samples."""
    blank = torch.zeros(1, 3, 32, 32, dtype=torch.uint8).expand(5000, -1, -1, -1)
    table = glass().sample(blank, index=torch.arange(5000), epoch=0)
    return recipe.recipe(glass().laws(3)).describe(table.numpy())


@pytest.mark.slow
def test_every_sample_with_a_mask_is_anomalous() -> None:
    assert columns()["active"].all()
    empty = int((~drawn_masks().flatten(1).any(1)).sum())
    assert stats.binomtest(empty, 400, 1 - 1 / DRAWS).pvalue > 1e-3


@pytest.mark.slow
def test_areas_are_the_original_s() -> None:
    area = drawn_masks().mean((1, 2, 3)).double().numpy()
    area = area[area > 0]
    assert abs(area.mean() - AREA) < 3.5 * area.std() / np.sqrt(len(area)) + 5e-4
    for share, value in QUANTILES.items():
        below = int((area < value).sum())
        # The facts' own quantiles are of 700 draws.
        assert abs(below / len(area) - share) < 4 * np.sqrt(
            share * (1 - share) * (1 / 372 + 1 / 636)
        )


@pytest.mark.slow
def test_the_pooled_mask_is_the_original_s() -> None:
    pooled = functional.max_pool2d(drawn_masks(), 8).mean((1, 2, 3)).double().numpy()
    pooled = pooled[pooled > 0]
    assert abs(pooled.mean() - POOLED) < 4 * pooled.std() * np.sqrt(1 / len(pooled) + 1 / 700)


def test_a_third_each_of_either_both_and_the_first() -> None:
    tally = np.bincount(columns()["layer0.mask.joined.mode"].view(np.int32), minlength=3)
    assert stats.chisquare(tally).pvalue > 1e-3


def test_the_two_fields_are_independent() -> None:
    first, second = (columns()[f"layer0.mask.perlin{n}.yy"] for n in ("", "1"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(5000)


def test_opacity_is_normal_and_clipped() -> None:
    drawn = columns()["layer0.blend.opacity.opacity"].astype(np.float64)
    assert drawn.min() >= 0.2 - 1e-7 and drawn.max() <= 0.8 + 1e-7
    assert stats.kstest((drawn - 0.5) / 0.1, "norm").pvalue > 1e-3
    uniform = glass(std=None, opacity=(0.4, 0.6))
    table = uniform.sample(torch.zeros(1000, 3, 32, 32), index=range(1000), epoch=0)
    found = recipe.recipe(uniform.laws(3, torch.float32)).describe(table.numpy())
    opacity = found["layer0.blend.opacity.opacity"].astype(np.float64)
    assert stats.kstest((opacity - 0.4) / 0.2, "uniform").pvalue > 1e-3


def test_three_of_nine_ops() -> None:
    defaults = anoaug.describe("glass_las")["defaults"]
    assert defaults["ops"] == RandomOps.glass()
    assert (len(defaults["ops"].ops), defaults["ops"].count) == (9, 3)


@pytest.mark.slow
def test_odds_choose_the_operator() -> None:
    images = pixels(30, 3, 64, 64)
    call: dict[str, Any] = {"index": range(30), "epoch": 0}
    either, both, first = (
        glass(odds=odds)(images, **call).mask for odds in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    assert (either >= first).all() and (both <= first).all()
    assert torch.equal(
        first, anoaug.create("draem", textures=BANK, seed=4, p=1.0)(images, **call).mask
    )


@pytest.mark.slow
def test_a_foreground_keeps_it_on_the_object() -> None:
    images = torch.full((30, 3, 64, 64), 10, dtype=torch.uint8)
    images[:, :, 16:48, 16:48] = 160
    masks = prepare.Cached(prepare.Foreground("otsu", polarity="bright"), 30)
    call: dict[str, Any] = {"index": range(30), "epoch": 0}
    out, plain = (glass(foreground=fg)(images, **call) for fg in (masks, None))
    inside = torch.zeros(64, 64)
    inside[16:48, 16:48] = 1
    assert torch.equal(out.mask, plain.mask * inside) and 10 < out.label.sum() < plain.label.sum()
