"""The Gaussian annulus as a perturbation."""

from __future__ import annotations

import torch

from anoaug import features


def test_lengths_are_those_of_the_papers_noise() -> None:
    x = torch.randn(1, 500, 1536, generator=torch.Generator().manual_seed(0))
    far = (features.create("annulus", seed=0)(x).features - x).norm(dim=-1)
    radius = 0.0317 * 1536**0.5
    assert abs(float(far.mean()) / radius - 1) < 0.005
    # 1.8 % at 1536 channels.
    assert abs(float(far.std()) / radius - 0.018) < 0.002


def test_a_radius_without_width_is_exact() -> None:
    x = torch.randn(2, 6, 5, 4)
    out = features.create("annulus", radius=2.0, rel_width=0.0, seed=0)(x)
    far = (out.features - x).norm(dim=1)
    torch.testing.assert_close(far, torch.full_like(far, 2.0))
