"""NSA's patches: their sizes, the places that content allows, and what is laid there."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import anoaug
from anoaug import masks, prepare, sources
from anoaug.masks import boxes, content, patches
from anoaug.masks.boxes import Box
from tests.drawing import expect_uniform, levels, mask_columns, needs_triton, pixels
from tests.recipes import bits

SIDE = 96
FIND = prepare.Foreground("background", level=20, background=20)


def products(rows: int, seed: int, side: int = SIDE) -> Tensor:
    """An ellipse of bright grain on a dark plain ground, uint8 ``[rows, 3, side, side]``."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 30, (rows, 3, side, side))
    y, x = np.mgrid[:side, :side]
    for image in images:
        cy, cx = rng.uniform(0.4 * side, 0.6 * side, 2)
        ry, rx = rng.uniform(0.2 * side, 0.4 * side, 2)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        image[:, inside] = rng.integers(90, 250, (3, inside.sum()))
    return torch.from_numpy(images.astype(np.uint8))


IMAGES, BANK = products(12, 1), anoaug.DonorBank.from_tensors(products(7, 2))
HERE, THERE = FIND(IMAGES)[:, 0].bool(), FIND(BANK.data)[:, 0].bool()


def synthesizer(mask: masks.Mask, source: Any = None, **keywords: Any) -> anoaug.Synthesizer:
    layer = anoaug.Layer(mask, source or sources.Donor(BANK))
    return anoaug.Synthesizer(layer, p=1.0, seed=4, foreground=FIND, **keywords)


def columns(synth: anoaug.Synthesizer, out: anoaug.AnomalyBatch) -> dict[str, Any]:
    described = anoaug.recipe.recipe(synth.laws(3)).describe(out.params.table.numpy())
    return {name.split(".")[-1]: value for name, value in described.items()}


# ---- the law -------------------------------------------------------------------------------------


def published(rng: np.random.Generator, side: int, resize: Any, rows: int) -> Any:
    """Sides of patches as the paper's code draws them, ``[rows, 2]``, the ring included."""
    low, high, sides = round(0.03 * side), round(0.4 * side), np.empty((rows, 2), int)
    for n in range(rows):
        half = [int(np.clip((0.03 + rng.gamma(2, 0.05)) * side, low, high)) for _ in "yx"]
        middle = rng.integers(low, side - low, 2)
        tall, wide = (min(c + h, side) - max(c - h, 0) for c, h in zip(middle, half, strict=True))
        if resize is not None:
            scale = np.clip(rng.normal(1, 0.5), *resize)
            new = np.clip(scale * tall, low, high)
            across = np.clip(int(new / tall * wide), low, high)
            tall, wide = int(np.clip(int(across / wide * tall), low, high)), int(across)
        sides[n] = tall, wide
    return sides


@pytest.mark.slow
@pytest.mark.parametrize("resize", [None, (0.7, 1.3), (0.5, 2.0)])
def test_sides_follow_the_published_law(resize: Any) -> None:
    drawn = mask_columns(masks.CutPatch(resize=resize, ring=0), (256, 256), 6000)
    true = published(np.random.default_rng(0), 256, resize, 6000)
    for name, theirs in zip(("half_h", "half_w"), true.T, strict=True):
        ours = 2 * drawn[name]
        counts = ours > 0
        assert counts.mean() > 0.999
        assert stats.ks_2samp(ours[counts], theirs).pvalue > 1e-3
    areas = 4 * drawn["half_h"] * drawn["half_w"]
    assert areas.mean() == pytest.approx(true.prod(1).mean(), rel=0.04)


def test_without_gamma_half_sides_are_uniform_in_the_bounds() -> None:
    mask = masks.CutPatch(((0.1, 0.3), (0.2, 0.4)), gamma=None, resize=None, ring=0)
    drawn = mask_columns(mask, (400, 400), 4000)
    uncut = drawn["half_h"] % 1 == 0  # an odd side was cut at the edge
    assert drawn["half_h"].max() == 119 and drawn["half_w"].max() == 159
    assert drawn["half_h"][uncut].min() >= 20 and 0 < uncut.mean() < 1


