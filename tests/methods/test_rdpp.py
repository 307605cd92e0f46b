"""RD++: the box, and how strong, coarse and grey the noise added in it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug

MANY = 300


@lru_cache(maxsize=2)
def batch() -> anoaug.AnomalyBatch:
    """Mid-grey float images, so that nothing is clipped."""
    images = torch.full((MANY, 1, 256, 256), 0.5)
    return anoaug.create("rdpp", seed=4)(images, index=range(MANY), epoch=0)


def patches() -> list[np.ndarray]:
    """What was added in each box, ``[h, w]``."""
    found = []
    for image, mask in zip(batch().image, batch().mask[:, 0], strict=True):
        y, x = mask.nonzero().T
        box = image[0, y.min() : y.max() + 1, x.min() : x.max() + 1]
        assert box.numel() == len(y)
        found.append(box.numpy() - 0.5)
    return found


@pytest.mark.slow
def test_every_sample_is_anomalous() -> None:
    assert batch().label.all() and batch().mask.flatten(1).any(1).all()


def test_sides_are_10_to_31_pixels_at_256() -> None:
    for axis in (0, 1):
        tally = np.bincount([patch.shape[axis] for patch in patches()])[10:]
        assert len(tally) == 22 and stats.chisquare(tally).pvalue > 1e-4


def test_the_noise_is_as_strong_as_the_original_s() -> None:
    # Deviations of 1,000 of the original's fields: about zero 0.394 (from its own corner 0.452),
    # within boxes of 24 x 24 pixels 0.274; times 0.2.
    whole = np.sqrt(np.mean([np.mean(patch**2) for patch in patches()]))
    assert whole == pytest.approx(0.2 * 0.394, rel=0.12)
    within = np.mean([patch.std() for patch in patches() if min(patch.shape) >= 20])
    assert within == pytest.approx(0.2 * 0.274, rel=0.12)


def test_the_noise_is_as_coarse_as_the_original_s() -> None:
    large = [patch for patch in patches() if patch.shape[1] >= 20]
    variance = np.mean([np.mean(patch**2) for patch in large])
    # Correlations of those fields over 1, 2, 4 and 8 pixels.
    for lag, original in ((1, 0.980), (2, 0.943), (4, 0.854), (8, 0.659)):
        ours = np.mean([np.mean(patch[:, lag:] * patch[:, :-lag]) for patch in large]) / variance
        assert ours == pytest.approx(original, abs=0.07 if lag == 8 else 0.03)


def test_the_noise_is_grey_and_lies_inside_the_box_alone() -> None:
    images = torch.full((40, 3, 96, 64), 0.5)
    out = anoaug.create("rdpp", seed=4)(images, index=range(40), epoch=0)
    added = out.image - images
    assert (added == added[:, :1]).all()
    assert not added[out.mask.expand_as(added) == 0].any()
    assert (added.abs().amax((1, 2, 3)) > 0.05).float().mean() > 0.8


def test_every_sample_has_noise_of_its_own() -> None:
    corners = np.stack([patch[:10, :10].ravel() for patch in patches()[:60]])
    correlation = np.corrcoef(corners) - np.eye(60)
    assert abs(correlation.sum() / (60 * 59)) < 0.05


def test_box_and_noise_grow_with_the_image() -> None:
    def drawn(size: int) -> Any:
        images = torch.full((20, 1, size, size), 0.5)
        return anoaug.create("rdpp", seed=4)(images, index=range(20), epoch=0)

    small, large = drawn(128), drawn(512)
    ratio = large.mask.sum((1, 2, 3)) / small.mask.sum((1, 2, 3))
    assert ratio.min() > 12 and ratio.max() < 24
    first, second = (np.mean([one.image[n].std() for n in range(20)]) for one in (small, large))
    assert first == pytest.approx(second, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("intensity", [0.0, 0.4, (0.1, 0.3)])
def test_the_intensity_can_be_changed(intensity: Any) -> None:
    images = torch.full((60, 1, 128, 128), 0.5)
    synth = anoaug.create("rdpp", seed=4, intensity=intensity)
    strength = (synth(images, index=range(60), epoch=0).image - 0.5).square().mean().sqrt()
    usual = anoaug.create("rdpp", seed=4)(images, index=range(60), epoch=0).image - 0.5
    mean = np.mean(intensity)
    assert strength == pytest.approx(float(usual.square().mean().sqrt()) * mean / 0.2, rel=0.2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"intensity": 1.5}, "intensity: expected values within"),
        ({"wavelength": 0.0}, "wavelength: expected values within"),
        ({"octaves": 0}, "octaves: expected an integer from 1 to 8"),
    ],
)
def test_bad_settings_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anoaug.create("rdpp", **keywords)
