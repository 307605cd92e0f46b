"""Geodesic steps as a perturbation."""

from __future__ import annotations

import math

import pytest
import torch

from anoaug import features
from anoaug.features.functional import manifolds


def test_normalised_embeddings_stay_normalised() -> None:
    x = torch.nn.functional.normalize(torch.randn(2, 6, 5, 4), dim=1)
    out = features.create("geodesic", seed=0)(x).features
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, 5, 4), atol=1e-6, rtol=0)
    cosine = (out * x).sum(1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, math.cos(math.radians(20))))


def test_points_of_the_ball_move_by_their_length() -> None:
    x = 0.3 * torch.nn.functional.normalize(torch.randn(20, 5), dim=1)
    out = features.create("geodesic", length=1.0, curvature=-1.0, seed=0)(x)
    found = manifolds.geodesic_distance(x, out.features, -1.0)
    torch.testing.assert_close(found, torch.ones(20), atol=1e-5, rtol=0)


def test_two_steps_are_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="strength: expected angle="):
        features.create("geodesic", angle=10.0, length=1.0, curvature=1.0)
