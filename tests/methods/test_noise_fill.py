"""Noise fill: one rectangle of white noise, its size and its noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import recipe
from tests.drawing import expect_uniform

MANY = 3000


@lru_cache(maxsize=2)
def columns() -> dict[str, np.ndarray]:
    synth = anoaug.create("noise_fill", seed=4)
    blank = torch.zeros(1, 3, 512, 512, dtype=torch.uint8).expand(MANY, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(MANY), epoch=0).numpy()
    found = recipe.recipe(synth.laws(3)).describe(table)
    return {
        name.split(".")[-1]: v.astype(np.float64) for name, v in found.items() if ".mask." in name
    }


def test_area_is_2_to_40_percent_uniformly_where_the_box_fits() -> None:
    height, width = 2 * columns()["half_h"], 2 * columns()["half_w"]
    cut = (height == 512) | (width == 512)
    # Only a box of more than 0.3 of the image can be too long for it.
    assert 0.0 < cut.mean() < 0.05
    area = height * width / 512**2
    assert area.min() > 0.0195 and area.max() < 0.402
    small = area[area < 0.3]
    expect_uniform(small.clip(0.02, 0.3), 0.02, 0.3)


def test_aspect_is_log_uniform() -> None:
    height, width = 2 * columns()["half_h"], 2 * columns()["half_w"]
    fits = height * width < 0.3 * 512**2
    aspect = np.log(width / height)[fits] / np.log(1 / 0.3)
    expect_uniform(aspect.clip(-1, 1), -1, 1)


def filled(**keywords: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours inside the boxes ``[3, N]`` and the share outside that changed."""
    images = torch.full((30, 3, 96, 96), 0.5)
    out = anoaug.create("noise_fill", seed=4, p=1.0, **keywords)(images, index=range(30), epoch=0)
    inside = out.mask[:, 0] > 0
    outside = out.image.movedim(1, 0)[:, ~inside]
    return out.image.movedim(1, 0)[:, inside], (outside != 0.5).float().mean()


def test_noise_is_uniform_per_pixel_and_channel() -> None:
    noise, outside = filled()
    assert outside == 0
    assert stats.kstest(noise[0, :5000].double().numpy(), "uniform").pvalue > 1e-4
    correlation = np.corrcoef(noise.numpy())
    assert np.abs(correlation - np.eye(3)).max() < 0.02
    neighbours = np.corrcoef(noise[0, :-1], noise[0, 1:])[0, 1]
    assert abs(neighbours) < 0.02


def test_gaussian_noise_has_mean_and_deviation() -> None:
    noise, outside = filled(low=0.5, high=0.1, law="gaussian")
    assert outside == 0
    assert abs(noise.mean() - 0.5) < 0.003 and abs(noise.std() - 0.1) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_p_is_the_share_of_anomalous_samples(p: float) -> None:
    images = torch.zeros(800, 1, 40, 40, dtype=torch.uint8)
    out = anoaug.create("noise_fill", seed=4, p=p)(images, index=range(800), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 800, p).pvalue > 1e-3
