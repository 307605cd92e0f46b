"""Registered methods under torch.compile: one graph, the same features, any size."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounter

from . import making
from .making import NUMBER, W, case, every, made

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*is_compiling.*")]


def traced(name: str) -> Any:
    """In which Dynamo follows the method, its gradients within too."""
    if not case(name).inner:
        return contextlib.nullcontext()
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        pytest.skip("this torch does not trace torch.autograd.grad")
    return torch._dynamo.config.patch(trace_autograd_ops=True)


@every
def test_fullgraph_compile_gives_the_same(name: str) -> None:
    perturb, maps = made(name), making.maps()
    expected = perturb(maps, **NUMBER)
    torch.compiler.reset()
    with traced(name):
        found = torch.compile(perturb, fullgraph=True, backend="aot_eager")(maps, **NUMBER)
    torch.testing.assert_close(found.features, expected.features)
    assert torch.equal(found.mask, expected.mask) and torch.equal(found.label, expected.label)


@every
def test_sizes_are_symbols_once_a_second_one_came(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers too; factors of 7 channels would show a change of their order.

    Some compile once more for the second size, none for a third; but torch's adaptive pooling, by
    which dsr brings masks to its grid, is compiled for every grid.

    What each op is ahead of time, with such sizes too, is ``tests/test_opcheck.py``'s business.
    """
    monkeypatch.setattr(making, "C", 7)
    torch.compiler.reset()
    perturb = made(name)
    with traced(name):
        counter = CompileCounter()
        compiled = torch.compile(perturb, dynamic=True, fullgraph=True, backend=counter)
        for rows, height in ((3, 4), (5, 6), (6, 6 if name == "dsr" else 8)):
            generator = torch.Generator().manual_seed(rows)
            maps = torch.randn(rows, making.C, height, W, generator=generator)
            number = {"index": torch.arange(rows) + 7, "epoch": 1}
            expected, found = perturb(maps, **number), compiled(maps, **number)
            torch.testing.assert_close(found.features, expected.features)
            assert torch.equal(found.mask, expected.mask)
            assert torch.equal(found.label, expected.label)
            if rows == 5:
                known = counter.frame_count
    assert 1 <= counter.frame_count == known <= 2
