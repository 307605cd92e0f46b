"""AMI-Net: hidden tokens and jitter for a network that fills them in (Luo et al., TASE 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ..functional import norm_scaled_jitter, token_mask
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site
from . import method


@method(
    "aminet",
    family="prior-dependent",
    paper="Luo, Yao, Yu, Li: AMI-Net: Adaptive Mask Inpainting Network for Industrial Anomaly "
    "Detection and Localization, IEEE TASE 2024 (arXiv 2412.11802)",
    matches="the official code's training corruption; its adaptive mask at test time is no "
    "synthesis and not here",
    deviations=(
        "the mask token is zeros unless token= gives one: the network that learns it is the user's",
    ),
    features="tokens (B, 256, C): 4 x 4 patches of multi-scale features on a 64 x 64 grid, frozen",
    labels="none in the paper: the mask says what is not clean, extras['hidden'] which tokens were "
    "hidden; reconstruct .clean",
)
class AMINet(Perturbation):
    """A random number of random tokens hidden, then jitter on every token.

    ``extras["hidden"]``, float32 like the mask, marks the hidden tokens.

    Args:
        share: Range of the share of tokens to hide, drawn evenly for each sample; the number is
            rounded down.
        scale: Of the jitter, see :func:`functional.norm_scaled_jitter`; 0: none.
        token: ``[C]``: what hidden tokens become, a parameter of the network's or a tensor; None:
            zeros, which jitter leaves as they are.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "aminet"
    widens = False
    token: Tensor | None

    def __init__(
        self,
        *,
        share: float | tuple[float, float] = (0.0, 1.0),
        scale: float = 20.0,
        token: Tensor | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.share = checks.interval("share", share, 0.0, 1.0)
        self.scale = scale
        if isinstance(token, torch.nn.Parameter):
            self.token = token
        else:
            self.register_buffer("token", token)

    def perturb(self, site: Site) -> Perturbed:
        """Hide, then jitter."""
        values = site.features
        values, hidden = token_mask(
            values, site.where, site.rng(f"{self.stream}.hidden"), share=self.share,
            token=self.token, layout="tokens",
        )  # fmt: skip
        moved, inside = norm_scaled_jitter(
            values, site.where, site.rng(self.stream), scale=self.scale, layout="tokens",
            noise=site.noise, backend=self.backend,
        )  # fmt: skip
        touched = inside > 0 if self.scale else hidden > 0
        return Perturbed(moved, touched, {"hidden": site.grid.shaped(hidden)})

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Nothing is hidden."""
        none = features.new_zeros((grid.groups, grid.positions), dtype=torch.bool)
        return {"hidden": grid.shaped(none)}
