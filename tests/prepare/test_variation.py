"""How much normal images vary: streamed, from tensors, loaders and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug.prepare import Variation


def some(count: int = 70) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 12, 16), dtype=torch.uint8, generator=generator)


def expected(images: Tensor) -> Tensor:
    return (images.double() / 255).var(0).mean(0).sqrt().float()


@pytest.mark.parametrize("way", ["tensor", "batches", "dicts", "tuples"])
def test_it_is_the_standard_deviation_of_all_whatever_the_batches(way: str) -> None:
    images = some()
    parts = images.split(9)
    given: Any = {
        "tensor": images,
        "batches": list(parts),
        "dicts": [{"image": part, "label": 0} for part in parts],
        "tuples": [(part, 0) for part in parts],
    }[way]
    found = Variation.of(given)
    assert found.by_pixel and torch.allclose(found.std[0, 0], expected(images), atol=1e-6)
    one = Variation.of(given, by_pixel=False)
    assert float(one.std) == pytest.approx(float(expected(images).square().mean().sqrt()), abs=1e-6)


def test_a_small_spread_about_a_bright_mean_is_not_lost() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.9 + 1e-3 * torch.randn(64, 1, 8, 8, generator=generator).clamp(-3, 3)
    found = Variation.of(images.split(5))
    assert torch.allclose(found.std[0, 0], images.double().std(0)[0].float(), rtol=1e-5)


def test_from_a_folder(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    images = some(5)
    for number, image in enumerate(images):
        pillow.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    assert torch.allclose(Variation.of(tmp_path, (12, 16)).std[0, 0], expected(images), atol=1e-6)


def test_other_sizes_are_resized_and_numbers_spread() -> None:
    like = torch.zeros(2, 3, 24, 32, dtype=torch.uint8)
    assert Variation.of(some()).over(like).shape == (1, 1, 24, 32)
    flat = Variation(0.25).over(like)
    assert flat.shape == (1, 1, 24, 32) and (flat == 0.25).all()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="expected two or more, got 1"):
        Variation.of(some(1))
    with pytest.raises(ValueError, match="like the first"):
        Variation.of([some(2), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])
    with pytest.raises(TypeError, match="images: expected a tensor"):
        Variation.of(3)
    with pytest.raises(ValueError, match=r"standard deviations in \[0, 1\]"):
        Variation(12.0)
    with pytest.raises(TypeError, match="std: expected a number or a map"):
        Variation(torch.zeros(3))
