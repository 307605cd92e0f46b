"""The codebook swap: its window of ranks, what stays, equal backends, nothing beyond a tile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anoaug import features
from anoaug.features import fitted
from anoaug.features.functional import codebook_swap
from anoaug.reference.features import codebook as reference
from tests.drawing import needs_triton


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(*shape: int, seed: int = 0) -> Tensor:
    """Whole numbers, of which every backend's sums are exact."""
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(seed)).float()


def whole_codes(count: int, channels: int) -> Tensor:
    """Whole numbers whose mean is zero; among so few values many distances are equal."""
    half = whole(count // 2, channels, seed=5)
    return torch.cat((half, -half))


def keys(groups: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(groups))


def ranks_of(tokens: Tensor, codes: Tensor, numbers: Tensor) -> Tensor:
    """Ranks of the codes that came, by a sort in float64."""
    apart = torch.cdist(tokens.double(), codes.double())
    return apart.argsort(dim=2, stable=True).argsort(2).gather(2, numbers[..., None])[..., 0]


@pytest.mark.slow
def test_ranks_are_uniform_in_the_window_of_each_image() -> None:
    codes, tokens = drawn(200, 8), drawn(4, 3000, 8, seed=1)
    _, _, numbers = codebook_swap(tokens, None, keys(4), codes)
    ranks = ranks_of(tokens, codes, numbers)
    assert ranks.min() == 10  # int(0.05 * 200)
    highest = ranks.amax(1) + 1
    assert highest.unique().numel() == 4  # strengths are the images' own
    for image, high in zip(ranks, highest.tolist(), strict=True):
        assert 41 <= high <= 199
        counts = torch.bincount(image, minlength=high)[10:].double()
        expected = 3000 / (high - 10)
        square = ((counts - expected) ** 2 / expected).sum()
        freedom = high - 11
        assert abs(square - freedom) < 5 * (2 * freedom) ** 0.5


@pytest.mark.slow
def test_strengths_are_uniform() -> None:
    codes, tokens = drawn(64, 4), drawn(400, 60, 4, seed=1)
    _, _, numbers = codebook_swap(tokens, None, keys(400), codes, skip=0.0, strength=(0.5, 1.0))
    # The greatest of 60 ranks below t has mean about t - t / 61; t is uniform in 33 to 63.
    top = ranks_of(tokens, codes, numbers).amax(1).double()
    assert 33 - 12 < top.min() <= 36 and top.max() == 62
    assert top.mean() == pytest.approx(48 * 60 / 61 - 1, abs=1.5)


def test_the_published_window() -> None:
    from anoaug.features.functional.codebook import limits, window

    assert window(4096, 0.05, (0.2, 1.0)) == (204, (0.2, 1.0))
    t = limits(torch.tensor([0.2, 0.5, 1.0]), 4096)
    assert t.tolist() == [820, 2049, 4095]
    assert window(64, 0.05, (0.2, 1.0))[0] == 3 and window(19, 0.05, 0.2)[0] == 0


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_given_ranks_are_what_comes(backend: str) -> None:
    codes, tokens = drawn(50, 6), drawn(2, 40, 6, seed=1)
    ranks = torch.randint(0, 50, (2, 40), generator=torch.Generator().manual_seed(2))
    moved, mask, numbers = codebook_swap(
        tokens, None, None, codes, ranks=ranks, backend=backend
    )  # fmt: skip
    assert torch.equal(ranks_of(tokens, codes, numbers), ranks)
    assert torch.equal(moved, codes[numbers]) and mask.all()


@pytest.mark.slow
@given(
    rows=st.lists(
        st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-40, 3.0]), min_size=7, max_size=7),
        min_size=1,
        max_size=5,
    ),
    rank=st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_order_statistics_are_those_of_a_stable_sort(rows: list[list[float]], rank: int) -> None:
    from anoaug.features.ops.codebook import _at_rank

    values = torch.tensor(rows) + 0.0
    expected = values.argsort(dim=1, stable=True)[:, rank]
    ranks = torch.full((len(rows),), rank)
    assert torch.equal(reference.at_rank(values, ranks), expected)
    assert torch.equal(torch.from_numpy(_at_rank(values.numpy(), ranks.numpy())), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_rest_keeps_its_bits(dtype: torch.dtype) -> None:
    codes, maps = drawn(60, 6), drawn(3, 6, 5, 4, seed=1).to(dtype)
    mask = torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(2)) < 0.3
    before = maps.clone()
    moved, shown, numbers = codebook_swap(maps, mask, keys(3), codes)
    assert torch.equal(maps, before) and moved.dtype == dtype
    outside = ~mask.expand_as(maps)
    assert torch.equal(moved[outside], maps[outside])
    assert torch.equal(shown, mask.float()) and torch.equal(numbers >= 0, mask)
    swapped = moved.permute(0, 2, 3, 1)[mask[:, 0]]
    assert torch.equal(swapped, codes[numbers[mask]].to(dtype))


