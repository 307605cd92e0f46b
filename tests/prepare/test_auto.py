"""The choice of a foreground by a product's own images, and its picture."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from anoaug import prepare, viz
from anoaug.prepare import choice as choices

from .test_prepare import discs, noise

SIDE = 96


def product(
    background: int, colours: tuple[int, int, int], hole: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turned ellipses of a colour on a plain ground, ``[6, 3, 96, 96]``, with their truth."""
    steps = torch.arange(SIDE) - SIDE / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    angles = torch.arange(6.0)[:, None, None]
    u, v = angles.cos() * x + angles.sin() * y, angles.cos() * y - angles.sin() * x
    truth = (u / 34) ** 2 + (v / 22) ** 2 < 1
    if hole:
        truth &= u**2 + v**2 > 10**2
    ground = background + noise(6, 3, SIDE, SIDE).float() / 32
    paint = torch.tensor(colours)[:, None, None] + noise(6, 3, SIDE, SIDE, seed=1).float() / 10
    return torch.where(truth[:, None], paint, ground).to(torch.uint8), truth[:, None]


def agreement(mask: torch.Tensor, truth: torch.Tensor) -> float:
    mask = mask.bool()
    return float((mask & truth).sum() / (mask | truth).sum())


def shows(sheet: Image.Image, colour: tuple[int, int, int]) -> bool:
    """Whether a pixel has exactly this colour."""
    return bool((np.asarray(sheet) == colour).all(-1).any())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("background", "colours"),
    [(10, (150, 120, 80)), (235, (60, 60, 50)), (120, (200, 80, 110)), (200, (30, 120, 60))],
)
@pytest.mark.parametrize("hole", [False, True])
def test_objects_on_plain_grounds_are_found(background, colours, hole):
    images, truth = product(background, colours, hole)
    choice = prepare.auto(images)
    assert choice.foreground.rule != "all"
    assert agreement(choice(images), truth) > 0.9


def test_marks_are_filled_and_openings_are_not():
    images, truth = product(230, (60, 60, 50))
    images[:, :, 40:56, 40:56] = 180
    assert agreement(prepare.auto(images)(images), truth) > 0.95
    images, truth = product(230, (60, 60, 50), hole=True)
    assert not prepare.auto(images).foreground.fill_holes


@pytest.mark.slow
def test_real_surfaces_are_foreground_all_over(data_dir):
    names = ("Wood_0", "Fabric", "Gravel", "Tiles", "Metal", "Marble", "Bricks", "Carpet")
    for name in names:
        paths = sorted((data_dir / "textures_cc0").glob(f"{name}*.jpg"))[:6]
        arrays = [np.asarray(Image.open(path).convert("RGB").resize((128, 128))) for path in paths]
        images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        assert prepare.auto(images).foreground == prepare.Foreground("all"), name


def test_the_ball_screw_fills_its_images(data_dir):
    choice = prepare.auto(data_dir / "bsd_pitting", size=128, count=8)
    assert choice.foreground == prepare.Foreground("all")
    assert choice.images.shape == (8, 3, 128, 128)
    with pytest.raises(ValueError, match="expected a folder of normal images"):
        prepare.auto(data_dir / "bsd_pitting/test/pitting")


def test_the_choice_is_the_same_for_every_dtype():
    images, _ = product(10, (150, 120, 80))
    expected = prepare.auto(images)
    for other in (images.float() / 255, (images.int() * 257).to(torch.uint16)):
        assert prepare.auto(other).candidates == expected.candidates
    assert prepare.auto(images[:1, :1]).foreground.rule != "all"


def test_a_constant_set_has_no_object():
    images = torch.full((3, 3, 40, 30), 80, dtype=torch.uint8)
    assert prepare.auto(images).foreground == prepare.Foreground("all")


def test_candidates_come_best_first_and_tell_why_not():
    choice = prepare.auto(product(10, (150, 120, 80))[0])
    refused = [bool(one.refused) for one in choice.candidates]
    assert refused == sorted(refused) and not refused[0]
    scores = [one.score for one in choice.candidates if not one.refused]
    assert scores == sorted(scores, reverse=True)
    assert {one.foreground.rule for one in choice.candidates} == {
        "all", "threshold", "otsu", "triangle", "background", "saliency"
    }  # fmt: skip
    dark = next(one for one in choice.candidates if "otsu dark" in one.caption)
    assert dark.refused == "holds 100 % of the border"


def test_images_are_spread_over_all():
    images = discs(20)
    images[:, 0, 0, 0] = torch.arange(20, dtype=torch.uint8)
    assert prepare.auto(images, count=3).images[:, 0, 0, 0].tolist() == [0, 10, 19]
    with pytest.raises(ValueError, match="expected at least one image"):
        prepare.auto(images[:0])
    with pytest.raises(ValueError, match="count"):
        prepare.auto(images, count=0)


def test_several_products_have_no_common_rule(tmp_path):
    for name in ("nut", "screw"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "a.png")
    with pytest.raises(ValueError, match="expected one product, got folders nut, screw"):
        prepare.auto(tmp_path)


def test_the_picture_shows_the_choice_first_and_is_written_whole(tmp_path):
    images, _ = product(10, (150, 120, 80))
    choice = prepare.auto(images)
    path = tmp_path / "choice.png"
    sheet = viz.foregrounds(choice, path, rows=2, columns=3)
    assert os.listdir(tmp_path) == ["choice.png"]
    assert Image.open(path).tobytes() == sheet.tobytes()
    blue = (40, 110, 255)
    assert shows(sheet, viz.TINT) and shows(sheet, blue)  # outlines are drawn in full tint
    fewer = viz.foregrounds(choice, rows=1, columns=1)
    assert fewer.width < sheet.width and fewer.height < sheet.height
    assert shows(fewer, viz.TINT) and not shows(fewer, blue)


def test_the_criterion_is_the_one_the_page_states():
    text = " ".join(choices.__doc__.split())
    assert choices.AREA == (0.03, 0.9) and "covers 3 to 90 %" in text
    assert choices.LEAST == 0.01 and "at least 1 % of every image" in text
    assert choices.BORDER == 0.25 and "at most a quarter" in text
    assert choices.BORDER_TO_AREA == 0.6 and "at most 0.6" in text
    assert choices.DEVIATIONS == 4.0 and "at least 4 standard deviations" in text
