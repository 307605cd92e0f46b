"""Who does the work of a case: anoaug on one backend or another, and the per-image peers.

A builder returns a function without arguments that does one batch and rotates over several input
batches. What happens before the clock starts: decoding, resizing, banks, the first call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import anoaug
from benchmarks.cases import Case
from benchmarks.data import Bytes, Inputs
from benchmarks.peers import draem_numpy, texture_ops
from benchmarks.peers.cutpaste_pil import CutPastePil
from benchmarks.peers.draem_numpy import DraemNumpy
from benchmarks.timing import Work

Builder = Callable[[Case, int, torch.device, Inputs], Work]
_BACKENDS = {"anoaug": "auto", "anoaug-torch": "torch", "anoaug-capture": "auto"}


def batches(images: Bytes, batch: int) -> list[Bytes]:
    """Whole batches of the decoded images."""
    return [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]


def synthesizer(case: Case, backend: str, inputs: Inputs, device: torch.device) -> Any:
    """The method of a case with its published defaults, the case's p and output type."""
    options: dict[str, Any] = {"p": case.p, "seed": 0, "backend": backend}
    if case.out != "uint8":
        options["dtype"] = getattr(torch, case.out)
    if case.method == "draem":
        textures = torch.from_numpy(inputs.textures).permute(0, 3, 1, 2).contiguous()
        options["textures"] = anoaug.TextureBank.from_tensors(textures)
    return anoaug.create(case.method, **options).to(device)


def tensors(images: Bytes, device: torch.device) -> torch.Tensor:
    """A batch as anoaug takes it: (B, C, H, W), contiguous, on the device."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def build_anoaug(
    case: Case, batch: int, device: torch.device, inputs: Inputs, provider: str
) -> Work:
    """A call, a replay, sampling or Perlin fields through anoaug.

    On the CPU a call starts from a list of decoded images, so that collating is counted, as it is
    for the peer; elsewhere the images are on the device already.
    """
    parts = batches(inputs.images, batch)
    size = inputs.images.shape[1:3]
    if case.work == "perlin":
        seeds = itertools.count()
        return lambda: anoaug.functional.perlin(
            batch, size=size, cells=(8, 8), rotation=30.0, seed=next(seeds), device=device
        )
    synth = synthesizer(case, _BACKENDS[provider], inputs, device)
    on_device = [tensors(part, device) for part in parts]
    synth(on_device[0])
    if case.work == "replay":
        pairs = itertools.cycle([(x, synth(x).params) for x in on_device])

        def replay() -> object:
            images, params = next(pairs)
            return synth(images, params=params)

        return replay
    turn = itertools.cycle(on_device)
    if case.work == "sample":
        return lambda: synth.sample(next(turn))
    if provider == "anoaug-capture":
        captured = synth.capture(on_device[0])
        return lambda: captured(next(turn))
    if device.type != "cpu":
        return lambda: synth(next(turn))
    lists = itertools.cycle([[torch.from_numpy(image) for image in part] for part in parts])
    return lambda: synth(torch.stack(next(lists)).permute(0, 3, 1, 2).contiguous())


def build_numpy(case: Case, batch: int, device: torch.device, inputs: Inputs) -> Work:
    """DRAEM's pipeline image by image and the collating of its outputs; always on the CPU."""
    del device
    if case.work == "stage":
        return _stage(case.method, inputs)
    if case.work == "perlin":
        rng = np.random.default_rng(0)
        size = inputs.images.shape[1:3]

        def fields() -> object:
            field = (
                draem_numpy.perlin_field((size[0], size[1]), rng.random((9, 9)))
                for _ in range(batch)
            )
            return np.stack([draem_numpy.rotate_field(one, 30.0) for one in field])

        return fields
    pipeline = DraemNumpy(inputs.textures, seed=0, p=case.p)
    turn = itertools.cycle(batches(inputs.images, batch))

    def run() -> object:
        images, masks, labels = zip(*(pipeline(image) for image in next(turn)), strict=True)
        return np.stack(images), np.stack(masks), np.array(labels)

    return run


def build_pil(case: Case, batch: int, device: torch.device, inputs: Inputs) -> Work:
    """CutPaste image by image with Pillow and the collating of its outputs; always on the CPU."""
    del device
    if case.work == "stage":
        return _stage(case.method, inputs)
    paste = CutPastePil({"cutpaste": "normal", "cutpaste_scar": "scar"}[case.method], seed=0)
    turn = itertools.cycle(batches(inputs.images, batch))

    def run() -> object:
        images, masks = zip(*(paste(image) for image in next(turn)), strict=True)
        return np.stack(images).transpose(0, 3, 1, 2), np.stack(masks)[:, None]

    return run


def _stage(stage: str, inputs: Inputs) -> Work:
    rng = np.random.default_rng(0)
    textures = inputs.textures
    height, width = inputs.images.shape[1:3]
    image = inputs.images[0]
    field = draem_numpy.perlin_field((height, width), rng.random((9, 9)))
    normal = image.astype(np.float32) / np.float32(255.0)
    draem = DraemNumpy(textures, seed=0)

    def perlin() -> object:
        rows, columns = (2 ** rng.integers(0, 6, size=2)).tolist()
        return draem_numpy.perlin_field((height, width), rng.random((rows + 1, columns + 1)))

    stages: dict[str, Work] = {
        "perlin": perlin,
        "rotate": lambda: draem_numpy.rotate_field(field, rng.uniform(-90.0, 90.0)),
        "augment": lambda: texture_ops.augment(textures[rng.integers(len(textures))], rng),
        "blend": lambda: draem_numpy.blend(normal, textures[0], field, 0.5, 0.3),
        "draem": lambda: draem(image),
    }
    if stage in ("normal", "scar"):
        paste = CutPastePil(stage, seed=0)
        return lambda: paste(image)
    return stages[stage]


def build(provider: str, case: Case, batch: int, device: torch.device, inputs: Inputs) -> Work:
    """The function that does one batch of ``case`` as ``provider``.

    Raises:
        ValueError: No such provider.
    """
    if provider in _BACKENDS:
        return build_anoaug(case, batch, device, inputs, provider)
    peers: dict[str, Builder] = {"numpy": build_numpy, "pil": build_pil}
    if provider not in peers:
        raise ValueError(
            f"provider: expected one of {', '.join([*_BACKENDS, *peers])}, got {provider!r}"
        )
    return peers[provider](case, batch, device, inputs)
