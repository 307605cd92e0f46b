"""Noise on features on a CUDA device: equal to the reference, without a wait, in a graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anoaug import features

pytestmark = pytest.mark.gpu

NUMBER: dict[str, Any] = {"index": torch.arange(4), "epoch": 1}


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["simplenet", "supersimplenet"])
def test_kernel_equals_reference(name: str, dtype: torch.dtype, order: torch.memory_format) -> None:
    x = torch.randn(4, 96, 32, 32, device="cuda").to(dtype).contiguous(memory_format=order)
    found = features.create(name, seed=0, sigma=0.5)(x, **NUMBER)
    expected = features.create(name, seed=0, sigma=0.5, backend="torch")(x, **NUMBER)
    assert torch.equal(found.mask, expected.mask) and torch.equal(found.label, expected.label)
    step = {torch.float32: 2e-5, torch.bfloat16: 2.0**-5, torch.float16: 2.0**-8}[dtype]
    assert (found.features.float() - expected.features.float()).abs().max() <= step


@pytest.mark.parametrize("name", ["simplenet", "supersimplenet"])
def test_a_call_does_not_wait_for_the_device(name: str) -> None:
    x = torch.randn(4, 96, 32, 32, device="cuda", requires_grad=True)
    perturb = features.create(name, seed=0, sigma=0.5)
    perturb(x, **NUMBER).features.sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        perturb(x, **NUMBER).features.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
