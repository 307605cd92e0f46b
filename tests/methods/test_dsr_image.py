"""DSR's image anomalies: one flat colour per sample under DRAEM's mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

import anoaug
from anoaug import recipe
from tests.drawing import pixels, textures

CALL: dict[str, Any] = {"index": range(40), "epoch": 0}


def dsr(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("dsr_image", **{"seed": 2, **keywords})


def test_one_colour_fills_the_mask() -> None:
    images = pixels(40, 3, 48, 48)
    out = dsr(p=1.0, opacity=1.0)(images, **CALL)
    for image, mask, label in zip(out.image, out.mask, out.label, strict=True):
        if label:
            colours = image[:, mask[0] > 0]
            assert (colours == colours[:, :1]).all()
    assert torch.equal(
        torch.where(out.mask > 0, 0, out.image), torch.where(out.mask > 0, 0, images)
    )


def test_masks_are_draem_s() -> None:
    images = pixels(40, 3, 48, 48)
    draem = anoaug.create("draem", textures=textures(3, 8, 8), seed=2)
    assert torch.equal(dsr()(images, **CALL).mask, draem(images, **CALL).mask)


def test_colours_and_opacity_are_uniform() -> None:
    blank = torch.zeros(1, 3, 32, 32, dtype=torch.uint8).expand(4000, -1, -1, -1)
    table = dsr().sample(blank, index=torch.arange(4000), epoch=0)
    found = recipe.recipe(dsr().laws(3)).describe(table.numpy())
    colour = found["layer0.source.constant.colour"].astype(np.float64)
    for channel in colour.T:
        assert stats.kstest(channel, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(colour.T) - np.eye(3)).max() < 5 / np.sqrt(4000)
    opacity = found["layer0.blend.opacity.opacity"].astype(np.float64)
    assert stats.kstest((opacity - 0.2) / 0.8, "uniform").pvalue > 1e-3
    assert stats.binomtest(int(found["active"].sum()), 4000, 0.5).pvalue > 1e-3


def test_a_colour_of_one_s_own() -> None:
    images = torch.zeros(8, 3, 48, 48, dtype=torch.uint8)
    synth = dsr(p=1.0, opacity=1.0, colour=(1.0, 0.0, 0.2))
    out = synth(images, index=range(8), epoch=0)
    assert out.label.any()
    assert torch.equal(out.image, (out.mask * torch.tensor([255, 0, 51])[:, None, None]).byte())
