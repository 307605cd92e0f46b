"""masks.ObjectShape: a shape about a pixel of the foreground, filled from the foreground."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug
from anoaug import masks, sources
from anoaug.masks import salient
from tests.drawing import columns_of, needs_triton, painted, pixels

BLOBS = anoaug.ShapeBank.procedural("blob", n=16, size=64)
SIZE = (96, 130)


def foreground(rows: int) -> torch.Tensor:
    """A box whose place depends on the sample."""
    inside = torch.zeros(rows, 1, *SIZE, dtype=torch.uint8)
    for n in range(rows):
        inside[n, :, 20 + n % 30 : 50 + n % 30, 30 + n % 50 : 70 + n % 50] = 1
    return inside


def call(mask: masks.Mask, source: sources.Source, images: torch.Tensor, **more: Any) -> Any:
    rows = len(images)
    given = {"foreground": foreground(rows), **more.pop("given", {})}
    synth = painted(source, mask, **more)
    return synth, synth(images, index=range(rows), epoch=0, **given)


# ---- a pixel -------------------------------------------------------------------------------------


def test_every_pixel_of_the_foreground_is_as_likely() -> None:
    inside = torch.zeros(1, 7, 9, dtype=torch.bool)
    inside[0, 2:5, 3:8] = True
    inside[0, 6, 0] = True
    words = torch.arange(0, 2**32, 2**32 // 16000)
    (y, x), found = salient.random_pixel(inside.expand(len(words), -1, -1), words)
    assert found.all() and inside[0, y, x].all()
    counts = torch.bincount(y * 9 + x, minlength=63).reshape(7, 9)
    assert (counts[inside[0]] - 1000).abs().max() <= 1 and not counts[~inside[0]].any()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_host_and_device_find_the_same_pixel(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(200, 7, 9, generator=generator) < share
    words = torch.randint(2**32, (200,), generator=generator)
    host, device = salient.pixel_on_host(inside, words), salient.pixel_on_device(inside, words)
    assert torch.equal(torch.stack(host[0]), torch.stack(device[0]))
    assert torch.equal(host[1], device[1]) and (host[1].any() or share < 0.1)


def test_the_device_s_way_waits_for_nothing() -> None:
    """Values on the meta device cannot be read: any look at them would fail."""
    inside, words = torch.zeros(3, 7, 9, dtype=torch.bool), torch.zeros(3, dtype=torch.int64)
    (y, x), found = salient.pixel_on_device(inside.to("meta"), words.to("meta"))
    assert y.shape == x.shape == found.shape == (3,) and found.device.type == "meta"


def test_no_pixel_is_found_where_there_is_none() -> None:
    _, found = salient.random_pixel(torch.zeros(2, 3, 4, dtype=torch.bool), torch.tensor([0, 7]))
    assert not found.any()


@pytest.mark.parametrize("side", [1, 4, 5, 20, 30])
def test_a_box_about_a_pixel_is_moved_into_the_image(side: int) -> None:
    pixel = torch.arange(20)
    centre = salient.centred(pixel, torch.full((20,), side), 20)
    first = centre - (side - 1) / 2
    if side <= 20:
        assert (first >= 0).all() and (first + side <= 20).all()
        free = (pixel >= side // 2) & (pixel - side // 2 + side <= 20)
        assert torch.equal(first[free], (pixel - side // 2)[free].float())
    else:
        assert (first == 0).all()


# ---- a shape -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_centres_are_on_the_foreground_and_all_over_it() -> None:
    images = torch.zeros(400, 1, *SIZE, dtype=torch.uint8)
    mask = masks.ObjectShape(BLOBS, height=9, width=9, rotation=0.0, elastic=0.0)
    synth, out = call(mask, sources.Constant(1.0), images)
    where = columns_of(synth, out.params.table, 1, "mask")
    inside = foreground(400)[:, 0].numpy()
    cy, cx = where["cy"].astype(int), where["cx"].astype(int)
    assert inside[np.arange(400), cy, cx].all() and out.label.all()
    # Its boxes keep clear of the image's edges: nothing is moved.
    number = np.arange(400)
    u, v = (cy - 20 - number % 30 + 0.5) / 30, (cx - 30 - number % 50 + 0.5) / 40
    for spread in (u, v):
        assert stats.kstest(spread, "uniform").pvalue > 1e-3
    middles = [np.argwhere(m > 0).mean(0) for m in out.mask[:, 0].numpy()]
    assert np.abs(np.array(middles) - np.stack([cy, cx], 1)).max() < 4


def test_crops_are_about_pixels_of_the_foreground() -> None:
    """Colours say where they come from: red is the row, green the column."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    images = torch.stack([y, x, y * 0]).byte().expand(60, -1, -1, -1).contiguous()
    mask = masks.ObjectShape(BLOBS, height=9, width=9, rotation=(-180, 180), elastic=0.0)
    synth, out = call(mask, sources.Own(), images)
    source = columns_of(synth, out.params.table, 3, "source")
    where = columns_of(synth, out.params.table, 3, "mask")
    centre = [
        source[a] * where["cy"] + source[b] * where["cx"] + source[c]
        for a, b, c in (("yy", "yx", "y0"), ("xy", "xx", "x0"))
    ]
    cy, cx = (np.round(one).astype(int) for one in centre)
    assert foreground(60)[np.arange(60), 0, cy, cx].all()
    for n in range(60):
        shown = out.image[n, :2, out.mask[n, 0] > 0].float().mean(1).numpy()
        assert np.abs(shown - [cy[n], cx[n]]).max() < 7


