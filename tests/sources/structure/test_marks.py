"""Misprints: what each fault does to known marks, the ground, the laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug import masks, sources
from anoaug.sources.structure.marks import FAULTS, ground
from tests.drawing import drawn, expect_uniform, painted


def print_of(rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """White paper with a dark bar and a coloured one, and where they are."""
    images = torch.full((rows, 3, 80, 100), 240, dtype=torch.uint8)
    where = torch.zeros(rows, 1, 80, 100, dtype=torch.bool)
    images[..., 30:38, 20:60] = 30
    images[:, :, 50:55, 40:80] = torch.tensor([200, 40, 40], dtype=torch.uint8)[:, None, None]
    where[..., 30:38, 20:60] = where[..., 50:55, 40:80] = True
    return images, where


IMAGES, MARKS = print_of()


def run(source: sources.Source, **more: Any) -> torch.Tensor:
    return painted(source, **more)(IMAGES, index=range(len(IMAGES)), epoch=0).image


def test_the_ground_is_the_paper() -> None:
    found = ground(IMAGES.float() / 255) * 255
    assert (found - 240).abs().max() < 4


def test_a_faded_mark_goes_towards_the_ground() -> None:
    out = run(sources.Misprint("faded", strength=0.5))
    dark = out[..., 33, 30:50].float()
    assert ((dark - (240 + 30) / 2).abs() < 4).all()
    assert (out[~MARKS.expand_as(out)].int() - 240).abs().max() <= 4


def test_a_ghost_lies_beside_the_mark() -> None:
    source = sources.Misprint("ghost", strength=0.4, distance=10 / 80, direction=90.0)
    out = run(source)
    # Ten rows below the dark bar, four tenths of it.
    assert ((out[..., 42:46, 25:55].float() - (240 - 0.4 * 210)).abs() < 5).all()
    assert (out[..., 10:25, :].int() - 240).abs().max() <= 4
    assert out[..., 33, 30:50].max() <= 34


def test_a_smear_fades_out() -> None:
    source = sources.Misprint("smeared", strength=1.0, distance=20 / 80, direction=0.0)
    tail = run(source)[0, 0, 34, 60:85].float()
    assert tail[0] < 215 and tail[-1] > 236
    assert (tail.diff() >= -3).all()


def test_out_of_register_one_channel_moves() -> None:
    source = sources.Misprint("register", distance=3 / 80, direction=0.0)
    images = IMAGES[:1].expand(60, -1, -1, -1)
    out = painted(source)(images, index=range(60), epoch=0).image
    moved = [(out[:, c] != images[:, c]).flatten(1).any(1) for c in range(3)]
    assert torch.equal(torch.stack(moved).sum(0), torch.ones(60, dtype=torch.int64))
    assert all(10 <= int(one.sum()) <= 30 for one in moved)
    for c, rows in enumerate(moved):
        assert torch.equal(out[rows, c, :, 3:], images[rows, c, :, :-3])


def test_a_grey_print_out_of_register_has_no_fringes() -> None:
    source = sources.Misprint("register", distance=3 / 80, direction=0.0)
    grey = IMAGES[:1, :1].expand(-1, 3, -1, -1)
    out = painted(source)(grey, index=[0], epoch=0).image
    assert torch.equal(out[..., 3:], grey[..., :-3]) and not torch.equal(out, grey)


def test_the_mask_says_where() -> None:
    box = masks.Rectangle(height=40, width=30)
    out = painted(sources.Misprint("faded"), box)(IMAGES, index=range(3), epoch=0)
    outside = (out.mask == 0).expand_as(IMAGES)
    assert torch.equal(out.image[outside], IMAGES[outside])


def test_the_laws_are_uniform() -> None:
    source = sources.Misprint("ghost", strength=(0.2, 0.9), distance=(0.1, 0.2))
    found, _ = drawn(painted(source), (50, 90), 3000)
    expect_uniform(found["strength"].astype(np.float64).clip(0.2, 0.9), 0.2, 0.9)
    dy, dx = (found[name].astype(np.float64) for name in ("dy", "dx"))
    expect_uniform((np.hypot(dy, dx) / 50).clip(0.1, 0.2), 0.1, 0.2)
    expect_uniform(np.degrees(np.arctan2(dy, dx)), -180, 180)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["faded", "ghost", "smeared", "register"])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_any_dtype_gives_the_same(fault: str, dtype: torch.dtype) -> None:
    images = (IMAGES / 255 if dtype.is_floating_point else IMAGES.int() * 257).to(dtype)
    synth = painted(sources.Misprint(fault))
    other = synth(images, index=range(3), epoch=0).image
    scale = 255.0 if dtype.is_floating_point else 255.0 / 65535.0
    difference = (other.float() * scale - run(sources.Misprint(fault)).float()).abs()
    # A change may be just visible in one and just not in the other.
    assert (difference > 1.1).float().mean() < 0.001


@pytest.mark.slow
def test_the_method_draws_the_faults_equally() -> None:
    synth = anoaug.create("misprint", seed=0, p=1.0, min_area=1)
    images = IMAGES[:1].expand(200, -1, -1, -1)
    out = synth(images, index=range(200), epoch=0)
    assert synth.kinds[1:5] == tuple(f"misprint_{fault}" for fault in FAULTS)
    # Some boxes hold no mark.
    assert 0.5 < out.label.float().mean() <= 1.0
    assert torch.bincount(out.kind, minlength=5)[1:5].min() > 20
    assert torch.equal(out.image[out.label == 0], images[out.label == 0])


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="fault: expected"):
        sources.Misprint("torn")
