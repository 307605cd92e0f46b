"""The same things as functions of tensors: Perlin fields and levels of masks."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug import functional, masks, ops, recipe, rng

SIZE = (32, 40)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


# ---- the bits of this version --------------------------------------------------------------------


def test_the_bits_are_those_of_this_version() -> None:
    """If these change, raise recipe.SPEC_VERSION and say so in the changelog."""
    assert recipe.SPEC_VERSION == 1
    box_or_noise = masks.Rectangle() | masks.Perlin(rotation=0.0)
    assert [
        digest(functional.perlin(3, (48, 40), (4.0, 2.5), seed=7)),
        digest(functional.perlin(2, (32, 32), (3.0, 5.0), octaves=3, seed=-1, index=[5, 2**40])),
        digest(functional.field(box_or_noise, SIZE, range(4), seed=3)),
    ] == ["b6102c78c3564a9f", "9cb3c7a2a70b97f0", "52c35b0bdeaec09e"]


# ---- perlin --------------------------------------------------------------------------------------


def test_perlin_gives_fields_of_the_size_asked_for() -> None:
    fields = functional.perlin(3, SIZE)
    assert fields.shape == (3, 1, *SIZE) and fields.dtype == torch.float32
    assert fields.is_contiguous()


def test_no_fields_are_an_empty_tensor() -> None:
    assert functional.perlin(0, SIZE).shape == (0, 1, *SIZE)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    index=st.lists(st.integers(0, 2**47 - 1), min_size=1, max_size=5),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_a_field_is_a_function_of_seed_and_index(index: list[int], seed: int) -> None:
    fields = functional.perlin(len(index), SIZE, (3.0, 2.0), seed=seed, index=index)
    for field, number in zip(fields, index, strict=True):
        alone = functional.perlin(1, SIZE, (3.0, 2.0), seed=seed, index=[number])
        assert torch.equal(field, alone[0])


def test_without_an_index_samples_are_numbered_from_zero() -> None:
    assert torch.equal(functional.perlin(4, SIZE), functional.perlin(4, SIZE, index=range(4)))
    assert torch.equal(
        functional.perlin(4, SIZE), functional.perlin(4, SIZE, index=torch.arange(4))
    )


@pytest.mark.parametrize("other", [{"seed": 1}, {"index": [1, 2]}])
def test_another_seed_or_index_is_another_field(other: dict[str, Any]) -> None:
    first, second = functional.perlin(2, SIZE), functional.perlin(2, SIZE, **other)
    assert not any(torch.allclose(a, b, atol=0.1) for a, b in zip(first, second, strict=True))


def test_cells_are_rows_and_columns() -> None:
    fields = functional.perlin(6, (64, 64), (1.0, 8.0))
    # Eight nodes across, and one step from top to bottom.
    assert fields[:, :, 0, ::8].abs().max() < 1e-6
    assert fields[:, :, 32, ::8].abs().max() > 0.1
    assert fields.diff(dim=3).abs().mean() > 3 * fields.diff(dim=2).abs().mean()


def test_a_turned_field_goes_on_beyond_the_image() -> None:
    fields = functional.perlin(20, (64, 64), (6.0, 6.0), rotation=45.0)
    corners = fields[:, :, :6, :6].abs().amax((1, 2, 3))
    assert corners.min() > 0.0


def test_a_quarter_turn_turns_the_field() -> None:
    plain = functional.perlin(3, (64, 64), (4.0, 4.0))
    turned = functional.perlin(3, (64, 64), (4.0, 4.0), rotation=90.0)
    either = [torch.rot90(plain, k, (2, 3)) for k in (1, -1)]
    assert min((turned - e).abs().max() for e in either) < 1e-4


def test_perlin_is_the_level_of_a_mask_without_threshold() -> None:
    law = {"cells": ((3.0, 3.0), (2.0, 2.0)), "threshold": 0.0, "rotation": 30.0}
    mask = masks.Perlin(rotation_fill="continue", octaves=2, persistence=0.3, **law)
    fields = functional.perlin(
        2, SIZE, (3.0, 2.0), rotation=30.0, octaves=2, persistence=0.3, seed=4
    )
    assert torch.equal(fields, functional.field(mask, SIZE, range(2), seed=4))


def test_global_generators_are_left_alone() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())
    functional.perlin(2, SIZE)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


# ---- field ---------------------------------------------------------------------------------------


def test_an_epoch_is_another_field() -> None:
    mask = masks.Perlin()
    first, second = (functional.field(mask, SIZE, [0], epoch=epoch) for epoch in (0, 1))
    assert not torch.allclose(first, second, atol=0.1)


@pytest.mark.parametrize("seed", [0, -1, 2**40 + 3, 2**63 - 1])
def test_the_whole_seed_counts(seed: int) -> None:
    mask = masks.Perlin(rotation=0.0)
    ours = functional.field(mask, SIZE, [0], seed=seed)
    for other in (seed ^ 1, seed ^ (1 << 40)):
        assert not torch.equal(ours, functional.field(mask, SIZE, [0], seed=other))
    assert torch.equal(ours, functional.field(mask, SIZE, [0], seed=seed % 2**64))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_field_is_computed_where_it_is_asked_for(backend: str) -> None:
    field = functional.field(masks.Perlin(), SIZE, [0], device=DEVICE, backend=backend)
    assert field.device.type == DEVICE


@pytest.mark.triton_interpreter
@needs_triton
def test_an_empty_batch_passes_on_every_backend() -> None:
    none = torch.empty(0, dtype=torch.int64)
    for backend in ("auto", "torch", "triton"):
        field = functional.field(masks.Perlin(), SIZE, none, device=DEVICE, backend=backend)
        assert field.shape == (0, 1, *SIZE)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (130, 3)])
def test_fields_of_any_size_are_written_whole(poisoned: None, size: tuple[int, int]) -> None:
    for backend in ("auto", "torch", "triton"):
        field = functional.field(masks.Perlin(), size, range(2), device=DEVICE, backend=backend)
        assert field.isfinite().all()


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: functional.perlin(-1, SIZE), ValueError, "batch: expected at least 0"),
        (lambda: functional.perlin(1, (0, 4)), ValueError, "size: expected height and width"),
        (lambda: functional.perlin(1, SIZE, (0.0, 1.0)), ValueError, "cells: expected values"),
        (lambda: functional.perlin(1, SIZE, (8.0,)), (TypeError, ValueError), "cells: expected"),
        (lambda: functional.perlin(1, SIZE, 8.0), (TypeError, ValueError), "cells: expected"),
        (lambda: functional.perlin(1, SIZE, octaves=0), ValueError, "octaves: expected"),
        (lambda: functional.perlin(2, SIZE, index=[0]), ValueError, "one number per sample"),
        (lambda: functional.perlin(1, SIZE, index=[0.5]), TypeError, "expected integers"),
        (
            lambda: functional.perlin(1, SIZE, index=torch.zeros(1, device="meta")),
            ValueError,
            "index: expected a CPU tensor",
        ),
        (lambda: functional.perlin(1, SIZE, index=[-1]), ValueError, "expected sample indices in"),
        (
            lambda: functional.perlin(1, SIZE, index=[2**47]),
            ValueError,
            "expected sample indices in",
        ),
        (lambda: functional.field("perlin", SIZE, [0]), TypeError, "expected a mask of anoaug"),
        (
            lambda: functional.field(masks.Foreground(), SIZE, [0]),
            ValueError,
            "without given tensors",
        ),
        (
            lambda: functional.field(masks.Perlin(), SIZE, [0], epoch=-1),
            ValueError,
            "epoch: expected an integer",
        ),
        (
            lambda: functional.field(masks.Perlin(), SIZE, [0], epoch=2**32),
            ValueError,
            "epoch: expected an integer",
        ),
        (
            lambda: functional.field(masks.Perlin(), SIZE, [0], backend="cuda"),
            ValueError,
            "backend: expected one of",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_counter_s_domain_is_open_to_fields() -> None:
    rng.check_index_range(0, 2**47 - 1)
    assert functional.perlin(1, SIZE, index=[2**47 - 1]).isfinite().all()


def test_masked_gaussian_is_noise_under_the_mask_of_each_sample() -> None:
    features = torch.randn(3, 8, 6, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 1, 6, 5)
    mask[:, :, 2:, 1:] = 1
    found = functional.masked_gaussian(features, mask, 0.5, seed=4, index=[5, 0, 9])
    step = found - features
    assert torch.equal(step != 0, (mask > 0).expand_as(step))
    assert abs(step[(mask > 0).expand_as(step)].std() / 0.5 - 1) < 0.15
    part = functional.masked_gaussian(features[1:], mask[1:], 0.5, seed=4, index=[0, 9])
    assert torch.equal(part, found[1:])
    for other in ({"seed": 5}, {"epoch": 1}, {"index": [1, 2, 3]}):
        given = {"seed": 4, "index": [5, 0, 9], **other}
        assert not torch.equal(functional.masked_gaussian(features, mask, 0.5, **given), found)
    with pytest.raises(ValueError, match="mask: expected shape"):
        functional.masked_gaussian(features, mask[:, :, :3], 0.5)
    with pytest.raises(ValueError, match="features: expected"):
        functional.masked_gaussian(features[0, 0], mask, 0.5)
