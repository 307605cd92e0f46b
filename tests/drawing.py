"""What the tests of masks and sources share: drawing many samples and looking at the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import functional, masks, ops, recipe, sources

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EVERYWHERE = masks.Everywhere()
needs_triton = pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")
some = settings(max_examples=40, deadline=None)
sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


# ---- masks ---------------------------------------------------------------------------------------


def levels(mask: masks.Mask, size: tuple[int, int], index: Any, **keywords: Any) -> torch.Tensor:
    """The level of a mask, ``[B, H, W]``."""
    return functional.field(mask, size, list(index), **keywords)[:, 0]


def mask_columns(mask: masks.Mask, size: tuple[int, int], rows: int) -> dict[str, np.ndarray]:
    """What a mask's law draws for some samples, float64 by column."""
    synth = anoaug.Synthesizer(anoaug.Layer(mask, sources.Constant()), seed=0)
    blank = torch.zeros(1, 1, *size, dtype=torch.uint8).expand(rows, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(rows), epoch=0).numpy()
    columns = recipe.recipe(synth.laws(1)).describe(table)
    # Integers are stored as bits that may be signalling NaNs.
    with np.errstate(invalid="ignore"):
        return {
            name.split(".")[3]: value.astype(np.float64)
            for name, value in columns.items()
            if ".mask." in name
        }


def expect_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Refuse numbers outside [low, high] or unevenly spread in it."""
    assert low <= values.min() and values.max() <= high
    assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-4


# ---- sources -------------------------------------------------------------------------------------


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def textures(n: int, height: int, width: int, channels: int = 3) -> anoaug.TextureBank:
    return anoaug.TextureBank.from_tensors(pixels(n, channels, height, width, seed=n))


def painted(source: sources.Source, mask: masks.Mask = EVERYWHERE, **more: Any) -> Any:
    """A synthesizer that pastes a source on every sample."""
    return anoaug.Synthesizer(anoaug.Layer(mask, source), p=1.0, **{"seed": 0, **more})


def columns_of(
    synth: anoaug.Synthesizer, table: torch.Tensor, channels: int, role: str
) -> dict[str, np.ndarray]:
    """Columns of one role in the first layer, by their last name."""
    columns = recipe.recipe(synth.laws(channels)).describe(table.cpu().numpy())
    return {n.split(".")[-1]: v for n, v in columns.items() if n.startswith(f"layer0.{role}.")}


def drawn(synth: anoaug.Synthesizer, size: tuple[int, int], rows: int, **more: Any) -> Any:
    """Columns of source and mask for many samples of blank images."""
    blank = torch.zeros(1, 3, *size, dtype=torch.uint8).expand(rows, -1, -1, -1)
    table = synth.sample(blank, index=torch.arange(rows), epoch=0, **more)
    return columns_of(synth, table, 3, "source"), columns_of(synth, table, 3, "mask")


def integers(column: np.ndarray) -> np.ndarray:
    return column.view(np.int32)
