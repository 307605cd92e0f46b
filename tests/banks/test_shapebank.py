"""ShapeBank: shapes drawn, cut from masks and given; kinds, outlines, renewal."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug.banks import distances, outlines
from tests.drawing import pixels


def bank(*kinds: str, **keywords: Any) -> anoaug.ShapeBank:
    return anoaug.ShapeBank.procedural(kinds or None, **{"n": 20, "size": 48, **keywords})


def disc(side: int = 40, radius: float = 9.0) -> torch.Tensor:
    y, x = torch.meshgrid(*[torch.arange(side) - side / 2 + 0.5] * 2, indexing="ij")
    return (y * y + x * x <= radius * radius)[None, None]


# ---- drawn ---------------------------------------------------------------------------------------


def test_kinds_come_in_turn() -> None:
    ours = bank("crack", "blob", n=5)
    assert ours.categories == ("crack", "blob")
    assert ours.kinds == ("crack", "blob", "crack", "blob", "crack")
    assert ours.names[3] == "blob-3" and len(ours) == 5
    assert ours.data.shape == (5, 1, 48, 48) and ours.data.dtype == torch.uint8


def test_all_kinds_by_default() -> None:
    assert bank().categories == tuple(outlines.KINDS)


def test_levels_are_those_of_the_shapes() -> None:
    inside = outlines.shape("stain", (7, list(outlines.KINDS).index("stain")), 96)
    assert np.array_equal(bank("stain", seed=7).data[0, 0].numpy(), distances.levels(inside))


def test_a_shape_depends_on_neither_number_nor_company() -> None:
    alone, among = bank("blob", n=3), bank("holes", "blob", "scar", n=9)
    assert torch.equal(alone.data, among.data[1::3])
    assert torch.equal(alone.data, bank("blob", n=8).data[:3])
    assert not torch.equal(alone.data, bank("blob", n=3, seed=1).data)


def test_a_bank_is_made_once() -> None:
    assert bank() is bank()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"kinds": "blobb"}, "did you mean blob"),
        ({"kinds": ()}, "kinds: expected different names"),
        ({"kinds": ("blob", "blob")}, "kinds: expected different names"),
        ({"n": 0}, "n: expected at least 1"),
        ({"size": 31}, "size: expected a side of at least 32"),
    ],
)
def test_what_cannot_be_drawn_is_refused(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        anoaug.ShapeBank.procedural(**keywords)


# ---- renewed -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_renewal_is_a_function_of_seed_and_epoch() -> None:
    ours = bank("blob", seed=5)
    first, again, other = ours.renewed(1), bank("blob", seed=5).renewed(1), ours.renewed(2)
    assert torch.equal(first.data, again.data)
    assert first.kinds == ours.kinds and first.data.shape == ours.data.shape
    all_of_them = [ours, first, other, bank("blob", seed=6), bank("blob", seed=6).renewed(1)]
    assert len({one.digest() for one in all_of_them}) == 5
    assert torch.equal(ours.renewed(0).data, ours.data)
    assert torch.equal(other.renewed(1).data, first.data)


def test_a_copy_in_another_process_can_be_renewed() -> None:
    there = pickle.loads(pickle.dumps(bank("blob")))
    assert torch.equal(there.data, bank("blob").data)
    assert torch.equal(there.renewed(3).data, bank("blob").renewed(3).data)
    assert copy.deepcopy(there) is there


def test_given_shapes_cannot_be_renewed() -> None:
    with pytest.raises(ValueError, match="expected a bank from ShapeBank.procedural"):
        anoaug.ShapeBank.from_masks(disc(), size=32).renewed(1)
    with pytest.raises(ValueError, match="epoch: expected"):
        bank().renewed(-1)


# ---- kinds and outlines --------------------------------------------------------------------------


def test_with_kinds_keeps_those() -> None:
    ours = bank("blob", "crack", "holes", n=7)
    chosen = ours.with_kinds("holes", "blob")
    assert chosen.kinds == ("blob", "holes", "blob", "holes", "blob")
    assert torch.equal(chosen.data, ours.data[[0, 2, 3, 5, 6]])
    assert chosen.names == tuple(ours.names[n] for n in (0, 2, 3, 5, 6))


@pytest.mark.parametrize("kinds", [(), ("scratch",)])
def test_kinds_that_are_not_there_are_refused(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        bank("blob", "crack").with_kinds(*kinds)


def test_outlines_are_pixels_and_boxes() -> None:
    ours = bank()
    for level, outline in zip(ours.data[:, 0].numpy(), ours.outlines, strict=True):
        inside = level > distances.EDGE
        area, top, bottom, left, right = outline
        assert area == inside.sum() > 0
        assert inside[top].any() and inside[bottom - 1].any() and inside[:, left].any()
        assert inside[top:bottom, left:right].sum() == area
        assert inside[:, right - 1].any()


# ---- cut from masks ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_a_mask_is_cut_out_and_fills_the_square(dtype: torch.dtype) -> None:
    masks = torch.zeros(3, 1, 60, 90, dtype=dtype)
    masks[0, 0, 10:20, 30:70] = 1
    masks[2, 0, 50:59, 3:6] = 1
    ours = anoaug.ShapeBank.from_masks(masks, size=64, kinds=["dent", "none", "chip"])
    assert ours.names == ("0", "2") and ours.kinds == ("dent", "chip")
    (_, top, bottom, left, right), (_, *other) = ours.outlines
    assert right - left == 56 and abs(bottom - top - 14) <= 2
    assert other[1] - other[0] == 56 and abs(other[3] - other[2] - 56 / 3) <= 3


def test_levels_of_a_cut_disc_are_distances() -> None:
    level = anoaug.ShapeBank.from_masks(disc(), size=128).data[0, 0].numpy().astype(float)
    y, x = np.mgrid[:128, :128] - 63.5
    wanted = 60 - np.sqrt(y * y + x * x)
    near = np.abs(wanted) < 12
    # A pixel of the mask, 6.7 of these, is what it leaves open.
    assert np.abs((level - 128) / 8 - wanted)[near].max() < 6.7


@pytest.mark.slow
def test_a_folder_of_real_masks(data_dir: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path))
    folder = data_dir / "bsd_pitting" / "ground_truth"
    ours = anoaug.ShapeBank.from_masks(folder, size=64, progress=False)
    assert set(ours.kinds) == {"pitting"} and len(ours) > 50
    assert (ours.outlines[:, 0] > 64 * 64 / 100).all()
    longer = np.maximum(
        ours.outlines[:, 2] - ours.outlines[:, 1], ours.outlines[:, 4] - ours.outlines[:, 3]
    )
    assert (np.abs(longer - 56) <= 1).all()
    made = list(tmp_path.rglob("*.levels64.rows"))
    assert len(made) == 1
    before = made[0].stat().st_mtime_ns
    again = anoaug.ShapeBank.from_masks(folder, size=64, progress=False)
    assert torch.equal(again.data, ours.data) and made[0].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("masks", "error", "words"),
    [
        (torch.zeros(2, 1, 9, 9), ValueError, "at least one with a marked pixel"),
        (torch.zeros(2, 9, 9), ValueError, r"expected \[N, 1, H, W\]"),
        (torch.zeros(2, 3, 9, 9), ValueError, r"expected \[N, 1, H, W\]"),
        (torch.ones(2, 1, 9, 9, dtype=torch.int64), TypeError, "expected bool, uint8 or float"),
    ],
)
def test_what_is_no_mask_is_refused(masks: torch.Tensor, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        anoaug.ShapeBank.from_masks(masks)


def test_as_many_kinds_as_masks() -> None:
    with pytest.raises(ValueError, match=r"kinds: expected one per mask \(1\), got 2"):
        anoaug.ShapeBank.from_masks(disc(), kinds=["a", "b"])


def test_a_folder_without_a_marked_pixel_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
    image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected masks of defects"):
        anoaug.ShapeBank.from_masks(tmp_path, progress=False)


# ---- given ---------------------------------------------------------------------------------------


def test_levels_are_taken_as_they_are() -> None:
    levels = pixels(4, 1, 20, 30)
    ours = anoaug.ShapeBank.from_tensors(levels, categories=["a", "b", "a", "a"])
    assert torch.equal(ours.data, levels) and ours.kinds == ("a", "b", "a", "a")
    assert ours.with_channels(3) is ours


@pytest.mark.parametrize(
    ("levels", "error", "words"),
    [
        (torch.rand(2, 1, 9, 9), TypeError, "expected levels as a uint8 tensor"),
        ([1, 2], TypeError, "expected levels as a uint8 tensor, got list"),
        (pixels(2, 3, 9, 9), ValueError, r"expected levels \[N, 1, h, w\]"),
        (torch.full((2, 1, 9, 9), 128, dtype=torch.uint8), ValueError, "above 128 in every shape"),
    ],
)
def test_what_are_no_levels_is_refused(levels: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        anoaug.ShapeBank.from_tensors(levels)


def test_a_folder_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="from_masks"):
        anoaug.ShapeBank.from_folder(tmp_path)
