"""The fake half alone gives what both halves joined give, where it is told to be alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features.ascent import halves

C = 6


def chain(*layers: nn.Module) -> nn.Sequential:
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        nn.init.normal_(value, 0.3, 0.5, generator=generator)
    return network


def common(norm: nn.Module) -> nn.Sequential:
    return chain(nn.Linear(C, 8), norm, nn.LeakyReLU(0.2), nn.Linear(8, 1, bias=False))


def narrow() -> nn.Sequential:
    return chain(nn.Linear(C, 4), nn.BatchNorm1d(4), nn.LeakyReLU(0.2), nn.Linear(4, 1))


def wide() -> nn.Sequential:
    return chain(nn.Linear(C, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


def half_in_eval() -> nn.Sequential:
    network = common(nn.BatchNorm1d(8))
    network[1].eval()
    network[1].running_var.fill_(2.0)
    return network


def two_norms() -> nn.Sequential:
    network = chain(
        nn.Linear(C, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8)
    )
    network[1].eval()
    return network


class Named(nn.Sequential):
    """A sequence under a name of its own."""


# Both halves' shape, and the discriminator.
Made = tuple[tuple[int, ...], Callable[[], nn.Sequential]]
KNOWN: dict[str, Made] = {
    "published": ((10, C), lambda: common(nn.BatchNorm1d(8))),
    "not affine": ((10, C), lambda: common(nn.BatchNorm1d(8, affine=False))),
    "mean of all": ((10, C), lambda: common(nn.BatchNorm1d(8, momentum=None))),
    "no statistics": ((10, C), lambda: common(nn.BatchNorm1d(8, track_running_stats=False))),
    "none, eval": ((10, C), lambda: common(nn.BatchNorm1d(8, track_running_stats=False)).eval()),
    "eval": ((10, C), half_in_eval),
    "no norm": ((10, C), lambda: chain(nn.Linear(C, 8), nn.Tanh(), nn.Linear(8, 1))),
    "two rows": ((2, C), lambda: common(nn.BatchNorm1d(8))),
    "late norm": (
        (10, C),
        lambda: chain(nn.Linear(C, 8), nn.GELU(), nn.Linear(8, 4), nn.BatchNorm1d(4), nn.PReLU()),
    ),
    "one in training": ((10, C), two_norms),
    "in place": (
        (10, C),
        lambda: chain(
            nn.Linear(C, 8), nn.ReLU(True), nn.BatchNorm1d(8), nn.LeakyReLU(0.2, True),
            nn.Linear(8, 1),
        ),
    ),
    "nested": (
        (10, C),
        lambda: chain(
            Named(nn.Sequential(nn.Linear(C, 8), nn.BatchNorm1d(8)), nn.SiLU()), nn.Dropout(0.0),
            nn.Linear(8, 1), nn.Identity(),
        ),
    ),
    "maps": (
        (4, C, 3, 5),
        lambda: chain(
            nn.Conv2d(C, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.GroupNorm(2, 8),
            nn.Conv2d(8, 1, 1),
        ),
    ),
    "sequences": (
        (4, C, 7),
        lambda: chain(
            nn.Conv1d(C, 8, 1), nn.BatchNorm1d(8), nn.ELU(), nn.Conv1d(8, 1, 1), nn.Flatten(1)
        ),
    ),
    "tokens": ((4, 5, C), lambda: chain(nn.Linear(C, 8), nn.LayerNorm(8), nn.Linear(8, 1))),
}  # fmt: skip


def both(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    true, fake = torch.randn(shape, generator=generator).to(dtype).chunk(2)
    return true, (fake * 1.5 + 0.7).requires_grad_()


def alone(network: nn.Sequential, true: Tensor) -> halves.Halves:
    found = halves.split(network, true)
    assert found is not None
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_logits_gradients_and_statistics_are_those_of_both_halves(name: str) -> None:
    shape, make = KNOWN[name]
    one, two = make().double(), make().double()
    true, fake = both(shape)
    judge = alone(two, true)
    for _ in range(3):
        expected = one(torch.cat((true, fake)))[len(true) :]
        found = judge(fake)
        torch.testing.assert_close(found, expected)
        weights = torch.linspace(-1, 2, found.numel()).double().view_as(found)
        slopes = [
            torch.autograd.grad((value * weights).square().sum(), fake)[0]
            for value in (found, expected)
        ]
        torch.testing.assert_close(*slopes)
    for (key, value), (_, other) in zip(
        one.state_dict().items(), two.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(other, value, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["published", "not affine", "maps"])
def test_gradcheck(name: str) -> None:
    shape, make = KNOWN[name]
    true, fake = both(shape)
    assert torch.autograd.gradcheck(alone(make().double(), true), (fake,))


def test_what_a_compiler_gets_is_the_same() -> None:
    true, fake = both((10, C))
    read = (fake, true.mean(0), true.var(0) * 4, torch.rand(C).double(), None, 1e-5)
    found, expected = halves._Normalised.apply(*read), halves._joined(*read)[:3]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    slopes = [torch.autograd.grad(of[0].pow(3).sum(), fake)[0] for of in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_nothing_cancels_far_from_zero() -> None:
    network = chain(nn.Linear(C, 8), nn.BatchNorm1d(8, affine=False))
    with torch.no_grad():
        network[0].bias.fill_(1000.0)
    true, fake = both((64, C), torch.float32)
    expected = copy.deepcopy(network).double()(torch.cat((true, fake)).double())[32:]
    torch.testing.assert_close(alone(network, true)(fake).double(), expected, rtol=0, atol=2e-3)
    # As far apart as from 0: the common deviation is half of that.
    apart = alone(network, true)(fake + 100.0)
    assert apart.isfinite().all() and apart.abs().max() < 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_float32_inside(dtype: torch.dtype) -> None:
    network = common(nn.BatchNorm1d(8)).to(dtype)
    twin = copy.deepcopy(network)
    true, fake = both((64, C), dtype)
    expected = twin(torch.cat((true, fake)))[32:]
    found = alone(network, true)(fake)
    assert found.dtype == dtype
    error = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=error, atol=error)
    slopes = [torch.autograd.grad(value.float().sum(), fake)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=error, atol=error)
    torch.testing.assert_close(network[1].running_var, twin[1].running_var, rtol=error, atol=0)


def hooked(add: Callable[[nn.Module], Any], at: int) -> nn.Sequential:
    network = common(nn.BatchNorm1d(8))
    add(network if at < 0 else network[at])
    return network


class Own(nn.LeakyReLU):
    """A layer that may do anything."""

    def forward(self, value: Tensor) -> Tensor:
        return value - value.mean(0)


class Block(nn.Module):
    """A discriminator with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = common(nn.BatchNorm1d(8))

    def forward(self, value: Tensor) -> Tensor:
        return self.body(value)


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "two norms": lambda: two_norms().train(),
    "sync": lambda: common(nn.SyncBatchNorm(8)),
    "instance": lambda: common(nn.InstanceNorm1d(8)),
    "dropout": lambda: chain(nn.Linear(C, 8), nn.Dropout(0.5), nn.Linear(8, 1)),
    "random slopes": lambda: chain(nn.Linear(C, 8), nn.RReLU(), nn.Linear(8, 1)),
    "subclass": lambda: chain(nn.Linear(C, 8), Own(), nn.Linear(8, 1)),
    "own forward": Block,
    "not first": lambda: chain(nn.BatchNorm1d(C), nn.Linear(C, 8)),
    "flat": lambda: chain(nn.Linear(C, 8), nn.Flatten(0), nn.Linear(8, 1)),
    "hook": lambda: hooked(lambda part: part.register_forward_hook(lambda *_: None), 2),
    "pre-hook": lambda: hooked(lambda part: part.register_forward_pre_hook(lambda *_: None), 3),
    "backward hook": lambda: hooked(
        lambda part: part.register_full_backward_hook(lambda *_: None), 1
    ),
    "hook of all": lambda: hooked(lambda part: part.register_forward_hook(lambda *_: None), -1),
    "replaced": lambda: hooked(lambda part: setattr(part, "forward", lambda value: value), 2),
    "compiled": lambda: hooked(lambda part: part.compile(backend="eager"), 2),
    "parametrised": lambda: hooked(nn.utils.parametrizations.spectral_norm, 3),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_differ_is_not_taken_apart(name: str) -> None:
    assert halves.split(UNKNOWN[name](), both((10, C), torch.float32)[0]) is None