def test_places_are_uniform_and_inside() -> None:
    drawn = mask_columns(masks.CutPatch(ring=0), (128, 200), 6000)
    for centre, half, side in (("cy", "half_h", 128), ("cx", "half_w", 200)):
        first = drawn[centre] - drawn[half] + 0.5
        assert first.min() >= 1 and (first + 2 * drawn[half]).max() <= side - 1
        free = side - 2 * np.floor(drawn[half]) - 2
        # Spread evenly within a pixel, whole numbers are uniform.
        jitter = np.random.default_rng(0).random(len(first))
        expect_uniform((first - 1 + jitter) / free, 0.0, 1.0)


def test_the_ring_is_left_out() -> None:
    whole, inner = (levels(masks.CutPatch(ring=ring), (64, 64), range(50)) > 0 for ring in (0, 2))
    shrunk = 1 - torch.nn.functional.max_pool2d(1 - whole[:, None].float(), 5, 1, 2)
    counted = inner.flatten(1).any(1)
    assert counted.any() and torch.equal(shrunk[counted, 0] > 0, inner[counted])


def test_a_patch_too_small_to_clone_is_no_anomaly() -> None:
    tiny = masks.CutPatch(((0.04, 0.05), (0.04, 0.05)), gamma=None, resize=None)
    assert levels(tiny, (60, 60), range(20)).max() <= 0  # at most 6 x 6, less its ring


def test_what_is_laid_is_what_was_cut_and_resized() -> None:
    cv2 = pytest.importorskip("cv2")
    images = torch.zeros(40, 3, SIDE, SIDE, dtype=torch.uint8)
    smooth = torch.nn.functional.avg_pool2d(products(1, 3).float(), 9, 1, 4)
    bank = anoaug.DonorBank.from_tensors(smooth.to(torch.uint8))
    layer = anoaug.Layer(masks.CutPatch(ring=0), sources.Donor(bank))
    synth = anoaug.Synthesizer(layer, p=1.0, seed=0)
    out = synth(images, index=range(40), epoch=0)
    drawn = columns(synth, out)
    assert out.label.sum() > 35
    for n, (x0, y0, x1, y1) in enumerate(out.boxes().tolist()):
        if not out.label[n]:
            continue
        step = drawn["yy"][n], drawn["xx"][n]
        first = [step[0] * y0 + drawn["y0"][n], step[1] * x0 + drawn["x0"][n]]
        top, left = (round(float(f - (s - 1) / 2)) for f, s in zip(first, step, strict=True))
        tall, wide = round(float(step[0] * (y1 - y0))), round(float(step[1] * (x1 - x0)))
        cut = bank.data[0, 0, top : top + tall, left : left + wide].numpy()
        assert cut.shape == (tall, wide)
        true = cv2.resize(cut, (x1 - x0, y1 - y0))
        ours = out.image[n, 0, y0:y1, x0:x1].numpy()
        off = np.abs(ours.astype(int) - true)[1:-1, 1:-1]  # OpenCV repeats the cut's edge
        assert off.max() <= 1


# ---- content -------------------------------------------------------------------------------------


