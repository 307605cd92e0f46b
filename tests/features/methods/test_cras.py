"""CRAS: noise by distance, centres by class, residuals for the discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug import features


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(categories: int = 1) -> features.Perturbation:
    perturb = features.create("cras", categories=categories, seed=0)
    batches = [
        {"image": normal(4, 8, 3, 5, seed=s) + 3.0, "category": [n % categories for n in range(4)]}
        for s in range(2)
    ]
    return perturb.fit(batches, category="category" if categories > 1 else None, progress=False)


def test_noise_is_scaled_by_distance() -> None:
    perturb, x = made(), normal(2, 8, 3, 5, seed=9)
    noise = normal(2, 8, 3, 5, seed=4)
    out = perturb(x, noise=noise)
    scale = out.extras["scale"]
    assert abs(float(scale.mean()) - 1) < 1e-5 and float(scale.min()) >= 0.7
    step = scale.view(2, 1, 3, 5) * 0.015 * noise
    torch.testing.assert_close(out.features, x + step)
    centre = perturb.centres.lookup(x, layout="nchw").transpose(1, 2).view(2, 8, 3, 5)
    far = (x - centre).norm(dim=1)
    share = noise.norm(dim=1) / far
    torch.testing.assert_close(scale.view(2, 3, 5), 1 + 0.3 * (share / share.mean() - 1))


def test_classes_have_centres_of_their_own() -> None:
    perturb, x = made(categories=2), normal(2, 8, 3, 5, seed=9)
    one = perturb(x, category=[0, 1], index=[0, 1], epoch=0)
    other = perturb(x, category=[1, 1], index=[0, 1], epoch=0)
    assert not torch.equal(one.extras["scale"], other.extras["scale"])
    with pytest.raises(ValueError, match="category: expected"):
        perturb(x)


@pytest.mark.parametrize("layout", ["nchw", "tokens", "rows"])
def test_the_discriminator_sees_features_beside_residuals(layout: str) -> None:
    perturb, maps = made(), normal(2, 8, 3, 5, seed=9)
    x = maps
    if layout != "nchw":
        x = maps.flatten(2).transpose(1, 2)
    if layout == "rows":
        x = x.flatten(0, 1)
    x = x.clone().requires_grad_()
    seen = perturb.residuals(x)
    axis = 1 if layout == "nchw" else -1
    plain, rest = seen.chunk(2, axis)
    assert torch.equal(plain, x)
    expected = maps - perturb.centres.lookup(maps, layout="nchw").transpose(1, 2).view(2, 8, 3, 5)
    if layout != "nchw":
        expected = expected.flatten(2).transpose(1, 2).reshape(rest.shape)
    torch.testing.assert_close(rest, expected)
    seen.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))  # type: ignore[arg-type]
