"""Corrected sources: what OpenCV's seamless cloning gives, patch after patch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import blends, masks, sources
from tests import blending
from tests.blending import needs_triton
from tests.drawing import columns_of, pixels

cv2 = pytest.importorskip("cv2")

SIZE = (64, 72)
BOX = masks.Rectangle(height=(20, 50), width=(20, 50))
MODES = ("normal", "mixed")


def natural(rows: int, seed: int, channels: int = 3) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([blending.picture(rng, SIZE, channels) for _ in range(rows)]))


IMAGES = natural(6, 1)
DONORS = anoaug.DonorBank.from_tensors(natural(5, 2))


def cloned(image: Any, patch: Any, inside: Any, mode: str) -> Any:
    """OpenCV's clone of a patch in its place; arrays ``[C, H, W]`` and bool ``[H, W]``."""
    weight = np.zeros_like(inside, np.uint8)
    weight[1:-1, 1:-1] = inside[1:-1, 1:-1] * 255  # as OpenCV does itself
    (ys, xs) = weight.nonzero()
    top, left, tall, wide = ys.min(), xs.min(), np.ptp(ys) + 1, np.ptp(xs) + 1
    centre = (int(left + wide // 2), int(top + tall // 2))
    flag = cv2.MIXED_CLONE if mode == "mixed" else cv2.NORMAL_CLONE
    planes = (np.ascontiguousarray(each.transpose(1, 2, 0)) for each in (patch, image))
    return cv2.seamlessClone(*planes, weight, centre, flag).transpose(2, 0, 1)


def layers(mode: str, count: int, mask: masks.Mask = BOX) -> anoaug.Synthesizer:
    layer = anoaug.Layer(mask, sources.Poisson(sources.Donor(DONORS), mode), count=count)
    return anoaug.Synthesizer(layer, p=1.0, seed=3)


def boxes(count: int, rows: int = 6) -> Tensor:
    """Rectangles that overlap, bool ``[count, B, 1, H, W]``."""
    rng, inside = np.random.default_rng(5), torch.zeros(count, rows, 1, *SIZE, dtype=torch.bool)
    for plane in inside.flatten(0, 2):
        top, left = rng.integers(0, 24, 2)
        plane[top : top + rng.integers(25, 40), left : left + rng.integers(25, 48)] = True
    return inside


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_patches_follow_one_another_as_opencv_clones_them(mode: str, count: int) -> None:
    where, patches = boxes(count), torch.stack([natural(6, seed) for seed in range(count)])
    slots = {f"where {n}": plane for n, plane in enumerate(where)}
    slots |= {f"what {n}": patch for n, patch in enumerate(patches)}
    each = [
        anoaug.Layer(masks.Given(f"where {n}"), sources.Poisson(sources.Given(f"what {n}"), mode))
        for n in range(count)
    ]
    if count > 1:
        assert (where.sum(0) > 1).flatten(1).sum(1).min() > 50
    before = IMAGES
    for k in range(count):
        given = {name: plane for name, plane in slots.items() if int(name.split()[1]) <= k}
        synth = anoaug.Synthesizer(*each[: k + 1], p=1.0, seed=0)
        out = synth(IMAGES, index=range(6), epoch=0, slots=given)
        for n in range(6):
            true = cloned(*(kind[n].numpy() for kind in (before, patches[k], where[k, :, 0])), mode)
            assert np.abs(out.image[n].numpy().astype(int) - true).max() <= 1
        before = out.image
    assert torch.equal(out.mask > 0, where.any(0))


def test_without_overlap_the_order_changes_nothing() -> None:
    """The layer before it is seen only where it lies."""
    halves = torch.zeros(2, 6, 1, *SIZE, dtype=torch.bool)
    halves[0, ..., 4:-4, 4:30], halves[1, ..., 4:-4, 40:66] = True, True
    images = natural(6, 7)

    def called(*names: str) -> Tensor:
        made = [
            anoaug.Layer(masks.Given(name), sources.Poisson(sources.Donor(DONORS, "same")))
            for name in names
        ]
        slots = {name: halves["ab".index(name)] for name in names}
        return anoaug.Synthesizer(*made, p=1.0, seed=0)(
            images, index=range(6), epoch=0, slots=slots
        ).image

    both, alone = called("a", "b"), called("a")
    inside = halves[0].expand_as(images)
    assert torch.equal(both[inside], alone[inside])


@pytest.mark.slow
def test_either_is_normal_or_mixed_by_the_sample() -> None:
    images = natural(40, 8)
    made = {mode: layers(mode, 1)(images, index=range(40), epoch=0) for mode in (*MODES, "either")}
    ours, same = made["either"], []
    for mode in MODES:
        same.append((ours.image == made[mode].image).flatten(1).all(1))
    assert (same[0] | same[1]).all()
    assert 8 < (same[0] & ~same[1]).sum() < 32
    again = layers("either", 1)(images[7:8], index=[7], epoch=0)
    assert torch.equal(again.image[0], ours.image[7])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=needs_triton)])
