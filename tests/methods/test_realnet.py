"""RealNet's online half: banks of generated images, textures, or both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import prepare, recipe
from anoaug.photometric import RandomOps
from tests.drawing import pixels, textures

BANK = textures(6, 40, 40)
SDAS = anoaug.DonorBank.from_tensors(pixels(6, 3, 40, 40), categories=["a", "b"] * 3)


def realnet(**keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create("realnet", **{"p": 1.0, "seed": 2, **keywords})


def columns(synth: anoaug.Synthesizer, rows: int = 4000, **call: Any) -> dict[str, np.ndarray]:
    blank = torch.zeros(1, 3, 40, 40, dtype=torch.uint8).expand(rows, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(rows), epoch=0, **call)
    return recipe.recipe(synth.laws(3)).describe(table.numpy())


@pytest.mark.parametrize(
    ("keywords", "low"), [({"bank": SDAS}, 0.5), ({"bank": BANK}, 0.5), ({"textures": BANK}, 0.2)]
)
def test_opacity(keywords: dict[str, Any], low: float) -> None:
    drawn = columns(realnet(**keywords))["layer0.blend.opacity.opacity"].astype(np.float64)
    assert stats.kstest((drawn - low) / (1 - low), "uniform").pvalue > 1e-3


def test_half_are_anomalous_by_default() -> None:
    synth = anoaug.create("realnet", textures=BANK, seed=3)
    assert synth.p == 0.5
    assert stats.binomtest(int(columns(synth)["active"].sum()), 4000, 0.5).pvalue > 1e-3


def test_bank_and_textures_share_the_anomalies() -> None:
    synth = realnet(bank=SDAS, textures=BANK)
    assert synth.kinds == ("normal", "realnet_bank", "realnet_texture", "given")
    found = columns(synth)
    assert (found["layer0.gate"] + found["layer1.gate"] == 1).all()
    assert stats.binomtest(int(found["layer0.gate"].sum()), 4000, 0.5).pvalue > 1e-3
    assert (
        realnet(bank=SDAS).kinds == realnet(textures=BANK).kinds == ("normal", "realnet", "given")
    )


def test_textures_are_recoloured_and_the_bank_s_images_are_not() -> None:
    sources = [layer.source for layer in realnet(bank=BANK, textures=BANK).layers]
    assert sources[0].photometric is None  # type: ignore[attr-defined]
    assert sources[1].photometric == RandomOps.draem()  # type: ignore[attr-defined]


def test_a_generated_image_of_the_sample_s_category_at_the_same_place() -> None:
    images = pixels(24, 3, 40, 40, seed=5)
    category = ["a", "b"] * 12
    synth = realnet(bank=SDAS, opacity=1.0)
    out = synth(images, index=range(24), epoch=0, category=category)
    taken = set()
    for row in range(24):
        if out.label[row]:
            inside = out.mask[row] > 0
            fits = torch.where(inside, SDAS.data, 0) == torch.where(inside, out.image[row], 0)
            (found,) = fits.flatten(1).all(1).nonzero()[:, 0].tolist()
            assert found % 2 == row % 2
            taken.add(found)
    assert taken == set(range(6))


def test_a_tensor_is_a_bank() -> None:
    images = pixels(8, 3, 40, 40, seed=5)
    ours = realnet(bank=SDAS.data, opacity=1.0)(images, index=range(8), epoch=0)
    changed = (ours.image != images).any(1, keepdim=True)
    assert ours.label.any() and not (changed & (ours.mask == 0)).any()


def test_the_code_s_foreground_keeps_it_on_the_object() -> None:
    images = torch.full((30, 3, 64, 64), 10, dtype=torch.uint8)
    images[:, :, 16:48, 16:48] = 160
    foreground = prepare.preset("mvtec", "pill")
    out = realnet(textures=BANK, foreground=foreground)(images, index=range(30), epoch=0)
    plain = realnet(textures=BANK)(images, index=range(30), epoch=0)
    assert torch.equal(out.mask, plain.mask * foreground(images)) and out.label.sum() > 15


@pytest.mark.filterwarnings("ignore:textures=None")
def test_without_a_bank_textures_are_procedural() -> None:
    bank = realnet().layers[0].source.bank  # type: ignore[attr-defined]
    assert isinstance(bank, anoaug.TextureBank)
