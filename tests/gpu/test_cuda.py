"""What only a GPU can show: equality with the reference, no synchronisation, graphs, streams.

``python -m pytest tests/gpu`` runs it where a CUDA device is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import anoaug
from anoaug import blends, masks, sources
from anoaug.photometric import ColorJitter, RandomOps

pytestmark = pytest.mark.gpu

DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32]
SIZES = [(63, 50), (225, 224), (256, 256), (1000, 700)]


def batch(dtype: torch.dtype, size: tuple[int, int], channels: int = 3, rows: int = 4):
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(rows, channels, *size, generator=generator)
    if dtype == torch.uint8:
        return (unit * 255).to(dtype)
    if dtype == torch.uint16:
        return (unit * 65535).to(torch.int32).to(dtype)
    return unit.to(dtype)


def textures(channels: int = 3) -> anoaug.TextureBank:
    generator = torch.Generator().manual_seed(1)
    return anoaug.TextureBank.from_tensors(
        torch.randint(0, 256, (6, channels, 64, 64), dtype=torch.uint8, generator=generator)
    )


def recipes(channels: int = 3) -> dict[str, list[anoaug.Layer]]:
    bank = textures(channels)
    ops = RandomOps.draem()
    jitter = ColorJitter(0.1, 0.1, 0.1, 0.1)
    return {
        "draem": [
            anoaug.Layer(masks.Perlin(), sources.Texture(bank, ops), blends.Opacity((0.2, 1.0)))
        ],
        "scar": [
            anoaug.Layer(
                masks.Rectangle(height=(10, 25), width=(2, 16), rotation=(-45, 45)),
                sources.Own(photometric=jitter),
                blends.Feather(2.0),
            )
        ],
        "layers": [
            anoaug.Layer(
                masks.Perlin(octaves=3, cells=(1.5, 9.3), rotation_fill="continue", threshold=0.3)
                & ~masks.Rectangle(),
                sources.Noise(),
                blends.Opacity(),
            ),
            anoaug.Layer(masks.Rectangle(area=0.1), sources.BatchDonor(), count=(1, 2)),
            anoaug.Layer(
                masks.Rectangle(), sources.Constant((0, 1)), blends.Opacity(mix="multiply")
            ),
        ],
        "shuffled": [
            anoaug.Layer(
                masks.joined(masks.Perlin((0, 3), 0.2), masks.Perlin()),
                sources.Shuffled((7, 8), RandomOps(("gamma", "hue_saturation", "rotate"), 2)),
                blends.Opacity(std=0.2),
            )
        ],
        "noises": [
            anoaug.Layer(masks.Simplex(octaves=2), sources.Simplex(octaves=3, channelwise=True)),
            anoaug.Layer(masks.Fractal(), sources.Own(photometric=jitter, mirror=True)),
            anoaug.Layer(
                masks.Rectangle(side=0.2, unit="share", place="anywhere"),
                sources.Simplex(0.2),
                blends.Hard(mix="add"),
            ),
        ],
    }


def assert_same(ours: anoaug.AnomalyBatch, truth: anoaug.AnomalyBatch) -> None:
    for name in ("image", "mask", "label", "kind", "clean"):
        mine, other = getattr(ours, name).cpu(), getattr(truth, name).cpu()
        if mine.dtype == torch.uint16:
            mine, other = mine.to(torch.int32), other.to(torch.int32)
        assert torch.equal(mine, other), name


@pytest.fixture
def strict() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["draem", "scar", "layers", "noises"])
def test_triton_equals_the_reference(
    name: str, dtype: torch.dtype, size: tuple[int, int], poisoned: None
) -> None:
    images = batch(dtype, size).cuda()
    options = {"seed": 0, "p": 0.8, "clean": "output", "min_area": 20, "label_rule": "changed"}
    kernels = anoaug.Synthesizer(*recipes()[name], backend="triton", **options)
    truth = anoaug.Synthesizer(*recipes()[name], backend="torch", **options)
    assert_same(kernels(images), truth(images))


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("interleaved", [False, True])
def test_channels_and_layouts(channels: int, interleaved: bool) -> None:
    images = batch(torch.uint8, (63, 50), channels).cuda()
    if interleaved:
        images = images.contiguous(memory_format=torch.channels_last)
    layers = recipes(1)["layers"]
    a = anoaug.Synthesizer(*layers, seed=0, p=1.0, backend="triton", clean="output")
    b = anoaug.Synthesizer(*layers, seed=0, p=1.0, backend="torch", clean="output")
    assert_same(a(images), b(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_normalised_output_equals_the_reference(dtype: torch.dtype) -> None:
    images = batch(torch.uint8, (225, 224)).cuda()
    options = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "dtype": dtype, "seed": 0}
    a = anoaug.Synthesizer(*recipes()["draem"], backend="triton", clean="output", **options)
    b = anoaug.Synthesizer(*recipes()["draem"], backend="torch", clean="output", **options)
    assert_same(a(images), b(images))


def test_perlin_fields_equal_the_cpu(poisoned: None) -> None:
    keywords = {"cells": (7.3, 16.0), "rotation": 31.0, "octaves": 3, "seed": 5}
    there = anoaug.functional.perlin(4, (225, 300), device="cuda", **keywords)
    here = anoaug.functional.perlin(4, (225, 300), **keywords)
    assert torch.equal(there.cpu(), here)


def test_cuda_equals_the_cpu_for_the_same_seed() -> None:
    images = batch(torch.uint8, (256, 256))
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=3)
    index = torch.arange(len(images))
    assert_same(synth(images.cuda(), index=index, epoch=1), synth(images, index=index, epoch=1))


def test_a_call_does_not_synchronise(strict: None) -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0, p=1.0)
    torch.cuda.set_sync_debug_mode("default")
    synth(images)  # compiles, fills caches, looks at the content
    torch.cuda.set_sync_debug_mode("error")
    out = synth(images)
    synth(images, foreground=out.mask, mask=out.mask, label=[0, 1, 0, 1])
    synth(images, params=out.params)
    out.boxes()


def test_a_captured_call_equals_a_plain_one() -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0)
    captured = synth.capture(images)
    index = torch.arange(len(images))
    for epoch in range(3):
        other = images.roll(epoch, 0)
        truth = synth(other, index=index, epoch=epoch)
        assert_same(captured(other, index=index, epoch=epoch), truth)


def foregrounds() -> list[Callable[..., torch.Tensor]]:
    rule = anoaug.prepare.Foreground("otsu", polarity="bright", close=3)
    return [rule, anoaug.prepare.Cached(rule, 4)]


@pytest.mark.parametrize("find", foregrounds(), ids=repr)
def test_finding_the_foreground_does_not_synchronise(
    find: Callable[..., torch.Tensor], strict: None
) -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0, p=1.0, foreground=find)
    torch.cuda.set_sync_debug_mode("default")
    synth(images, index=range(4), epoch=0)
    torch.cuda.set_sync_debug_mode("error")
    out = synth(images, index=range(4), epoch=1)
    torch.cuda.set_sync_debug_mode("default")
    assert out.mask.any() and not (out.mask * (1 - foregrounds()[0](images))).any()


@pytest.mark.parametrize("find", foregrounds(), ids=repr)
def test_a_captured_call_finds_its_foreground(find: Callable[..., torch.Tensor]) -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0, p=1.0, foreground=find)
    captured = synth.capture(images)
    for epoch in range(2):
        call = {"index": [(n + epoch) % 4 for n in range(4)], "epoch": epoch}
        truth = synth(images.roll(-epoch, 0), **call)
        assert truth.label.any()
        assert_same(captured(images.roll(-epoch, 0), **call), truth)
    given = torch.ones(4, 1, 256, 256, dtype=torch.uint8, device="cuda")
    truth = synth(images, index=range(4), epoch=0, foreground=given)
    assert_same(captured(images, index=range(4), epoch=0, foreground=given), truth)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_device_that_is_not_the_current_one() -> None:
    images = batch(torch.uint8, (256, 256)).to("cuda:1")
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0)
    truth = anoaug.Synthesizer(*recipes()["draem"], seed=0)
    assert_same(synth(images), truth(images.cpu()))


def test_one_row_of_params_serves_every_image() -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0, p=1.0)
    params = synth(images).params
    out = synth(images, params=params._replace(table=params.table[:1].expand(len(images), -1)))
    assert (out.mask == out.mask[:1]).all()


def test_a_captured_call_takes_its_foreground_along() -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0, p=1.0)
    left = torch.zeros(len(images), 1, 256, 256, device="cuda")
    left[..., :128] = 1.0
    captured = synth.capture(images, foreground=left)
    index = range(len(images))
    out = captured(images, index=index, epoch=0, foreground=1.0 - left)
    assert_same(out, synth(images, index=index, epoch=0, foreground=1.0 - left))
    with pytest.raises(ValueError, match="must not stay"):
        captured(images, index=index, epoch=0)
    synth.eval()
    with pytest.raises(RuntimeError, match="eval mode"):
        captured(images, index=index, epoch=0, foreground=left)


def test_a_call_is_one_kernel() -> None:
    images = batch(torch.uint8, (256, 256)).cuda()
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0)
    params = synth(images).params
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        synth(images, params=params)
        torch.cuda.synchronize()
    kernels = [e.name for e in profile.events() if "render_kernel" in e.name]
    assert len(kernels) == 1


def test_tiles_of_one_sample_agree_on_a_small_anomaly() -> None:
    # Many tiles race for the label; the last one must find the whole area and clean up.
    images = batch(torch.uint8, (512, 512), rows=16).cuda()
    for least in (1, 40, 400, 4000, 40000):
        layers = [anoaug.Layer(masks.Rectangle(area=(0.0001, 0.05)), sources.Constant(1.0))]
        a = anoaug.Synthesizer(*layers, seed=0, p=1.0, min_area=least, backend="triton")
        b = anoaug.Synthesizer(*layers, seed=0, p=1.0, min_area=least, backend="torch")
        for _ in range(5):
            assert_same(a(images), b(images))


def test_a_side_stream_gives_the_same_bits() -> None:
    images = batch(torch.uint8, (256, 256))
    loader = torch.utils.data.DataLoader(list(images), batch_size=2)
    synth = anoaug.Synthesizer(*recipes()["draem"], seed=0)
    twin = anoaug.Synthesizer(*recipes()["draem"], seed=0)
    ahead = [out.image.cpu() for out in anoaug.AnomalyLoader(loader, synth, device="cuda")]
    plain = [out.image for out in anoaug.AnomalyLoader(loader, twin)]
    assert all(torch.equal(a, b) for a, b in zip(ahead, plain, strict=True))
