"""NSA: published settings, how many patches, what is pasted, and the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import finish, masks
from anoaug.methods.nsa import BLENDS, PRESETS
from tests import blending
from tests.masks.test_patches import FIND, products

SIDE = 96
PRODUCTS, DONORS = products(24, 1), products(6, 2)


def textures(rows: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    planes = [blending.picture(rng, (SIDE, SIDE), 3) for _ in range(rows)]
    return torch.from_numpy(np.stack(planes))


TEXTURES, CLOTH = textures(24, 3), textures(6, 4)


def called(images: Tensor = TEXTURES, donors: Tensor = CLOTH, **keywords: Any) -> Any:
    synth = anoaug.create("nsa", donors=donors, seed=0, **keywords)
    return synth(images, index=range(len(images)), epoch=0)


# ---- settings ------------------------------------------------------------------------------------


def test_presets_are_the_published_ones() -> None:
    mvtec = set(anoaug.prepare.PRESETS["nsa"]["mvtec"])
    assert set(PRESETS) == mvtec | {"texture", "object", "chest"}
    four = {name for name, preset in PRESETS.items() if preset.patches == 4}
    cloth = {"carpet", "grid", "leather", "tile", "wood", "texture"}
    assert four == cloth | {"screw", "zipper"}
    assert {n for n, preset in PRESETS.items() if preset.blend == "mixed"} == cloth | {"chest"}
    assert {n for n, preset in PRESETS.items() if preset.resize == (0.5, 2.0)} == cloth
    logistic = {
        (1 / 12, 24): "bottle cable hazelnut",
        (1 / 2, 4): "capsule chest",
        (1 / 3, 7): "metal_nut pill carpet grid leather tile",
        (1, 3): "screw",
        (1 / 6, 15): "toothbrush transistor zipper wood",
    }
    for (slope, middle), names in logistic.items():
        for name in names.split():
            assert (PRESETS[name].slope, PRESETS[name].middle) == (slope, middle)
    whole = {name for name, preset in PRESETS.items() if preset.foreground is None}
    assert whole == cloth | {"cable", "transistor", "object"}
    assert [PRESETS[n].min_object for n in ("pill", "screw", "toothbrush")] == [0.7, 0.5, 0.25]
    bounds = {
        "cable": ((0.05, 0.4), (0.05, 0.4)), "capsule": ((0.03, 0.15), (0.03, 0.4)),
        "hazelnut": ((0.03, 0.35), (0.03, 0.35)), "pill": ((0.03, 0.2), (0.03, 0.4)),
        "screw": ((0.03, 0.12), (0.03, 0.12)), "zipper": ((0.03, 0.4), (0.03, 0.2)),
        "tile": ((0.03, 0.4), (0.03, 0.4)),
    }  # fmt: skip
    for name, pair in bounds.items():
        assert PRESETS[name].bounds == pair


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_is_made(preset: str) -> None:
    synth = anoaug.create("nsa", donors=DONORS, preset=preset, seed=0)
    seeking = any(isinstance(step, masks.ObjectPatch) for step in synth.layers[0].mask.steps())
    assert seeking == (PRESETS[preset].foreground is not None)
    assert isinstance(synth.finish, finish.Difference)
    assert synth.finish.slope == PRESETS[preset].slope


def test_the_first_patch_is_there_and_each_further_one_half_of_the_time() -> None:
    synth = anoaug.create("nsa", donors=CLOTH, seed=0)
    table = synth.sample(TEXTURES[:1].expand(4000, -1, -1, -1), index=range(4000), epoch=0)
    described = anoaug.recipe.recipe(synth.laws(3)).describe(table.numpy())
    gates = np.stack([described[f"layer{n}.gate"] for n in range(4)])
    assert gates[0].all()
    assert np.allclose(gates[1:].mean(1), 0.5, atol=0.03)
    counts = np.bincount(gates.sum(0).astype(int))[1:] / 4000
    assert np.allclose(counts, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.03)


# ---- what it makes -------------------------------------------------------------------------------


@pytest.mark.slow
def test_labels_unite_over_patches_and_say_how_much_changed() -> None:
    out = called()
    moved = (out.image.int() - TEXTURES.int()).abs().float().mean(1, keepdim=True)
    label = out.mask > 0
    assert 0.03 < label.float().mean() < 0.2
    assert out.mask.max() <= 1 and 0.1 < out.mask[label].mean() < 0.9
    # Pixels that changed clearly are labelled, but for single ones, which the median takes.
    assert label[moved > 1].float().mean() > 0.9
    assert moved[label].mean() > 5 * moved[~label].mean()
    strong, weak = moved[label] > 20, moved[label] < 5
    assert out.mask[label][strong].mean() > out.mask[label][weak].mean() + 0.3


@pytest.mark.slow
def test_object_patches_stay_on_either_object() -> None:
    out = called(PRODUCTS, DONORS, preset="pill", bounds=((0.03, 0.4), (0.03, 0.4)))
    here = FIND(PRODUCTS) > 0
    label = out.mask > 0
    assert out.label.float().mean() > 0.8
    assert (label & here).sum() > 0.5 * label.sum()
    changed = (out.image != PRODUCTS).any(1, keepdim=True)
    assert label[changed].float().mean() > 0.8
    # Beyond the object only what a patch brings of its own, which is not background any more.
    beyond = label & ~here
    assert (
        beyond.any() and (out.image.float().mean(1, keepdim=True)[beyond] > 30).float().mean() > 0.6
    )


@pytest.mark.slow
@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("labels", finish.RULES)
def test_every_blend_and_label(blend: str, labels: str) -> None:
    for images, donors, more in (
        (TEXTURES[:6], CLOTH, {}),
        (PRODUCTS[:6], DONORS, {"preset": "hazelnut"}),
    ):
        out = called(images, donors, blend=blend, labels=labels, **more)
        assert out.label.sum() >= 3 and out.mask.max() <= 1
        if labels == "binary":
            assert set(out.mask.unique().tolist()) == {0.0, 1.0}
        if labels == "continuous" and blend not in ("swap",):
            assert 0.05 <= out.mask[out.mask > 0].min() < 0.6
        again = anoaug.create(
            "nsa", donors=donors, seed=0, blend=blend, labels=labels, **more
        )(images, params=out.params)  # fmt: skip
        assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)


def test_swap_pastes_the_donors_pixels() -> None:
    out = called(blend="swap", resize=None, labels="binary", patches=1)
    table = anoaug.recipe.recipe(anoaug.create("nsa", donors=CLOTH, blend="swap", resize=None,
                                               labels="binary", patches=1).laws(3))  # fmt: skip
    described = table.describe(out.params.table.numpy())
    column = {name.split(".")[-1]: value for name, value in described.items()}
    for n in range(len(TEXTURES)):
        inside = (out.image[n] != TEXTURES[n]).any(0).nonzero()
        if not len(inside):
            continue
        y, x = inside.T
        sy, sx = (y + int(column["y0"][n]), x + int(column["x0"][n]))
        donor = CLOTH[int(column["image"].view(np.int32)[n])]
        assert torch.equal(out.image[n][:, y, x], donor[:, sy, sx])


@pytest.mark.slow
def test_without_shift_or_donors() -> None:
    still = called(shift=False, blend="swap", patches=1)
    at = [n for n in range(24) if still.label[n]]
    assert len(at) > 15
    for n in at:
        inside = (still.image[n] != TEXTURES[n]).any(0)
        held = [(still.image[n] == donor)[:, inside].all() for donor in CLOTH]
        assert any(held)
    own = anoaug.create("nsa", same=True, seed=0)(TEXTURES, index=range(24), epoch=0)
    assert own.label.float().mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("formula", ["intended", "published"])
@pytest.mark.parametrize("blend", ["mixed", "swap"])
def test_ellipses(formula: str, blend: str) -> None:
    for images, donors, preset in ((TEXTURES, CLOTH, "wood"), (PRODUCTS, DONORS, "hazelnut")):
        more = {"preset": preset, "blend": blend, "labels": "binary"}
        whole = called(images, donors, **more)
        some = called(images, donors, **more, ellipses=5, ellipses_as=formula)
        # In so few pixels most ellipses are lost to the clone's erosion.
        assert some.label.float().mean() > (0.5 if blend == "swap" else 0.15)
        assert some.mask.mean() < whole.mask.mean()
        changed = (some.image != images).any(1, keepdim=True)
        assert (some.mask > 0)[changed].all()


@pytest.mark.slow
def test_one_of_and_eval() -> None:
    both = anoaug.OneOf(
        {"nsa": 0.5, "cutpaste": 0.5}, donors=anoaug.DonorBank.from_tensors(CLOTH), label="soft",
        p=1.0, seed=0,
    )  # fmt: skip
    out = both(TEXTURES, index=range(24), epoch=0)
    again = both(TEXTURES, params=out.params)
    assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)
    alone = called()
    mine = out.params.choice == both.names.index("nsa")
    assert 5 < mine.sum() < 19 and torch.equal(out.image[mine], alone.image[mine])
    assert torch.equal(out.mask[mine], alone.mask[mine])
    still = anoaug.create("nsa", donors=DONORS, preset="pill").eval()
    assert torch.equal(still(PRODUCTS).image, PRODUCTS)


def test_bad_input_is_refused() -> None:
    for wrong in ({"preset": "bolt"}, {"blend": "clone"}, {"patches": 5}, {"labels": "soft"}):
        name = {"labels": "rule"}.get(next(iter(wrong)), next(iter(wrong)))
        with pytest.raises(ValueError, match=name):
            anoaug.create("nsa", donors=CLOTH, **wrong)
