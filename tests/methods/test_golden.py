"""Same seed, same bits: what every method gives for one batch, as hashes, within a spec version.

``python -m tests.methods.test_golden`` adds the methods that have no hashes yet. It never changes
those that stand: other bits need another ``SPEC_VERSION``, and with it every line is written anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anoaug
from anoaug.pictures import Computed
from anoaug.recipe import SPEC_VERSION

GOLDEN = Path(__file__).with_name("golden.json")
NAMES = anoaug.list_methods()
SEED, EPOCH, INDEX = 20260, 3, (0, 1, 17, 2**40, 5, 6)


def hashed(values: Tensor) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    array = np.ascontiguousarray(values.numpy())
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@functools.cache
def pictures(seed: int, batch: int, channels: int, size: int) -> Tensor:
    """Smooth pictures of whole numbers: no library draws them, no rounding touches them."""
    y, x = np.mgrid[:size, :size]
    planes = [
        (x * (3 + n % 5) + y * (7 - n % 3) + (x * y * (n + seed)) // 64) % 511
        for n in range(batch * channels)
    ]
    values = np.abs(np.stack(planes) - 255).astype(np.uint8)
    return torch.from_numpy(values).reshape(batch, channels, size, size)


def settings(name: str) -> dict[str, Any]:
    """The method's published defaults with what it needs, every sample anomalous."""
    needs = anoaug.describe(name)["needs"]
    keywords: dict[str, Any] = {"p": 1.0, "seed": SEED}
    if "textures" in needs:
        keywords["textures"] = anoaug.TextureBank.from_tensors(pictures(3, 4, 3, 40))
    if "donors" in needs:
        keywords["donors"] = anoaug.DonorBank.from_tensors(pictures(5, 4, 3, 96))
    return keywords


def made(name: str) -> anoaug.AnomalyBatch:
    """What the method makes of a batch of six."""
    needs = anoaug.describe(name)["needs"]
    images = pictures(1, len(INDEX), 3, 96)
    given: dict[str, Any] = {}
    if "foreground" in needs:
        given["foreground"] = (images[:, :1] > 20).to(torch.uint8)
    return anoaug.create(name, **settings(name))(images, index=INDEX, epoch=EPOCH, **given)


def hashes(name: str) -> dict[str, str]:
    """What is promised: masks and labels, and pixels where integers or exact sums make them."""
    out = made(name)
    found = {"label": hashed(out.label), "kind": hashed(out.kind)}
    synth = anoaug.create(name, **settings(name))
    # Matrix products round as the machine's library likes.
    solved = any(isinstance(layer.source, Computed) for layer in synth.layers)
    if not solved:
        found["image"] = hashed(out.image)
    if not (solved and (synth.finish is not None or synth.label_rule == "changed")):
        found["mask"] = hashed(out.mask)
    return found


def golden() -> dict[str, Any]:
    """The file."""
    return dict(json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:textures=None")
@pytest.mark.parametrize("name", NAMES)
def test_the_bits_of_a_method_stay(name: str) -> None:
    assert name in golden()["methods"], "new method: python -m tests.methods.test_golden"
    assert hashes(name) == golden()["methods"][name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_batch_shows_the_method(name: str) -> None:
    """A hash of nothing would prove nothing."""
    out = made(name)
    assert out.label.sum() >= len(out.label) // 3
    assert not torch.equal(out.image[out.label > 0], out.clean[out.label > 0])  # type: ignore[index]


def test_the_hashes_are_of_this_version() -> None:
    assert golden()["version"] == SPEC_VERSION
    assert set(golden()["methods"]) == set(NAMES)


def main() -> None:
    """Add what is missing."""
    known = golden() if GOLDEN.exists() else {"version": SPEC_VERSION, "methods": {}}
    if known["version"] != SPEC_VERSION:
        known = {"version": SPEC_VERSION, "methods": {}}
    for name in NAMES:
        if name not in known["methods"]:
            known["methods"][name] = hashes(name)
            print(f"added {name}")
    known["methods"] = dict(sorted(known["methods"].items()))
    beside = GOLDEN.with_suffix(".new")
    beside.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, GOLDEN)


if __name__ == "__main__":
    main()
