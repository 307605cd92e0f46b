"""Residuals: less the reference most alike, in every layout, the gradient the identity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug.features.functional import residual


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_difference_to_the_most_alike() -> None:
    tokens, references = drawn(2, 6, 4), drawn(9, 4, seed=1)
    found, place = residual(tokens, references)
    cosine = torch.nn.functional.cosine_similarity(tokens[:, :, None], references, dim=3)
    assert torch.equal(place, cosine.argmax(2))
    assert torch.equal(found, tokens - references[place])
    assert torch.equal(residual(tokens, references, squared=True)[0], found.square())


def test_layouts_dtypes_and_gradient() -> None:
    maps, references = drawn(2, 4, 3, 2), drawn(9, 4, seed=1)
    tokens = maps.flatten(2).transpose(1, 2)
    expected = residual(tokens, references)[0]
    assert torch.equal(residual(maps, references)[0].flatten(2).transpose(1, 2), expected)
    rows = residual(tokens.flatten(0, 1), references)[0]
    assert torch.equal(rows, expected.flatten(0, 1))
    half = residual(maps.bfloat16(), references)[0]
    assert torch.equal(half, residual(maps.bfloat16().float(), references)[0].bfloat16())
    maps.requires_grad_()
    residual(maps, references)[0].sum().backward()
    assert torch.equal(maps.grad, torch.ones_like(maps))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="of 4 channels"):
        residual(drawn(2, 4), drawn(3, 5))
    with pytest.raises(ValueError, match="at least one"):
        residual(drawn(2, 4), drawn(0, 4))
    with pytest.raises(TypeError, match="references"):
        residual(drawn(2, 4), [1.0])
