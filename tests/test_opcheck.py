"""Every op of the package keeps torch.library's contract: none may be registered and left out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import features, ops, recipe
from anoaug.wanted import COLUMN
from tests.features import test_duplicates as duplicates
from tests.test_ops import IMAGES, render_arguments, sample_arguments

PACKAGE = Path(anoaug.__file__).parent
GENERATOR = torch.Generator().manual_seed(0)
KEYS = features.keys(0, torch.arange(2))
TOKENS = torch.randn(2, 5, 4, generator=GENERATOR)
INSIDE = torch.arange(10).view(2, 5) % 3 == 0
NUMBER = (torch.tensor([3, 2**40]), torch.tensor([7, 2]))
PLANES = (torch.rand(2, 1, 20, 24, generator=GENERATOR) > 0.6).to(torch.uint8)
HELD: list[Any] = []  # an op knows objects by number; they live as long as the module


def registered() -> set[str]:
    """The names of all ops, once every module that registers some is imported."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if 'torch.library.Library("anoaug"' in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            importlib.import_module(name)
    names = torch._C._dispatch_get_all_op_names()
    return {name.removeprefix("anoaug::") for name in names if name.startswith("anoaug::")}


def learnt(values: Tensor) -> Tensor:
    """A tensor that asks for gradients, of its own."""
    return values.clone().requires_grad_()


def finder() -> tuple[Any, ...]:
    found = anoaug.foregrounds.Finder("otsu")
    HELD.append(found)
    images = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8, generator=GENERATOR)
    return images, torch.arange(2), None, found._number


def steps_of(call: str) -> tuple[Any, ...]:
    """A hooked model in the middle of a forward pass."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 4))
    handle = features.attach(net, "0", features.create("simplenet", sigma=1.0, seed=0))
    steps: Any = handle._steps
    steps.missing = "ignore"
    if call != "begin":
        handle.context.set(index=range(2), epoch=1)
        steps.begin()
    HELD.append((net, handle))
    return steps.token, steps.slot


def field() -> tuple[Any, ...]:
    arguments = sample_arguments("draem")
    layout = recipe.layout_of(arguments[6])
    return ops.sample(*arguments), [], layout, 40, 36, "auto"


def shifted() -> tuple[Any, ...]:
    arguments = sample_arguments("no bytes")
    matrix = torch.full((len(IMAGES), 2, max(COLUMN.values()) + 1), torch.nan, dtype=torch.float64)
    matrix[1:, :, COLUMN["level"]] = 0.05
    table = ops.sample(*arguments)
    return IMAGES, table, [], arguments[3], arguments[6], -1, "auto", matrix


def poisson() -> tuple[Any, ...]:
    images = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8, generator=GENERATOR)
    weight = torch.zeros(2, 1, 20, 24, dtype=torch.uint8)
    weight[..., 5:12, 6:17] = 255
    return images, images.roll(1, 0), weight, None, True, False, "auto"


ROW_TAIL = (None, None, [2.0, 3.0, 1e-10], None, "project", "torch")
# What each op is called with, by its name.
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "sample": lambda: sample_arguments("no bytes"),
    "render": render_arguments,
    "field": field,
    "shifted": shifted,
    "poisson": poisson,
    "foreground": finder,
    "ramp": lambda: (PLANES, torch.tensor([2.0, 3.0]), 4),
    "spread": lambda: (PLANES, torch.tensor([2, 3], dtype=torch.int32)),
    "gather_samples": lambda: (list(torch.rand(3, 6, 5, 3)), True, "auto"),
    "feature_keys": lambda: (*NUMBER, "coin"),
    "feature_beta": lambda: (*NUMBER, "mix", 0.4),
    "feature_noise": lambda: (
        learnt(TOKENS), KEYS, INSIDE, torch.rand(2, 5), torch.rand(4), None, 0.1, 2, 1.1, False,
        "auto",
    ),
    "feature_duplicates": lambda: duplicates.op_arguments(
        learnt(duplicates.maps(2, 32, 6)), label=torch.tensor([0, 1])
    ),
    "feature_code_swap": lambda: (
        learnt(TOKENS), INSIDE, torch.zeros(2, 5, dtype=torch.int64), torch.randn(7, 4), "torch",
    ),
    "feature_rows": lambda: (learnt(TOKENS), TOKENS.flip(1), None, KEYS, *ROW_TAIL),
    "feature_rows_backward": lambda: (
        TOKENS.flip(1), False, TOKENS, None, None, KEYS, None, None, [0.1], None, "jitter", "torch",
    ),
    "feature_distances": lambda: (learnt(TOKENS), TOKENS.flip(1), None, "torch"),
    "feature_noise_lengths": lambda: (KEYS, 4, 8, "torch"),
    "feature_gaussians": lambda: (KEYS, 4, 7, "auto"),
    "feature_uniforms": lambda: (KEYS, 4, 7, "auto"),
    "feature_subset": lambda: (KEYS, torch.tensor([2, 0]), 5, INSIDE),
    "feature_tokens": lambda: (KEYS, 5, INSIDE, None, 3),
    "feature_tail": lambda: (KEYS, 6, 4, 50, 2),
    "feature_boundary": lambda: (TOKENS.flatten(0, 1), KEYS, 2, 4, 3, 5, 0.1, 2),
    "features_begin": lambda: steps_of("begin"),
    "features_number": lambda: (*steps_of("number"), "0", 2),
    "features_end": lambda: steps_of("end"),
}  # fmt: skip


def test_no_op_is_left_out() -> None:
    assert registered() == ARGUMENTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_op_keeps_the_contract(name: str) -> None:
    """Schema, autograd registration, fake tensors, ahead-of-time graphs with dynamic shapes."""
    pytest.importorskip("torch.testing._internal.optests", exc_type=ImportError)
    registered()
    op = getattr(torch.ops.anoaug, name).default
    done = torch.library.opcheck(op, ARGUMENTS[name]())
    assert set(done.values()) == {"SUCCESS"} and len(done) == 4, done
