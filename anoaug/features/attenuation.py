"""Gradients of what is already reconstructed well are weakened (Dinomaly)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from . import layouts


class GradientAttenuator(nn.Module):
    """Hands reconstructed features on, and weakens the gradient of the easy positions.

    The companion of the noisy bottleneck in Dinomaly (Guo et al., CVPR 2025): positions of the
    batch whose cosine distance to the target is not among the largest 1 - p get ``factor`` of
    their gradient; p rises from 0 to ``share`` over the first ``ramp`` training calls. The values
    stay, bit for bit; in eval mode nothing happens.

    Args:
        share: The end of p, in [0, 1).
        factor: What is left of an easy position's gradient, in [0, 1].
        ramp: Training calls until p reaches its end; 0: at once.

    Attributes:
        step: int64, training calls so far; a buffer, so that training can go on.
    """

    step: Tensor

    def __init__(self, share: float = 0.9, factor: float = 0.1, ramp: int = 1000) -> None:
        super().__init__()
        if checks.probability("share", share) == 1.0:
            raise ValueError("share: expected a number below 1, got 1.0, which leaves nothing hard")
        self.share, self.factor = share, checks.probability("factor", factor)
        if isinstance(ramp, bool) or not isinstance(ramp, int) or ramp < 0:
            raise ValueError(f"ramp: expected a whole number from 0 on, got {ramp!r}")
        self.ramp = ramp
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(
        self, made: Tensor, wanted: Tensor, *, layout: str | None = None, prefix: int = 0
    ) -> Tensor:
        """The features, with other gradients.

        Args:
            made: Reconstruction in any layout, see :func:`features.layouts.grid`.
            wanted: Its target, of the same shape; constant.
            layout: Of both.
            prefix: Tokens that keep their gradient and do not count.

        Raises:
            TypeError, ValueError: Bad input.
        """
        grid = layouts.grid(made, layout, prefix=prefix)
        _refuse_other(made, wanted)
        if not self.training:
            return made
        done = (self.step.double() / self.ramp).clamp(max=1.0) if self.ramp else 1.0
        self.step += 1
        values = grid.view(made)
        with torch.no_grad():
            seen, target = values.float(), grid.view(wanted).float()
            distance = 1.0 - nn.functional.cosine_similarity(seen, target, dim=-1)
            hardest = distance.flatten().sort(descending=True).values
            if not len(hardest):
                return made
            kept = torch.as_tensor(len(hardest) * (1.0 - self.share * done), device=made.device)
            limit = hardest[((kept + 1e-6).long() - 1).clamp(min=0)]  # 0.4 * 40 is 16
            gate = torch.where(distance < limit, self.factor, 1.0).to(values.dtype)[..., None]
        fixed = values.detach()
        return grid.restore(fixed + gate * (values - fixed), made)


def _refuse_other(made: Tensor, wanted: Any) -> None:
    if not isinstance(wanted, Tensor) or wanted.shape != made.shape:
        got = list(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__
        raise ValueError(f"wanted: expected shape {list(made.shape)} like made, got {got}")
