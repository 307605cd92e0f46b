"""Finishing: medians as SciPy and OpenCV have them, NSA's labels, and the hook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import blends, finish, masks, sources
from anoaug.finish import Difference
from tests.drawing import needs_triton, pixels
from tests.recipes import STATISTICS

IMAGES = pixels(6, 3, 60, 52)


def spots(rows: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Mostly 0, with areas of thirds of grey levels; one empty, one full."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 765, (rows, 1, *size)) / 3
    blocks = np.kron(
        rng.random((rows, 1, -(-size[0] // 9), -(-size[1] // 9))) < 0.3, np.ones((9, 9))
    )
    values *= blocks[..., : size[0], : size[1]]
    values[0] = 0
    values[1] = rng.random((1, *size))
    return torch.from_numpy(values).to(torch.float32)


# ---- medians -------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 3, 5])
@pytest.mark.parametrize("size", [(40, 33), (4, 7)])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_disc_s_median_is_scikit_image_s(radius: int, size: Any, backend: str) -> None:
    filters = pytest.importorskip("skimage.filters")
    disk = pytest.importorskip("skimage.morphology").disk(radius)
    values = spots(5, size)
    ours = finish.median(values, radius, backend)
    for plane, mine in zip(values[:, 0].numpy(), ours[:, 0].numpy(), strict=True):
        assert np.array_equal(filters.median(plane, disk), mine)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("radius, size", [(5, (9, 7)), (2, (10, 35))])
def test_the_kernel_agrees(radius: int, size: Any) -> None:
    values = spots(2, size, 3)
    true = finish.median(values, radius, "torch")
    assert torch.equal(finish.median(values, radius, "triton"), true)


def test_nothing_to_do() -> None:
    values = spots(2, (8, 8))
    assert finish.median(values, 0) is values
    assert finish.median(values[:0], 5).shape == (0, 1, 8, 8)


# ---- labels --------------------------------------------------------------------------------------


def published(before: Any, after: Any, inside: Any, rule: str, k: float, x0: float) -> Any:
    """NSA's label, by OpenCV and scikit-image; arrays ``[H, W, C]`` and ``[H, W, 1]``."""
    cv2 = pytest.importorskip("cv2")
    filters = pytest.importorskip("skimage.filters")
    disk = pytest.importorskip("skimage.morphology").disk(5)
    old, new = before.astype(float), after.astype(float)
    label = (np.abs(inside * old - inside * new).mean(-1) > 1).astype(np.uint8)
    label = cv2.medianBlur(label, 5)
    if rule == "binary":
        return label
    change = filters.median(np.abs(label[..., None] * (old - new)).mean(-1), disk)
    return label / (1 + np.exp(-k * (change - x0))) if rule == "logistic" else label * change / 255


