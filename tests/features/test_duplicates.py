"""Both copies of a batch: masks, labels, gradients, traffic, and equal backends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from anoaug import features
from anoaug.features import masks
from anoaug.features.functional import masked_gaussian
from anoaug.features.functional.duplicates import Table
from anoaug.features.ops import feature_duplicates
from anoaug.numbering import Numbering
from tests.drawing import needs_triton

B, C, H, W = 2, 6, 8, 4


def keys(copies: int = 2 * B) -> Tensor:
    return features.keys(0, torch.arange(copies))


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def x() -> Tensor:
    return maps(B, C, H, W)


@pytest.fixture
def mask() -> Tensor:
    return (maps(2 * B, 1, H, W) > 0.4).float()


def table(size: tuple[int, int] = (H, W), full: bool = False, p: float = 0.7) -> Table:
    drawing = masks.perlin_drawing(size, 0.2, (0, 2), p)
    number = Numbering(5)(torch.arange(2 * B), 0, 2 * B)
    return Table(drawing, drawing.table(number, size, "m", torch.device("cpu")), full)


# ---- closed forms --------------------------------------------------------------------------------


def test_noise_is_under_the_mask_and_every_other_bit_stays(x: Tensor, mask: Tensor) -> None:
    x[0, 0, 0, 0] = -0.0
    noise = maps(2 * B, C, H, W)
    out = masked_gaussian(x, mask, keys(), sigma=0.25, noise=noise)
    twice = torch.cat((x, x))
    assert torch.equal(out.features, torch.where(mask > 0, twice + 0.25 * noise, twice))
    drawn = masked_gaussian(x, mask, keys(), sigma=0.25)
    outside = (mask == 0).expand_as(twice)
    bits = drawn.features.view(torch.int32)[outside]
    assert torch.equal(bits, twice.view(torch.int32)[outside])
    assert (drawn.features != twice)[~outside].all()
    assert torch.equal(drawn.mask, mask) and drawn.raw is None


def test_raw_features_get_the_same_noise_and_mask(x: Tensor, mask: Tensor) -> None:
    raw = x.flip(0) * 2.0
    out = masked_gaussian(x, mask, keys(), sigma=0.25, raw=raw)
    assert out.raw is not None
    first, second = out.features - torch.cat((x, x)), out.raw - torch.cat((raw, raw))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
    assert torch.equal(first == 0, second == 0)


# Drawn, real, label of an image; noise, mask and label that come of it by (overlap, bad).
TRUTH = {
    (0, 0, 0): {(0, 0): (0, 0, 0), (0, 1): (0, 0, 0), (1, 0): (0, 0, 0), (1, 1): (0, 0, 0)},
    (1, 0, 0): {(0, 0): (1, 1, 1), (0, 1): (1, 1, 1), (1, 0): (1, 1, 1), (1, 1): (1, 1, 1)},
    (0, 1, 1): {(0, 0): (0, 1, 1), (0, 1): (0, 1, 1), (1, 0): (0, 1, 1), (1, 1): (0, 1, 1)},
    (1, 1, 1): {(0, 0): (0, 1, 1), (0, 1): (0, 1, 1), (1, 0): (0, 1, 1), (1, 1): (1, 1, 1)},
    (0, 0, 1): {(0, 0): (0, 0, 1), (0, 1): (0, 0, 1), (1, 0): (0, 0, 1), (1, 1): (0, 0, 1)},
    (1, 0, 1): {(0, 0): (0, 0, 1), (0, 1): (1, 1, 1), (1, 0): (0, 0, 1), (1, 1): (1, 1, 1)},
    (1, 1, 0): {(0, 0): (0, 1, 1), (0, 1): (0, 1, 1), (1, 0): (1, 1, 1), (1, 1): (1, 1, 1)},
}
BACKENDS = ["auto", "torch", pytest.param("triton", marks=needs_triton), "compiled"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("bad", [0, 1])
def test_masks_and_labels_by_the_rules(overlap: int, bad: int, backend: str) -> None:
    drawn, real, label = (torch.tensor(column) for column in zip(*TRUTH, strict=True))
    count = len(TRUTH)
    one = torch.ones(count, 1, 1, 1)
    out = masked_gaussian(
        torch.zeros(count, 4, 1, 1), (drawn.view(-1, 1, 1, 1) * one).repeat(2, 1, 1, 1),
        keys(2 * count), sigma=1.0, real=real.view(-1, 1, 1, 1) * one, label=label,
        overlap=bool(overlap), bad=bool(bad), backend=backend,
    )  # fmt: skip
    noisy = (out.features != 0).flatten(1).any(1)
    found = torch.stack((noisy.long(), out.mask.flatten().long(), out.label), 1)
    expected = torch.tensor([rules[overlap, bad] for rules in TRUTH.values()])
    assert torch.equal(found, expected.repeat(2, 1))


def test_labels_come_from_real_defects_where_none_are_given(x: Tensor, mask: Tensor) -> None:
    real = torch.zeros(B, 1, H, W)
    real[1, 0, 3, 3] = 1
    out = masked_gaussian(x, torch.zeros_like(mask), keys(), sigma=1.0, real=real)
    assert out.label.tolist() == [0, 1, 0, 1] and torch.equal(out.mask, torch.cat((real, real)))
    skipped = masked_gaussian(x, mask, keys(), sigma=1.0, real=real, bad=False)
    assert torch.equal(skipped.features[[1, 3]], x[[1, 1]])


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_is_the_sum_over_the_copies(
    x: Tensor, mask: Tensor, order: torch.memory_format
) -> None:
    raw = x.clone().requires_grad_()
    x = x.contiguous(memory_format=order).requires_grad_()
    out = masked_gaussian(x, mask, keys(), sigma=0.5, raw=raw)
    assert out.raw is not None and not out.mask.requires_grad
    weight = maps(2 * B, C, H, W)
    ((out.features * weight).sum() + (out.raw * 2.0 * weight).sum()).backward()
    assert torch.equal(x.grad, weight[:B] + weight[B:])  # type: ignore[arg-type]
    assert torch.equal(raw.grad, 2.0 * (weight[:B] + weight[B:]))  # type: ignore[arg-type]


def test_one_of_both_outputs_may_stay_unused(x: Tensor, mask: Tensor) -> None:
    raw = x.clone().requires_grad_()
    out = masked_gaussian(x.requires_grad_(), mask, keys(), sigma=0.5, raw=raw)
    out.features.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))  # type: ignore[arg-type]


def op_arguments(x: Tensor, **others: Any) -> tuple[Any, ...]:
    given: dict[str, Any] = {
        "raw": None, "keys": keys(), "given": maps(2 * B, x.shape[1]) > 0, "table": None,
        "banks": [], "layout": "", "allowed": None, "real": None, "label": None, "noise": None,
        "height": H, "width": W, "sigma": 0.5, "full": False, "overlap": False, "bad": True,
        "stochastic": False, "backend": "auto",
    }  # fmt: skip
    return (x, *(given | others).values())


@pytest.mark.slow
def test_gradcheck(x: Tensor) -> None:
    wide = x.double()[:, :2].flatten(2).transpose(1, 2).requires_grad_()
    raw = wide.detach().clone().requires_grad_()

    def both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return feature_duplicates(*op_arguments(a, raw=b))[:2]

    assert torch.autograd.gradcheck(both, (wide, raw))


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("order", ["nchw", "nhwc"])
def test_opcheck(order: str, drawn: bool) -> None:
    x = maps(B, H * W, C)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if order == "nchw" else x
    made = table()
    rest: dict[str, Any] = {
        "raw": x.clone(),
        "real": maps(B, H * W) > 1,
        "label": torch.tensor([0, 1]),
    }
    if drawn:
        rest |= {"given": None, "table": made.table, "layout": made.drawing.layout}
    torch.library.opcheck(feature_duplicates, op_arguments(x.requires_grad_(), **rest))


def test_checkpointing_gives_the_same_gradient() -> None:
    perturb = features.create("supersimplenet", seed=0, sigma=0.5, no_anomaly="none")
    weight, x = maps(C, C).requires_grad_(), maps(B, H * W, C)

    def step(y: Tensor) -> Tensor:
        number = {"index": [0, 1], "epoch": 3, "size": (H, W)}
        return perturb(y @ weight, **number).features.pow(3).sum()

    step(x).backward()
    expected, weight.grad = weight.grad, None
    checkpoint(step, x, use_reentrant=False).backward()
    assert expected is not None and torch.equal(weight.grad, expected)


def test_nothing_is_kept_for_the_backward_pass(x: Tensor, mask: Tensor) -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        masked_gaussian(x.requires_grad_(), mask, keys(), sigma=0.1, raw=x.detach())
    assert not kept


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["auto", pytest.param("triton", marks=needs_triton), "compiled"]
)
@pytest.mark.parametrize("order", ["nchw", "nhwc"])
@pytest.mark.parametrize("case", ["given", "drawn", "full", "everything"])
def test_backends_agree(case: str, order: str, backend: str, poisoned: None) -> None:
    x = maps(B, C, H, W)
    x = x.contiguous(memory_format=torch.channels_last) if order == "nhwc" else x
    mask: Any = (
        (maps(2 * B, 1, H, W) > 0.4).float() if case == "given" else table(full=case == "full")
    )
    rest: dict[str, Any] = {}
    if case == "everything":
        rest = {"raw": maps(B, C, H, W).flip(0), "real": maps(B, 1, H, W) > 1, "bad": False,
                "label": torch.tensor([0, 1]), "where": maps(B, 1, H, W).flip(3) > -1}  # fmt: skip
    expected = masked_gaussian(x, mask, keys(), sigma=0.5, backend="torch", **rest)
    found = masked_gaussian(x, mask, keys(), sigma=0.5, backend=backend, **rest)
    assert torch.equal(found.mask, expected.mask) and torch.equal(found.label, expected.label)
    assert 0 < found.mask.mean() < 1
    for one, other in ((found.features, expected.features), (found.raw, expected.raw)):
        if one is None or other is None:
            assert one is other
            continue
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-5)
        assert one.stride() == other.stride()
    assert torch.equal(found.features == torch.cat((x, x)), expected.features == torch.cat((x, x)))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_backends_agree_in_16_bits(dtype: torch.dtype, rounding: str, backend: str) -> None:
    x, mask = maps(B, C, H, W).to(dtype), maps(2 * B, 1, H, W) > 0.4
    given: dict[str, Any] = {"sigma": 0.5, "raw": x.flip(0), "rounding": rounding}
    expected = masked_gaussian(x, mask, keys(), backend="torch", **given)
    found = masked_gaussian(x, mask, keys(), backend=backend, **given)
    # One unit in the last place; the interpreter truncates to bfloat16.
    spacing = 2.0**-5 if dtype == torch.bfloat16 else 2.0**-8
    for one, other in ((found.features, expected.features), (found.raw, expected.raw)):
        assert one is not None and other is not None and one.dtype == dtype
        assert (one.float() - other.float()).abs().max() <= spacing


def test_stochastic_rounding_keeps_small_noise() -> None:
    x = torch.full((1, 64, 32, 32), 5.0, dtype=torch.bfloat16)
    everywhere = torch.ones(2, 1, 32, 32)
    given: dict[str, Any] = {"sigma": 0.015, "rng": keys(2)}
    wide = masked_gaussian(x.float(), everywhere, **given).features - 5.0
    lost = masked_gaussian(x, everywhere, **given).features.float() - 5.0
    kept = masked_gaussian(x, everywhere, **given, rounding="stochastic").features.float() - 5.0
    small = wide.abs() < 0.0155
    assert not lost[small].any()
    # The slope of what is kept on what was drawn.
    slope = (kept * wide)[small].sum() / wide[small].square().sum()
    assert abs(slope - 1) < 0.1


# ---- traffic -------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_triton
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("order", [pytest.param("nchw", marks=pytest.mark.slow), "nhwc"])
def test_bytes_moved_are_within_a_tenth_of_the_floor(
    order: str, raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.runtime import interpreter

    moved = {"load": 0, "store": 0}
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store

    def counted_load(self: Any, ptrs: Any, mask: Any, *rest: Any) -> Any:
        moved["load"] += int(mask.data.sum()) * ptrs.get_element_ty().primitive_bitwidth // 8
        return load(self, ptrs, mask, *rest)

    def counted_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        moved["store"] += int(mask.data.sum()) * ptrs.get_element_ty().primitive_bitwidth // 8
        return store(self, ptrs, value, mask, *rest)

    monkeypatch.setattr(builder, "create_masked_load", counted_load)
    monkeypatch.setattr(builder, "create_masked_store", counted_store)
    x = maps(B, 48, 16, 16)
    x = x.contiguous(memory_format=torch.channels_last) if order == "nhwc" else x
    masked_gaussian(
        x, table((16, 16), p=1.0), keys(), sigma=0.5, raw=x.clone() if raw else None,
        real=maps(B, 1, 16, 16) > 1, backend="triton",
    )  # fmt: skip
    inputs = 1 + raw
    size = 4 * x.numel()
    # At 32 x 1536 x 64 x 64 the floor is 2.4 GB: once read, twice written; 4.8 with raw features.
    assert 3 * inputs * size <= moved["load"] + moved["store"] <= 1.1 * 3 * inputs * size
    assert moved["store"] <= 1.1 * 2 * inputs * size


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_refused(x: Tensor, mask: Tensor) -> None:
    with pytest.raises(ValueError, match="mask: expected shape"):
        masked_gaussian(x, mask[:B], keys(), sigma=1.0)
    with pytest.raises(ValueError, match=r"rng: expected keys \[4, 2\]"):
        masked_gaussian(x, mask, keys(B), sigma=1.0)
    with pytest.raises(ValueError, match="raw: expected"):
        masked_gaussian(x, mask, keys(), sigma=1.0, raw=x.half())
    with pytest.raises(ValueError, match="real: expected shape"):
        masked_gaussian(x, mask, keys(), sigma=1.0, real=mask)
    with pytest.raises(ValueError, match=r"label: expected one number per sample, shape \[2\]"):
        masked_gaussian(x, mask, keys(), sigma=1.0, label=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="sigma"):
        masked_gaussian(x, mask, keys(), sigma=-1.0)
    with pytest.raises(ValueError, match="size: expected the grid's height and width"):
        masked_gaussian(x.flatten(2).transpose(1, 2), table(), keys(), sigma=1.0)
    with pytest.raises(ValueError, match="got rows"):
        masked_gaussian(x.flatten(1), mask, keys(), sigma=1.0)


def test_an_empty_batch_stays_empty() -> None:
    for backend in ("auto", "torch", "compiled"):
        out = masked_gaussian(
            torch.zeros(0, 4, 2, 2), torch.zeros(0, 1, 2, 2), keys(0), sigma=1.0, backend=backend
        )
        assert out.features.shape == (0, 4, 2, 2) and out.label.shape == (0,)
