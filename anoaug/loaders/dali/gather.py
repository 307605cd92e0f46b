"""``anoaug::gather_samples``: samples that lie apart, as DALI hands them out, as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...ops import INTERPRETED_TILE, current, interpreting, resolve_backend
from ...reference import gather as reference

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define("gather_samples(Tensor[] samples, bool interleaved, str backend) -> Tensor")


def _gather(samples: Sequence[Tensor], interleaved: bool, backend: str) -> Tensor:
    if resolve_backend(backend, samples[0].device) != "triton":
        return reference.gathered(samples, interleaved)
    from ...kernels import gather as kernels

    device = samples[0].device
    dense = [one.contiguous() for one in samples]
    out = samples[0].new_empty(_shape(samples, interleaved))
    if out.numel():
        cuda = device.type == "cuda"
        # Pinned, or the copy would make the host wait.
        table = torch.tensor(
            [one.data_ptr() for one in dense], dtype=torch.int64, device="cpu", pin_memory=cuda
        )
        tile = INTERPRETED_TILE if interpreting() else kernels.TILE_PIXELS
        with current(device):
            kernels.launch(out, table.to(device, non_blocking=cuda), interleaved, tile)
    return out


def _shape(samples: Sequence[Tensor], interleaved: bool) -> list[int]:
    first, second, last = samples[0].shape
    planes = [last, first, second] if interleaved else [first, second, last]
    return [len(samples), *planes]


def _fake(samples: Sequence[Tensor], interleaved: bool, backend: str) -> Tensor:
    return samples[0].new_empty(_shape(samples, interleaved))


_library.impl("gather_samples", _gather, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::gather_samples", _fake)

gather_samples = torch.ops.anoaug.gather_samples.default