def sought(mask: Any, key: int, here: Any, there: Any, reach: Any, scale: Any) -> Any:
    """The first box and place that are allowed, try after try; None without one."""
    words = content.candidates(torch.tensor([key]), patches.TRIES, 4)[0]
    found = None
    for word in words:
        box = mask.cut(word, reach, here.shape)
        top, left, tall, wide = (int(side) for side in box)
        if there[top : top + tall, left : left + wide].sum() > mask.min_object * tall * wide:
            found = box
            break
    if found is None:
        return None
    for word in words:
        laid = mask.laid(word, found, scale, here.shape)
        y, x, high, across = (int(side) for side in laid)
        rows = [top + ((2 * k + 1) * tall) // (2 * high) for k in range(high)]
        cols = [left + ((2 * k + 1) * wide) // (2 * across) for k in range(across)]
        moved = there[rows][:, cols]
        least = mask.min_object * high * across
        if moved.sum() <= least or (high - 2) * (across - 2) < mask.least:
            return None
        common = (moved & here[y : y + high, x : x + across]).sum()
        if common > mask.min_overlap * moved.sum():
            return (top, left, tall, wide), (y, x, high, across)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("least, common", [(0.7, 0.25), (0.25, 0.9), (0.95, 0.95)])
def test_the_first_allowed_candidate_is_taken(least: float, common: float) -> None:
    mask = masks.ObjectPatch(min_object=least, min_overlap=common)
    synth = synthesizer(mask)
    out = synth(IMAGES, index=range(12), epoch=0)
    drawn, none = columns(synth, out), 0
    keys = drawn["key"].view(np.int32).astype(np.int64) & 0xFFFFFFFF
    donor = drawn["image"].view(np.int32)
    for n in range(12):
        reach = tuple(torch.tensor(int(drawn[name][n])) for name in ("reach_y", "reach_x"))
        here, there = HERE[n].numpy(), THERE[donor[n]].numpy()
        true = sought(mask, int(keys[n]), here, there, reach, torch.tensor(drawn["scale"][n]))
        assert drawn["placed"][n] == 1
        if true is None:
            none += 1
            assert drawn["gate"][n] == 0 and out.label[n] == 0 and out.kind[n] == 0
            assert torch.equal(out.image[n], IMAGES[n])
            continue
        (top, left, tall, wide), (y, x, high, across) = true
        origin = [drawn[name][n] for name in ("from_y", "from_x", "from_h", "from_w")]
        assert origin == [top, left, tall, wide]
        box = torch.zeros(SIDE, SIDE)
        box[y + 1 : y + high - 1, x + 1 : x + across - 1] = 1
        assert torch.equal(out.mask[n, 0], box)
    assert none < 6


@pytest.mark.slow
def test_the_chosen_ones_are_distributed_as_the_published_loops_leave_them() -> None:
    """A plain rejection sampler in NumPy, with its own random numbers, accepts the same kind."""
    rng, mask = np.random.default_rng(0), masks.ObjectPatch(resize=None)
    here, there = HERE[0].numpy(), THERE[0].numpy()
    low, high, true = round(0.03 * SIDE), round(0.4 * SIDE), []
    while len(true) < 1500:
        half = [int(np.clip((0.03 + rng.gamma(2, 0.05)) * SIDE, low, high)) for _ in "yx"]
        for _ in range(200):
            middle = rng.integers(low, SIDE - low, 2)
            (t, b), (a, z) = (
                (max(c - h, 0), min(c + h, SIDE)) for c, h in zip(middle, half, strict=True)
            )
            patch = there[t:b, a:z]
            if patch.mean() > 0.7:
                break
        else:
            continue
        tall, wide = patch.shape
        for _ in range(200):
            cy = rng.integers(tall // 2 + 1, SIDE - tall // 2 - 1)
            cx = rng.integers(wide // 2 + 1, SIDE - wide // 2 - 1)
            y, x = cy - tall // 2, cx - wide // 2
            if (patch & here[y : y + tall, x : x + wide]).sum() > 0.25 * patch.sum():
                true.append((tall, wide, y, x))
                break
    bank = anoaug.DonorBank.from_tensors(BANK.data[:1])
    synth = synthesizer(mask, sources.Donor(bank))
    many = IMAGES[:1].expand(1500, -1, -1, -1)
    drawn = columns(synth, synth(many, index=range(1500), epoch=0))
    there_is = drawn["gate"] > 0
    assert there_is.mean() > 0.95
    ours = (
        drawn["from_h"], drawn["from_w"],
        drawn["cy"] - (drawn["from_h"] - 1) / 2, drawn["cx"] - (drawn["from_w"] - 1) / 2,
    )  # fmt: skip
    for mine, theirs in zip(ours, np.array(true).T, strict=True):
        assert stats.ks_2samp(mine[there_is], theirs).pvalue > 1e-3


def some_boxes(rows: int, count: int, size: int, seed: int = 0) -> Box:
    rng = np.random.default_rng(seed)
    tall, wide = (rng.integers(3, size, (rows, 1)).repeat(count, 1) for _ in "yx")
    top, left = (rng.integers(0, size - side + 1) for side in (tall, wide))
    return Box(*(torch.from_numpy(each) for each in (top, left, tall, wide)))


def test_integral_images_count_pixels() -> None:
    inside, some = pixels(4, 40, 40) > 99, some_boxes(4, 9, 40)
    for n in range(4):
        for k in range(9):
            t, a, h, w = (int(side[n, k]) for side in some)
            assert boxes.counted(inside, some)[n, k] == inside[n, t : t + h, a : a + w].sum()


def test_correlation_and_the_hosts_loop_agree() -> None:
    here = pixels(6, 50, 41, seed=1) > 128
    laid = some_boxes(6, 30, 41)
    first = Box(laid.top[:, 0] * 0, laid.left[:, 0] * 0, laid.tall[:, 0], laid.wide[:, 0])
    moved = boxes.shown(pixels(6, 50, 41, seed=2) > 128, first, first)
    counts = boxes.overlaps(here, moved, laid)
    for n in range(6):
        for k in range(30):
            t, a, h, w = (int(side[n, k]) for side in laid)
            assert counts[n, k] == (moved[n, :h, :w] & here[n, t : t + h, a : a + w]).sum()
    total = moved.sum((1, 2))
    for share in (0.3, 0.5, 0.52, 0.9):
        true, there = boxes.earliest(boxes.above(counts, total[:, None], share))
        number, found = boxes.first_overlap(here, moved, laid, total, share)
        assert torch.equal(found, there) and torch.equal(number[found], true[found])


def test_the_device_s_way_gives_the_host_s_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows at once with correlations, as on CUDA, against chosen rows and loops."""

    def called() -> anoaug.AnomalyBatch:
        layer = anoaug.Layer(masks.ObjectPatch() & masks.Objects(), sources.Donor(BANK), count=2)
        synth = anoaug.Synthesizer(layer, p=0.7, seed=1, foreground=FIND)
        return synth(IMAGES, index=range(12), epoch=0)

    true = called()
    monkeypatch.setattr(content, "_rows", lambda *_: None)
    monkeypatch.setattr(
        patches,
        "first_overlap",
        lambda here, moved, laid, total, share: boxes.earliest(
            boxes.above(boxes.overlaps(here, moved, laid), total[:, None], share)
        ),
    )
    ours = called()
    assert torch.equal(ours.image, true.image) and torch.equal(ours.mask, true.mask)
    active = true.label > 0
    assert torch.equal(bits(ours.params.table[active]), bits(true.params.table[active]))


def test_objects_confine_to_either_object() -> None:
    bare, both = (
        synthesizer(mask)(IMAGES, index=range(12), epoch=0)
        for mask in (
            masks.ObjectPatch(min_object=0.3),
            masks.ObjectPatch(min_object=0.3) & masks.Objects(),
        )
    )
    inside = both.mask > 0
    box = bare.mask > 0
    assert (inside <= box).all() and inside.sum() < box.sum()
    # All of the image's object in the box, and beyond it only what the patch brings of its own.
    assert (inside >= (box & HERE[:, None])).all()
    extra = inside & ~HERE[:, None]
    assert extra.any()
    bright = (bare.image.float().mean(1, keepdim=True) - 20).abs() > 20
    assert (bright[extra]).float().mean() > 0.95
    assert (bright[box & ~inside]).float().mean() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("source", [sources.Donor(BANK), sources.Own()])
@pytest.mark.parametrize("objects", [False, True])
def test_replay_batches_and_order(source: Any, objects: bool) -> None:
    mask: masks.Mask = masks.ObjectPatch() & masks.Objects() if objects else masks.ObjectPatch()
    layer = anoaug.Layer(mask, source, count=(1, 3))
    synth = anoaug.Synthesizer(layer, p=0.8, seed=2, foreground=FIND)
    out = synth(IMAGES, index=range(12), epoch=5)
    assert 0 < out.label.sum() < 12
    table = out.params.table.clone()
    again = synth(IMAGES, params=out.params)
    assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)
    assert torch.equal(bits(again.params.table), bits(table))
    assert torch.equal(bits(out.params.table), bits(table))
    rows = [7, 3, 4]
    for other in (
        synth(IMAGES[rows], index=rows, epoch=5), synth(IMAGES[rows], params=out.params.take(rows))
    ):  # fmt: skip
        assert torch.equal(other.image, out.image[rows])
        assert torch.equal(bits(other.params.table), bits(table[rows]))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=needs_triton)])
def test_backends_agree(backend: str) -> None:
    made = [
        synthesizer(masks.ObjectPatch() & masks.Objects(), backend=name)(
            IMAGES[:3], index=range(3), epoch=1
        )
        for name in ("auto", backend)
    ]
    assert torch.equal(made[0].image, made[1].image) and torch.equal(made[0].mask, made[1].mask)


def test_one_of_keeps_the_places() -> None:
    synth = synthesizer(masks.ObjectPatch())
    other = anoaug.create("cutpaste")
    both = anoaug.OneOf([(synth, 0.5), (other, 0.5)], p=1.0, seed=4)
    out = both(IMAGES, index=range(12), epoch=0)
    alone = synth(IMAGES, index=range(12), epoch=0)
    mine = out.params.choice == 0
    assert 0 < mine.sum() < 12
    assert torch.equal(out.image[mine], alone.image[mine])
    again = both(IMAGES, params=out.params)
    assert torch.equal(again.image, out.image)
    assert torch.equal(bits(again.params.table), bits(out.params.table))


def test_kinds_are_those_of_layers_that_found_a_place() -> None:
    first = anoaug.Layer(masks.ObjectPatch(min_object=0.999), sources.Donor(BANK), kind="full")
    second = anoaug.Layer(masks.Rectangle(), sources.Donor(BANK), kind="any")
    synth = anoaug.Synthesizer(first, second, p=1.0, seed=0, foreground=FIND)
    out = synth(IMAGES, index=range(12), epoch=0)
    gates = columns(synth, out)
    described = anoaug.recipe.recipe(synth.laws(3)).describe(out.params.table.numpy())
    there = torch.from_numpy(described["layer0.gate"].copy()) > 0
    assert 0 < there.sum() < 12 and gates
    assert out.kind.tolist() == [1 if one else 2 for one in there.tolist()]


def test_no_foreground_no_place() -> None:
    empty = torch.zeros(12, 1, SIDE, SIDE)
    out = synthesizer(masks.ObjectPatch())(IMAGES, index=range(12), epoch=0, foreground=empty)
    assert out.label.sum() == 0 and torch.equal(out.image, IMAGES)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_eval_mode_needs_nothing(backend: str) -> None:
    synth = synthesizer(masks.ObjectPatch() & masks.Objects(), backend=backend).eval()
    assert torch.equal(synth(IMAGES).image, IMAGES)


@pytest.mark.parametrize("mask", [masks.CutPatch(ring=0), masks.ObjectPatch(ring=0)])
def test_mirrored_sources_stay_mirrored(mask: masks.CutPatch) -> None:
    made = []
    for mirror in (False, True):
        source = sources.Own(mirror=mirror)
        synth = synthesizer(replace(mask, resize=None), source)
        everywhere = torch.ones(12, 1, SIDE, SIDE)
        made.append(synth(IMAGES, index=range(12), epoch=0, foreground=everywhere))
    assert torch.equal(made[0].mask, made[1].mask)
    flips = set()
    for n, (x0, y0, x1, y1) in enumerate(made[0].boxes().tolist()):
        plain, turned = (out.image[n, :, y0:y1, x0:x1] for out in made)
        ways = [(), (1,), (2,), (1, 2)]
        found = [way for way in ways if torch.equal(plain.flip(way) if way else plain, turned)]
        assert found or not made[0].label[n]
        flips.update(found)
    assert len(flips) > 2


def test_copies_and_pickles_work() -> None:
    synth = synthesizer(masks.ObjectPatch() & masks.Objects())
    true = synth(IMAGES, index=range(12), epoch=0)
    for other in (copy.deepcopy(synth), pickle.loads(pickle.dumps(synth))):
        assert torch.equal(other(IMAGES, index=range(12), epoch=0).image, true.image)


# ---- the door ------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="foreground: this recipe needs it"):
        anoaug.Synthesizer(anoaug.Layer(masks.ObjectPatch(), sources.Own()), p=1.0)(IMAGES)
    layer = anoaug.Layer(masks.ObjectPatch(), sources.Donor(BANK))
    with pytest.raises(ValueError, match="finds the donors' objects"):
        anoaug.Synthesizer(layer, p=1.0)(IMAGES, foreground=HERE[:, None])
    small = anoaug.DonorBank.from_tensors(products(3, 5, 64))
    for mask in (masks.ObjectPatch(), masks.CutPatch()):
        with pytest.raises(ValueError, match="donors: expected images"):
            synthesizer(mask, sources.Donor(small))(IMAGES)
    with pytest.raises(ValueError, match="Objects"):
        synthesizer(masks.CutPatch() & masks.Objects())
    with pytest.raises(ValueError, match=r"Own or sources\.Donor"):
        synthesizer(masks.ObjectPatch(), sources.Noise())
    for wrong in ({"gamma": (2.5, 0.1, 0.1)}, {"bounds": (0.1, 0.3, 0.2)}, {"ring": -1}):
        with pytest.raises((ValueError, TypeError)):
            masks.CutPatch(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_object"):
        masks.ObjectPatch(min_object=1.0)
    with pytest.raises(ValueError, match="given tensors"):
        levels(masks.ObjectPatch(), (32, 32), range(2))
