"""What the CPU's driver leaves to NumPy gives the bits of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug import Layer, Synthesizer, blends, cpu, cpu_numpy, masks, sources
from anoaug.reference import blends as reference
from anoaug.reference.sources import BILINEAR, ZERO_FILL, gather_image
from anoaug.rng import permuted
from tests.recipes import STATISTICS, assert_same, pictures

WORDS = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), WORDS, WORDS)
def test_places_are_those_of_the_permutation(count: int, key: int, coin: int) -> None:
    numbers = torch.arange(count)
    true = permuted(numbers, torch.tensor(count), torch.tensor(key), torch.tensor(coin))
    assert cpu_numpy.places(count, key, coin).tolist() == true.tolist()
    assert sorted(true.tolist()) == numbers.tolist()


def test_views_share_a_permutation_which_is_then_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    synth = Synthesizer(Layer(masks.Cells(k=8), sources.Constant()), p=1.0, views=3, seed=0)
    synth(pictures())
    assert cpu_numpy.places.cache_info().currsize == 0
    monkeypatch.setattr(cpu_numpy, "forget", lambda: None)
    synth(pictures())
    known = cpu_numpy.places.cache_info()
    cpu_numpy.places.cache_clear()
    assert (known.misses, known.hits) == (3, 6)


def test_weights_are_those_of_the_reference() -> None:
    level = torch.tensor([[-1.0, 0.0, -0.0, 1e-30, 2.0, float("nan"), float("inf")]])
    row = torch.tensor([[0.3]])
    for name in ("opaque", "opacity"):
        ours, true = (getattr(one, name)(level, row, 0, 0) for one in (cpu_numpy, reference))
        assert torch.equal(ours, true) and ours.dtype == torch.float32


@pytest.mark.parametrize("source", [sources.Constant(), sources.Own()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_output_dtype_is_written(source: sources.Source, dtype: torch.dtype) -> None:
    layer = Layer(masks.Rectangle(area=0.2), source)
    made = [
        Synthesizer(layer, p=1.0, seed=1, dtype=dtype, backend=backend)(pictures())
        for backend in ("auto", "torch")
    ]
    assert made[0].image.dtype == dtype and made[0].label.all()
    assert_same(*made)


@pytest.mark.parametrize("option", [0, BILINEAR, ZERO_FILL, BILINEAR | ZERO_FILL])
def test_an_image_is_gathered_by_every_option(option: int) -> None:
    """Also places beyond its edge, which a part from outside may want to be black."""
    image, row = pictures(), torch.tensor([[1.3, 0.2, -9.0, -0.1, 1.4, -7.0, 0.0]])
    row.view(torch.int32)[0, 6] = -1
    height, width = image.shape[2:]
    pix = torch.arange(height * width)[None]
    y, x = (at.to(torch.float32) for at in (pix // width, pix % width))
    given = (image, (), row, y, x, torch.ones((1, 1), dtype=torch.int64), pix, 0, option, 255.0)
    ours, true = cpu.lean_gather_image(*given), gather_image(*given)
    assert torch.equal(ours, true)
    assert bool((true == 0).all(0).sum() > 50) == bool(option & ZERO_FILL)


FILLS = {
    "cells": masks.Cells(k=(2, 5)),
    "turned": masks.Rectangle(area=(0.05, 0.3), rotation=(-90, 90)),
    "joined": masks.Cells(k=7, share=0.5) & masks.Rectangle(area=0.4),
}
WISHES: tuple[dict[str, Any], ...] = (
    {}, STATISTICS, {"dtype": "bfloat16"}, {"label": "soft", "min_area": 0.2},
    {"label_rule": "changed"},
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mask", FILLS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32], ids=str)
@pytest.mark.parametrize("wish", WISHES, ids=repr)
def test_one_colour_laid_hard(mask: str, dtype: torch.dtype, wish: dict[str, Any]) -> None:
    for blend in (blends.Hard(), blends.Opacity(0.4)):
        layer = Layer(FILLS[mask], sources.Constant((0.2, 0.5, 0.9)), blend)
        ours, true = (
            Synthesizer(layer, p=0.8, seed=3, clean="output", backend=backend, **wish)(
                pictures(dtype, batch=5)
            )
            for backend in ("auto", "torch")
        )
        assert_same(ours, true)
        assert true.label.any()
