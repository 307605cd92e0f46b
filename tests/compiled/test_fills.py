"""One colour laid hard: what fills whole rows gives the reference's bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anoaug import Layer, Synthesizer, blends, masks, sources
from tests.drawing import pixels
from tests.recipes import STATISTICS, assert_same

pytest.importorskip("numba")

MASKS = {
    "cells": masks.Cells(k=(2, 5)),
    "turned": masks.Rectangle(area=(0.05, 0.3), rotation=(-90, 90)),
    "joined": masks.Cells(k=7, share=0.5) & masks.Rectangle(area=0.4),
}


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("extra", [{}, STATISTICS, {"label": "soft", "min_area": 0.2}])
def test_filled_rows_equal_the_reference(mask: str, last: bool, extra: dict[str, Any]) -> None:
    images = pixels(5, 3, 37, 41)
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    for blend in (blends.Hard(), blends.Opacity(0.4)):
        layer = Layer(MASKS[mask], sources.Constant((0.2, 0.5, 0.9)), blend)
        made = [
            Synthesizer(layer, p=0.8, seed=3, backend=backend, **extra)(images)
            for backend in ("torch", "compiled")
        ]
        assert_same(*made)
        assert made[0].label.sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
def test_other_numbers_of_channels(channels: int) -> None:
    images = pixels(4, channels, 30, 26).contiguous(memory_format=torch.channels_last)
    layer = Layer(masks.Cells(k=4), sources.Constant(0.5))
    ours, true = (
        Synthesizer(layer, p=1.0, seed=1, views=3, backend=backend)(images)
        for backend in ("compiled", "torch")
    )
    assert_same(ours, true)
    assert ours.clean.is_contiguous(memory_format=torch.channels_last)
