"""FPI and PII: the square's law, the mixing, the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug import masks, sources
from tests import blending
from tests.drawing import expect_uniform, mask_columns, pixels

SIDE = 64
NAMES = ("fpi", "pii")


def pictures(rows: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    planes = [blending.picture(rng, (SIDE, SIDE), 3) for _ in range(rows)]
    return torch.from_numpy(np.stack(planes))


IMAGES, DONORS = pictures(16, 1), pictures(1, 2)


def called(name: str, images: torch.Tensor = IMAGES, **keywords: Any) -> anoaug.AnomalyBatch:
    synth = anoaug.create(name, donors=DONORS, seed=0, **keywords)
    return synth(images, index=range(len(images)), epoch=0)


def test_squares_follow_the_published_law() -> None:
    (layer,) = anoaug.create("fpi", donors=DONORS).layers
    drawn = mask_columns(layer.mask, (200, 200), 6000)
    ends = [
        (drawn[c] - drawn[h] + 0.5, drawn[c] + drawn[h] + 0.5)
        for c, h in (("cy", "half_h"), ("cx", "half_w"))
    ]
    uncut = np.all([(a > 0) & (b < 200) for a, b in ends], axis=0)
    assert 0.7 < uncut.mean() < 1
    half = drawn["half_h"][uncut]
    assert np.array_equal(half, drawn["half_w"][uncut])
    assert half.min() == 10 and half.max() == 39
    rng = np.random.default_rng(0)
    wide = drawn["half_h"] < 40 / 2
    for (first, last), side in zip(ends, ("half_h", "half_w"), strict=True):
        whole = wide & (first > 0) & (last < 200)
        middle = (first + last)[whole] / 2 + rng.random(whole.sum())
        expect_uniform(middle, 20, 181)
        assert side in drawn


@pytest.mark.parametrize("name", NAMES)
def test_the_label_is_the_weight_where_pixels_differ(name: str) -> None:
    out = called(name)
    weights = out.mask.flatten(1).amax(1)
    assert out.label.all() and weights.min() > 0.05 and weights.max() <= 0.95
    moved = (out.image != IMAGES).any(1, keepdim=True)
    assert torch.equal(out.mask > 0, moved)
    assert torch.equal(out.mask, torch.where(moved, weights.view(-1, 1, 1, 1), 0.0))
    hard = called(name, label="hard", label_rule="footprint")
    assert torch.equal(hard.mask.unique(), torch.tensor([0.0, 1.0]))
    assert torch.equal(hard.image, out.image) and (out.mask > 0)[hard.mask == 0].sum() == 0


def test_fpi_mixes_colours_at_the_same_place() -> None:
    out = called("fpi", label_rule="footprint")
    weight = out.mask.double()
    mixed = IMAGES.double() * (1 - weight) + DONORS.double() * weight
    assert (out.image.double() - mixed).abs().max() <= 0.501


def solved(own: Any, foreign: Any, inside: Any, weight: float) -> Any:
    """The published system of the whole image, sparse; float64 ``[H, W]``."""
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    height, width = own.shape
    inside = inside.copy()
    inside[[0, -1]], inside[:, [0, -1]] = False, False
    number = np.arange(height * width).reshape(height, width)
    matrix, right = sparse.lil_matrix((own.size, own.size)), own.astype(float).ravel().copy()
    matrix.setdiag(1)
    for y, x in zip(*inside.nonzero(), strict=True):
        row, total = number[y, x], 0.0
        matrix[row, row] = 4
        for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            matrix[row, number[b, a]] = -1
            mine = (1 - weight) * (own[y, x] - own[b, a])
            theirs = weight * (foreign[y, x] - foreign[b, a])
            total += mine if abs(mine) > abs(theirs) else theirs
        right[row] = total
    return linalg.spsolve(matrix.tocsr(), right).reshape(own.shape).clip(own.min(), own.max())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_pii_solves_the_published_system(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from anoaug.sources import seamless

    if backend == "torch":  # the windows of one size that other devices take
        monkeypatch.setattr(seamless, "_one_by_one", None)
        monkeypatch.setattr(seamless, "_alone", lambda device: False)
    images, donors = (each[:3].double() / 255 for each in (IMAGES, DONORS))
    images = images.float()
    synth = anoaug.create("pii", donors=DONORS, seed=0, label_rule="footprint", backend=backend)
    out = synth(images, index=range(3), epoch=0)
    for n in range(3):
        inside, weight = out.mask[n, 0].numpy() > 0, float(out.mask[n].max())
        for channel in range(3):
            own = images[n, channel].double().numpy()
            true = solved(own, donors[0, channel].numpy(), inside, weight)
            assert np.abs(out.image[n, channel].numpy() - true).max() < 1e-4


def test_pii_joins_the_image_without_a_seam() -> None:
    smooth = torch.full((4, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    bright = anoaug.create("pii", donors=smooth[:1] + 100, seed=0)
    out = bright(smooth, index=range(4), epoch=0)
    assert torch.equal(out.image, smooth) and out.label.sum() == 0  # no gradient, no change
    over = called("fpi", smooth)
    assert (over.image != smooth).any()


@pytest.mark.parametrize("name", NAMES)
def test_replay_and_batches(name: str) -> None:
    out = called(name)
    synth = anoaug.create(name, donors=DONORS, seed=0)
    again = synth(IMAGES, params=out.params)
    assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)
    part = synth(IMAGES[3:5], index=[3, 4], epoch=0)
    assert torch.equal(part.image, out.image[3:5]) and torch.equal(part.mask, out.mask[3:5])


def test_images_of_every_shape() -> None:
    for size in ((2, 2), (2, 9), (9, 2), (7, 7)):
        images = pixels(3, 3, *size)
        for name in NAMES:
            out = called(name, images)
            assert out.image.shape == images.shape


def test_donors_are_asked_for() -> None:
    for name in (*NAMES, "nsa"):
        with pytest.raises(TypeError, match="donors: expected a DonorBank"):
            anoaug.create(name)


def test_interpolation_by_parts() -> None:
    layer = anoaug.Layer(masks.CutPatch(), sources.PoissonInterpolation(sources.Own("same")))
    out = anoaug.Synthesizer(layer, p=1.0, seed=0)(IMAGES, index=range(16), epoch=0)
    assert torch.equal(out.image, IMAGES)  # weight 1 of its own gradients
