"""DeSTSeg: DRAEM's masks and opacity on every sample, with textures as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import recipe

BANK = anoaug.TextureBank.from_tensors(
    torch.randint(
        0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
)


def made(name: str = "destseg", **keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create(name, **{"textures": BANK, "seed": 2, **keywords})


@pytest.mark.slow
def test_every_sample_is_meant_to_be_anomalous() -> None:
    assert anoaug.describe("destseg")["defaults"]["p"] == 1.0
    out = made()(torch.zeros(600, 3, 48, 48, dtype=torch.uint8), index=range(600), epoch=0)
    assert (out.params.table[:, recipe.ACTIVE] == 1).all()
    # All but the 5 % whose mask is empty.
    assert stats.binomtest(int(out.label.sum()), 600, 1 - 0.052).pvalue > 1e-3
    assert torch.equal(out.label, out.mask.flatten(1).any(1).long())


def test_the_texture_is_not_touched() -> None:
    images = torch.zeros(20, 3, 48, 48, dtype=torch.uint8)
    synth = made(opacity=1.0)
    out = synth(images, index=range(20), epoch=0)
    found = recipe.recipe(synth.laws(3)).describe(out.params.table.numpy())
    texture = BANK.data[found["layer0.source.texture.image"].view(np.int32)]
    assert out.label.sum() > 15
    assert torch.equal(out.image, torch.where(out.mask.bool(), texture, images))
    assert not any("luts" in name or "sharpness" in name for name in found)


def test_it_is_draem_without_ops_and_coin() -> None:
    images = torch.randint(0, 256, (12, 3, 48, 48), dtype=torch.uint8)
    ours = made()(images, index=range(12), epoch=0)
    other = made("draem", ops=None, p=1.0)(images, index=range(12), epoch=0)
    assert torch.equal(ours.image, other.image) and torch.equal(ours.mask, other.mask)


def test_opacity_is_that_of_draem() -> None:
    blank = torch.zeros(1, 3, 48, 48, dtype=torch.uint8).expand(3000, -1, -1, -1)
    table = made().sample(blank, index=torch.arange(3000), epoch=0).numpy()
    found = recipe.recipe(made().laws(3)).describe(table)["layer0.blend.opacity.opacity"]
    drawn = (found.astype(np.float64) - 0.2) / 0.8
    assert drawn.min() > -1e-6 and drawn.max() <= 1.0 + 1e-6
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3


def test_its_kind_is_its_own() -> None:
    assert made().kinds == ("normal", "destseg", "given")
