"""Control on a GPU: the CPU's masks, and nothing that waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import anoaug
from tests.control.making import B, everywhere, images, method

pytestmark = pytest.mark.gpu

CONTROL: dict[str, Any] = {"size": torch.linspace(0.02, 0.09, B), "location": (0.3, 0.6)}
NAMES = ["draem", "cutpaste", "pei", "smai", "fractal"]


@pytest.fixture
def strict() -> Iterator[None]:
    """Any wait for the device is an error."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_the_cpu_s(name: str) -> None:
    synth = method(name)
    call = {"index": range(B), "epoch": 0, "control": CONTROL}
    here = synth(images(), foreground=everywhere(), **call)
    there = synth(images().cuda(), foreground=everywhere().cuda(), **call)
    assert torch.equal(here.mask, there.mask.cpu()) and torch.equal(here.image, there.image.cpu())


@pytest.mark.parametrize("name", ["draem", "cutpaste"])
def test_a_difference_is_the_cpu_s_but_for_the_order_of_a_sum(name: str) -> None:
    control = {**CONTROL, "strength": 0.1, "unit": "difference"}
    call = {"index": range(B), "epoch": 0, "control": control}
    here, there = (method(name)(batch, **call) for batch in (images(), images().cuda()))
    assert torch.equal(here.mask, there.mask.cpu())
    apart = (here.image.int() - there.image.cpu().int()).abs()
    assert apart.max() <= 1


@pytest.mark.parametrize("name", ["draem", "cutpaste"])
def test_nothing_waits_for_the_device(name: str, strict: None) -> None:
    torch.cuda.set_sync_debug_mode("default")
    synth, batch = method(name), images().cuda()
    control = {**CONTROL, "strength": 0.1, "unit": "difference"}
    synth(batch, index=range(B), epoch=0, control=control)  # compiles, fills caches
    torch.cuda.set_sync_debug_mode("error")
    out = synth(batch, index=range(B), epoch=1, control=control)
    torch.cuda.set_sync_debug_mode("default")
    assert out.label.any()


def test_a_graph_takes_what_laws_decide_alone() -> None:
    batch = images().cuda()
    synth = method("cutpaste", control={"size": (0.02, 0.05), "strength": 0.5})
    captured = synth.capture(batch)
    out = captured(batch, index=range(B), epoch=3)
    plain = synth(batch, index=range(B), epoch=3)
    assert torch.equal(out.image, plain.image) and torch.equal(out.mask, plain.mask)
    for control in ({"size": 0.05}, {"location": (0.5, 0.5)}):
        with pytest.raises(ValueError, match="capture: expected a control whose numbers"):
            method("draem", control=control).capture(batch)
    assert isinstance(synth.control, anoaug.Control)
