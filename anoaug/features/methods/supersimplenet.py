"""SuperSimpleNet: noise under Perlin masks, on both copies of a batch (Rolih et al., ICPR 2024)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ... import checks, recipe
from ...masks import Mask
from ..functional import masked_gaussian
from ..functional.duplicates import Duplicates, Table
from ..functional.noise import ROUNDINGS
from ..layouts import Grid
from ..masks import drawing, power_of_two, resampled, said_drawing, said_perlin
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site
from ..strength import strength
from . import method
from .simplenet import WIDE_RESNET

EMPTIED = ("empty", "full", "none")


@method(
    "supersimplenet",
    family="prior-dependent",
    paper="Rolih, Fucka, Skocaj: SuperSimpleNet, ICPR 2024 (arXiv 2408.03143); extended in the "
    "Journal of Intelligent Manufacturing, 2025",
    matches="the official code and its MVTec script (threshold 0.2; VisA and the supervised sets "
    "0.6); raw= adds the extension's second input as anomalib has it, rescue= anomalib's redrawing",
    deviations=(
        "Perlin's cells never get smaller than a position: on grids below 32 the code fails",
        "the supervised script's overlap=False is the default; without real defects both are one",
    ),
    features="adapted maps (B, 1536, 64, 64) of a WideResNet50's layers 2 and 3",
    labels="2 B masks and labels: noise united with real defects; rows b and B + b are of image b",
)
class SuperSimpleNet(Perturbation):
    """Duplicate the batch and put noise under a Perlin mask of each copy, half of them emptied.

    Neither copy is sure to be clean. The features come back as ``(2 B, ...)``, ``clean`` as the
    ``(B, ...)`` that were given; ``extras["source_row"]`` says which of them a row is of. A call
    takes ``raw=``, the features before the adaptor: they get the same noise under the same masks
    and are ``extras["raw"]``. Maps, or tokens with ``size=``.

    Args:
        sigma: Standard deviation of the noise in each channel; 0.015 if no strength is given.
        radius: Length of the noise, sigma times sqrt(C), instead.
        threshold: Noise above this is in the mask: 0.2, or 0.6 for small defects.
        log2_cells: Range of k per axis: 2 ** k cells, clamped to the grid.
        pattern: Any mask of ``anoaug.masks`` that needs no image, instead of Perlin's; sizes in
            pixels are positions.
        perlin: False is SimpleNet's scheme: the first copy is clean, the second noisy everywhere.
        no_anomaly: What becomes of the masks that chance empties: ``"empty"``, ``"full"`` (noise
            everywhere), or ``"none"``: chance empties none.
        p_no_anomaly: That chance, for each copy.
        overlap: Whether noise may lie on real defects.
        bad: Whether images that are labelled as defective get noise.
        rescue: Whether a Perlin mask in which nothing exceeds the threshold is stretched to
            [-1, 1] first (later versions of anomalib).
        rounding: ``"nearest"`` or ``"stochastic"``, see :func:`functional.gaussian_noise`.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "supersimplenet"
    widens = False
    mask_rule = "bilinear"
    takes = ("raw",)

    def __init__(
        self,
        *,
        sigma: float | None = None,
        radius: float | None = None,
        threshold: float = 0.2,
        log2_cells: tuple[int, int] = (0, 5),
        pattern: Mask | None = None,
        perlin: bool = True,
        no_anomaly: str = "empty",
        p_no_anomaly: float = 0.5,
        overlap: bool = False,
        bad: bool = True,
        rescue: bool = False,
        rounding: str = "nearest",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if sigma is None and radius is None:
            sigma, self.tuned = WIDE_RESNET.sigma, WIDE_RESNET
        self.strength = strength(sigma, radius)
        low, high = checks.interval("threshold", threshold, -1.0, 1.0)
        if low != high:
            raise ValueError(f"threshold: expected one number, got {threshold!r}")
        self.threshold = low
        least, most = checks.interval("log2_cells", log2_cells, 0, 12)
        if least != int(least) or most != int(most):
            raise ValueError(f"log2_cells: expected whole numbers, got {log2_cells!r}")
        self.log2_cells = (int(least), int(most))
        self.no_anomaly = checks.one_of("no_anomaly", no_anomaly, EMPTIED)
        chance, _ = checks.interval("p_no_anomaly", p_no_anomaly, 0.0, 1.0)
        self.p = 1.0 if no_anomaly == "none" else 1.0 - chance
        self.perlin, self.overlap, self.bad, self.rescue = perlin, overlap, bad, rescue
        if rescue and (pattern is not None or not perlin):
            raise ValueError("rescue: expected Perlin masks with it, got another pattern; drop one")
        if pattern is not None and not perlin:
            raise ValueError("pattern: expected perlin=True with it, got False; drop one")
        self.pattern = None if pattern is None else drawing(pattern, self.p)
        self._law = said_perlin(self.threshold, self.log2_cells, self.p)
        self.rounding = checks.one_of("rounding", rounding, ROUNDINGS)

    def perturb(self, site: Site) -> Perturbed:
        """Both copies, the second after the first."""
        raw = site.given.get("raw")
        seen = None if raw is None else self._raw(raw, site)
        channels = max(site.features.shape[2], 1)
        scale = 1.0 if self.strength.unit == "sigma" else 1.0 / math.sqrt(channels)
        made: Duplicates = masked_gaussian(
            site.features, self._mask(site), self._both(site, "noise"),
            sigma=self.strength.value * scale, raw=seen, real=site.mask, label=site.label,
            where=site.where, overlap=self.overlap, bad=self.bad, rounding=self.rounding,
            layout="tokens", size=site.grid.size, noise=site.noise, backend=self.backend,
        )  # fmt: skip
        rows = torch.arange(site.grid.groups, device=site.features.device)
        extras = {"source_row": rows.repeat(2)}
        if made.raw is not None:
            assert raw is not None
            extras["raw"] = site.grid.restore(made.raw, raw)
        return Perturbed(made.features, made.mask > 0, extras, made.label)

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Every row is of its own image; raw features as they came."""
        raw = given.get("raw")
        rows = torch.arange(grid.groups, device=features.device)
        return {"source_row": rows} if raw is None else {"source_row": rows, "raw": raw}

    def _raw(self, raw: Any, site: Site) -> Tensor:
        """The raw features as groups; refuses what is not like the features."""
        if not isinstance(raw, Tensor):
            raise TypeError(f"raw: expected a tensor, got {type(raw).__name__}")
        if raw.dim() != {"nchw": 4, "nhwc": 4}.get(site.grid.layout, 3):
            raise ValueError(f"raw: expected the features' shape, got {list(raw.shape)}")
        return site.grid.view(raw)

    def _both(self, site: Site, what: str) -> Tensor:
        """Keys of both copies, int64 ``[2 G, 2]``."""
        return torch.cat([site.rng(f"{self.stream}.{what}.{copy}") for copy in (0, 1)])

    def _mask(self, site: Site) -> Tensor | Table:
        """Masks of both copies: drawn by the op where the grid is the mask's own, else here."""
        if not self.perlin:
            none = site.features.new_zeros(site.features.shape[:2], dtype=torch.bool)
            return torch.cat((none, ~none))
        if site.grid.size is None:
            raise ValueError(
                "size: expected the grid's height and width with tokens, got none; rows (N, C) are "
                "not for it: reshape them to (B, P, C)"
            )
        size, fine = site.grid.size, site.grid.size
        pattern = self.pattern
        if pattern is None:
            fine = power_of_two(size)
            pattern = said_drawing(fine, self._law)
        device, full = site.features.device, self.no_anomaly == "full"
        layer = f"@{site.layer}" if site.layer else ""
        table = torch.cat(
            [
                pattern.table(site.number, fine, f"{self.stream}.mask.{copy}{layer}", device)
                for copy in (0, 1)
            ]
        )
        if fine == size and not self.rescue:
            return Table(pattern, table, full)
        level = resampled(pattern.level(table, fine, self.backend), size).flatten(1)
        if self.rescue:
            level = stretched(level, self.threshold)
        active = table[:, recipe.ACTIVE, None] > 0
        return torch.where(active, level > 0, full)


def stretched(level: Tensor, threshold: float) -> Tensor:
    """Levels ``[G, P]``; where none is inside, noise is brought to [-1, 1] before the threshold."""
    noise = level + threshold
    low, high = noise.amin(1, keepdim=True), noise.amax(1, keepdim=True)
    wide = (noise - low) / (high - low).clamp(min=1e-12) * 2.0 - 1.0
    return torch.where(level.amax(1, keepdim=True) > 0, level, wide - threshold)
