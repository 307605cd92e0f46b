"""Row laws on CUDA: kernels equal the reference, in both memory orders, without a sync."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug import features
from anoaug.features.ops.rows import feature_rows_backward, rows
from anoaug.reference.features.laws import LAWS
from tests.features.ops.test_rows import COLUMNS, DERIVED

pytestmark = pytest.mark.gpu
KEYS = torch.tensor([[3, 1], [0xFFFFFFFF, 9]])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).cuda()


@pytest.mark.parametrize("channels", [5, 768, 1536, 5000])
@pytest.mark.parametrize("order", ["channels", "positions"])
@pytest.mark.parametrize("law", tuple(LAWS))
def test_kernels_equal_the_reference(law: str, order: str, channels: int) -> None:
    x = normal(2, 130, channels)
    if order == "positions":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    asked = {"other": None, "keys": None}
    if LAWS[law].other:
        asked["other"] = normal(2, 130, channels, seed=1) * 0.7
        x[0, 1] = asked["other"][0, 1]
    if LAWS[law].noise != "never":
        asked["keys"] = KEYS.cuda()
    x[1, 2] = 0.0
    root = channels**0.5
    columns = (1.1 * root, 1.25 * root, 1e-10) if law == "project" else COLUMNS[law]
    if law == "stereographic":
        columns = (-0.1 / channels, 0.6)
    inside = (torch.arange(260).view(2, 130) % 5 != 0).cuda()
    found, expected = (
        rows(x, law, *columns, inside=inside, backend=name, **asked) for name in ("triton", "torch")
    )
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    assert torch.equal(found[~inside], x[~inside])
    if law in DERIVED:
        read = (x, asked["other"], None, asked["keys"], None, inside, columns, None, law)
        one, two = (
            feature_rows_backward(x * 0.5 + 1, law == "project", *read, name)
            for name in ("triton", "torch")
        )
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["uniad", "annulus", "geodesic", "aminet"])
def test_calls_do_not_wait_for_the_device(name: str) -> None:
    perturb = features.create(name, seed=0)
    maps = normal(4, 64, 9, 7)
    expected = perturb(maps.cpu(), index=torch.arange(4), epoch=0).features
    perturb(maps, index=torch.arange(4), epoch=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = perturb(maps, index=torch.arange(4), epoch=0).features
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=1e-5)
