"""What leaves a method nothing to do, or does not fit the images: clean samples, or one error."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import anoaug
from anoaug import DonorBank, Layer, Synthesizer, masks, prepare, sources

SIZE = (48, 44)
IMAGES = torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8,
                       generator=torch.Generator().manual_seed(1))  # fmt: skip
IMAGES[..., ::6] = 0  # a pattern, for methods that break one
DONORS = DonorBank.from_tensors(IMAGES.flip(0), categories=["nut", "pin"] * 2)
NOTHING = torch.zeros(4, 1, *SIZE, dtype=torch.bool)


def made(name: str, **keywords: Any) -> Synthesizer:
    given = {"donors": DONORS, "textures": IMAGES}
    needs = {need: given[need] for need in anoaug.describe(name)["needs"]}
    return anoaug.create(name, **{"p": 1.0, "seed": 0, **needs, **keywords})


def assert_clean(out: anoaug.AnomalyBatch, images: torch.Tensor) -> None:
    assert not out.label.any() and not out.kind.any() and not out.mask.any()
    assert torch.equal(out.image, images)


# ---- a foreground without a pixel ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", anoaug.list_methods())
def test_every_method_leaves_an_image_of_background_alone_clean(name: str) -> None:
    out = made(name)(IMAGES, foreground=NOTHING)
    assert_clean(out, IMAGES[out.extras.get("source_row", torch.arange(4))])


@pytest.mark.parametrize("name", ["nsa", "reb", "pei", "memseg", "glass_las", "cutpaste"])
def test_one_that_the_synthesizer_finds_does_too(name: str) -> None:
    where = prepare.Foreground("threshold", level=255, polarity="bright")
    out = made(name, foreground=where)(IMAGES, category="nut" if name == "nsa" else None)
    assert_clean(out, IMAGES)


def test_a_product_that_is_all_background_for_its_preset() -> None:
    synth = anoaug.ByCategory("nsa", {"nut": "bottle", "pin": "screw"}, donors=DONORS, seed=0)
    white = torch.full_like(IMAGES, 200)
    assert_clean(synth(white, category=["nut", "pin"] * 2), white)


def test_others_of_the_batch_are_what_they_are_alone() -> None:
    here = ~NOTHING
    here[1:3] = False
    for name in ("nsa", "reb", "draem"):
        synth = made(name)
        out = synth(IMAGES, foreground=here, index=range(4), epoch=0)
        assert_clean_rows = (out.image != IMAGES).flatten(1).any(1)
        assert not assert_clean_rows[1:3].any() and not out.label[1:3].any()
        own = synth(IMAGES[3:], foreground=here[3:], index=[3], epoch=0)
        assert torch.equal(own.image[0], out.image[3])


# ---- patches larger than the image ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "error", "words"),
    [
        (((0.03, 0.6), (0.03, 0.4)), ValueError, r"shares .* within \[0, 0.5\], got \(\(0.03, 0.6"),
        (((0.03, 0.4), (3, 40)), ValueError, "half sides as shares"),
        (((-0.1, 0.4), (0.03, 0.4)), ValueError, "half sides as shares"),
        (((0.4, 0.03), (0.03, 0.4)), ValueError, "bounds: .*swap the two"),
        (0.4, TypeError, "bounds: expected ranges for rows and columns, got 0.4"),
    ],
)
def test_bounds_beyond_the_image_are_refused(
    bounds: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        made("nsa", bounds=bounds)


@pytest.mark.parametrize(
    "mask",
    [
        masks.Rectangle(side=500),
        masks.Rectangle(height=(300, 400), width=(2, 3), rotation=(-90, 90)),
        masks.CutPatch(bounds=((0.5, 0.5), (0.5, 0.5)), gamma=None, resize=(20.0, 20.0)),
        masks.CutPatch(bounds=((0.4, 0.5), (0.4, 0.5)), gamma=(2, 9.0, 9.0)),
    ],
    ids=repr,
)
def test_sides_that_are_too_long_end_at_the_image_s_edge(mask: masks.Mask) -> None:
    for size in (SIZE, (9, 40), (8, 8)):
        images = IMAGES[..., : size[0], : size[1]].contiguous()
        out = Synthesizer(Layer(mask, sources.Constant(1.0)), p=1.0, seed=0)(images)
        assert out.mask.shape[2:] == size and torch.equal(
            out.label, out.mask.amax((1, 2, 3)).long()
        )
        assert out.label.all() or size != SIZE  # a CutPatch has 50 pixels at least


@pytest.mark.parametrize("size", [(2, 2), (3, 40), (6, 6)])
def test_images_too_small_for_a_patch_stay_clean(size: tuple[int, int]) -> None:
    images = IMAGES[..., : size[0], : size[1]].contiguous()
    out = made("nsa", donors=images)(images)
    assert out.image.shape == images.shape and not out.label.any()
    assert torch.equal(out.image, images)


# ---- donors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fpi", "nsa", "pii"])
def test_no_donors_are_refused_at_the_door(name: str) -> None:
    with pytest.raises(
        TypeError, match=r"donors: expected a DonorBank.*got NoneType; donors='path"
    ):
        anoaug.create(name)


def test_donors_of_a_batch_of_one() -> None:
    alone = Synthesizer(Layer(masks.Rectangle(), sources.BatchDonor()), p=1.0)
    with pytest.raises(ValueError, match=r"donors: .* at least 2 images .*got 1; use sources.Don"):
        alone(IMAGES[:1])
    out = made("nsa")(IMAGES[:1], category="nut", index=[0], epoch=0)
    whole = made("nsa")(IMAGES, category="nut", index=range(4), epoch=0)
    assert torch.equal(out.image[0], whole.image[0])


def test_a_bank_without_the_category() -> None:
    nuts = DonorBank.from_tensors(IMAGES, categories=["nut"] * 4)
    box = masks.Rectangle()
    layers = Layer(box, sources.Donor(DONORS)), Layer(box, sources.Donor(nuts))
    synth = Synthesizer(*layers, p=1.0, seed=0)
    assert synth(IMAGES, category=["nut", None, "nut", ""]).label.all()
    for pin in ("pin", 1, [0, 1, 0, 0]):
        with pytest.raises(ValueError, match=r"DonorBank\(4 .* no image of 'pin', but of nut"):
            synth(IMAGES, category=pin)
    with pytest.raises(ValueError, match="category: 'axe' is in no bank; known: nut, pin"):
        synth(IMAGES, category=["nut", "axe", "nut", "pin"])
    for numbers in (2, -2, [0, 1, 5, 0]):
        with pytest.raises(ValueError, match="category: expected numbers below 2, or -1"):
            synth(IMAGES, category=numbers)


# ---- planes of another size ----------------------------------------------------------------------


def test_superpixels_of_another_size() -> None:
    small = torch.zeros(4, 1, 10, 10)
    words = r"superpixels: expected shape \[4, 1, 48, 44\] .*got \[4, 1, 10, 10\]; resize it with"
    with pytest.raises(ValueError, match=words):
        made("smai")(IMAGES, slots={"superpixels": small})
    with pytest.raises(ValueError, match=words):
        made("smai", superpixels=lambda images: small)(IMAGES)


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        ((4, 1, 24, 22), ValueError, r"\[4, 48, 44\] like the images, got .*; resize it to the im"),
        ((3, 1, 48, 44), ValueError, r"\[4, 48, 44\] like the images"),
        ((4, 48, 44), TypeError, r"expected a tensor \(B, C, H, W\), got .*\[:, None\] adds C"),
    ],
)
def test_modalities_of_another_size(shape: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"depth: .*{words}"):
        made("draem")(IMAGES, extra={"depth": torch.zeros(shape)})
