"""CDO: how many boxes, how large, where, of which noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import recipe

MANY = 3000


@lru_cache(maxsize=1)
def columns() -> dict[str, np.ndarray]:
    """All columns of many samples at the size the original works at."""
    synth = anoaug.create("cdo", seed=4)
    blank = torch.zeros(1, 3, 1024, 1024, dtype=torch.uint8).expand(MANY, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(MANY), epoch=0).numpy()
    return recipe.recipe(synth.laws(3)).describe(table)


def boxes(name: str) -> np.ndarray:
    """A mask column of the four copies, ``[4, B]``."""
    found = columns()
    keys = [key for key in found if key.endswith(f".{name}") and ".mask." in key]
    assert len(keys) == 4
    return np.stack([found[key] for key in keys]).astype(np.float64)


def test_none_to_four_boxes_equally_often() -> None:
    gates = np.stack([columns()[f"layer{n}.gate"] for n in range(4)])
    assert stats.chisquare(np.bincount(gates.sum(0).astype(int), minlength=5)).pvalue > 1e-4


@pytest.mark.slow
def test_one_in_five_samples_is_normal() -> None:
    images = torch.full((800, 1, 64, 64), 3, dtype=torch.uint8)
    out = anoaug.create("cdo", seed=4)(images, index=range(800), epoch=0)
    assert stats.binomtest(int((out.label == 0).sum()), 800, 0.2).pvalue > 1e-3
    assert torch.equal(out.label, out.mask.flatten(1).any(1).long())
    assert torch.equal(out.image[out.label == 0], images[out.label == 0])


def test_sides_are_5_to_20_percent_uniformly() -> None:
    for name in ("half_h", "half_w"):
        side = 2 * boxes(name).ravel()
        assert side.min() == 51 and side.max() == 204
        assert stats.kstest((side - 51 + 0.5) / 154, "uniform").pvalue > 1e-4
        # The original's sides: twice a whole number from 25 to 101.
        assert abs(side.mean() - 126) < 3


def test_boxes_lie_whole_in_the_image() -> None:
    for centre, half in (("cy", "half_h"), ("cx", "half_w")):
        first = boxes(centre) - boxes(half) + 0.5
        free = 1024 - 2 * boxes(half)
        assert (first >= 0).all() and (first <= free).all()
        place = (first + 0.5) / (free + 1)
        assert stats.kstest(place.ravel(), "uniform").pvalue > 1e-4


@pytest.mark.slow
def test_the_union_covers_what_the_original_s_does() -> None:
    # Half-sides randint(25, 102) of 1024, centres anywhere inside, 0 to 4 boxes: in NumPy.
    generator = np.random.default_rng(0)
    truth = []
    for _ in range(1500):
        canvas = np.zeros((256, 256), bool)
        for _ in range(generator.integers(0, 5)):
            half = generator.integers(25, 102, 2)
            centre = generator.integers(half, 1024 - half)
            (top, left), (bottom, right) = (centre - half) // 4, (centre + half) // 4
            canvas[top:bottom, left:right] = True
        truth.append(canvas.mean())
    images = torch.zeros(1500, 1, 256, 256, dtype=torch.uint8)
    out = anoaug.create("cdo", seed=4)(images, index=range(1500), epoch=0)
    ours = out.mask.mean((1, 2, 3)).double().numpy()
    error = np.hypot(np.std(truth), ours.std()) / np.sqrt(1500)
    assert abs(np.mean(truth) - ours.mean()) < 4 * error
    quantiles = [0.3, 0.5, 0.75, 0.95]
    assert np.abs(np.quantile(truth, quantiles) - np.quantile(ours, quantiles)).max() < 0.006


def test_noise_is_white_from_0_to_254() -> None:
    images = torch.full((60, 3, 128, 128), 255, dtype=torch.uint8)
    out = anoaug.create("cdo", seed=4)(images, index=range(60), epoch=0)
    noise = out.image.movedim(1, 0)[:, out.mask[:, 0] > 0]
    tally = np.bincount(noise.flatten(), minlength=256)
    assert tally[255] == 0
    assert stats.chisquare(tally[1:254]).pvalue > 1e-4
    # The outermost levels are rounded to from one side alone.
    share = tally[[0, 254]].sum() / tally.sum()
    assert share == pytest.approx(1 / 254, rel=0.2)
    assert np.abs(np.corrcoef(noise.numpy()) - np.eye(3)).max() < 0.02


def test_the_number_of_boxes_can_be_fixed() -> None:
    images = torch.zeros(200, 1, 64, 64, dtype=torch.uint8)
    out = anoaug.create("cdo", seed=4, count=1, p=0.5)(images, index=range(200), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 200, 0.5).pvalue > 1e-3
