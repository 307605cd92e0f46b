"""turned: normal images turned as published loaders do, by (seed, epoch, index)."""

from __future__ import annotations

import pytest
import torch

import anoaug
from anoaug.turning import turned
from tests.oneof.samples import IMAGES, TEXTURES, numbered, pictures

SQUARE = pictures(batch=40)[..., :36, :36].contiguous()
CALL = numbered(40)


def test_quarters_are_exact_and_each_equally_likely() -> None:
    out = turned(0.0, quarters=True)(SQUARE, **CALL).image
    counts = torch.zeros(4)
    for image, made in zip(SQUARE, out, strict=True):
        hit = [torch.equal(torch.rot90(image, k, (1, 2)), made) for k in range(4)]
        assert sum(hit) == 1
        counts[hit.index(True)] += 1
    assert counts.min() >= 3  # of 40, 10 are expected


@pytest.mark.parametrize("fill", [0.0, 114 / 255])
def test_what_is_turned_in_is_filled(fill: float) -> None:
    white = torch.full((40, 3, 36, 36), 250, dtype=torch.uint8)
    out = turned((44.0, 46.0), fill=fill)(white, **CALL).image
    assert (out[:, :, 0, 0] == round(fill * 255)).all() and (out[:, :, 18, 18] == 250).all()
    # Of a square turned by 45 degrees the octagon 2 (sqrt(2) - 1) stays in the frame.
    kept = (out[:, 0] == 250).float().mean()
    assert kept == pytest.approx(0.828, abs=0.01)


def test_no_angle_changes_nothing() -> None:
    assert torch.equal(turned(0.0)(SQUARE, **CALL).image, SQUARE)
    assert torch.equal(turned(0.0)(IMAGES, **numbered()).image, IMAGES)


@pytest.mark.slow
def test_share_and_replay_as_a_normal_transform() -> None:
    synth = anoaug.create(
        "draem", textures=TEXTURES, normal_transform=turned((-90.0, 90.0), p=0.3), seed=2
    )
    images = pictures(batch=200)
    out = synth(images, **numbered(200))
    share = (out.clean != images).flatten(1).any(1).float().mean()  # type: ignore[union-attr]
    assert 0.2 < share < 0.4
    assert torch.equal(synth(out.clean, params=out.params).image, out.image)
    other = synth(images, index=range(200), epoch=4)
    assert not torch.equal(other.clean, out.clean)  # type: ignore[arg-type]
