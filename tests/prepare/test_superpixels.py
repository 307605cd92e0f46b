"""Superpixels: as good as the common implementation's, the same anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage import segmentation

from anoaug import prepare
from anoaug.prepare import Superpixels

CHEQUERS = (torch.arange(60)[:, None] // 15 + torch.arange(80)[None] // 20) % 2


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB").resize((256, 256)))


def recall(labels: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Share of the edges within a pixel of a boundary, and of the image that boundaries take."""
    near = ndimage.binary_dilation(segmentation.find_boundaries(labels), iterations=1)
    return float((near & edges).sum() / edges.sum()), float(near.mean())


@pytest.mark.slow
def test_boundaries_recall_edges_as_scikit_image_s_do(data_dir: Path) -> None:
    train = sorted(p for p in (data_dir / "bsd_pitting" / "train").rglob("*") if p.is_file())
    texture = data_dir / "textures_cc0" / "Chainmail_002.jpg"
    for path in (*train[:2], texture):
        image = picture(path)
        grey = ndimage.gaussian_filter(image.astype(float) @ [0.299, 0.587, 0.114], 1)
        slope = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
        edges = slope > np.quantile(slope, 0.92)
        theirs, wide = recall(segmentation.slic(image, 200, 10.0, start_label=0), edges)
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        ours, ours_wide = recall(Superpixels(200, 10.0)(tensor)[0, 0].numpy(), edges)
        assert ours > theirs - 0.02 and ours_wide < wide + 0.07


def test_regions_of_one_colour_are_found_exactly() -> None:
    image = (CHEQUERS * 255).to(torch.uint8)[None, None]
    labels = Superpixels(16, 10.0)(image)[0, 0]
    for label in labels.unique():
        assert len(CHEQUERS[labels == label].unique()) == 1


def test_a_plain_image_is_cut_into_its_blocks() -> None:
    labels = Superpixels(12)(torch.full((1, 3, 60, 80), 7, dtype=torch.uint8))[0, 0]
    expected = torch.arange(60)[:, None] // 20 * 4 + torch.arange(80)[None] // 20
    assert torch.equal(labels, expected.to(torch.int32))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(2, 40), width=st.integers(2, 40), count=st.integers(1, 60),
    channels=st.sampled_from([1, 2, 3, 4]),
)  # fmt: skip
def test_every_pixel_has_a_label_near_it(
    height: int, width: int, count: int, channels: int
) -> None:
    generator = torch.Generator().manual_seed(height)
    image = torch.randint(0, 256, (2, channels, height, width), generator=generator).byte()
    labels = Superpixels(count)(image)
    assert labels.shape == (2, 1, height, width) and labels.dtype == torch.int32
    assert labels.min() >= 0 and labels.max() < 4 * count + 4 * max(height, width)


def test_an_image_has_the_same_labels_in_any_batch() -> None:
    image = torch.randint(0, 256, (3, 3, 50, 44), generator=torch.Generator().manual_seed(1)).byte()
    whole = Superpixels(30)._labels(image)
    assert torch.equal(whole, Superpixels(30)(image))
    for n in range(3):
        assert torch.equal(whole[n : n + 1], Superpixels(30)(image[n : n + 1]))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32, torch.float16])
def test_images_of_any_dtype_are_cut_alike(dtype: torch.dtype) -> None:
    image = torch.randint(0, 256, (1, 3, 40, 44), generator=torch.Generator().manual_seed(1)).byte()
    same = image.int() * 257 if dtype == torch.uint16 else image / 255
    assert torch.equal(Superpixels(30)(same.to(dtype)), Superpixels(30)(image))


def test_larger_sums_are_exact_too() -> None:
    """float64 takes over where float32 would round; it changes nothing where both are exact."""
    image = torch.randint(0, 256, (1, 1, 90, 80), generator=torch.Generator().manual_seed(1)).byte()
    labels = Superpixels(1)(image.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert (labels == 0).all()
    assert len(Superpixels(4)(image.repeat_interleave(4, 2)).unique()) == 4


def test_thin_pieces_join_their_neighbours() -> None:
    image = torch.full((1, 1, 60, 60), 90, dtype=torch.uint8)
    image[:, :, 30, :] = 255
    image[:, :, 11, 17] = 255
    labels = Superpixels(9, 1.0)(image)[0, 0].numpy()
    for label in np.unique(labels):
        pieces, count = ndimage.label(labels == label)
        sizes = np.bincount(pieces.ravel())[1:]
        assert count == 1 or sizes.min() >= 9


def test_no_image_has_no_label() -> None:
    assert Superpixels()(torch.zeros(0, 3, 8, 9)).shape == (0, 1, 8, 9)


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": 1.5}, {"iterations": 0}, {"compactness": 0.0}]
)
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        Superpixels(**wrong)


# ---- kept by index -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8])
def test_labels_are_kept_by_index(dtype: torch.dtype) -> None:
    images = torch.randint(
        0, 256, (6, 3, 24, 20), generator=torch.Generator().manual_seed(1)
    ).byte()
    kept, seen = None, []

    def find(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return Superpixels(20)(batch)

    kept = prepare.CachedLabels(find, 6, dtype)
    for _ in range(2):
        for index in ([4, 0, 5], [3, 2, 1]):
            found = kept(images[index], index)
            assert found.dtype == dtype
            assert torch.equal(found.int(), Superpixels(20)(images[index]))
    assert seen == [3, 3] and kept.known == 6


@pytest.mark.parametrize("wrong", [{"labels": None}, {"dtype": torch.int64}])
def test_what_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="labels, dtype: expected a callable and torch.int16"):
        prepare.CachedLabels(**{"labels": Superpixels(), "count": 3, **wrong})
