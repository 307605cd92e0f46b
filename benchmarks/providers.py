"""Who does the work of a case: anoaug on one backend or another, and the per-image peers.

A builder returns a function without arguments that does one batch and rotates over several input
batches. What happens before the clock starts: decoding, resizing, banks, the first call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

import anoaug
from benchmarks.cases import Case
from benchmarks.data import Bytes, Inputs
from benchmarks.peers import draem_numpy, methods_numpy, texture_ops
from benchmarks.peers.cutpaste_pil import CutPastePil
from benchmarks.peers.draem_numpy import DraemNumpy
from benchmarks.timing import Work

Builder = Callable[[Case, int, torch.device, Inputs], Work]
BACKENDS = {
    "anoaug": "auto",
    "anoaug-compiled": "compiled",
    "anoaug-torch": "torch",
    "anoaug-capture": "auto",
    "anoaug-boxes": "auto",
}


def batches(images: Bytes, batch: int) -> list[Bytes]:
    """Whole batches of the decoded images."""
    return [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]


def synthesizer(
    case: Case, backend: str, inputs: Inputs, device: torch.device, **options: Any
) -> Any:
    """The method of a case with its published defaults, the case's p and output type."""
    options |= {"p": case.p, "seed": 0, "backend": backend}
    if case.out != "uint8":
        options["dtype"] = getattr(torch, case.out)
    about = anoaug.describe(case.method)
    if "textures" in about["defaults"]:
        options["textures"] = anoaug.TextureBank.from_tensors(_planes(inputs.textures))
    if "donors" in about["needs"]:
        options["donors"] = anoaug.DonorBank.from_tensors(_planes(inputs.images))
    return anoaug.create(case.method, **options).to(device)


def _planes(images: Bytes) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def tensors(images: Bytes, device: torch.device) -> torch.Tensor:
    """A batch as anoaug takes it: (B, C, H, W), contiguous, on the device."""
    return _planes(images).to(device)


def build_anoaug(
    case: Case, batch: int, device: torch.device, inputs: Inputs, provider: str
) -> Work:
    """A call, a replay, sampling or Perlin fields through anoaug.

    On the CPU a call starts from a list of decoded images, so that collating is counted, as it is
    for the peer; elsewhere the images are on the device already.
    """
    parts = batches(inputs.images, batch)
    size = inputs.images.shape[1:3]
    if case.work == "blend":
        return _blend(case, provider, [tensors(part, device) for part in parts])
    if case.work == "perlin":
        seeds = itertools.count()
        return lambda: anoaug.functional.perlin(
            batch, size=size, cells=(8, 8), rotation=30.0, seed=next(seeds), device=device,
            backend=BACKENDS[provider],
        )  # fmt: skip
    synth = synthesizer(case, BACKENDS[provider], inputs, device)
    on_device = [tensors(part, device) for part in parts]
    synth(on_device[0])
    if case.work == "replay":
        pairs = itertools.cycle([(x, synth(x).params) for x in on_device])

        def replay() -> object:
            images, params = next(pairs)
            return synth(images, params=params)

        return replay
    if case.work == "sample":
        turn = itertools.cycle(on_device)
        return lambda: synth.sample(next(turn))
    if provider == "anoaug-capture":
        turn, captured = itertools.cycle(on_device), synth.capture(on_device[0])
        return lambda: captured(next(turn))
    return calls(synth, provider, batch, device, inputs)


def calls(synth: Any, provider: str, batch: int, device: torch.device, inputs: Inputs) -> Work:
    """Calls of a synthesizer; on the CPU from a list of decoded images, see ``build_anoaug``."""
    parts = batches(inputs.images, batch)
    if device.type != "cpu":
        turn = itertools.cycle([tensors(part, device) for part in parts])
        return lambda: synth(next(turn))
    lists = itertools.cycle([[torch.from_numpy(image) for image in part] for part in parts])
    if provider == "anoaug-compiled":  # reads and writes interleaved pixels, as the peers do
        return lambda: synth(torch.stack(next(lists)).permute(0, 3, 1, 2))
    return lambda: synth(torch.stack(next(lists)).permute(0, 3, 1, 2).contiguous())