def test_maps_tokens_and_rows_get_the_same() -> None:
    codes, maps = drawn(60, 6), drawn(2, 6, 3, 4, seed=1)
    expected = codebook_swap(maps, None, keys(2), codes)[0].flatten(2).transpose(1, 2)
    tokens = maps.flatten(2).transpose(1, 2)
    assert torch.equal(codebook_swap(tokens, None, keys(2), codes)[0], expected)
    rows = codebook_swap(tokens.flatten(0, 1), None, keys(2), codes)[0]
    assert torch.equal(rows, expected.flatten(0, 1))
    prefixed = torch.cat((torch.ones(2, 2, 6), tokens), 1)
    found = codebook_swap(prefixed, None, keys(2), codes, prefix=2)[0]
    assert torch.equal(found[:, 2:], expected) and torch.equal(found[:, :2], prefixed[:, :2])


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("order", ["nchw", "channels_last", "tokens"])
def test_backends_agree_bit_for_bit(order: str) -> None:
    codes, maps = whole_codes(100, 6), whole(2, 6, 5, 7, seed=1)
    mask: Any = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(2)) < 0.4
    if order == "channels_last":
        maps = maps.contiguous(memory_format=torch.channels_last)
    if order == "tokens":
        maps, mask = maps.flatten(2).transpose(1, 2).contiguous(), None
    expected = codebook_swap(maps, mask, keys(2), codes, backend="torch")
    for backend in ("triton", "auto"):
        found = codebook_swap(maps, mask, keys(2), codes, backend=backend)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other), backend
        assert found[0].stride() == expected[0].stride()


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
def test_the_kernel_ranks_real_numbers_alike() -> None:
    codes, tokens = 5.0 + drawn(90, 20), 5.0 + drawn(1, 70, 20, seed=1)
    numbers = codebook_swap(tokens, None, keys(1), codes, backend="triton")[2]
    expected = codebook_swap(tokens, None, keys(1), codes, backend="torch")[2]
    gap = ranks_of(tokens, codes, numbers) - ranks_of(tokens, codes, expected)
    assert gap.abs().max() <= 1 and (gap != 0).sum() <= 1


def test_nothing_is_larger_than_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "TILE", 1 << 11)
    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, tuple) else (out,):
                if isinstance(one, Tensor):
                    largest[0] = max(largest[0], one.numel())
            return out

    codes, tokens = drawn(128, 4), drawn(2, 60, 4, seed=1)
    for backend in ("torch", "auto"):
        with Watch():
            codebook_swap(tokens, None, keys(2), codes, backend=backend)
        # The reference has histograms of 256 bins for each row of a tile.
        assert largest[0] <= 2 * (1 << 11) < 120 * 128 / 3


def test_only_masked_tokens_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    scores = reference.scores

    def counted(rows: Tensor, *prepared: Tensor) -> Tensor:
        seen.append(len(rows))
        return scores(rows, *prepared)

    monkeypatch.setattr(reference, "scores", counted)
    mask = torch.zeros(2, 50)
    mask[1, :7] = 1
    codebook_swap(drawn(2, 50, 4), mask, keys(2), drawn(30, 4))
    assert seen == [7]


