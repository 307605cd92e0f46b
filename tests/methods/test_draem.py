"""DRAEM: how often, how large, how opaque, of which texture."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import recipe
from anoaug.photometric import RandomOps

BANK = anoaug.TextureBank.from_tensors(
    torch.randint(
        0, 256, (9, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    ),
    categories=["stone", "wood", "wood"] * 3,
)
# Share of empty masks of DRAEM's function over all lattices, and its mean areas at 256 x 256.
P_EMPTY, AREA, AREA_IF_ANY = 0.052, 0.0476, 0.0503


def draem(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("draem", **{"textures": BANK, "seed": 2, **keywords})


@lru_cache(maxsize=1)
def batch() -> anoaug.AnomalyBatch:
    """A batch of 1,500 small black images."""
    blank = torch.zeros(1500, 1, 64, 64, dtype=torch.uint8)
    return draem(textures=BANK.with_channels(1))(blank, index=range(1500), epoch=0)


@lru_cache(maxsize=1)
def columns() -> dict[str, np.ndarray]:
    """Columns of 5,000 samples by their last two names."""
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.uint8).expand(5000, -1, -1, -1)
    table = draem().sample(blank, index=torch.arange(5000), epoch=0)
    found = recipe.recipe(draem().laws(3)).describe(table.numpy())
    return {name.split(".", 2)[-1]: value for name, value in found.items()}


@pytest.mark.slow
def test_half_of_the_samples_with_a_mask_are_anomalous() -> None:
    expected = 0.5 * (1 - P_EMPTY)
    assert stats.binomtest(int(batch().label.sum()), 1500, expected).pvalue > 1e-3


def test_the_coin_is_fair() -> None:
    assert stats.binomtest(int(columns()["active"].sum()), 5000, 0.5).pvalue > 1e-3


def test_an_empty_mask_is_a_normal_sample() -> None:
    out = batch()
    assert torch.equal(out.label, out.mask.flatten(1).any(1).long())
    active = out.params.table[:, recipe.ACTIVE] > 0
    empty = active & (out.label == 0)
    assert stats.binomtest(int(empty.sum()), int(active.sum()), P_EMPTY).pvalue > 1e-3
    assert torch.equal(out.kind, out.label)


@pytest.mark.slow
def test_areas_of_anomalies_are_the_original_s() -> None:
    blank = torch.zeros(300, 1, 256, 256, dtype=torch.uint8)
    synth = draem(textures=BANK.with_channels(1), p=1.0)
    area = synth(blank, index=range(300), epoch=0).mask.mean((1, 2, 3)).double().numpy()
    for values, mean in ((area, AREA), (area[area > 0], AREA_IF_ANY)):
        assert abs(values.mean() - mean) < 3.5 * values.std() / math.sqrt(len(values))


def test_opacity_is_one_minus_the_papers_beta() -> None:
    opacity = columns()["opacity.opacity"].astype(np.float64)
    beta = (1 - opacity) / 0.8
    assert beta.min() >= 0.0 and beta.max() < 1.0 + 1e-6
    assert stats.kstest(beta, "uniform").pvalue > 1e-3


def test_beta_weights_the_original() -> None:
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    synth = draem(ops=None, p=1.0)
    out = synth(images, index=range(8), epoch=0)
    found = recipe.recipe(synth.laws(3, torch.float32)).describe(out.params.table.numpy())
    drawn = found["layer0.source.texture.image"].view(np.int32)
    texture = BANK.data[drawn].double() / 255
    beta = 1 - torch.from_numpy(found["layer0.blend.opacity.opacity"].astype(np.float64))
    beta = beta[:, None, None, None]
    # The paper: outside the mask the image, inside beta of the image and 1 - beta of the texture.
    m = out.mask.double()
    expected = (1 - m) * images + m * beta * images + (1 - beta) * m * texture
    assert m.flatten(1).any(1).sum() >= 6
    assert (out.image - expected).abs().max() < 1e-6


def test_every_texture_is_taken_equally_often() -> None:
    tally = np.bincount(columns()["texture.image"].view(np.int32), minlength=9)
    assert stats.chisquare(tally).pvalue > 1e-3


def test_texture_opacity_mask_and_coin_do_not_hang_together() -> None:
    drawn = [
        columns()[name].view(np.int32) if name == "texture.image" else columns()[name]
        for name in ("active", "texture.image", "opacity.opacity", "perlin.yy")
    ]
    correlation = np.corrcoef(np.stack(drawn).astype(np.float64)) - np.eye(4)
    assert np.abs(correlation).max() < 5 / math.sqrt(5000)


def test_three_of_ten_ops_change_the_texture() -> None:
    defaults = anoaug.describe("draem")["defaults"]
    assert defaults["ops"] == RandomOps.draem()
    assert (len(defaults["ops"].ops), defaults["ops"].count) == (10, 3)
    images = torch.zeros(30, 3, 64, 64, dtype=torch.uint8)
    ours, plain = (
        draem(p=1.0, opacity=1.0, **ops)(images, index=range(30), epoch=0)
        for ops in ({}, {"ops": None})
    )
    assert torch.equal(ours.mask, plain.mask)
    counted = plain.label.bool()
    differs = (ours.image != plain.image).flatten(1).any(1)
    # Three ops that leave the pixels under a mask alone are rare, one of them is not.
    assert differs[counted].float().mean() > 0.9


def test_a_category_of_the_images_does_not_choose_the_texture() -> None:
    blank = torch.zeros(50, 3, 64, 64, dtype=torch.uint8)
    known, unknown = (
        draem().sample(blank, index=range(50), epoch=0, category=category)
        for category in (["screw", "wood"] * 25, None)
    )
    assert torch.equal(known.view(torch.int32), unknown.view(torch.int32))


@pytest.mark.parametrize(
    ("keywords", "name", "low", "high"),
    [
        ({"opacity": (0.4, 0.6)}, "layer0.blend.opacity.opacity", 0.4, 0.6),
        ({"threshold": (0.3, 0.5)}, "layer0.mask.perlin.threshold", 0.3, 0.5),
    ],
)
def test_published_ranges_can_be_changed(
    keywords: dict[str, Any], name: str, low: float, high: float
) -> None:
    synth = draem(**keywords)
    blank = torch.zeros(1, 3, 64, 64, dtype=torch.uint8).expand(500, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(500), epoch=0)
    drawn = recipe.recipe(synth.laws(3)).describe(table.numpy())[name]
    spread = high - low
    assert low - 1e-6 <= drawn.min() < low + 0.05 * spread
    assert high - 0.05 * spread < drawn.max() <= high + 1e-6


def test_rotation_and_lattice_reach_the_mask() -> None:
    synth = draem(log2_cells=(2, 2), rotation=0.0)
    blank = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    table = synth.sample(blank, index=range(4), epoch=0).numpy()
    found = recipe.recipe(synth.laws(3)).describe(table)
    assert (found["layer0.mask.perlin.yy"] * 64 == 4).all()
    assert (found["layer0.mask.perlin.yx"] == 0).all()


@pytest.mark.slow
def test_it_runs_on_photographed_textures(data_dir: Any) -> None:
    folder = data_dir / "textures_cc0"
    bank = anoaug.TextureBank.from_folder(folder, size=64, progress=False, cache=False)
    images = torch.full((16, 3, 64, 64), 128, dtype=torch.uint8)
    out = draem(textures=bank, p=1.0)(images, index=range(16), epoch=0)
    assert out.label.sum() >= 12
    changed = (out.image != images).any(1, keepdim=True)
    # A texture meets mid-grey here and there, no more.
    assert (changed & (out.mask == 0)).sum() == 0
    assert (changed & (out.mask > 0)).sum() > 0.8 * out.mask.sum()
