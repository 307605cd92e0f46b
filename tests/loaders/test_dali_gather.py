"""The kernel that gathers samples by their addresses, and the operator that uses it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug.loaders.dali import gather
from anoaug.loaders.dali.gather import gather_samples
from anoaug.loaders.dali.inside import _Inside

from .samples import make_images, make_synth

triton_interpreter = pytest.mark.triton_interpreter
DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32]


def samples(shape: tuple[int, ...], dtype: torch.dtype, count: int = 3) -> list[Tensor]:
    """Samples apart in memory, at addresses that nothing aligns."""
    generator = torch.Generator().manual_seed(0)
    size = int(torch.tensor(shape).prod())
    store = torch.randint(0, 200, (count, size + 7), generator=generator).to(dtype)
    return [store[n, n + 1 : n + 1 + size].view(shape) for n in reversed(range(count))]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
@triton_interpreter
def test_the_kernel_equals_the_reference(
    dtype: torch.dtype, interleaved: bool, channels: int
) -> None:
    pytest.importorskip("triton")
    shape = (21, 10, channels) if interleaved else (channels, 21, 10)
    given = samples(shape, dtype)
    truth = gather_samples(given, interleaved, "torch")
    made = gather_samples(given, interleaved, "triton")
    assert made.shape == truth.shape == (3, channels, 21, 10) and made.is_contiguous()
    assert torch.equal(made.view(torch.uint8), truth.view(torch.uint8))
    planes = [one.permute(2, 0, 1) if interleaved else one for one in given]
    assert torch.equal(truth.float(), torch.stack([plane.float() for plane in planes]))


@triton_interpreter
def test_several_tiles_and_a_strided_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(gather, "INTERPRETED_TILE", 64)
    given = samples((13, 11, 3), torch.uint8)
    given[2] = torch.randint(0, 255, (3, 11, 13), dtype=torch.uint8).permute(2, 1, 0)
    made = gather_samples(given, True, "triton")
    assert torch.equal(made, gather_samples(given, True, "torch"))


@pytest.mark.slow
@triton_interpreter
@pytest.mark.parametrize("layout", ["auto", "HWC"])
def test_the_operator_gathers_and_gives_the_same(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    called: list[int] = []
    real = gather_samples

    def spy(*arguments: Any) -> Tensor:
        called.append(len(arguments[0]))
        return real(*arguments)

    monkeypatch.setattr("anoaug.loaders.dali.inside.gather_samples", spy)
    images = make_images(4).permute(0, 2, 3, 1).contiguous()
    found = []
    for backend in ("triton", "torch"):
        synth = make_synth(backend=backend)
        synth.set_epoch(2)
        capsules: list[list[Any]] = [
            [torch.utils.dlpack.to_dlpack(one) for one in values]  # type: ignore[attr-defined]
            for values in (images, torch.arange(4).reshape(4, 1))
        ]
        made = _Inside(synth, layout, None, 0)(*capsules)
        found.append([torch.stack([torch.utils.dlpack.from_dlpack(o) for o in p]) for p in made])
    assert called == [4]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.equal(found[0][0], make_synth()(make_images(4), index=range(4), epoch=2).image)