def patch_boxes(batch: int, height: int, width: int) -> torch.Tensor:
    """Where the patches of a blend lie: top, left, height, width, int64 ``[B, 4]``."""
    rng = np.random.default_rng(0)
    top, left = (rng.integers(1, side - side // 2, size=batch) for side in (height, width))
    sides = np.broadcast_to(np.array([height // 2, width // 2]), (batch, 2))
    return torch.from_numpy(np.column_stack([top, left, sides]))


def patch_masks(boxes: torch.Tensor, height: int, width: int) -> Bytes:
    """Masks of patches, (B, H, W) uint8, 255 within."""
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (top, left, tall, wide) in zip(masks, boxes.tolist(), strict=True):
        mask[top : top + tall, left : left + wide] = 255
    return masks


def _blend(case: Case, provider: str, images: list[torch.Tensor]) -> Work:
    """Patches of the next image of the batch, from tensors to a tensor."""
    batch, _, height, width = images[0].shape
    boxes = patch_boxes(batch, height, width)
    mask = torch.from_numpy(patch_masks(boxes, height, width))[:, None].to(images[0].device)
    told = boxes if provider == "anoaug-boxes" else None
    turn = itertools.cycle([(part, part.roll(1, 0)) for part in images])
    return lambda: anoaug.functional.poisson_blend(
        *next(turn), mask, case.method, boxes=told, backend=BACKENDS[provider]
    )


def build_opencv(case: Case, batch: int, device: torch.device, inputs: Inputs) -> Work:
    """``cv2.seamlessClone`` image by image and the collating of its outputs; on the CPU."""
    del device
    height, width = inputs.images.shape[1:3]
    boxes = patch_boxes(batch, height, width)
    masks = patch_masks(boxes, height, width)
    flag = {"normal": cv2.NORMAL_CLONE, "mixed": cv2.MIXED_CLONE}[case.method]
    centres = [(x + w // 2, y + h // 2) for y, x, h, w in boxes.tolist()]
    turn = itertools.cycle([(part, np.roll(part, 1, 0)) for part in batches(inputs.images, batch)])

    def run() -> object:
        # It writes into the mask it is given.
        todo = zip(*next(turn), masks.copy(), centres, strict=True)
        return np.stack([cv2.seamlessClone(s, d, m, at, flag) for d, s, m, at in todo])

    return run


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
    turn = itertools.cycle(batches(inputs.images, batch))
    if case.work == "method" and case.method != "draem":
        peer = _peer(case.method, inputs)

        def made() -> object:
            shown, masks = zip(*(peer(image) for image in next(turn)), strict=True)
            return np.stack(shown), np.stack(masks)

        return made
    pipeline = DraemNumpy(inputs.textures, seed=0, p=case.p)

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


def _peer(method: str, inputs: Inputs) -> methods_numpy.Peer:
    if method.startswith("cutpaste"):
        return CutPastePil({"cutpaste": "normal", "cutpaste_scar": "scar"}[method], seed=0)
    others = inputs.images if method in methods_numpy.DONORS else inputs.textures
    made: methods_numpy.Peer = methods_numpy.PEERS[method](others, seed=0)
    return made


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
    if provider in BACKENDS:
        return build_anoaug(case, batch, device, inputs, provider)
    peers: dict[str, Builder] = {
        "numpy": build_numpy,
        "pil": build_pil,
        "opencv": build_opencv,
    }
    if provider not in peers:
        raise ValueError(
            f"provider: expected one of {', '.join([*BACKENDS, *peers])}, got {provider!r}"
        )
    return peers[provider](case, batch, device, inputs)
