"""``anoaug::feature_code_swap``: positions replaced by codes of chosen ranks.

Codes are constants: the gradient is that of the positions that stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...ops import current, interpreting, resolve_backend
from ...reference.features import codebook as reference

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "feature_code_swap(Tensor features, Tensor? inside, Tensor ranks, Tensor codes, str backend) "
    "-> (Tensor, Tensor)"
)

# The interpreter pays for every instruction, whatever its size.
INTERPRETED = (64, 256, 256)


def _swap(
    features: Tensor, inside: Tensor | None, ranks: Tensor, codes: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    chosen = resolve_backend(backend, features.device)
    codes = codes.to(torch.float32)
    if chosen == "torch":
        return reference.swap(features, inside, ranks, codes)
    out = torch.empty_like(features)
    out.copy_(features)
    number = torch.full_like(ranks, -1)
    if not ranks.numel():
        return out, number
    prepared = reference.centred(codes)
    if chosen == "triton":
        from ...kernels.features import codebook as kernels

        sizes = (kernels.TOKENS, kernels.CODES, kernels.CHANNELS)
        with current(features.device):
            kernels.launch(
                features, out, inside, ranks, codes, prepared, number,
                INTERPRETED if interpreting() else sizes,
            )  # fmt: skip
    else:
        _swap_on_cpu(features, out, inside, ranks, codes, prepared, number)
    return out, number


def _swap_on_cpu(
    features: Tensor, out: Tensor, inside: Tensor | None, ranks: Tensor, codes: Tensor,
    prepared: tuple[Tensor, Tensor, Tensor], number: Tensor,
) -> None:  # fmt: skip
    """The CPU's faster way: NumPy's partition finds an order statistic at 10 ns a code."""
    chosen = torch.ones_like(ranks, dtype=torch.bool) if inside is None else inside
    group, place = chosen.nonzero(as_tuple=True)
    step = max(reference.TILE // len(codes), 1)
    for first in range(0, len(group), step):
        g, p = group[first : first + step], place[first : first + step]
        tile = reference.scores(features[g, p].to(torch.float32), *prepared)
        index = torch.from_numpy(_at_rank(tile.numpy(), ranks[g, p].numpy()))
        number[g, p] = index
        out[g, p] = codes[index].to(features.dtype)


def _at_rank(values: Any, ranks: Any) -> Any:
    """See ``reference.at_rank``."""
    found = np.empty(len(values), np.int64)
    for n, rank in enumerate(ranks.tolist()):  # host: NumPy's, the CPU's way
        row = values[n]
        value = np.partition(row, rank)[rank]
        equal = np.flatnonzero(row == value) if value == value else np.zeros(1, np.int64)
        turn = 0 if len(equal) < 2 else rank - np.count_nonzero(row < value)
        found[n] = equal[turn]
    return found


def _fake(
    features: Tensor, inside: Tensor | None, ranks: Tensor, codes: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(ranks)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*([] if inputs[1] is None else [inputs[1]]))
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    if not ctx.saved_tensors:
        return torch.zeros_like(grad), None, None, None, None
    return torch.where(ctx.saved_tensors[0][..., None], 0.0, grad), None, None, None, None


_library.impl("feature_code_swap", _swap, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_code_swap", _fake)
torch.library.register_autograd("anoaug::feature_code_swap", _backward, setup_context=_setup)

feature_code_swap = torch.ops.anoaug.feature_code_swap.default
