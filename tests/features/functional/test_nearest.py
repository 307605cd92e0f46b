"""The nearest code, tile by tile: what a whole matrix gives."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anoaug.features import functional


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("tile", [1 << 22, 24, 1])
def test_any_tile_gives_what_the_matrix_gives(metric: str, tile: int) -> None:
    rows, codes = drawn(3, 7, 5), drawn(11, 5, seed=1)
    place, value = functional.nearest(rows, codes, metric, tile)
    if metric == "cosine":
        whole = torch.nn.functional.cosine_similarity(rows[..., None, :], codes, dim=-1)
        expected = whole.max(-1)
    else:
        expected = torch.cdist(rows, codes[None], compute_mode="donot_use_mm_for_euclid_dist").min(
            -1
        )
    assert torch.equal(place, expected.indices)
    torch.testing.assert_close(value, expected.values)


class Tiles(TorchDispatchMode):
    """The largest result, and how many of at least half that size were alive together."""

    def __init__(self, tile: int) -> None:
        super().__init__()
        self.tile, self.largest, self.together = tile, 0, 0
        self._alive: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple) else (out,):
            if isinstance(one, Tensor):
                self.largest = max(self.largest, one.numel())
                if one.numel() >= self.tile // 2:
                    self._alive.append(weakref.ref(one))
        alive = {
            one.untyped_storage().data_ptr() for of in self._alive if (one := of()) is not None
        }
        self.together = max(self.together, len(alive))
        return out


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_one_tile_at_a_time_is_the_largest_there_is(metric: str) -> None:
    rows, codes = drawn(300, 4), drawn(200, 4, seed=1)
    for tile in (4000, 3 * 1000):
        with Tiles(tile) as seen:
            functional.nearest(rows, codes, metric, tile)
        assert tile // 2 < seen.largest <= tile < 300 * 200
        assert seen.together == 1


def test_codes_of_each_group() -> None:
    rows, codes = drawn(2, 6, 4), drawn(2, 9, 4, seed=1)
    place, _ = functional.nearest(rows, codes, "cosine", tile=16)
    for g in range(2):
        assert torch.equal(place[g], functional.nearest(rows[g], codes[g])[0])


def test_distances_keep_their_digits_far_from_zero() -> None:
    rows, codes = 1000.0 + drawn(64, 128), 1000.0 + drawn(32, 128, seed=1)
    _, value = functional.nearest(rows, codes, "euclidean")
    exact = torch.cdist(rows.double(), codes.double()).min(1).values
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=0)
    naive = rows.square().sum(1)[:, None] - 2 * rows @ codes.T + codes.square().sum(1)
    lost = (naive.min(1).values.clamp(min=0).sqrt() - exact).abs().max()
    assert lost > 100 * (value - exact).abs().max()  # the hazard is real


def test_zero_vectors_and_nothing_are_defined() -> None:
    place, value = functional.nearest(torch.zeros(2, 3), drawn(4, 3))
    assert place.tolist() == [0, 0] and value.tolist() == [0.0, 0.0]
    place, value = functional.nearest(torch.zeros(0, 3), drawn(4, 3))
    assert place.shape == value.shape == (0,)
    place, _ = functional.nearest(torch.zeros(0, 5, 3), torch.zeros(0, 4, 3))
    assert place.shape == (0, 5)


def test_autocast_and_half_precision_change_nothing() -> None:
    rows, codes = drawn(40, 16), drawn(20, 16, seed=1)
    expected = functional.nearest(rows.bfloat16().float(), codes)
    with torch.autocast("cpu", torch.bfloat16):
        found = functional.nearest(rows.bfloat16(), codes)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="of 3 channels"):
        functional.nearest(drawn(2, 3), drawn(4, 5))
    with pytest.raises(ValueError, match="metric"):
        functional.nearest(drawn(2, 3), drawn(4, 3), "manhattan")
