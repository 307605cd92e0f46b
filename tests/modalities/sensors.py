"""Images and tensors of other sensors, and synthesizers that know them, for the tests here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import anoaug
from anoaug import Layer, Synthesizer, TextureBank
from anoaug.blends import Feather, Opacity
from anoaug.modalities import Modality
from anoaug.sources import Constant, Noise
from tests.recipes import (
    RECIPES,
    bits,
    channels_last,
    pictures,
    small_box,
)

BATCH = 6
IMAGES = pictures(batch=BATCH)
BANK = TextureBank.from_tensors(pictures(batch=4, size=(24, 31)))
LOOKS = {
    "rgb": Modality(),
    "noise": Modality(Noise(), Opacity((0.2, 0.9))),
    "uv": Modality(Constant((0.5, 1.0)), Feather(0.2, 1.0, "add")),
}


def sensors(batch: int = BATCH, size: Any = IMAGES.shape[2:]) -> dict[str, Tensor]:
    """A tensor of every kind for the known names and for LOOKS."""
    return {
        "depth": 0.2 + 0.5 * pictures(torch.float32, batch, 1, size),
        "ir": (pictures(torch.uint16, batch, 1, size).to(torch.int32) // 2).to(torch.uint16),
        "xray": 20 + pictures(torch.uint8, batch, 2, size) // 2,
        "rgb": pictures(torch.uint8, batch, 3, size),
        "noise": channels_last(pictures(torch.float16, batch, 4, size)),
        "uv": pictures(torch.bfloat16, batch, 1, size) / 4,
    }


EXTRA = sensors()


def make(name: str = "layers", **keywords: Any) -> Synthesizer:
    keywords = {"p": 0.8, "seed": 5, "modalities": LOOKS, **keywords}
    return Synthesizer(*RECIPES[name](3), **keywords)


def painted(look: Any, value: Tensor, mask: Any = None, **keywords: Any) -> Any:
    """What a look makes of a tensor under rectangles, and the batch."""
    batch, _, *size = value.shape
    layer = Layer(small_box() if mask is None else mask, Noise())
    synth = Synthesizer(layer, p=1.0, seed=1, modalities={"it": look}, **keywords)
    out = synth(pictures(batch=batch, size=size), extra={"it": value})
    return out.extras["it"], out


def changed(after: Tensor, before: Tensor) -> Tensor:
    """Where some channel's bits differ, bool ``[B, 1, H, W]``."""
    return (bits(after) != bits(before)).any(1, keepdim=True)


def same(first: anoaug.AnomalyBatch, second: anoaug.AnomalyBatch) -> bool:
    return first.extras.keys() == second.extras.keys() and all(
        torch.equal(bits(first.extras[name]), bits(second.extras[name])) for name in first.extras
    )
