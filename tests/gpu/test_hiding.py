"""Methods that hide pixels, on CUDA: the CPU's bits, no synchronisation, graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import anoaug
from anoaug import masks, prepare, sources

pytestmark = pytest.mark.gpu

IMAGES = torch.randint(0, 256, (4, 3, 250, 256), generator=torch.Generator().manual_seed(0)).byte()
SCORE = torch.rand(4, 1, 250, 256, generator=torch.Generator().manual_seed(1))


def synthesizers() -> dict[str, anoaug.Synthesizer]:
    quantile = anoaug.Layer(masks.FromScore(rule="quantile"), sources.Constant(0.0))
    kept = prepare.CachedLabels(prepare.Superpixels(100), 4)
    return {
        "riad": anoaug.create("riad", seed=3),
        "one view": anoaug.create("riad", seed=3, views=False),
        "intra": anoaug.create("intra", seed=3),
        "smai": anoaug.create("smai", seed=3),
        "smai by index": anoaug.create("smai", seed=3, superpixels=kept),
        "adaptive": anoaug.create("i3ad", seed=3, adaptive=True),
        "quantile": anoaug.Synthesizer(quantile, seed=3, p=1.0),
    }


NAMES = list(synthesizers())


def given(synth: anoaug.Synthesizer, device: str = "cuda") -> dict[str, Any]:
    slots = {"score": SCORE.to(device)} if "score" in synth.slots else {}
    return {"index": range(4), "slots": slots}


@pytest.fixture
def strict() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", NAMES)
def test_cuda_equals_the_cpu(name: str) -> None:
    ours, true = synthesizers()[name], synthesizers()[name]
    out = ours(IMAGES.cuda(), epoch=2, **given(ours))
    truth = true(IMAGES, epoch=2, **given(true, "cpu"))
    assert truth.label.any()
    assert torch.equal(out.image.cpu(), truth.image) and torch.equal(out.mask.cpu(), truth.mask)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_does_not_synchronise(name: str, strict: None) -> None:
    images, synth = IMAGES.cuda(), synthesizers()[name]
    call = given(synth)
    torch.cuda.set_sync_debug_mode("default")
    synth(images, epoch=0, **call)
    torch.cuda.set_sync_debug_mode("error")
    out = synth(images, epoch=1, **call)
    synth(images, params=out.params, **call)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "riad"])
def test_a_captured_call_equals_a_plain_one(name: str) -> None:
    images, synth = IMAGES.cuda(), synthesizers()[name]
    call = given(synth)
    captured = synth.capture(images, slots=call["slots"] or None)
    for epoch in range(2):
        truth = synth(images, epoch=epoch, **call)
        out = captured(images, epoch=epoch, **call)
        assert torch.equal(out.image, truth.image) and torch.equal(out.mask, truth.mask)


def test_more_rows_than_images_are_not_captured() -> None:
    with pytest.raises(ValueError, match="capture: expected a synthesizer without views"):
        anoaug.create("riad", seed=3).capture(IMAGES.cuda())
