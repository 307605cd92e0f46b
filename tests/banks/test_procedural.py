"""Procedural textures: pure functions of (seed, index), varied, never blank."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from anoaug.banks import imagefolder, procedural

FAMILIES = tuple(procedural.FAMILIES)


@pytest.fixture(scope="module")
def many() -> npt.NDArray[np.uint8]:
    return np.stack([procedural.texture(index, (64, 64)) for index in range(88)])


@pytest.mark.slow
def test_the_bits_are_those_of_this_version(many: npt.NDArray[np.uint8]) -> None:
    # A change here is a change of what a seed means: raise the spec version and say so.
    assert hashlib.sha256(many.tobytes()).hexdigest()[:16] == "a1510bc93e4e236b"


def test_every_texture_is_another_one(many: npt.NDArray[np.uint8]) -> None:
    assert len({texture.tobytes() for texture in many}) == len(many)


def test_no_texture_is_blank(many: npt.NDArray[np.uint8]) -> None:
    low, high = np.percentile(many.mean(axis=1), (3, 97), axis=(1, 2))
    assert (high - low).min() > 10


def test_colours_and_contrasts_vary_between_textures(many: npt.NDArray[np.uint8]) -> None:
    colour = many.mean(axis=(2, 3)) / 255
    contrast = many.mean(axis=1).std(axis=(1, 2)) / 255
    assert colour.std(axis=0).min() > 0.12
    assert np.percentile(contrast, 90) > 2 * np.percentile(contrast, 10)


def test_scales_vary_between_textures(many: npt.NDArray[np.uint8]) -> None:
    grey = many.mean(axis=1)
    steps = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2)) / grey.std(axis=(1, 2))
    assert np.percentile(steps, 90) > 3 * np.percentile(steps, 10)


@pytest.mark.parametrize("family", range(len(FAMILIES)), ids=FAMILIES)
def test_a_seed_changes_every_family(family: int) -> None:
    first, second = (procedural.texture(family, (32, 32), seed) for seed in (1, 2))
    assert np.abs(first.astype(int) - second).mean() > 5


@pytest.mark.slow
@pytest.mark.parametrize("index", [3, 8, 12])
def test_another_size_samples_the_same_texture(index: int) -> None:
    small = procedural.texture(index, (128, 128)).mean(axis=0)
    large = procedural.texture(index, (384, 384)).mean(axis=0)
    reduced = large.reshape(128, 3, 128, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.6


def test_one_channel_is_the_luma_of_three() -> None:
    colour = procedural.texture(4, (16, 24), 9)
    assert np.array_equal(procedural.texture(4, (16, 24), 9, 1), imagefolder.luma(colour))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (20, 130)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    for index in range(2 * len(FAMILIES)):
        texture = procedural.texture(index, size)
        assert (texture.shape, texture.dtype) == ((3, *size), np.uint8)
