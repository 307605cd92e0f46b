"""MemSeg: how often, how large, how opaque; textures and the shuffled image."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import prepare, recipe
from tests.drawing import pixels, textures

BANK = textures(7, 40, 40)
# Of DRAEM's function, which the port has too: see test_draem.
P_EMPTY, AREA = 0.052, 0.0476


def memseg(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("memseg", **{"textures": BANK, "seed": 2, **keywords})


@lru_cache(maxsize=1)
def columns() -> dict[str, np.ndarray]:
    """Columns of 5,000 samples."""
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.uint8).expand(5000, -1, -1, -1)
    table = memseg(p=1.0).sample(blank, index=torch.arange(5000), epoch=0)
    return recipe.recipe(memseg(p=1.0).laws(3)).describe(table.numpy())


@pytest.mark.slow
def test_half_of_the_samples_half_of_them_textures() -> None:
    bank = BANK.with_channels(1)
    blank = torch.zeros(1200, 1, 48, 48, dtype=torch.uint8)
    out = memseg(textures=bank)(blank, index=range(1200), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 1200, 0.5 * (1 - P_EMPTY)).pvalue > 1e-3
    kinds = np.bincount(out.kind.numpy(), minlength=3)
    assert stats.binomtest(int(kinds[1]), int(kinds[1:].sum()), 0.5).pvalue > 1e-3
    assert memseg().kinds == ("normal", "memseg_texture", "memseg_structure", "given")


def test_one_branch_per_sample() -> None:
    gates = columns()["layer0.gate"] + columns()["layer1.gate"]
    assert (gates == 1).all()
    assert stats.binomtest(int(columns()["layer0.gate"].sum()), 5000, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("layer", [0, 1])
def test_opacity_is_uniform_from_fifteen_percent(layer: int) -> None:
    names = [n for n in columns() if n.startswith(f"layer{layer}.blend") and "opacity" in n]
    drawn = columns()[names[-1]].astype(np.float64)
    assert stats.kstest((drawn - 0.15) / 0.85, "uniform").pvalue > 1e-3


@pytest.mark.slow
def test_areas_are_those_of_the_perlin_mask() -> None:
    blank = torch.zeros(200, 1, 256, 256, dtype=torch.uint8)
    synth = memseg(textures=BANK.with_channels(1), p=1.0)
    area = synth(blank, index=range(200), epoch=0).mask.mean((1, 2, 3)).double().numpy()
    assert abs(area.mean() - AREA) < 3.5 * area.std() / math.sqrt(len(area))


def test_a_texture_is_not_recoloured() -> None:
    images = pixels(20, 3, 40, 40)
    out = memseg(p=1.0, weights=(1, 0), opacity=1.0)(images, index=range(20), epoch=0)
    for image, mask, label in zip(out.image, out.mask, out.label, strict=True):
        if label:
            fits = (torch.where(mask > 0, BANK.data, 0) == torch.where(mask > 0, image, 0)).all(1)
            assert fits.flatten(1).all(1).any()


def test_a_structure_is_the_image_itself_in_other_places() -> None:
    images = pixels(6, 3, 64, 64)
    synth = memseg(p=1.0, weights=(0, 1), opacity=1.0, structure_ops=None, threshold=-2)
    out = synth(images, index=range(6), epoch=0)
    cells = out.image.unflatten(2, (8, 8)).unflatten(4, (8, 8)).permute(0, 2, 4, 1, 3, 5)
    theirs = images.unflatten(2, (8, 8)).unflatten(4, (8, 8)).permute(0, 2, 4, 1, 3, 5)
    assert out.label.all() and not torch.equal(cells, theirs)
    for ours, whole in zip(cells.flatten(1, 2), theirs.flatten(1, 2), strict=True):
        names = [sorted(cell.flatten().tolist() for cell in part) for part in (ours, whole)]
        assert names[0] == names[1]


def test_a_structure_is_recoloured() -> None:
    images = pixels(30, 3, 64, 64)
    call: dict[str, Any] = {"index": range(30), "epoch": 0}
    ours, plain = (
        memseg(p=1.0, weights=(0, 1), **ops)(images, **call)
        for ops in ({}, {"structure_ops": None})
    )
    assert torch.equal(ours.mask, plain.mask)
    differs = (ours.image != plain.image).flatten(1).any(1)
    assert differs[ours.label > 0].float().mean() > 0.9


@pytest.mark.slow
def test_the_ports_foreground_keeps_it_on_the_object() -> None:
    images = torch.full((40, 3, 64, 64), 10, dtype=torch.uint8)
    images[:, :, 16:48, 16:48] = 120
    foreground = prepare.preset("mvtec", "hazelnut", of="memseg")
    out = memseg(p=1.0, foreground=foreground)(images, index=range(40), epoch=0)
    inside = torch.zeros(64, 64)
    inside[16:48, 16:48] = 1
    assert out.mask.any() and not (out.mask * (1 - inside)).any()
    plain = memseg(p=1.0)(images, index=range(40), epoch=0)
    assert torch.equal(out.mask, plain.mask * inside)
    # What the port labels anomalous: more empty masks than of a texture.
    assert plain.label.sum() > out.label.sum() > 20


def test_both_branches_together() -> None:
    images = pixels(10, 3, 64, 64)
    out = memseg(p=1.0, choose="all")(images, index=range(10), epoch=0)
    assert (out.kind[out.label > 0] == 1).all() and out.label.sum() >= 8
