"""Sources that take patches: the image's own, of the batch, of a bank; and all backends agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import masks, recipe, sources
from anoaug.photometric import ColorJitter, RandomOps
from tests.drawing import (
    DEVICE,
    EVERYWHERE,
    columns_of,
    drawn,
    integers,
    needs_triton,
    painted,
    pixels,
    textures,
)

PATCH = masks.Rectangle(height=(4, 20), width=(4, 20))
SCAR = masks.Rectangle(height=(8, 20), width=(3, 9), rotation=(-90, 90))


# ---- own patches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.bfloat16])
def test_an_upright_patch_is_copied_exactly_from_where_it_was_drawn(
    images: torch.Tensor, dtype: torch.dtype
) -> None:
    images = (images.double() / 255).to(dtype) if dtype.is_floating_point else images.to(dtype)
    synth = painted(sources.Own(), PATCH)
    out = synth(images, index=range(4), epoch=0)
    where = columns_of(synth, out.params.table, 3, "source")
    for n in range(4):
        y, x = out.mask[n, 0].nonzero().T
        from_y, from_x = y + int(where["y0"][n]), x + int(where["x0"][n])
        assert (from_y[0], from_x[0]) != (y[0], x[0])
        assert from_y.min() >= 0 and from_y.max() < 63 and from_x.min() >= 0 and from_x.max() < 50
        # As integers: torch compares no uint16.
        ours, truth = out.image[n].float(), images[n].float()
        assert torch.equal(ours[:, y, x], truth[:, from_y, from_x])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    index=st.integers(0, 2**40),
)
def test_a_patch_is_taken_from_inside_the_image(
    size: tuple[int, int], height: int, width: int, index: int
) -> None:
    image = pixels(1, 2, *size)
    synth = painted(sources.Own(), masks.Rectangle(height=height, width=width))
    out = synth(image, index=[index], epoch=0)
    where = columns_of(synth, out.params.table, 2, "source")
    y, x = out.mask[0, 0].nonzero().T
    from_y, from_x = y + int(where["y0"][0]), x + int(where["x0"][0])
    assert from_y.min() >= 0 and from_y.max() < size[0]
    assert from_x.min() >= 0 and from_x.max() < size[1]
    assert torch.equal(out.image[0][:, y, x], image[0][:, from_y, from_x])


def test_every_place_to_take_from_is_reached_equally_often() -> None:
    synth = painted(sources.Own(), masks.Rectangle(height=6, width=9))
    source, mask = drawn(synth, (12, 14), 4000)
    top = source["y0"] + mask["cy"] - 2.5
    left = source["x0"] + mask["cx"] - 4.0
    table = stats.contingency.crosstab(top, left)
    assert [list(e) for e in table.elements] == [list(range(7)), list(range(6))]
    assert stats.chisquare(table.count.ravel()).pvalue > 1e-4


def test_where_a_patch_comes_from_does_not_hang_together_with_where_it_goes() -> None:
    source, mask = drawn(painted(sources.Own(), masks.Rectangle(height=6, width=6)), (64, 64), 4000)
    pairs = (source["y0"] + mask["cy"], mask["cy"]), (source["x0"] + mask["cx"], mask["cx"])
    for taken, put in pairs:
        assert abs(np.corrcoef(taken, put)[0, 1]) < 0.06


def test_a_scar_is_an_upright_box_turned(images: torch.Tensor) -> None:
    synth = painted(sources.Own(), SCAR)
    out = synth(images, index=range(4), epoch=0)
    box = columns_of(synth, out.params.table, 3, "mask")
    source = columns_of(synth, out.params.table, 3, "source")
    for n in range(4):
        y, x = out.mask[n, 0].nonzero().numpy().T
        # The mask's own axes, from its own columns: along and across the scar.
        dy, dx = y - box["cy"][n].astype(float), x - box["cx"][n].astype(float)
        cos, sin = box["cos"][n].astype(float), box["sin"][n].astype(float)
        across, along = cos * dy - sin * dx, cos * dx + sin * dy
        # The centre of the box it was cut from; half a pixel from a corner to its first pixel.
        from_y = (source["yy"] * box["cy"] + source["yx"] * box["cx"] + source["y0"])[n] + across
        from_x = (source["xy"] * box["cy"] + source["xx"] * box["cx"] + source["x0"])[n] + along
        top = from_y - across - box["half_h"][n] + 0.5
        assert abs(top - round(float(top[0]))).max() < 1e-3
        assert from_y.min() > -0.5 and from_y.max() < 62.5
        clear = (np.abs(from_y % 1 - 0.5) > 1e-3) & (np.abs(from_x % 1 - 0.5) > 1e-3)
        assert clear.mean() > 0.5
        nearest = np.round(from_y).astype(int)[clear], np.round(from_x).astype(int)[clear]
        ours = out.image[n].numpy()[:, y[clear], x[clear]]
        assert np.array_equal(ours, images[n].numpy()[:, nearest[0], nearest[1]])


def test_the_same_place_changes_nothing(images: torch.Tensor) -> None:
    out = painted(sources.Own(place="same"), PATCH)(images)
    assert out.mask.flatten(1).any(1).all()
    assert torch.equal(out.image, images)


def test_a_jittered_patch_is_the_patch_in_other_colours(images: torch.Tensor) -> None:
    jitter = ColorJitter(0.1, 0.1, 0.1, 0.1)
    plain = painted(sources.Own(), PATCH)(images, index=range(4), epoch=0)
    ours = painted(sources.Own(photometric=jitter), PATCH)(images, index=range(4), epoch=0)
    assert torch.equal(ours.mask, plain.mask)
    inside = plain.mask.bool().expand_as(images)
    assert torch.equal(ours.image[~inside], images[~inside])
    before, after = plain.image[inside].double(), ours.image[inside].double()
    assert (before != after).double().mean() > 0.5
    assert np.corrcoef(before, after)[0, 1] > 0.85


def test_a_jitter_of_nothing_changes_nothing(images: torch.Tensor) -> None:
    plain = painted(sources.Own(), SCAR)(images, index=range(4), epoch=0)
    ours = painted(sources.Own(photometric=ColorJitter()), SCAR)(images, index=range(4), epoch=0)
    assert torch.equal(ours.image, plain.image)


# ---- donors of the batch -------------------------------------------------------------------------


def test_a_batch_of_one_has_no_donor(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected a batch of at least 2"):
        painted(sources.BatchDonor(), PATCH)(images[:1])


def test_views_of_one_image_are_no_donors_of_each_other(images: torch.Tensor) -> None:
    synth = painted(sources.BatchDonor(), PATCH, views=True)
    with pytest.raises(ValueError, match="expected a batch of at least 2"):
        synth(images[:1])


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 3, 7])
@pytest.mark.parametrize("views", [False, True])
def test_a_donor_is_any_other_image_of_the_batch(rows: int, views: bool) -> None:
    synth = painted(sources.BatchDonor(), PATCH, views=views)
    image = torch.arange(rows, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    tally = np.zeros((rows, rows), int)
    for call in range(120):
        out = synth(image, index=range(rows), epoch=call)
        for n in np.flatnonzero(out.label.numpy()):
            taken = out.image[n][out.mask[n].bool().expand(3, -1, -1)].unique()
            assert len(taken) == 1
            tally[n % rows, taken] += 1
    assert (np.diag(tally) == 0).all()
    others = tally[~np.eye(rows, dtype=bool)]
    assert others.sum() == 120 * rows
    assert rows == 2 or stats.chisquare(others).pvalue > 1e-4


# ---- donors of a bank ----------------------------------------------------------------------------

NAMES = ["nut", "pill", "pill", "nut", "pill", "screw"]


def plain_donors(**keywords: Any) -> anoaug.DonorBank:
    """Donors of one colour each, so that a patch tells where it is from."""
    colours = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 30, 26)
    return anoaug.DonorBank.from_tensors(colours, **keywords)


def donor_of(out: anoaug.AnomalyBatch) -> np.ndarray:
    inside = out.mask.bool().expand_as(out.image)
    return np.array([int(image[place][0]) for image, place in zip(out.image, inside, strict=True)])


@pytest.mark.slow
def test_a_donor_is_of_the_sample_s_category() -> None:
    synth = painted(sources.Donor(plain_donors(categories=NAMES)), PATCH)
    wanted = ["pill", "nut", "screw"] * 200
    image = torch.full((600, 3, 24, 24), 99, dtype=torch.uint8)
    taken = donor_of(synth(image, index=range(600), epoch=0, category=wanted))
    assert {name: set(taken[n::3]) for n, name in enumerate(wanted[:3])} == {
        "pill": {1, 2, 4}, "nut": {0, 3}, "screw": {5},
    }  # fmt: skip
    assert stats.chisquare(np.bincount(taken[0::3])[[1, 2, 4]]).pvalue > 1e-4
    assert stats.chisquare(np.bincount(taken[1::3])[[0, 3]]).pvalue > 1e-4


@pytest.mark.parametrize("categories", [NAMES, None])
def test_without_a_category_every_donor_is_taken_equally_often(categories: Any) -> None:
    synth = painted(sources.Donor(plain_donors(categories=categories)), PATCH)
    source, _ = drawn(synth, (24, 24), 3000)
    tally = np.bincount(integers(source["image"]), minlength=6)
    assert stats.chisquare(tally).pvalue > 1e-4


def test_a_bank_without_categories_serves_every_category() -> None:
    synth = painted(sources.Donor(plain_donors()), PATCH)
    source, _ = drawn(synth, (24, 24), 200, category="bottle")
    assert set(integers(source["image"])) == set(range(6))


def test_a_bank_without_categories_serves_them_all_beside_one_that_has_some() -> None:
    banks = (plain_donors(categories=NAMES), plain_donors())
    layers = [anoaug.Layer(PATCH, sources.Donor(bank)) for bank in banks]
    synth = anoaug.Synthesizer(*layers, p=1.0, seed=0)
    blank = torch.zeros(1, 3, 24, 24, dtype=torch.uint8).expand(200, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(200), epoch=0, category="nut").numpy()
    columns = recipe.recipe(synth.laws(3)).describe(table)
    taken = [set(integers(v)) for name, v in columns.items() if name.endswith(".image")]
    assert taken == [{0, 3}, set(range(6))]


def test_a_category_is_the_same_by_name_and_by_number() -> None:
    synth = painted(sources.Donor(plain_donors(categories=NAMES)), PATCH)
    assert synth.categories == ("nut", "pill", "screw")
    by_name, _ = drawn(synth, (24, 24), 50, category="pill")
    by_number, _ = drawn(synth, (24, 24), 50, category=1)
    assert np.array_equal(integers(by_name["image"]), integers(by_number["image"]))


def test_an_unknown_category_names_the_nearest() -> None:
    synth = painted(sources.Donor(plain_donors(categories=NAMES)), PATCH)
    with pytest.raises(ValueError, match="did you mean pill"):
        drawn(synth, (24, 24), 2, category="pil")


@pytest.mark.parametrize("size", [(30, 26), (48, 40), (24, 25)])
def test_a_donor_s_patch_is_copied_exactly_at_any_size_of_bank(size: tuple[int, int]) -> None:
    bank = anoaug.DonorBank.from_tensors(pixels(4, 3, *size, seed=5))
    synth = painted(sources.Donor(bank), PATCH)
    image = pixels(8, 3, 36, 44)
    out = synth(image, index=range(8), epoch=0)
    where = columns_of(synth, out.params.table, 3, "source")
    for n in range(8):
        y, x = out.mask[n, 0].nonzero().T
        from_y, from_x = y + int(where["y0"][n]), x + int(where["x0"][n])
        assert from_y.min() >= 0 and from_y.max() < size[0]
        assert from_x.min() >= 0 and from_x.max() < size[1]
        donor = bank.data[integers(where["image"])[n]]
        assert torch.equal(out.image[n][:, y, x], donor[:, from_y, from_x])


def test_a_donor_at_the_same_place_shows_its_own_pixels(images: torch.Tensor) -> None:
    bank = anoaug.DonorBank.from_tensors(pixels(4, 3, 63, 50, seed=5))
    synth = painted(sources.Donor(bank, place="same"), SCAR)
    out = synth(images, index=range(4), epoch=0)
    chosen = integers(columns_of(synth, out.params.table, 3, "source")["image"])
    expected = torch.where(out.mask.bool(), bank.data[chosen], images)
    assert torch.equal(out.image, expected)


# ---- backends ------------------------------------------------------------------------------------

EVERY = {
    "own": (SCAR, sources.Own()),
    "own jittered": (PATCH, sources.Own(photometric=ColorJitter(0.1, 0.1, 0.1, 0.1))),
    "own bilinear": (SCAR, sources.Own(interpolation="bilinear")),
    "batch donor": (SCAR, sources.BatchDonor()),
    "donor": (SCAR, sources.Donor(anoaug.DonorBank.from_tensors(pixels(3, 3, 31, 29)))),
    "texture": (
        EVERYWHERE,
        sources.Texture(textures(4, 31, 29), RandomOps.draem(), rotation=(-45, 45)),
    ),
    "texture nearest": (
        EVERYWHERE,
        sources.Texture(textures(4, 31, 29), rotation=20.0, interpolation="nearest", fill="border"),
    ),
    "noise": (PATCH, sources.Noise(0.1, 0.6)),
    "constant": (PATCH, sources.Constant((0, 1))),
}


def rendered(name: str, images: torch.Tensor, backend: str) -> torch.Tensor:
    mask, source = EVERY[name]
    return painted(source, mask, backend=backend)(images, index=range(4), epoch=3).image


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", EVERY)
def test_the_cpu_driver_equals_the_reference(
    images: torch.Tensor, name: str, dtype: torch.dtype
) -> None:
    images = images if dtype == torch.uint8 else images / 255
    assert torch.equal(rendered(name, images, "auto"), rendered(name, images, "torch"))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize("name", EVERY)
def test_the_kernel_equals_the_reference(images: torch.Tensor, name: str) -> None:
    images = images.to(DEVICE)
    assert torch.equal(rendered(name, images, "triton"), rendered(name, images, "torch"))


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sources.Own(place="nowhere"), "place: expected one of"),
        (lambda: sources.Own(interpolation="cubic"), "interpolation: expected one of"),
        (lambda: sources.Donor(plain_donors(), place="there"), "place: expected one of"),
        (lambda: sources.Texture(textures(1, 4, 4), fill="wrap"), "fill: expected one of"),
        (lambda: sources.Texture(textures(1, 4, 4), rotation=(9, 1)), "rotation: expected"),
        (lambda: sources.Noise(law="pink"), "law: expected one of"),
        (lambda: sources.Noise(0.6, 0.4), "expected .low, high."),
        (lambda: sources.Noise(0.5, 1.5), "high: expected values within"),
        (lambda: sources.Constant((0.2, 0.1)), "value: expected .low, high."),
        (lambda: sources.Constant(2.0), "value: expected values within"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("bank", [pixels(2, 3, 4, 4), "textures", 3])
def test_a_source_that_is_given_no_bank_says_what_makes_one(bank: Any) -> None:
    with pytest.raises(TypeError, match="TextureBank.from_folder"):
        painted(sources.Texture(bank))