@pytest.mark.parametrize("rule", ["binary", "intensity", "logistic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_the_published_ones(rule: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    before = pixels(4, channels, 50, 44)
    noise = torch.from_numpy(rng.normal(size=(4, 1, 6, 5))).float()
    smooth = torch.nn.functional.interpolate(noise * 14, (50, 44), mode="bilinear")
    after = (before + smooth.round().to(torch.int32)).clamp(0, 255).to(torch.uint8)
    inside = np.zeros((4, 1, 50, 44), np.float32)
    for plane in inside[:, 0]:
        top, left = rng.integers(0, 20, 2)
        plane[top : top + 25, left : left + 20] = 1
    weight = torch.from_numpy(inside)
    after = torch.where(weight > 0, after, before)
    ours = Difference(rule, slope=1 / 6, middle=9.0)(before, after, weight)
    for n in range(4):
        planes = (each[n].permute(1, 2, 0).numpy() for each in (before, after, weight))
        true = published(*planes, rule, 1 / 6, 9.0)
        assert 0.02 < (true > 0).mean() < 0.9
        np.testing.assert_allclose(ours[n, 0].numpy(), true, atol=1e-5)


def test_continuous_labels_are_the_weight_where_it_changed() -> None:
    weight = torch.zeros(1, 1, 30, 30)
    weight[..., 5:25, 5:25] = 0.37
    before = torch.zeros(1, 3, 30, 30)
    after = before.clone()
    after[..., 5:25, 5:15] = 0.4
    label = Difference("continuous")(before, after, weight)
    assert label.unique().tolist() == pytest.approx([0.0, 0.37])
    assert label[..., 8:22, 8:13].min() > 0 and label[..., 17:].max() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_dtypes_agree(dtype: torch.dtype) -> None:
    before, after, weight = (
        pixels(3, 3, 40, 30),
        pixels(3, 3, 40, 30, seed=9),
        torch.ones(3, 1, 40, 30),
    )

    def scaled(images: Tensor) -> Tensor:
        if dtype.is_floating_point:
            return (images / 255).to(dtype)
        return images if dtype == torch.uint8 else (images.to(torch.int32) * 257).to(dtype)

    true = Difference()(before, after, weight)
    torch.testing.assert_close(Difference()(scaled(before), scaled(after), weight), true)


@pytest.mark.slow
@pytest.mark.parametrize("channels, dtype", [(1, torch.uint8), (3, torch.uint8), (3, torch.uint16)])
@pytest.mark.parametrize(
    "rule",
    [
        Difference("binary"), Difference("continuous"), Difference("intensity", side=3),
        Difference(), Difference(slope=1 / 12, middle=24.0), Difference(side=1, radius=2),
        Difference("intensity", radius=0),
    ],
    ids=lambda rule: f"{rule.rule} {rule.side} {rule.radius} {rule.middle:g}",
)  # fmt: skip
def test_the_compiled_labels_are_these(rule: Difference, channels: int, dtype: Any) -> None:
    pytest.importorskip("numba")
    before, after = pixels(5, channels, 60, 52), pixels(5, channels, 60, 52, seed=9)
    rng = np.random.default_rng(3)
    near = torch.from_numpy(rng.integers(-9, 10, before.shape)) + before.to(torch.int64)
    after[1:3] = near.clamp(0, 255).to(torch.uint8)[1:3]
    weight = torch.zeros(5, 1, 60, 52)
    weight[0], weight[1, :, 20:50, 10:40], weight[2, :, :9] = 1.0, 0.4, 0.7
    weight[3] = torch.from_numpy(rng.random((1, 60, 52)) < 0.6)
    after = torch.where(weight > 0, after, before)
    if dtype == torch.uint16:
        before, after = ((each.to(torch.int32) * 257).to(dtype) for each in (before, after))
    true = rule(before, after, weight)
    assert 0 < (true > 0).float().mean() < 1 and true[4].sum() == 0
    assert torch.equal(rule(before, after, weight, "compiled"), true)


# ---- the hook ------------------------------------------------------------------------------------


def synthesizer(rule: Any = None, **keywords: Any) -> anoaug.Synthesizer:
    layer = anoaug.Layer(masks.Rectangle(area=(0.1, 0.3)), sources.Noise(), blends.Opacity())
    return anoaug.Synthesizer(layer, **{"p": 0.6, "seed": 1, **keywords}, finish=rule)


def test_the_image_is_the_render_s_and_the_mask_the_finish_s() -> None:
    bare, hard, soft = (
        synthesizer(rule, label=label)(IMAGES, index=range(6), epoch=0)
        for rule, label in ((None, "hard"), (Difference(), "hard"), (Difference(), "soft"))
    )
    assert 0 < bare.label.sum() < 6
    for out in (hard, soft):
        kept = torch.where(out.mask > 0, bare.image, IMAGES)
        assert torch.equal(out.image, kept) and torch.equal(out.kind, bare.kind)
        assert (kept == bare.image).float().mean() > 0.99
        assert torch.equal(out.label, bare.label)
    assert torch.equal(soft.mask, Difference()(IMAGES, bare.image, bare.mask))
    assert torch.equal(hard.mask, (soft.mask > 0).float())
    assert 0 < soft.mask[soft.mask > 0].min() < 0.5 < soft.mask.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("clean", ["output", "input"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_the_output_s_form_is_the_render_s(
    clean: str, dtype: torch.dtype, norm: bool, memory: str
) -> None:
    images = IMAGES if dtype == torch.uint8 else (IMAGES / 255).to(dtype)
    if dtype == torch.uint16:
        images = (IMAGES.to(torch.int32) * 257).to(dtype)
    keywords: dict[str, Any] = {"clean": clean, "memory_format": memory}
    keywords |= STATISTICS if norm else {}
    bare, ours = (
        synthesizer(rule, **keywords)(images, index=range(6), epoch=0)
        for rule in (None, lambda before, after, weight: weight)
    )
    assert ours.image.dtype == bare.image.dtype and ours.image.stride() == bare.image.stride()
    assert torch.equal(ours.image, bare.image) and torch.equal(ours.clean, bare.clean)
    assert torch.equal(ours.mask, bare.mask)


def test_an_empty_label_is_a_normal_sample() -> None:
    def left(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
        return weight * (torch.arange(6) % 2).view(-1, 1, 1, 1)

    out = synthesizer(left, p=1.0)(IMAGES, index=range(6), epoch=0)
    assert out.label.tolist() == [0, 1] * 3 == out.kind.tolist()
    assert torch.equal(out.image[::2], IMAGES[::2]) and out.mask[::2].sum() == 0
    assert (out.image[1::2] != IMAGES[1::2]).flatten(1).any(1).all()
    small = synthesizer(left, p=1.0, min_area=0.9)(IMAGES, index=range(6), epoch=0)
    assert small.label.sum() == 0 and torch.equal(small.image, IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["hard", "soft"])
@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_the_loops_settle_as_the_host_does(label: str, memory: str) -> None:
    pytest.importorskip("numba")

    def left(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
        found = Difference("continuous")(before, after, weight)
        found[2], found[3, :, ::2] = 0.0, 0.0
        return found

    made = []
    for backend in ("auto", "compiled"):
        keywords: dict[str, Any] = {"label": label, "memory_format": memory, "min_area": 300}
        synth = synthesizer(left, p=0.8, backend=backend, **keywords)
        made.append(synth(IMAGES, index=range(6), epoch=0))
    true, ours = made
    assert 1 < true.label.sum() < 5
    for name in ("image", "mask", "label", "kind"):
        assert torch.equal(getattr(ours, name), getattr(true, name)), name
    assert ours.image.stride() == true.image.stride()


def test_replay_eval_and_batches() -> None:
    synth = synthesizer(Difference(), label="soft")
    out = synth(IMAGES, index=range(6), epoch=3)
    again = synth(IMAGES, params=out.params)
    assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)
    part = synth(IMAGES[4:], index=[4, 5], epoch=3)
    assert torch.equal(part.mask, out.mask[4:])
    still = synth.eval()(IMAGES)
    assert torch.equal(still.image, IMAGES) and still.mask.sum() == 0


def test_one_of_finishes_each_member_s_rows() -> None:
    soft, other = synthesizer(Difference(), label="soft"), synthesizer(None, label="soft")
    both = anoaug.OneOf([(soft, 0.5), (other, 0.5)], p=1.0, seed=1)
    out = both(IMAGES, index=range(6), epoch=0)
    soft.p = other.p = 1.0
    for k, member in enumerate((soft, other)):
        rows = out.params.choice == k
        assert 0 < rows.sum() < 6
        assert torch.equal(out.mask[rows], member(IMAGES, index=range(6), epoch=0).mask[rows])


def test_bad_input_is_refused() -> None:
    for wrong in ({"rule": "sigmoid"}, {"side": 4}, {"radius": -1}, {"slope": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Difference(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="finish"):
        synthesizer(Difference)
    with pytest.raises(ValueError, match="finish"):
        synthesizer(lambda before, after, weight: weight[..., 1:])(IMAGES)
