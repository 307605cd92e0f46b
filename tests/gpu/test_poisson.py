"""The Poisson correction on a CUDA device: the kernels' bits, no synchronisation, graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from anoaug import poisson
from anoaug.functional import poisson_blend
from anoaug.reference import poisson as reference
from tests.blending import as_dtype, boxes_of, channels_last, far, scene

pytestmark = pytest.mark.gpu

SIZES = [(63, 50), (225, 224), (256, 256), (600, 700)]
DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32]


@pytest.fixture
def strict() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mode", poisson.MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_guidance_kernel_equals_the_reference(
    dtype: torch.dtype, size: tuple[int, int], mode: str
) -> None:
    from anoaug.kernels import poisson as kernels

    destination, source, mask = scene(size)
    destination, source = as_dtype(destination, dtype), as_dtype(source, dtype)
    rects, mixed = reference.rectangles(mask), mode == "mixed"
    for given in (source, channels_last(source)):
        expected = reference.guidance(destination, given, mask, rects, *size, mixed)
        out = torch.full_like(expected, float("nan"))
        kernels.launch_guidance(out, destination, given, mask, rects, mixed)
        assert torch.equal(out, expected) and expected.any()


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_the_cpu_within_a_level(size: tuple[int, int], boxed: bool) -> None:
    given = scene(size, 12)
    boxes = boxes_of(given[2]).cpu() if boxed else None
    expected = poisson_blend(*(tensor.cpu() for tensor in given), "mixed")
    error = far(poisson_blend(*given, "mixed", boxes=boxes).cpu(), expected)
    assert error.max() <= 1 and (error > 0).double().mean() < 0.01


@pytest.mark.parametrize("boxed", [False, True])
def test_a_call_does_not_synchronise(boxed: bool, strict: None) -> None:
    given = scene((256, 256), 8)
    boxes = boxes_of(given[2]).cpu() if boxed else None
    expected = poisson_blend(*given, boxes=boxes)
    torch.cuda.set_sync_debug_mode("error")
    out = poisson_blend(*given, boxes=boxes, confine_to_mask=True)
    torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out, torch.where(given[2] > 0, expected, given[0]))


def test_it_runs_in_a_graph() -> None:
    given = scene((128, 160), 4)
    kept = [tensor.clone() for tensor in given]

    def blend() -> Tensor:
        return poisson_blend(*kept)

    blend()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = blend()
    for target, value in zip(kept, scene((128, 160), 4, seed=9), strict=True):
        target.copy_(value)
    graph.replay()
    assert far(out, blend()).max() <= 1
    assert far(out, poisson_blend(*given)).max() > 1