@pytest.mark.slow
def test_the_gradient_is_that_of_what_stays() -> None:
    codes = drawn(30, 4).requires_grad_()
    tokens = drawn(2, 10, 4, seed=1).double().requires_grad_()
    mask = torch.arange(20).view(2, 10) % 3 == 0

    def swapped(values: Tensor) -> Tensor:
        return codebook_swap(values, mask, keys(2), codes)[0]

    swapped(tokens).square().sum().backward()
    expected = torch.where(mask[..., None], 0.0, 2 * tokens.detach())
    assert torch.equal(tokens.grad, expected) and codes.grad is None
    tokens.grad = None
    codebook_swap(tokens, None, keys(2), codes)[0].sum().backward()
    assert not tokens.grad.any()
    assert torch.autograd.gradcheck(swapped, tokens.detach().requires_grad_(), eps=1e-9, atol=1e-3)


@pytest.mark.slow
def test_it_compiles_without_a_break_and_checks_out_as_an_op() -> None:
    codes, tokens = drawn(30, 4), drawn(2, 10, 4, seed=1)
    mask = torch.arange(20).view(2, 10) % 3 == 0

    def swapped(values: Tensor) -> Tensor:
        return codebook_swap(values, mask, keys(2), codes)[0]

    compiled = torch.compile(swapped, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(tokens), swapped(tokens))
    ranks = torch.zeros(2, 10, dtype=torch.int64)
    torch.library.opcheck(
        torch.ops.anoaug.feature_code_swap.default,
        (tokens.requires_grad_(), mask, ranks, codes, "torch"),
    )


def test_nothing_to_do_is_defined() -> None:
    codes = drawn(30, 4)
    moved, mask, numbers = codebook_swap(torch.zeros(0, 4, 2, 2), None, keys(0), codes)
    assert moved.shape == (0, 4, 2, 2) and mask.shape == numbers.shape == (0, 1, 2, 2)
    tokens = drawn(2, 5, 4)
    moved, mask, numbers = codebook_swap(tokens, torch.zeros(2, 5), keys(2), codes)
    assert torch.equal(moved, tokens) and not mask.any() and (numbers == -1).all()


def test_a_fit_on_a_backbones_features_serves() -> None:
    maps = drawn(8, 6, 5, 5)
    module = fitted.Codebook(40).fit([maps], progress=False)
    moved, _, numbers = codebook_swap(maps, None, keys(8), module.codes)
    tokens = maps.flatten(2).transpose(1, 2)
    assert ranks_of(tokens, module.codes, numbers.flatten(1)).min() >= 2
    assert moved.isfinite().all()


def test_bad_input_is_refused() -> None:
    tokens, codes = drawn(2, 5, 4), drawn(30, 4)
    with pytest.raises(ValueError, match="take more codes"):
        codebook_swap(tokens, None, keys(2), codes[:1])
    with pytest.raises(ValueError, match="enough codes for ranks from 15"):
        codebook_swap(tokens, None, keys(2), codes, skip=0.5)
    with pytest.raises(ValueError, match=r"\[K, 4\] for features of 4 channels, got \[30, 5\]"):
        codebook_swap(tokens, None, keys(2), drawn(30, 5))
    with pytest.raises(ValueError, match="is it fitted"):
        codebook_swap(tokens, None, keys(2), fitted.Codebook().codes)
    with pytest.raises(TypeError, match=r"in .codes"):
        codebook_swap(tokens, None, keys(2), fitted.Codebook())
    with pytest.raises(ValueError, match="strength"):
        codebook_swap(tokens, None, keys(2), codes, strength=(0.2, 1.5))
    with pytest.raises(ValueError, match="mask: expected shape"):
        codebook_swap(tokens, torch.zeros(2, 6), keys(2), codes)
    with pytest.raises(TypeError, match="rng: expected keys"):
        codebook_swap(tokens, None, None, codes)
