"""The op of the Poisson correction: dtypes, layouts, kernels, torch's contract, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug import poisson
from anoaug.functional import poisson_blend
from anoaug.reference import poisson as reference
from tests.blending import (
    DEVICE,
    SMALL,
    as_dtype,
    boxes_of,
    channels_last,
    everywhere,
    far,
    needs_triton,
    scene,
    seeded,
    wide,
)

DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)

# ---- dtypes and layouts --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_every_dtype_gives_the_same_picture(dtype: torch.dtype, backend: str) -> None:
    destination, source, mask = scene()
    eight = wide(poisson_blend(destination, source, mask)) / 255
    images = [as_dtype(image, dtype) for image in (destination, source)]
    out = poisson_blend(*images, mask, backend=backend)
    assert out.dtype == dtype
    value = wide(out) / (65535 if dtype == torch.uint16 else 1)
    assert value.min() >= 0 and value.max() <= 1
    # Truncation lowers by less than a level; a coarse float starts from gradients of its own.
    slack = {torch.bfloat16: 0.1, torch.float16: 0.01}.get(dtype, 2e-5)
    lost = value - eight
    assert -slack <= lost.min() and lost.max() <= 1 / 255 + slack


@pytest.mark.slow
@everywhere
def test_the_core_takes_a_source_of_another_dtype(backend: str) -> None:
    destination, source, mask = scene(SMALL, 3)
    expected = poisson.solve(destination, source, mask, backend=backend)
    floats = poisson.solve(destination, source.float(), mask, backend=backend)
    assert torch.equal(floats, expected) and not torch.equal(expected, destination)


def test_masks_of_every_kind_mean_the_same() -> None:
    destination, source, mask = scene()
    hard = mask > 127
    expected = poisson_blend(destination, source, hard)
    for same in (hard.byte() * 255, hard.float(), hard.double(), hard.half(), hard[:, 0]):
        assert torch.equal(poisson_blend(destination, source, same), expected)
    odd = torch.where(hard, 7.0, float("nan"))
    assert torch.equal(poisson_blend(destination, source, odd), expected)
    error = far(poisson_blend(destination, source, mask / 255.0),
                poisson_blend(destination, source, mask))  # fmt: skip
    assert error.max() <= 1 and (error > 0).double().mean() < 1e-3


def sliced(image: Tensor) -> Tensor:
    """Every other column of something wider."""
    return torch.stack((image, 255 - image), 4).flatten(3)[..., ::2]


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("layout", [channels_last, sliced])
def test_any_layout_gives_the_same_bits(layout: Any, backend: str) -> None:
    destination, source, mask = scene(SMALL, 3)
    expected = poisson_blend(destination, source, mask, "mixed", backend=backend)
    strided = torch.stack((mask, mask), 4)[..., 0]
    out = poisson_blend(layout(destination), layout(source), strided, "mixed", backend=backend)
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last) == (layout is channels_last)
    one = poisson_blend(layout(destination), source, mask, "mixed", backend=backend)
    assert torch.equal(one, expected)


def test_channels_do_not_meet() -> None:
    destination, source, mask = scene(channels=5)
    whole = poisson_blend(destination, source, mask, "mixed")
    planes = [
        poisson_blend(destination[:, c : c + 1], source[:, c : c + 1], mask, "mixed")
        for c in range(5)
    ]
    error = far(whole, torch.cat(planes, 1))
    assert error.max() <= 1 and (error > 0).double().mean() < 1e-3


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_autocast_and_threads_leave_it_alone(backend: str) -> None:
    given = scene()
    expected = poisson_blend(*given, backend=backend)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        assert torch.equal(poisson_blend(*given, backend=backend), expected)
    if backend == "auto":
        torch.set_num_threads(2)
        assert torch.equal(poisson_blend(*given), expected)


# ---- the kernels ---------------------------------------------------------------------------------


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
@pytest.mark.parametrize(
    ("dtype", "mode"), [*((dtype, "mixed") for dtype in DTYPES), (torch.uint8, "normal")], ids=str
)
def test_the_guidance_kernel_equals_the_reference(dtype: torch.dtype, mode: str) -> None:
    from anoaug.kernels import poisson as kernels

    destination, source, mask = scene(SMALL, 3)
    destination, source = as_dtype(destination, dtype), as_dtype(source, dtype)
    rects, mixed = reference.rectangles(mask), mode == "mixed"
    for weight, given in ((mask, source), (mask / 255.0, channels_last(source))):
        expected = reference.guidance(destination, given, weight, rects, 20, 24, mixed)
        out = torch.full_like(expected, float("nan"))
        kernels.launch_guidance(out, destination, given, weight, rects, mixed, 1024)
        assert torch.equal(out, expected)
        assert expected.abs().amax((1, 2, 3)).count_nonzero() >= 2


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("pixels", [128, 256])
def test_tiles_of_the_guidance_kernel_join(pixels: int) -> None:
    from anoaug.kernels import poisson as kernels

    destination, source, mask = scene((9, 150), 1)
    rects = reference.rectangles(mask)
    expected = reference.guidance(destination, source, mask, rects, 8, 148, True)
    out = torch.full((1, 8, 3, 148), float("nan"), device=DEVICE)
    kernels.launch_guidance(out, destination, source, mask, rects, True, pixels)
    assert torch.equal(out, expected) and expected.any()


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("confine", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
def test_the_paste_kernel_equals_the_reference(dtype: torch.dtype, confine: bool) -> None:
    from anoaug.kernels import poisson as kernels

    destination, _, mask = scene()
    image = as_dtype(destination, dtype)
    rects = reference.rectangles(mask)
    peak = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(dtype, 1.0)
    correction = (torch.rand(6, 44, 3, 52, generator=seeded()) - 0.5).to(DEVICE) * peak
    for layout in (torch.contiguous_format, torch.channels_last):
        expected = image.clone(memory_format=layout)
        out = expected.clone()
        reference.paste(expected, correction, mask, rects, peak, confine)
        kernels.launch_paste(out, correction, mask, rects, peak, confine, 4096)
        assert torch.equal(out, expected) and not torch.equal(out, image)


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("boxed", [False, True])
def test_the_kernels_write_all_they_read(boxed: bool, poisoned: None) -> None:
    destination, source, mask = scene(SMALL, 3)
    boxes = boxes_of(mask) if boxed else None
    out = poisson_blend(destination, source, mask, boxes=boxes, backend="triton")
    assert torch.equal(out, poisson_blend(destination, source, mask, boxes=boxes, backend="torch"))


# ---- the op --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_op_keeps_torchs_contract(layout: torch.memory_format) -> None:
    destination, source, mask = scene(rows=3)
    destination = destination.contiguous(memory_format=layout)
    given = (destination, source, mask, boxes_of(mask), True, False, "auto")
    torch.library.opcheck(poisson.poisson, given)


@pytest.mark.parametrize("boxes", [None, [[0, 0, 40, 40], [3, 4, 9, 30]]])
def test_the_host_reads_nothing_of_the_device(boxes: Any) -> None:
    """A tensor without data raises where its values are asked for."""
    image = torch.empty(2, 3, 40, 50, dtype=torch.uint8, device="meta")
    told = None if boxes is None else poisson.host_rectangles(torch.tensor(boxes), image.shape)
    groups = poisson._groups(image[:, :1], told)
    for rects, rows, columns in groups:
        field = reference.guidance(image, image, image[:, :1], rects, rows, columns, True)
        correction = poisson.transform(field, rects)
        assert correction.shape == (len(rects), rows, 3, columns)
        reference.paste(image, correction, image[:, :1], rects, 255.0, True)
    assert len(groups) == 1


def test_it_compiles_whole() -> None:
    given = scene(rows=3)
    compiled = torch.compile(poisson_blend, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*given, "mixed"), poisson_blend(*given, "mixed"))


# ---- bad input -----------------------------------------------------------------------------------

IMAGES = torch.zeros(2, 3, 20, 20, dtype=torch.uint8)
MASK = torch.ones(2, 1, 20, 20, dtype=torch.bool)
BAD: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "source size": (ValueError, r"source.*\[2, 3, 20, 20\]", {"source": IMAGES[..., :9]}),
    "source dtype": (TypeError, r"source.*torch.uint8", {"source": IMAGES.float()}),
    "no tensor": (TypeError, "source.*tensor", {"source": IMAGES.numpy()}),
    "mask size": (ValueError, r"mask.*\[2, 1, 20, 20\]", {"mask": MASK[..., 1:]}),
    "mask of integers": (TypeError, "mask.*uint8", {"mask": MASK.long()}),
    "mask of 0 and 1": (ValueError, r"mask.*0 to 255.*mask\.bool\(\)", {"mask": MASK.byte()}),
    "mode": (ValueError, "mode.*mixed", {"mode": "mix"}),
    "backend": (ValueError, "backend.*torch", {"backend": "tourch"}),
    "boxes outside": (ValueError, "20 x 20.*sample 1", {"boxes": [[0, 0, 9, 9], [12, 0, 9, 8]]}),
    "boxes negative": (ValueError, "boxes.*sample 0", {"boxes": [[-1, 0, 9, 9], [0, 0, 9, 9]]}),
    "boxes of floats": (TypeError, "boxes.*integers", {"boxes": torch.zeros(2, 4)}),
    "boxes of one sample": (ValueError, r"boxes.*\[2, 4\]", {"boxes": [[0, 0, 9, 9]]}),
    "gradient": (ValueError, "detach", {"destination": torch.rand(2, 3, 20, 20).requires_grad_()}),
}  # fmt: skip


@pytest.mark.parametrize(("error", "words", "change"), BAD.values(), ids=BAD.keys())
def test_bad_input(error: type[Exception], words: str, change: dict[str, Any]) -> None:
    given = {"destination": IMAGES, "source": IMAGES, "mask": MASK, **change}
    with pytest.raises(error, match=words):
        poisson_blend(**given)
