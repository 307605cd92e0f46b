"""Steps among the first layer's outputs lead where steps of features do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features.ascent import halves, hidden, synthesizer

N, C, H = 24, 20, 12
NUMBER: dict[str, Any] = {"index": [0], "epoch": 0}


def judge(norm: bool = True, inplace: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(C, H)]
    layers += [nn.BatchNorm1d(H)] if norm else []
    layers += [nn.LeakyReLU(0.2, inplace), nn.Linear(H, 1, bias=False)]
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        nn.init.normal_(value, 0.1, 0.4, generator=generator)
    return network


def values(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    true, fake = torch.randn(2 * N, C, generator=generator, dtype=torch.float64).to(dtype).chunk(2)
    return true, fake + 0.5


def softplus(logits: Any, seen: Tensor, count: int) -> Tensor:
    assert len(logits) == len(seen) == count
    return nn.functional.softplus(-logits).sum()


def by_features(
    network: nn.Sequential, true: Tensor, fake: Tensor, count: int, scale: float = 1.0
) -> tuple[Tensor, list[Tensor]]:
    """The steps as they are written."""
    losses = []
    moved = fake
    for _ in range(count):
        leaf = moved.detach().requires_grad_()
        loss = scale * softplus(network(torch.cat((true, leaf)))[len(true) :], leaf, len(leaf))
        (slope,) = torch.autograd.grad(loss, leaf)
        # In float64, where nothing vanishes.
        wide = slope.double()
        moved = moved + (0.05 * wide / (wide.norm(dim=-1, keepdim=True) + 1e-300)).to(moved)
        losses.append(loss.detach())
    return moved - fake, losses


def steps(network: nn.Sequential, true: Tensor, eps: float, loss: Any = softplus) -> hidden.Hidden:
    alone = halves.split(network, true)
    assert alone is not None
    return hidden.Hidden(alone, 0.05, eps, loss)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_ways_and_losses_are_those_of_features(norm: bool, inplace: bool) -> None:
    one, two = judge(norm, inplace).double(), judge(norm, inplace).double()
    true, fake = values()
    expected, losses = by_features(one, true, fake, 6)
    found, others = steps(two, true, 0.0)(fake, None, 6)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.stack(others), torch.stack(losses))
    for key, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[key], value, msg=key)
    inside = torch.arange(N)[:, None] % 3 > 0
    still, _ = steps(two, true, 0.0)(fake, inside, 6)
    assert not still[~inside[:, 0]].any() and still[inside[:, 0]].any(1).all()


def test_float32_is_as_near_to_float64_as_steps_of_features() -> None:
    true, fake = values()
    exact, _ = by_features(judge().double(), true, fake, 6)
    narrow = true.float(), fake.float()
    errors = [
        (way.double() - exact).norm(dim=1).median()
        for way, _ in (
            by_features(judge(), *narrow, 6), steps(judge(), narrow[0], 0.0)(narrow[1], None, 6)
        )
    ]  # fmt: skip
    assert errors[1] < 2 * errors[0] < 1e-5


def test_small_gradients_keep_their_direction() -> None:
    """1e-18, whose squared product with a small weight float32 does not hold."""
    network = judge()
    with torch.no_grad():
        network[0].weight.mul_(1e-2)
    true, fake = values(torch.float32)
    expected, _ = by_features(network, true, fake, 3, 1e-18)
    found, _ = steps(network, true, 0.0, lambda *read: 1e-18 * softplus(*read))(fake, None, 3)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    damped, _ = steps(network, true, 1e-10, lambda *read: 1e-18 * softplus(*read))(fake, None, 3)
    assert damped.norm(dim=1).max() < 1e-6


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("eps", [0.0, 1e-10])
def test_no_gradient_is_no_step(layer: int, eps: float) -> None:
    network = judge()
    nn.init.zeros_(network[layer].weight)
    true, fake = values(torch.float32)
    way, _ = steps(network, true, eps)(fake, None, 3)
    assert torch.equal(way, torch.zeros(N, C))


def wanted(network: nn.Module, true: Tensor, count: int = 20, every: int = 5) -> bool:
    alone = halves.split(network, true)
    assert alone is not None
    return hidden.worthwhile(alone, true, count, every)


def test_where_it_is_taken() -> None:
    true = torch.randn(512, 96)

    def network(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(96, width), nn.BatchNorm1d(width), nn.Linear(width, 1))

    assert wanted(network(64), true) and wanted(network(64).double(), true.double())
    assert not wanted(network(64), true, every=1)  # features are needed at every step
    assert not wanted(network(192), true) and not wanted(network(64), true[:2])  # costs more
    assert not wanted(network(64).bfloat16(), true.bfloat16())
    maps = torch.randn(2, 96, 8, 8)
    assert not wanted(nn.Sequential(nn.Conv2d(96, 8, 1), nn.BatchNorm2d(8)), maps)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert not wanted(network(64), true) and wanted(network(64).double(), true.double())
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glass", "drocc"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw", "rows", "tokens"])
@pytest.mark.parametrize("where", [False, True])
def test_the_loop_takes_it_in_every_layout(
    name: str, layout: str, where: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven steps in rounds of three; maps go to the discriminator as rows, or as they came."""
    generator = torch.Generator().manual_seed(0)
    shape = {"nhwc": (2, 4, 3, C), "nchw": (2, C, 4, 3), "rows": (N, C), "tokens": (2, 12, C)}
    real = torch.randn(shape[layout], generator=generator).double().requires_grad_()
    grid = {"nchw": (2, 1, 4, 3), "nhwc": (2, 1, 4, 3), "rows": (N,), "tokens": (2, 12)}[layout]
    chosen = torch.arange(N).view(grid) % 4 > 0 if where else None
    sees = "rows" if layout == "nchw" else "features"
    rounds = []

    class Spy(hidden.Hidden):
        def __call__(self, fake: Tensor, inside: Tensor | None, count: int) -> Any:
            rounds.append(count)
            return super().__call__(fake, inside, count)

    monkeypatch.setattr(synthesizer, "Hidden", Spy)
    found = []
    for cached in (False, True):
        # Of maps and tokens without rows' statistics, which torch takes over the second axis.
        network = judge(norm=layout in ("nchw", "rows")).double()
        perturb = features.create(
            name, discriminator=network, relative_radius=0.85, steps=7, every=3, sees=sees,
            layout=layout, cache_first_linear=cached, seed=0,
        )  # fmt: skip
        number = NUMBER if layout == "rows" else {"index": [0, 1], "epoch": 0}
        out = perturb(real, where=chosen, **number)
        (slope,) = torch.autograd.grad(out.features.pow(3).sum(), real)
        found.append((out.features, slope, *out.extras.values()))
    assert rounds == [3, 3, 1]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


def test_the_loop_leaves_out_products() -> None:
    total = [0]
    original = nn.functional.linear

    def counting(value: Tensor, *rest: Any) -> Tensor:
        total[0] += len(value)
        return original(value, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "linear", counting)
        features.create(
            "glass", discriminator=judge(), relative_radius=0.85, cache_first_linear=True
        )(torch.randn(N, C))
    # The true half once, fakes once after each projection, the last layer's at every step.
    assert total == [N + 4 * N + 20 * N]


def test_inference_mode_has_steps_too() -> None:
    perturb = features.create(
        "glass", discriminator=judge(), relative_radius=0.85, cache_first_linear=True, seed=0
    )
    real = torch.randn(N, C)
    expected = perturb(real, **NUMBER).features
    with torch.inference_mode():
        torch.testing.assert_close(perturb(real.clone(), **NUMBER).features, expected)
