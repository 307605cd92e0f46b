"""Gaussian noise: closed forms, gradients, dtypes and their hazards, equal backends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from anoaug import features
from anoaug.features import functional, ops
from anoaug.features.functional import gaussian_noise, noise_levels
from anoaug.features.strength import strength
from anoaug.reference.features import gaussians, rounding
from tests.drawing import needs_triton


def keys(groups: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(groups))


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_given_noise_is_added_exactly() -> None:
    x, noise = maps(2, 6, 3, 4), maps(2, 6, 3, 4).flip(0)
    found, mask = gaussian_noise(x, None, keys(2), sigma=0.25, noise=noise)
    assert torch.equal(found, x + 0.25 * noise) and mask.all() and mask.shape == (2, 1, 3, 4)


def test_a_mixture_multiplies_by_powers_of_growth() -> None:
    x, noise, rng = torch.zeros(3, 500, 4), torch.ones(3, 500, 4), keys(3)
    found, _ = gaussian_noise(x, None, rng, sigma=0.5, mixture=4, growth=2.0, noise=noise)
    level = noise_levels(rng, 500, 4)
    assert torch.equal(found, (0.5 * 2.0**level)[..., None].expand_as(found))
    counts = torch.bincount(level.flatten(), minlength=4)
    # 1500 draws: five standard deviations of a count are 84.
    assert counts.sub(375).abs().max() < 84


def test_the_variance_of_every_row_group() -> None:
    rng = keys(1)
    found, _ = gaussian_noise(torch.zeros(4000, 64), None, rng, sigma=0.015, mixture=3)
    level = noise_levels(rng, 4000, 3)[0]
    for k in range(3):
        rows = found[level == k]
        spread = rows.std() / (0.015 * 1.1**k)
        assert abs(spread - 1) < 5 / math.sqrt(2 * rows.numel())


def test_noise_is_normal_and_without_correlation() -> None:
    drawn = gaussians(keys(2), 2000, 16)
    assert drawn.mean().abs() < 5 / math.sqrt(drawn.numel())
    assert abs(drawn.pow(4).mean() - 3) < 5 * math.sqrt(96 / drawn.numel())
    table = torch.corrcoef(drawn.flatten(0, 1).T) - torch.eye(16)
    assert table.abs().max() < 6 / math.sqrt(4000)


@pytest.mark.parametrize("unit", ["sigma", "radius", "ratio", "z"])
def test_the_four_units_say_the_same(unit: str) -> None:
    x = torch.nn.functional.normalize(maps(3, 50, 256), dim=-1) * 4.0
    given = {
        "sigma": {"sigma": 0.25},
        "radius": {"radius": 4.0},
        "ratio": {"ratio": 1.0},
        "z": {"z": 0.5, "deviation": torch.full((256,), 0.5)},
    }[unit]
    found, _ = gaussian_noise(x, None, keys(3), **given)
    expected, _ = gaussian_noise(x, None, keys(3), sigma=0.25)
    torch.testing.assert_close(found, expected)
    assert abs((found - x).norm(dim=-1).mean() / 4.0 - 1) < 0.02


def test_features_of_length_0_get_no_relative_noise_and_no_nan() -> None:
    x = torch.zeros(2, 5, 8, requires_grad=True)
    found, _ = gaussian_noise(x, None, keys(2), ratio=0.5)
    assert torch.equal(found, x)
    found.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones_like(x))


def test_outside_the_mask_every_bit_stays() -> None:
    x = maps(2, 6, 3, 4)
    x[0, 0, 0, 0] = -0.0
    mask = torch.zeros(2, 1, 3, 4)
    mask[1, 0, 1:, 2:] = 1
    found, shown = gaussian_noise(x, mask, keys(2), sigma=0.1)
    outside = (mask == 0).expand_as(x)
    assert torch.equal(found.view(torch.int32)[outside], x.view(torch.int32)[outside])
    assert torch.equal(shown, mask) and (found != x)[~outside].all()


# ---- gradients -----------------------------------------------------------------------------------


def arguments(x: Tensor, **others: Any) -> tuple[Any, ...]:
    given: dict[str, Any] = {
        "keys": keys(len(x)), "inside": None, "gain": None, "spread": None, "noise": None,
        "sigma": 0.1, "mixture": 2, "growth": 1.1, "stochastic": False, "backend": "auto",
    }  # fmt: skip
    return (x, *(given | others).values())


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["sigma", "radius", "ratio", "z"])
def test_gradcheck(unit: str) -> None:
    x = maps(2, 3, 4).double().requires_grad_()
    rest = {"deviation": torch.ones(4)} if unit == "z" else {}
    if unit == "ratio":  # the norm is a constant: it does not move with the feature
        length = x.detach().norm(dim=-1).float()

        def work(y: Tensor) -> Tensor:
            return ops.feature_noise(*arguments(y, gain=length))
    else:

        def work(y: Tensor) -> Tensor:
            return gaussian_noise(y, None, keys(2), **{unit: 0.3}, **rest)[0]

    assert torch.autograd.gradcheck(work, (x,))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ["nchw", "nhwc"])
def test_opcheck(dtype: torch.dtype, order: str) -> None:
    x = maps(2, 5, 6).to(dtype)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if order == "nchw" else x
    inside = maps(2, 5) > 0
    given = arguments(
        x.requires_grad_(), inside=inside, gain=torch.rand(2, 5), spread=torch.rand(6)
    )
    torch.library.opcheck(ops.feature_noise, given)


def test_checkpointing_gives_the_same_gradient() -> None:
    perturb, weight = features.create("simplenet", seed=0, sigma=0.5), maps(4, 4).requires_grad_()
    x = maps(6, 4)

    def step(y: Tensor) -> Tensor:
        number = {"index": [0], "epoch": 3}
        return perturb(y @ weight, **number).features.square().sum()

    step(x).backward()
    expected, weight.grad = weight.grad, None
    checkpoint(step, x, use_reentrant=False).backward()
    assert expected is not None and torch.equal(weight.grad, expected)


def test_nothing_but_the_gradient_is_kept_for_the_backward_pass() -> None:
    kept: list[Tensor] = []
    x = maps(2, 6, 3, 4).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        gaussian_noise(x, None, keys(2), sigma=0.1)
    assert not kept


# ---- numerical hazards ---------------------------------------------------------------------------


def test_bfloat16_loses_small_noise_and_stochastic_rounding_keeps_it() -> None:
    # Around 5 the spacing of bfloat16 is 2**-5, twice sigma.
    x = torch.full((1, 4000, 16), 5.0, dtype=torch.bfloat16)
    lost, _ = gaussian_noise(x, None, keys(1), sigma=0.015)
    kept, _ = gaussian_noise(x, None, keys(1), sigma=0.015, rounding="stochastic")
    wide, _ = gaussian_noise(x.float(), None, keys(1), sigma=0.015)
    assert torch.equal(lost, wide.to(torch.bfloat16))
    # The hazard: what is left is of another size, and most of it nothing at all.
    assert (lost == x).float().mean() > 0.6
    # Handled: on average every value is what it should be, whatever is rounded to.
    rest = (kept.float() - wide).mean() / (kept.float() - wide).std()
    assert abs(rest) < 5 / math.sqrt(kept.numel())
    small = (wide - 5.0).abs() < 0.0155
    pull = (kept.float() - 5.0)[small].double() @ (wide - 5.0)[small].double()
    assert abs(pull / (wide - 5.0)[small].double().square().sum() - 1) < 0.1
    assert not (lost.float() - 5.0)[small].any()


def test_autocast_neither_narrows_nor_widens() -> None:
    x = maps(2, 8, 16).to(torch.bfloat16)
    expected, _ = gaussian_noise(x, None, keys(2), ratio=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        # The hazard: a norm in bfloat16 has 8 bits, float32 noise promotes.
        assert (x.norm(dim=-1, keepdim=True) * torch.randn(2, 8, 16)).dtype == torch.float32
        found, _ = gaussian_noise(x, None, keys(2), ratio=0.5)
        method = features.create("simplenet", seed=0)(x, index=[0, 1], epoch=0).features
    assert found.dtype == method.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_large_float16_features_have_a_finite_norm() -> None:
    x = torch.full((1, 2, 64), 300.0, dtype=torch.float16)
    assert x.square().sum(-1).isinf().all()  # the hazard
    found, _ = gaussian_noise(x, None, keys(1), ratio=0.1)
    assert found.isfinite().all()
    assert abs((found.float() - 300.0).std() / 30.0 - 1) < 0.3


floats = st.floats(-7e4, 7e4, width=32)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(value=floats, dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def test_stochastic_rounding_is_unbiased_between_neighbours(
    value: float, dtype: torch.dtype
) -> None:
    values = torch.full((256,), value)
    words = (torch.arange(256) << 24) + (1 << 23)  # evenly over all words
    found = rounding.stochastic(values, dtype, words).float()
    nearest = values.to(dtype).float()
    if nearest.isinf().any() or nearest.abs().max() >= torch.finfo(dtype).max:
        assert torch.equal(found, nearest)
        return
    exact = torch.tensor(value, dtype=torch.float64)
    limits = torch.finfo(dtype)
    spacing = max(abs(value) * limits.eps, limits.smallest_normal * limits.eps)
    assert found.unique().numel() == 1 or found.min() <= value <= found.max()
    assert (found.double().mean() - exact).abs() <= spacing / 256
    assert ((found - nearest).abs() <= spacing).all()


# ---- backends ------------------------------------------------------------------------------------

CASES = {
    "plain": {},
    "mixture": {"mixture": 3},
    "masked": {"inside": True},
    "gain": {"gain": True, "inside": True},
    "spread": {"spread": True},
}


def some_arguments(case: str, order: str, dtype: torch.dtype, channels: int = 10) -> tuple:
    x = maps(2, 21, channels).to(dtype)
    if order == "nchw":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    if order == "strided":
        x = maps(2, 23, channels).to(dtype)[:, 2:]
    drawn = {"inside": maps(2, 21) > 0.3, "gain": maps(2, 21).abs(), "spread": torch.rand(channels)}
    given = {k: drawn.get(k, v) if v is True else v for k, v in CASES[case].items()}
    return arguments(x, **given)


BACKENDS = ["auto", pytest.param("triton", marks=needs_triton), "compiled"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", ["nchw", "nhwc", "strided"])
@pytest.mark.parametrize("case", CASES)
def test_backends_agree(case: str, order: str, backend: str, poisoned: None) -> None:
    given = some_arguments(case, order, torch.float32)
    expected = ops.feature_noise(*given[:-1], "torch")
    found = ops.feature_noise(*given[:-1], backend)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
    assert found.stride() == expected.stride()
    assert torch.equal(found == given[0], expected == given[0])


@pytest.mark.slow
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_backends_agree_in_16_bits(dtype: torch.dtype, backend: str, stochastic: bool) -> None:
    given = some_arguments("masked", "nchw", dtype)
    expected = ops.feature_noise(*given[:-2], stochastic, "torch").float()
    found = ops.feature_noise(*given[:-2], stochastic, backend).float()
    # One unit in the last place of a value below 8, where 1e-6 decides; the interpreter truncates
    # to bfloat16, which hardware and torch round to even.
    truncates = backend == "triton" and dtype == torch.bfloat16 and not stochastic
    spacing = 2.0**-5 if dtype == torch.bfloat16 else 2.0**-8
    assert (found - expected).abs().max() <= spacing
    assert truncates or (found != expected).float().mean() < 0.01


@needs_triton
def test_the_kernel_takes_float64() -> None:
    given = some_arguments("mixture", "nhwc", torch.float64)
    expected = ops.feature_noise(*given[:-1], "torch")
    torch.testing.assert_close(
        ops.feature_noise(*given[:-1], "triton"), expected, rtol=1e-6, atol=1e-5
    )


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    x, rng = torch.zeros(2, 3, 4), keys(2)
    with pytest.raises(ValueError, match="exactly one of"):
        gaussian_noise(x, None, rng)
    with pytest.raises(ValueError, match="mixture: expected a whole number"):
        gaussian_noise(x, None, rng, sigma=1.0, mixture=0)
    with pytest.raises(ValueError, match="growth: expected a number above 0"):
        gaussian_noise(x, None, rng, sigma=1.0, mixture=2, growth=0.0)
    with pytest.raises(ValueError, match="rounding"):
        gaussian_noise(x, None, rng, sigma=1.0, rounding="up")
    with pytest.raises(TypeError, match="rng: expected keys"):
        gaussian_noise(x, None, None, sigma=1.0)
    with pytest.raises(ValueError, match="rng: expected keys"):
        gaussian_noise(x, None, keys(3), sigma=1.0)
    with pytest.raises(ValueError, match="fitted deviation"):
        gaussian_noise(x, None, rng, z=1.0)
    with pytest.raises(ValueError, match="one for each channel"):
        gaussian_noise(x, None, rng, z=1.0, deviation=torch.ones(3))
    with pytest.raises(ValueError, match="sigma"):
        strength(sigma=-1.0)
    with pytest.raises(ValueError, match=r"noise: expected \[2, 3, 4\]"):
        gaussian_noise(x, None, rng, sigma=1.0, noise=torch.zeros(2, 4, 3))


@pytest.mark.parametrize("unit", ["sigma", "radius"])
def test_noise_above_what_the_dtype_holds_is_refused(unit: str) -> None:
    x, rng = torch.zeros(2, 3, 4, dtype=torch.float16), keys(2)
    centre = torch.ones(4, dtype=torch.float16)
    calls: list[Callable[..., Any]] = [gaussian_noise, functional.annulus_noise]
    for call in calls:
        with pytest.raises(ValueError, match=f"{unit}: expected noise below 65504"):
            call(x, None, rng, **{unit: 7e4})
        assert call(x, None, rng, **{unit: 50.0})[0].isfinite().all()
        assert call(x.float(), None, rng, **{unit: 7e4})[0].isfinite().all()
    with pytest.raises(ValueError, match="got sigma=10000"):
        gaussian_noise(x, None, rng, sigma=1e3, mixture=2, growth=10.0)
    with pytest.raises(ValueError, match="sigma: expected noise below"):
        functional.masked_gaussian(x, torch.ones(4, 3), keys(4), sigma=7e4)
    with pytest.raises(ValueError, match="sigma: expected noise below"):
        functional.distance_scaled_noise(x, None, rng, centres=centre, sigma=7e4)
    with pytest.raises(ValueError, match="radius: expected noise below"):
        functional.annulus_project(x, None, rng, r_lo=7e4)
    with pytest.raises(ValueError, match="expected noise below"):
        features.create("simplenet", seed=0, **{unit: 7e4})(x)
