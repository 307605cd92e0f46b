"""RIAD: three views of each image, each with another third of its cells hidden."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug.generate import plan
from anoaug.loaders.contract import BatchContract

IMAGES = torch.randint(1, 256, (4, 3, 96, 64), generator=torch.Generator().manual_seed(0)).byte()


def test_three_views_hide_every_pixel_once() -> None:
    out = anoaug.create("riad", seed=1)(IMAGES, index=range(4), epoch=0)
    assert out.image.shape == (12, 3, 96, 64) and out.label.tolist() == [1] * 12
    assert out.extras["source_row"].tolist() == [0, 1, 2, 3] * 3
    masks = out.mask.unflatten(0, (3, 4))
    assert (masks.sum(0) == 1).all()
    shown = IMAGES[out.extras["source_row"]]
    hidden = (out.mask > 0).expand_as(shown)
    assert not out.image[hidden].any() and torch.equal(out.image[~hidden], shown[~hidden])
    # Thirds of the cells: with cells of 16 pixels there are 24.
    assert ((masks.mean((2, 3, 4)) - 1 / 3).abs() < 0.02).all()


def test_filled_in_views_make_the_image_whole() -> None:
    out = anoaug.create("riad", seed=1)(IMAGES)
    made = out.clean
    assert made is not None
    assert torch.equal((made * out.mask).unflatten(0, (3, -1)).sum(0), IMAGES.float())


def test_cells_have_2_4_8_or_16_pixels_as_often() -> None:
    images = torch.full((600, 1, 32, 32), 9, dtype=torch.uint8)
    synth = anoaug.create("riad", seed=1, views=False, backend="torch")
    mask = synth(images, index=range(600), epoch=0).mask[:, 0].numpy() > 0
    tally = []
    for k in (16, 8, 4, 2):
        whole = mask[:, ::k, ::k].repeat(k, 1).repeat(k, 2)
        fits = (whole == mask).all((1, 2))
        tally.append(int(fits.sum()))
    # What fits cells of 16 pixels fits smaller ones too.
    assert tally[-1] == 600 and stats.chisquare(np.diff([0, *tally])).pvalue > 1e-4


def test_without_views_a_batch_keeps_its_rows() -> None:
    out = anoaug.create("riad", seed=1, views=False)(IMAGES)
    assert len(out.image) == 4 and out.extras == {}


def test_the_number_of_sets_is_that_of_views() -> None:
    out = anoaug.create("riad", seed=1, n=5, k=4)(IMAGES)
    assert len(out.image) == 20 and (out.mask.unflatten(0, (5, 4)).sum(0) == 1).all()


def test_a_mask_of_the_mean_is_0_after_normalisation() -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]
    synth = anoaug.create("riad", seed=1, value=tuple(mean), mean=mean, std=std)
    out = synth(IMAGES / 255)
    assert out.image[(out.mask > 0).expand_as(out.image)].abs().max() < 1e-6


def test_real_defects_follow_their_images() -> None:
    real = torch.zeros(4, 1, 96, 64)
    real[2, :, :3] = 1
    out = anoaug.create("riad", seed=1, p=0.0)(IMAGES, mask=real)
    assert out.label.tolist() == [0, 0, 1, 0] * 3 and torch.equal(out.mask, real.repeat(3, 1, 1, 1))


def test_one_of_several_refuses_it_unless_it_keeps_the_rows() -> None:
    with pytest.raises(ValueError, match="got riad with views, which multiplies them"):
        anoaug.OneOf({"riad": 1, "cutpaste": 1}, seed=0)
    out = anoaug.OneOf({"riad": 1, "cutpaste": 1}, seed=0, views=False, p=1.0)(IMAGES)
    assert len(out.image) == 4


def test_a_loader_s_batch_says_which_row_is_which() -> None:
    batch = {"image": IMAGES, "index": torch.arange(4), "name": list("abcd")}
    out = BatchContract().apply(batch, anoaug.create("riad", seed=1), 0)
    assert len(out["image"]) == len(out["mask"]) == len(out["label"]) == len(out["clean"]) == 12
    assert out["name"] == list("abcd")
    rows = out["anomaly_extras"]["source_row"]
    assert torch.equal(out["clean"], IMAGES[rows])
    made, rest = BatchContract(index=1).apply((IMAGES, torch.arange(4), "abcd"),
                                              anoaug.create("riad", seed=1), 0)  # fmt: skip
    assert torch.equal(made.image, out["image"]) and rest == "abcd"


def test_a_data_set_on_disk_has_one_view_of_an_image() -> None:
    settings = plan.Settings(n=1, methods=("riad",))
    assert plan.synthesizers(settings, {})["riad"].views is False