def test_hooks_on_every_module_are_seen() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert halves.split(common(nn.BatchNorm1d(8)), torch.zeros(4, C)) is None
    finally:
        handle.remove()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(8), nn.BatchNorm1d(7)])
def test_a_norm_that_does_not_fit_is_refused(norm: nn.Module) -> None:
    network = chain(nn.Linear(C, 8), norm)
    for cached in (False, True):
        glass = features.create(
            "glass", discriminator=network, relative_radius=0.85, cache_first_linear=cached
        )
        with pytest.raises((ValueError, RuntimeError), match=r"expected|should contain"):
            glass(torch.zeros(4, C))


@pytest.mark.slow
@pytest.mark.parametrize("bn", ["track", "freeze"])
@pytest.mark.parametrize("name", ["published", "not affine", "mean of all", "late norm"])
@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loop_gives_equal_results(name: str, bn: str, every: int, dtype: torch.dtype) -> None:
    """Features, losses, statistics and gradients; steps of features, and among outputs."""
    make = KNOWN[name][1]
    real, _ = both((40, C), dtype)
    where = torch.arange(20) % 4 > 0
    found = []
    for cached in (False, True):
        network = make().to(dtype)
        leaf = real.clone().requires_grad_()
        glass = features.create(
            "glass", discriminator=network, relative_radius=0.85, cache_first_linear=cached,
            bn=bn, every=every, seed=0,
        )  # fmt: skip
        outs = [glass(leaf, where=at, index=[0], epoch=0) for at in (None, where)]
        slopes = [torch.autograd.grad(out.features.pow(3).sum(), leaf)[0] for out in outs]
        losses = [out.extras["ascent_loss"] for out in outs]
        values = [out.features for out in outs]
        found.append([*values, *slopes, *losses, *network.state_dict().values()])
        assert torch.equal(outs[1].features[~where], real[~where])
    exact = dtype == torch.float64
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(
            other, one, rtol=1e-10 if exact else 1e-4, atol=1e-12 if exact else 1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_maps_go_through_without_the_true_half_too(dtype: torch.dtype) -> None:
    maps = torch.randn(2, C, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = []
    for cached in (False, True):
        glass = features.create(
            "glass", discriminator=KNOWN["maps"][1]().to(dtype), relative_radius=0.85,
            cache_first_linear=cached, seed=0,
        )  # fmt: skip
        found.append(glass(maps, index=[0, 1], epoch=0).features)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_compiling.*")
@pytest.mark.parametrize(
    ("make", "backend"), [(narrow, "aot_eager"), (wide, "eager"), (Block, "eager")]
)
def test_the_remembered_layer_compiles_without_a_break(
    make: Callable[[], nn.Module], backend: str
) -> None:
    """Steps among outputs, which are fewer than features; of features; of both halves joined."""
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        pytest.skip("this torch does not trace torch.autograd.grad")
    torch.compiler.reset()
    one, two = make(), make()
    glass, twin = (
        features.create(
            "glass", discriminator=network, relative_radius=0.85, cache_first_linear=True,
            sees="rows", steps=2, every=2, seed=0,
        )
        for network in (one, two)
    )  # fmt: skip
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(twin, dynamic=True, fullgraph=True, backend=backend)
        for count, height in ((3, 4), (5, 6)):
            maps = torch.randn(count, C, height, 3)
            number = {"index": torch.arange(count) + 7, "epoch": 1}
            expected, found = glass(maps, **number), compiled(maps, **number)
            torch.testing.assert_close(found.features, expected.features)
    for (key, value), (_, other) in zip(
        one.state_dict().items(), two.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(other, value, msg=key)
