"""Test splits of an MVTec layout: which images, their categories, their masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from anoaug.banks.imagefolder import masked_by_folder

ROOT = Path("/data/mvtec")


def test_images_have_category_and_mask() -> None:
    names = [
        "bottle/ground_truth/crack/000_mask.png",
        "bottle/test/crack/000.png",
        "bottle/test/good/000.png",
        "bottle/train/good/000.png",
        "cable/ground_truth/bent/x/1.bmp",
        "cable/test/bent/x/1.jpg",
        "license.png",
    ]
    assert masked_by_folder(ROOT, names) == {
        "bottle/test/crack/000.png": ("bottle", "bottle/ground_truth/crack/000_mask.png"),
        "bottle/test/good/000.png": ("bottle", None),
        "cable/test/bent/x/1.jpg": ("cable", "cable/ground_truth/bent/x/1.bmp"),
    }


def test_one_category_is_named_after_its_folder() -> None:
    names = ["ground_truth/a/0.png", "test/a/0.png"]
    assert masked_by_folder(ROOT, names) == {"test/a/0.png": ("mvtec", "ground_truth/a/0.png")}


def test_the_mask_named_as_one_is_preferred() -> None:
    names = ["ground_truth/a/0.png", "ground_truth/a/0_mask.png", "test/a/0.png"]
    assert masked_by_folder(ROOT, names)["test/a/0.png"][1] == "ground_truth/a/0_mask.png"


def test_dots_in_a_name_are_part_of_it() -> None:
    names = ["ground_truth/a/0.5_mask.png", "test/a/0.5.png"]
    assert masked_by_folder(ROOT, names)["test/a/0.5.png"][1] == "ground_truth/a/0.5_mask.png"


@pytest.mark.parametrize("other", ["ground_truth/b/0_mask.png", "ground_truth/a/1_mask.png"])
def test_a_defect_without_a_mask_is_refused(other: str) -> None:
    with pytest.raises(ValueError, match=r"test/a/0\.png has no ground_truth/a/0_mask\.\*; add it"):
        masked_by_folder(ROOT, ["test/a/0.png", other])


@pytest.mark.parametrize("name", ["a/0.png", "test/0.png", "train/good/0.png"])
def test_no_test_images_are_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="expected test images"):
        masked_by_folder(ROOT, [name])
