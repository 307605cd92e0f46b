"""The feature queue: a ring for every class, whatever a batch holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug.features import fitted


@pytest.mark.slow
@given(
    length=st.integers(1, 6),
    batches=st.lists(st.lists(st.integers(0, 3), max_size=20), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_it_is_a_ring_for_every_class(length: int, batches: list[list[int]]) -> None:
    module = fitted.FeatureQueue(length, categories=3)
    rings: list[list[float]] = [[], [], []]
    number = 0.0
    for names in batches:
        rows = torch.arange(number, number + len(names))[:, None]
        mask = torch.tensor([name < 3 for name in names], dtype=torch.bool)
        known = [min(name, 2) for name in names]
        module.update(rows.float(), mask, category=known)
        for name, row in zip(names, rows[:, 0].tolist(), strict=True):
            if name < 3:  # the others are masked
                rings[name].append(row)
        number += len(names)
    for k, ring in enumerate(rings):
        assert module.pushed[k] == len(ring)
        held = module.rows[k, module.filled[k], 0].tolist()
        assert sorted(held) == sorted(ring[-length:])
        for place, value in enumerate(ring[-length:], max(len(ring) - length, 0)):
            assert module.rows[k, place % length, 0] == value
    assert module.ready.tolist() == [len(ring) >= length for ring in rings]


def test_images_give_their_category_to_all_positions() -> None:
    maps = torch.arange(2 * 3 * 4.0).view(2, 3, 2, 2)
    module = fitted.FeatureQueue(4, categories=2)
    module.update(maps, category=[1, 0])
    assert torch.equal(module.rows[1], maps[0].flatten(1).T)
    assert torch.equal(module.rows[0], maps[1].flatten(1).T)


def test_positions_may_be_the_classes() -> None:
    maps = torch.arange(2 * 3 * 4.0).view(2, 3, 2, 2)
    module = fitted.FeatureQueue(2, per="position")
    module.update(maps)
    assert torch.equal(module.rows, maps.flatten(2).permute(2, 0, 1))
    assert module.ready.all()


def test_bad_input_is_refused() -> None:
    module = fitted.FeatureQueue(3, categories=2)
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        _ = module.ready
    with pytest.raises(ValueError, match="category: expected one in"):
        module.update(torch.zeros(2, 4))
    module.update(torch.zeros(2, 4), category=[0, 1])
    with pytest.raises(ValueError, match="classes and channels"):
        module.update(torch.zeros(2, 5), category=[0, 1])
    with pytest.raises(ValueError, match="per='position'"):
        fitted.FeatureQueue(3, categories=2, per="position")
    with pytest.raises(ValueError, match="length: expected"):
        fitted.FeatureQueue(0)
