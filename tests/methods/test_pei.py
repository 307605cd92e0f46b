"""Pei 2023: what is laid down comes from the object and lies on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import anoaug
from tests.drawing import columns_of, expect_uniform

SIZE = (120, 120)


def objects(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright discs on a dark ground, and where they are."""
    y, x = torch.meshgrid(*[torch.arange(120) - 59.5] * 2, indexing="ij")
    inside = (y * y + x * x < 45**2)[None, None].expand(rows, -1, -1, -1)
    grain = torch.randint(0, 40, (rows, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    return (20 + inside * (120 + grain)).to(torch.uint8), inside


def pei(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("pei", **{"p": 1.0, "seed": 1, **keywords})


def test_patches_lie_on_the_object_and_show_the_object() -> None:
    images, inside = objects(40)
    out = pei(jitter=0.0, hue=0.0)(images, index=range(40), epoch=0)
    there = out.mask > 0
    assert out.label.all() and inside[there].all()
    assert (out.image[there.expand_as(images)] >= 140).all()


def test_patches_are_changed_in_colour() -> None:
    images, _ = objects(40)
    out = pei()(images, index=range(40), epoch=0)
    there = out.mask[:, 0] > 0
    shift = torch.stack(
        [
            image[:, inside].float().mean(1) - old[:, inside].float().mean(1)
            for image, old, inside in zip(out.image, images, there, strict=True)
        ]
    )
    assert shift.abs().mean() > 10


def test_patches_are_turned_and_mirrored_against_their_origin() -> None:
    blank = torch.zeros(1, 3, *SIZE, dtype=torch.uint8).expand(2000, -1, -1, -1)
    synth = pei()
    table = synth.sample(blank, index=torch.arange(2000), epoch=0)
    source = columns_of(synth, table, 3, "source")
    rows = np.sign(source["yy"])
    assert abs(rows.mean()) < 0.08 and abs(np.sign(source["xx"]).mean()) < 0.08
    angle = np.degrees(np.arctan2(-source["yx"] * rows, source["yy"] * rows))
    expect_uniform(angle.astype(np.float64), -45.0, 45.0)


def test_areas_before_they_are_cut() -> None:
    images, _ = objects(30)
    everywhere = torch.ones(30, 1, *SIZE, dtype=torch.uint8)
    out = pei(foreground=None)(images, index=range(30), epoch=0, foreground=everywhere)
    area = out.mask.mean((1, 2, 3))
    assert ((area > 0.018) & (area < 0.16)).all()


def test_an_image_without_an_object_stays_clean() -> None:
    images, _ = objects(4)
    out = pei(foreground=None)(images, foreground=torch.zeros(4, 1, *SIZE))
    assert not out.label.any() and torch.equal(out.image, images)