@pytest.mark.slow
def test_with_objects_only_what_is_object_on_both_sides_is_laid_down() -> None:
    images = torch.zeros(30, 3, *SIZE, dtype=torch.uint8)
    inside = foreground(30)
    images[:, :1] = 100 * inside + 50
    mask = masks.ObjectShape(BLOBS, size=0.05, rotation=(-90, 90)) & masks.Objects()
    _, out = call(mask, sources.Own(photometric=None), images)
    there = out.mask > 0
    assert there.flatten(1).any(1).all()
    assert (inside[there] == 1).all() and (out.image[:, :1][there] == 150).all()
    free = masks.ObjectShape(BLOBS, size=0.05, rotation=(-90, 90))
    _, other = call(free, sources.Own(), images)
    assert (inside[other.mask > 0] == 0).any()


@pytest.mark.parametrize(("otherwise", "labels"), [("nothing", 0), ("anywhere", 1)])
def test_without_foreground(otherwise: str, labels: int) -> None:
    images = pixels(6, 3, *SIZE)
    mask = masks.ObjectShape(BLOBS, otherwise=otherwise)
    nothing = {"foreground": torch.zeros(6, 1, *SIZE, dtype=torch.uint8)}
    for source in (sources.Own(), sources.Constant(0.5)):
        _, out = call(mask, source, images, given=nothing)
        assert (out.label == labels).all()


def test_donors_give_of_their_own_foreground() -> None:
    bright = torch.zeros(5, 3, 80, 80, dtype=torch.uint8)
    bright[:, :, 30:60, 10:40] = 200
    donors = anoaug.DonorBank.from_tensors(bright)
    finder = anoaug.prepare.Foreground("threshold", level=100, polarity="bright")
    mask = masks.ObjectShape(BLOBS, height=5, width=5, rotation=0.0, elastic=0.0)
    images = torch.zeros(40, 3, *SIZE, dtype=torch.uint8)
    images[:, :, 40:70, 50:100] = 150
    synth = painted(sources.Donor(donors), mask, foreground=finder)
    out = synth(images, index=range(40), epoch=0)
    middle = torch.round(torch.tensor(columns_of(synth, out.params.table, 3, "mask")["cy"])).long()
    assert out.label.all() and (middle >= 38).all() and (middle < 72).all()
    # About a bright pixel of the donor: at least a quarter of the crop is bright.
    for image, inside in zip(out.image, out.mask, strict=True):
        assert (image[0][inside[0] > 0] == 200).float().mean() > 0.2


def test_a_replay_lies_where_it_lay() -> None:
    images = pixels(8, 3, *SIZE)
    synth, out = call(masks.ObjectShape(BLOBS), sources.Own(), images)
    again = synth(images, params=out.params, foreground=foreground(8))
    assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)


def test_a_sample_is_the_same_in_any_batch() -> None:
    images = pixels(8, 3, *SIZE)
    synth, out = call(masks.ObjectShape(BLOBS) & masks.Objects(), sources.Own(), images)
    few = synth(images[2:5], index=range(2, 5), epoch=0, foreground=foreground(8)[2:5])
    assert torch.equal(few.image, out.image[2:5]) and torch.equal(few.mask, out.mask[2:5])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=needs_triton)])
@pytest.mark.triton_interpreter
def test_backends_agree(backend: str) -> None:
    images = pixels(4, 3, *SIZE)
    mask = masks.ObjectShape(BLOBS) & masks.Objects()
    _, ours = call(mask, sources.Own(), images)
    _, theirs = call(mask, sources.Own(), images, backend=backend)
    assert torch.equal(ours.image, theirs.image) and torch.equal(ours.mask, theirs.mask)


def test_an_unknown_way_out_is_refused() -> None:
    with pytest.raises(ValueError, match="otherwise: expected one of"):
        masks.ObjectShape(BLOBS, otherwise="somewhere")
