"""Images, banks and OneOfs for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, OneOf, Synthesizer, TextureBank
from anoaug.masks import Rectangle
from anoaug.sources import Constant

COUNT = 12
DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)
WEIGHTS = {"draem": 0.5, "cutpaste": 0.3, "cutpaste_scar": 0.2}


def pictures(dtype: torch.dtype = torch.uint8, batch: int = COUNT, channels: int = 3) -> Tensor:
    values = torch.rand(batch, channels, 40, 36, generator=torch.Generator().manual_seed(batch))
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * (1 << 8 * dtype.itemsize)).to(torch.int32).to(dtype)


IMAGES = pictures()
TEXTURES = TextureBank.from_tensors(pictures(batch=5))
DONORS = DonorBank.from_tensors(pictures(batch=6), categories=["nut", "pin", "nut"] * 2)
SPOT = torch.zeros(COUNT, 1, 40, 36, dtype=torch.bool)
SPOT[..., 10:20, 10:20] = True


def make(members: Any = None, **keywords: Any) -> OneOf:
    members = WEIGHTS if members is None else members
    if "draem" in [pair[0] if isinstance(pair, tuple) else pair for pair in members]:
        keywords = {"textures": TEXTURES, **keywords}
    return OneOf(members, **{"p": 0.7, "seed": 0, **keywords})


def alone(method: str, **keywords: Any) -> Synthesizer:
    keywords = {"textures": TEXTURES, **keywords} if method == "draem" else keywords
    return anoaug.create(method, **{"p": 0.7, "seed": 0, **keywords})


def white(name: str = "white", value: float = 1.0, **keywords: Any) -> Synthesizer:
    return Synthesizer(Layer(Rectangle(), Constant(value)), name=name, **keywords)


def chosen(synth: OneOf, index: Any, epoch: int = 0) -> list[str]:
    """Names of the members of samples."""
    state = torch.tensor([synth.seed, epoch])
    drawn = synth._choose(torch.as_tensor(index, dtype=torch.int64), state)
    return [synth.names[k] for k in drawn.tolist()]


def bits(table: Tensor) -> Tensor:
    """Colour tables read as floats are NaN here and there, and NaN equals nothing."""
    return table.view(torch.int32)


def same(first: AnomalyBatch, second: AnomalyBatch) -> bool:
    pairs = zip(first[:5], second[:5], strict=True)
    return torch.equal(bits(first.params.table), bits(second.params.table)) and all(
        a is b is None or torch.equal(a, b)  # type: ignore[arg-type]
        for a, b in pairs
    )


def numbered(count: int = COUNT) -> dict[str, Any]:
    return {"index": range(count), "epoch": 3}
