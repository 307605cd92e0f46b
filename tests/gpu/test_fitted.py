"""Fitted modules, the codebook swap and outliers on CUDA: the CPU's results, no synchronisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from anoaug import features
from anoaug.features import fitted, functional

pytestmark = pytest.mark.gpu


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MAPS = drawn(4, 8, 6, 5)
MAKERS: dict[str, Callable[[], fitted.Fitted]] = {
    "centres": lambda: fitted.PositionalCentres(categories=2),
    "matched": lambda: fitted.PositionalCentres("ema", "cosine"),
    "radius": lambda: fitted.RadiusQuantile(0.75),
    "statistics": lambda: fitted.ChannelStatistics(covariance=True),
    "codebook": lambda: fitted.Codebook().load_codebook(drawn(16, 8)),
    "queue": lambda: fitted.FeatureQueue(20, categories=2),
    "gaussians": lambda: fitted.ClassGaussians(20),
}


def keywords(name: str) -> dict[str, list[int]]:
    return {"category": [0, 1, 1, 0]} if name in ("centres", "queue") else {}


@pytest.fixture
def strict() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", list(MAKERS))
def test_updates_do_not_synchronise(name: str, strict: None) -> None:
    module = MAKERS[name]().cuda()
    maps = MAPS.pin_memory().cuda(non_blocking=True)
    for _ in range(3):
        module.update(maps, **keywords(name))


@pytest.mark.parametrize("name", list(MAKERS))
def test_updates_equal_the_cpus(name: str) -> None:
    ours, true = MAKERS[name]().cuda(), MAKERS[name]()
    for seed in range(3):
        maps = drawn(4, 8, 6, 5, seed=seed)
        ours.update(maps.cuda(), **keywords(name))
        true.update(maps, **keywords(name))
    found = {key: value.cpu() for key, value in ours.state_dict().items()}
    torch.testing.assert_close(found, dict(true.state_dict()), rtol=1e-4, atol=1e-4)


def test_masked_quantiles_do_not_synchronise(strict: None) -> None:
    values = drawn(1000).pin_memory().cuda(non_blocking=True)
    functional.quantile(values, 0.75)
    functional.quantile(values, 0.75, values > 0)


def test_the_codebook_swap_is_the_cpus_and_does_not_synchronise() -> None:
    half = torch.randint(-9, 10, (500, 64), generator=torch.Generator().manual_seed(1)).float()
    codes = torch.cat((half, -half))
    maps = torch.randint(-9, 10, (3, 64, 16, 16), generator=torch.Generator().manual_seed(2))
    mask = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(3)) < 0.2
    keys = features.keys(0, torch.arange(3))
    expected = functional.codebook_swap(maps.float(), mask, keys, codes)
    given = (maps.float().cuda(), mask.cuda(), keys.cuda(), codes.cuda())
    functional.codebook_swap(*given)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = functional.codebook_swap(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.cpu(), other)


@pytest.mark.parametrize("name", ["vos", "npos"])
def test_outliers_are_the_cpus_and_do_not_synchronise(name: str) -> None:
    law = {"k": 5, "boundary": 10, "candidates": 20} if name == "npos" else {}
    ours, true = (features.create(name, seed=0, length=40, **law) for _ in range(2))
    ours.cuda()
    rows, asked = drawn(40, 8), drawn(6, 8, seed=1)
    ours.update(rows.cuda())
    true.update(rows)
    given = asked.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = ours(given, index=range(6), epoch=0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = true(asked, index=range(6), epoch=0).features
    torch.testing.assert_close(out.features.cpu(), expected, rtol=1e-3, atol=1e-3)
