"""Images, banks and synthesizers that the tests of control share."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

import anoaug
from anoaug import methods

B, SIDE = 8, 96


@functools.cache
def images() -> Tensor:
    """Threads of 8 pixels with coloured blocks on them, uint8 ``[8, 3, 96, 96]``."""
    generator = torch.Generator().manual_seed(5)
    blocks = torch.randint(60, 200, (B, 3, 6, 6), dtype=torch.uint8, generator=generator)
    made = blocks.repeat_interleave(16, 2).repeat_interleave(16, 3).to(torch.int32)
    threads = 60 * (torch.arange(SIDE) // 4 % 2 == 0).to(torch.int32)
    grain = torch.randint(-8, 8, made.shape, generator=generator)
    made = made // 3 + 60 + threads + grain
    made[:, :, 32:56, 24:48] = 20
    return made.clamp(0, 255).to(torch.uint8)


@functools.cache
def banks() -> dict[str, Any]:
    """What methods need."""
    generator = torch.Generator().manual_seed(6)
    textures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return {
        "textures": anoaug.TextureBank.from_tensors(textures),
        "donors": anoaug.DonorBank.from_tensors(images().flip(0).flip(3)),
    }


def method(name: str, **keywords: Any) -> anoaug.Synthesizer:
    """A method that can be controlled, every sample anomalous and every touched pixel shown."""
    needs = {need: banks()[need] for need in methods.get(name).needs}
    common = {"p": 1.0, "seed": 3, "control": True}
    synth = anoaug.create(name, **{**needs, **common, **keywords})
    synth.min_area = 1.0
    synth._encode()
    return synth


def footprint(name: str, **keywords: Any) -> anoaug.Synthesizer:
    """The same with masks that show what is touched, not what of it changes or by how much."""
    settings: dict[str, Any] = {"label_rule": "footprint"}
    if name == "nsa":
        settings["finish"] = None
    return method(name, **{**settings, **keywords})


def everywhere() -> Tensor:
    """A foreground that is all of the image."""
    return torch.ones(B, 1, SIDE, SIDE, dtype=torch.uint8)


def called(synth: anoaug.Synthesizer, control: Any = None, **keywords: Any) -> anoaug.AnomalyBatch:
    """The synthesizer on the images."""
    given = {"index": range(B), "epoch": 0, "foreground": everywhere(), **keywords}
    return synth(images(), control=control, **given)


def areas(out: anoaug.AnomalyBatch) -> Tensor:
    """Shares of the image that masks cover."""
    return (out.mask > 0).to(torch.float32).mean((1, 2, 3))


def centres(out: anoaug.AnomalyBatch) -> Tensor:
    """Centres of the masks' boxes in shares of the image, ``[rows, 2]``: y, x."""
    x0, y0, x1, y1 = out.boxes().to(torch.float32).unbind(1)
    return torch.stack([(y0 + y1) / 2, (x0 + x1) / 2], 1) / SIDE
