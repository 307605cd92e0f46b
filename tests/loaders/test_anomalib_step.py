"""The ascent step with anomalib's signature against the published formula, without anomalib."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from anoaug.loaders.anomalib import GlassAscentStep


def published(
    fakes: Tensor, loss: Tensor, centre: Tensor, real: Tensor, radius: Tensor, step: int, svd: int
) -> Tensor:
    """The formula of the method, in plain torch."""
    (gradient,) = torch.autograd.grad(loss, fakes)
    fakes = fakes + 0.001 * gradient / (gradient.norm(dim=1, keepdim=True) + 1e-10)
    if (step + 1) % 5:
        return fakes
    base, low = (centre, radius) if svd else (real, torch.tensor([0.5]).to(fakes))
    away = fakes - base
    length = away.norm(dim=1, keepdim=True)
    return base + away * torch.clamp(length, low, 2 * low) / (length + 1e-10)


@pytest.mark.parametrize("svd", [0, 1])
@pytest.mark.parametrize("detach", [False, True])
def test_glass_step_is_the_formula_and_so_is_its_gradient(svd: int, detach: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(16, 5, generator=generator, dtype=torch.float64).requires_grad_()
    noise = 0.3 * torch.randn(16, 5, generator=generator, dtype=torch.float64)
    centre = torch.randn(16, 5, generator=generator, dtype=torch.float64)
    judge = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    ours = GlassAscentStep(svd, detach=detach)
    results = []
    for take in (ours, lambda *given: published(*given, svd)):
        radius = torch.quantile((real - centre).norm(dim=1), 0.75)[None]
        if detach:
            radius = radius.detach()
        fakes = real + noise
        for step in range(10):
            loss = nn.functional.softplus(-judge(fakes)).mean()
            fakes = take(fakes, loss, centre, real, radius, step)
        (gradient,) = torch.autograd.grad(fakes.sin().sum(), real)
        results.append((fakes.detach(), gradient))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_glass_step_can_take_a_methods_place() -> None:
    class Model(nn.Module):
        def _gradient_ascent_step(self, *given: Tensor) -> None:
            raise AssertionError("the model's own")

        def go(self, fakes: Tensor) -> Tensor:
            zeros = torch.zeros_like(fakes)
            return self._gradient_ascent_step(fakes, fakes.sum(), zeros, zeros, zeros[0, :1], 0)

    model = Model()
    model._gradient_ascent_step = GlassAscentStep()
    moved = model.go(torch.ones(2, 4, requires_grad=True))
    torch.testing.assert_close(moved, torch.full((2, 4), 1.0005))
    assert pickle.loads(pickle.dumps(model._gradient_ascent_step)).every == 5
    with pytest.raises(ValueError, match="svd"):
        GlassAscentStep(2)
    with pytest.raises(ValueError, match="every"):
        GlassAscentStep(every=0)
