"""Foregrounds kept by sample index: computed once, given, or read from files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anoaug import prepare

from .test_prepare import discs, noise, speckle


class Counting:
    """A foreground that tells what it was asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(images))
        return prepare.otsu(images)


def test_an_epoch_computes_each_foreground_once():
    images, counting = discs(10), Counting()
    kept = prepare.Cached(counting, 10)
    for epoch in range(3):
        order = torch.randperm(10, generator=torch.Generator().manual_seed(epoch))
        for index in order.split(4):
            assert torch.equal(kept(images[index], index), prepare.otsu(images[index]))
    assert sum(counting.rows) == 10 and kept.known == 10


def test_only_the_new_rows_of_a_batch_are_computed():
    images, counting = discs(6), Counting()
    kept = prepare.Cached(counting, 6)
    kept(images[:4], [0, 1, 2, 3])
    assert torch.equal(kept(images[2:6], [2, 3, 4, 5]), prepare.otsu(images[2:6]))
    assert counting.rows == [4, 2]


def test_the_first_sight_of_an_index_counts():
    images = discs(3)
    kept = prepare.Cached(prepare.Foreground("otsu"), 5)
    masks = kept(images, [3, 3, 0])
    assert torch.equal(masks[1], masks[0])
    assert torch.equal(kept(noise(1, 3, 64, 64), [3]), masks[:1])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(2, 13), st.integers(2, 13))
def test_bits_keep_masks_of_any_size(count, height, width):
    masks = speckle(0.5, count, 1, height, width, seed=count)
    images = torch.zeros(count, 1, height, width)
    index = torch.arange(count).flip(0)
    assert torch.equal(prepare.Cached.from_masks(masks)(images, index), masks.flip(0))


def test_inference_mode_may_come_and_go():
    images = discs(4)
    kept = prepare.Cached(prepare.Foreground("otsu"), 4)
    with torch.inference_mode():
        kept(images[:2], [0, 1])
    assert torch.equal(kept(images, range(4)), prepare.otsu(images))


def test_empty_batches_pass():
    kept = prepare.Cached(prepare.Foreground("otsu"), 4)
    assert kept(discs(0), []).shape == (0, 1, 64, 64)
    kept(discs(2), [0, 1])
    assert kept(discs(0), []).shape == (0, 1, 64, 64)


def test_what_does_not_fit_is_refused():
    kept = prepare.Cached(prepare.Foreground("otsu"), 4)
    kept(discs(2), [0, 1])
    with pytest.raises(ValueError, match="index: expected 0 to 3, got 2 to 4"):
        kept(discs(2), [2, 4])
    with pytest.raises(ValueError, match=r"images: expected \(64, 64\) pixels"):
        kept(discs(1, 32), [2])
    with pytest.raises(ValueError, match="shape"):
        kept(discs(2), [2])
    with pytest.raises(TypeError, match="callable"):
        prepare.Cached("otsu", 4)
    with pytest.raises(ValueError, match="count"):
        prepare.Cached(prepare.Foreground("otsu"), 0)
    with pytest.raises(ValueError, match=r"foreground: expected shape \[2, 1, 64, 64\]"):
        prepare.Cached(lambda images: images[:, :1, :5], 4)(discs(2), [0, 1])


@pytest.fixture
def folder(tmp_path):
    masks = np.zeros((3, 20, 20), np.uint8)
    for place, name in enumerate(("b_mask.png", "a_mask.png", "c.png")):
        masks[place, 5 * place : 5 * place + 5] = 255
        Image.fromarray(masks[place]).save(tmp_path / name)
    return tmp_path, torch.from_numpy(masks[:, None] // 255)


def test_masks_from_files_go_by_the_samples_names(folder):
    path, masks = folder
    kept = prepare.Cached.from_folder(path, 20, names=["good/c.jpg", "good/b.jpg", "good/a.jpg"])
    blank = torch.zeros(3, 3, 20, 20)
    assert torch.equal(kept(blank, [0, 1, 2]), masks[[2, 0, 1]])
    by_name = prepare.Cached.from_folder(path, 20)
    assert torch.equal(by_name(blank, [0, 1, 2]), masks[[1, 0, 2]])
    assert prepare.Cached.from_folder(path, (10, 5))(torch.zeros(1, 3, 10, 5), [2]).sum() >= 10


def test_a_sample_without_a_mask_is_refused(folder):
    path, _ = folder
    with pytest.raises(ValueError, match="expected one mask for 'd.jpg'"):
        prepare.Cached.from_folder(path, 20, names=["a.jpg", "d.jpg"])