def test_backends_and_dtypes_agree(dtype: torch.dtype, backend: str) -> None:
    images = blending.as_dtype(IMAGES[:2], dtype)
    made = []
    for one in ("auto", backend):
        source = sources.Poisson(sources.Donor(DONORS))
        synth = anoaug.Synthesizer(anoaug.Layer(BOX, source, count=2), p=1.0, seed=1, backend=one)
        made.append(synth(images, index=range(2), epoch=0).image.to(torch.float64))
    level = {torch.uint8: 1, torch.uint16: 257, torch.float32: 1 / 255}[dtype]
    off = (made[0] - made[1]).abs() / level
    assert off.max() <= 3 and (off > 0.02).to(torch.float32).mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", ["mixed", "normal", "either", "cut", "after another"])
def test_boxes_alone_give_what_whole_images_give(
    case: str, memory: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled way, where the host knows the rectangles, against its general one."""
    pytest.importorskip("numba")
    images = natural(6, 3).contiguous(memory_format=memory)
    mode = case if case in (*MODES, "either") else "mixed"
    box = masks.Rectangle(side=(5, 60), place="anywhere")
    source = sources.Poisson(sources.Donor(DONORS), mode, region="box")
    parts = [anoaug.Layer(box, source, count=(1, 3))]
    if case == "cut":
        parts = [anoaug.Layer(box & masks.Perlin(), source, count=(0, 3))]
    if case == "after another":  # which is mixed with the image, so that all is laid at once
        stain = anoaug.Layer(masks.Perlin(), sources.Noise(), blends.Opacity(0.5))
        parts = [stain, *parts]
    made, asked = [], []
    compiled = sources.Poisson.compiled

    def noted(self: Any, scene: Any) -> Any:
        asked.append(compiled(self, scene))
        return asked[-1]

    for way in (lambda self, scene: None, noted):
        monkeypatch.setattr(sources.Poisson, "compiled", way)
        synth = anoaug.Synthesizer(*parts, p=0.7, seed=3, backend="compiled")
        made.append(synth(images, index=range(6), epoch=0))
    assert asked and all(picture is not None for picture in asked)
    true, ours = made
    assert true.label.sum() > 0 and torch.equal(ours.mask, true.mask)
    assert torch.equal(ours.image, true.image)


def test_a_donor_of_the_batch_is_the_one_drawn() -> None:
    """Though only some samples have the layer, and they alone are computed."""
    images = natural(8, 4)
    layer = anoaug.Layer(BOX, sources.Poisson(sources.BatchDonor(place="same"), "normal"))
    out = anoaug.Synthesizer(layer, p=0.4, seed=2)(images, index=range(8), epoch=0)
    assert 1 < out.label.sum() < 6
    column = columns_of(anoaug.Synthesizer(layer), out.params.table, 3, "source")["source_row"]
    for n in out.label.nonzero()[:, 0].tolist():
        donor = int(column.view(np.int32)[n])
        true = cloned(*(kind.numpy() for kind in (images[n], images[donor], out.mask[n, 0] > 0)),
                      "normal")  # fmt: skip
        inside = (out.mask[n, 0] > 0).numpy()
        assert np.abs(out.image[n].numpy().astype(int) - true)[:, inside].max() <= 1


def test_replay_is_exact() -> None:
    synth = layers("mixed", 3)
    out = synth(IMAGES, index=range(6), epoch=2)
    assert torch.equal(synth(IMAGES, params=out.params).image, out.image)
    some = synth(IMAGES[2:4], params=out.params.take([2, 3]))
    assert torch.equal(some.image, out.image[2:4])


def test_host_boxes_are_the_masks_rectangles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known boxes and found ones give the same; a turned rectangle's is not known."""
    from anoaug import poisson
    from anoaug.sources import seamless

    seen: list[Any] = []
    solve = poisson.solve

    def noted(image: Any, patch: Any, weight: Any, boxes: Any, *more: Any, **rest: Any) -> Tensor:
        seen.append((boxes, weight))
        return solve(image, patch, weight, boxes, *more, **rest)

    monkeypatch.setattr(seamless.poisson, "solve", noted)
    anywhere = masks.Rectangle(side=(5, 40), place="anywhere")
    layers("mixed", 1, anywhere)(IMAGES, index=range(6), epoch=0)
    (boxes, weight) = seen.pop()
    for (top, left, tall, wide), inside in zip(boxes.tolist(), weight[:, 0] > 0, strict=True):
        true = torch.zeros_like(inside)
        true[top : top + tall, left : left + wide] = True
        assert torch.equal(true, inside)
    turned = masks.Rectangle(height=20, width=30, rotation=30.0)
    for mask in (turned, BOX & masks.Perlin()):
        layers("mixed", 1, mask)(IMAGES, index=range(6), epoch=0)
        assert seen.pop()[0] is None
    layers("mixed", 1)(IMAGES, index=range(6), epoch=0, foreground=pixels(6, 1, *SIZE))
    assert seen.pop()[0] is None


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode"):
        sources.Poisson(sources.Own(), "harmonic")
