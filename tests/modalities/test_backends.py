"""Modalities by every backend, compiled and on a device: the reference's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from anoaug import ops
from tests.modalities.sensors import (
    BATCH,
    EXTRA,
    IMAGES,
    make,
    same,
    sensors,
)
from tests.recipes import (
    RECIPES,
    bits,
    calls,
    pictures,
)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_cpu_driver_equals_the_reference(name: str) -> None:
    more = calls(name, IMAGES)
    fast = make(name)(IMAGES, extra=EXTRA, **more)
    assert same(fast, make(name, backend="torch")(IMAGES, extra=EXTRA, **more))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("name", ["cutpaste", "feather", "layers"])
def test_the_interpreter_equals_the_reference(name: str, poisoned: None) -> None:
    if ops.triton_trouble() is not None or not ops.interpreting():
        pytest.skip("needs Triton's interpreter")
    images, extra = IMAGES[:2], sensors(2)
    extra.pop("uv")  # to bfloat16 it truncates
    ours = make(name, backend="triton", p=1.0)(images, extra=extra)
    assert same(ours, make(name, backend="torch", p=1.0)(images, extra=extra))


@pytest.mark.slow  # Numba takes some twenty seconds for each pair of dtypes, once
def test_the_compiled_driver_equals_the_reference() -> None:
    pytest.importorskip("numba")
    extra = {"depth": pictures(channels=1, batch=BATCH), "ir": pictures(batch=BATCH)}
    ours = make(backend="compiled")(IMAGES, extra=extra)
    assert same(ours, make(backend="torch")(IMAGES, extra=extra))


@pytest.fixture
def counter() -> Iterator[Any]:
    testing = pytest.importorskip("torch._dynamo.testing", exc_type=ImportError)
    torch._dynamo.reset()
    yield testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiles_into_one_graph(counter: Any) -> None:
    synth, eager = make(), make()
    ours = torch.compile(synth, fullgraph=True, backend=counter)
    for _ in range(3):
        assert same(ours(IMAGES, extra=EXTRA), eager(IMAGES, extra=EXTRA))
    assert counter.frame_count == 1


@pytest.mark.gpu
def test_the_device_equals_the_reference_and_does_not_wait() -> None:
    images, extra = IMAGES.cuda(), {name: value.cuda() for name, value in EXTRA.items()}
    index = {"index": range(BATCH), "epoch": 0}
    synth = make()
    synth(images, extra=extra, **index)  # looks at the values, and compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = synth(images, extra=extra, **index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    true = make(backend="torch")(IMAGES, extra=EXTRA, **index)
    for name in EXTRA:
        assert torch.equal(bits(ours.extras[name].cpu()), bits(true.extras[name]))
