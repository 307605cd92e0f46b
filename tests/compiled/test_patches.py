"""What patches need beyond the render, by Numba: labels, the Poisson equation's two sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import anoaug  # noqa: E402
from anoaug import poisson  # noqa: E402
from anoaug.finish import Difference  # noqa: E402
from tests.drawing import pixels  # noqa: E402

pytestmark = pytest.mark.slow  # Numba compiles


def changed(dtype: torch.dtype, strength: float) -> tuple[torch.Tensor, ...]:
    """Images before and after and weights: small and large areas, at the edge, one empty."""
    before = pixels(5, 3, 40, 46).to(torch.int32)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3, 40, 46)) * strength)
    weight = torch.zeros(5, 1, 40, 46)
    for n, (top, tall, left, wide) in enumerate([(0, 9, 0, 12), (20, 20, 30, 16), (5, 1, 5, 1),
                                                 (0, 40, 0, 46)]):  # fmt: skip
        weight[n, :, top : top + tall, left : left + wide] = 1.0
    after = torch.where(weight > 0, (before + noise.int()).clamp(0, 255), before)
    scale = 257 if dtype == torch.uint16 else 1
    return (before * scale).to(dtype), (after * scale).to(dtype), weight


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("rule", ["logistic", "intensity", "binary", "continuous"])
@pytest.mark.parametrize("strength", [3.0, 90.0])
def test_labels_are_those_of_whole_planes(dtype: torch.dtype, rule: str, strength: float) -> None:
    before, after, weight = changed(dtype, strength)
    if dtype == torch.float32:
        before, after = before / 255, after / 255
    label = Difference(rule)
    whole = label._of(before, after, weight, "torch")
    assert (whole > 0).any()
    for backend in ("auto", "compiled"):
        assert torch.equal(label(before, after, weight, backend), whole), backend


@pytest.mark.parametrize("mode", ["normal", "mixed"])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_corrections_are_those_of_torch(mode: str, kind: str) -> None:
    destination, source = pixels(4, 3, 50, 44, seed=1), pixels(4, 3, 50, 44, seed=2)
    weight = torch.zeros(4, 1, 50, 44, dtype=torch.uint8)
    for n, (top, left, tall, wide) in enumerate([(1, 1, 48, 42), (9, 3, 7, 7), (20, 5, 11, 30)]):
        weight[n, :, top : top + tall, left : left + wide] = 255
    weight[0, :, 20:30, 10:20] = 90
    if kind == "floats":
        destination, source, weight = destination / 255, source / 255, weight / 255
    made = [poisson.solve(destination, source, weight, mode=mode, backend=backend)
            for backend in ("auto", "compiled")]  # fmt: skip
    assert not torch.equal(made[0], destination)
    assert torch.equal(*made)


@pytest.mark.parametrize("name", ["nsa", "pii", "riad", "reb"])
def test_whole_methods_are_equal(name: str) -> None:
    images = pixels(6, 3, 64, 80)
    needs = anoaug.describe(name)["needs"]
    banks = {"donors": anoaug.DonorBank.from_tensors(images.flip(0))} if needs else {}
    made = [
        anoaug.create(name, p=0.7, seed=1, backend=backend, **banks)(
            images, index=range(6), epoch=0
        )
        for backend in ("auto", "compiled")
    ]
    for one, other in zip(made[0][:4], made[1][:4], strict=True):
        assert torch.equal(one, other)
    assert made[0].label.any()
