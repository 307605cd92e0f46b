"""DSR: positions of quantised features replaced by farther codes (Zavrtanik et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ... import checks
from ...masks import Perlin
from ...numbering import Numbering
from ...ops import BACKENDS, default_backend
from ...recipe import ACTIVE
from ...reference.features import group_words
from .. import fitted, layouts, masks, randomness
from ..batch import FeatureBatch
from ..functional import codebook_swap
from ..functional.codebook import window
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site
from . import method

# The images of the original, on which its masks are drawn.
IMAGE = (256, 256)


class Law:
    """Where and how strongly features are swapped; what both classes of this file share.

    Args:
        skip: See :class:`DSR`, likewise the others.
        strength: Share of the codes among which one is drawn.
        p: P(an image has an anomaly).
        log2_cells: Of the mask.
        threshold: Of the mask.
        rotation: Of the mask.
        image: Size the masks are drawn at.
        quantise: Whether the rest is quantised.
    """

    def __init__(
        self, skip: float, strength: Any, p: float, log2_cells: Any, threshold: Any,
        rotation: Any, image: tuple[int, int], quantise: bool,
    ) -> None:  # fmt: skip
        self.skip, self.strength, self.quantise = skip, strength, quantise
        self.image = masks.checked_size(image)
        noise = Perlin(log2_cells, threshold, rotation)
        self.drawing = masks.drawing(noise, checks.probability("p", p))

    def check(self, codebook: fitted.Codebook) -> None:
        """Refuse a fitted codebook that is too small for the window of ranks."""
        if codebook.is_fitted:
            window(len(codebook.codes), self.skip, self.strength)

    def mask(
        self, number: tuple[Tensor, Tensor], stream: str, like: Tensor, backend: str
    ) -> Tensor:
        """Masks of the images, float32 {0, 1} ``(B, 1, H, W)``."""
        table = self.drawing.table(number, self.image, stream, like.device)
        level = self.drawing.level(table, self.image, backend)
        active = (table[:, ACTIVE] > 0)[:, None, None, None]
        return ((level > 0) & active).to(torch.float32)

    def blocky(self, mask: Tensor) -> Tensor:
        """A mask of a grid ``(B, 1, h, w)`` at the images' size, each position a block."""
        return nn.functional.interpolate(mask, self.image, mode="nearest")


def owned(codebook: Any) -> fitted.Codebook:
    """A codebook module of what was given: one, codes, their number, or None for DSR's 4096."""
    if isinstance(codebook, fitted.Codebook):
        return codebook
    if isinstance(codebook, Tensor):
        return fitted.Codebook().load_codebook(codebook)
    return fitted.Codebook(4096 if codebook is None else codebook)


@method(
    "dsr",
    family="data-driven",
    paper="Zavrtanik, Kristan, Skocaj: DSR, ECCV 2022 (arXiv 2208.01521)",
    matches="the official code: of 4096 codes the nearest 5 % are left out, the strength is "
    "uniform in 0.2 to 1, Perlin masks of 256 x 256 turned by up to 90 degrees, half of them "
    "emptied, max-pooled to the grid",
    deviations=(
        "features outside the mask stay as they are: quantise=True gives their nearest codes, as "
        "the original does",
        "the rank of the code is drawn and then looked for, instead of sorting all distances",
        "grids of any size: the original needs sizes that divide the image's",
        "the noise is turned exactly instead of by resampling the finished field; the image itself "
        "is not turned (the original turns 40 % of them)",
        "one grid: anoaug.features.DSRLevels has the original's two",
    ),
    features="maps (B, 128, 32, 32) and (B, 128, 64, 64) of a VQ model, or any with a fitted "
    "codebook",
    labels="positions whose pixels touch the mask; extras['ground_truth'] is the mask at the "
    "image's size, in blocks as large as the positions",
    needs=("codebook",),
)
class DSR(Perturbation):
    """Codes that are neither near nor arbitrary, in place of features under a Perlin mask.

    Constants all of them: no gradient reaches what made the features. For any backbone:
    ``perturb.codebook.fit(loader, extractor)``. Beside ``ground_truth`` (float32 ``(B, 1, H, W)``)
    ``extras`` has ``code`` (int64 ``[B, P]``, -1 where none came) and with ``quantise``
    ``quantised``, the features' nearest codes ``[B, P, C]``: what is to be restored (in eval
    mode, where nothing is quantised, the features). A call may
    pass ``anomaly=``, a mask on the features' grid, instead of the drawn one.

    Args:
        codebook: A :class:`anoaug.features.fitted.Codebook`, codes ``[K, C]`` of a VQ model, or K
            for one that is still to be fitted; None: 4096.
        skip: See :func:`anoaug.features.functional.codebook_swap`, likewise ``strength``.
        strength: Share of the codes among which one is drawn, or its range.
        p: P(an image has an anomaly), before empty masks are counted.
        log2_cells: See :class:`anoaug.masks.Perlin`, likewise the next two.
        threshold: Noise above it is anomalous.
        rotation: Degrees.
        image: Height and width the masks are drawn at and max-pooled from.
        quantise: Whether the rest becomes its nearest codes.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "dsr"
    takes = ("anomaly",)

    def __init__(
        self,
        *,
        codebook: fitted.Codebook | Tensor | int | None = None,
        skip: float = 0.05,
        strength: float | tuple[float, float] = (0.2, 1.0),
        p: float = 0.5,
        log2_cells: tuple[int, int] = (0, 5),
        threshold: float | tuple[float, float] = 0.5,
        rotation: float | tuple[float, float] = (-90.0, 90.0),
        image: tuple[int, int] = IMAGE,
        quantise: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.codebook = owned(codebook)
        self.law = Law(skip, strength, p, log2_cells, threshold, rotation, image, quantise)
        self.law.check(self.codebook)

    def perturb(self, site: Site) -> Perturbed:
        """Swap under the mask."""
        grid, given = site.grid, site.given.get("anomaly")
        if grid.size is None:
            raise ValueError(
                f"size: expected height and width of the {grid.positions} positions for a mask; "
                "pass size=(h, w)"
            )
        codes = ready(self.codebook, grid.channels)
        if given is None:
            stream = f"{self.stream}@{site.layer}" if site.layer else self.stream
            drawn = self.law.mask(site.number, stream, site.features, self.backend)
            inside = masks.resize(drawn, grid.size, self.mask_rule).flatten(1) > 0
        else:
            inside = grid.flat("anomaly", given, site.features)
        if site.where is not None:
            inside = inside & site.where
        moved, code, extras = swapped(
            site.features.detach(), inside, site.rng(self.stream), self.codebook, codes, self.law,
            self.backend,
        )  # fmt: skip
        shown = inside.to(torch.float32).view(grid.groups, 1, *grid.size)
        extras |= {"ground_truth": self.law.blocky(shown), "code": code}
        return Perturbed(moved, inside, extras)

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Nothing came, nothing is quantised: what is to be restored are the features."""
        truth = torch.zeros(grid.groups, 1, *self.law.image, device=features.device)
        return {**unswapped(grid.view(features), self.law), "ground_truth": truth}


def ready(codebook: fitted.Codebook, channels: int) -> Tensor:
    """The codes of a codebook that is fitted.

    Raises:
        RuntimeError: It is not.
    """
    if not codebook.is_fitted:
        raise RuntimeError(
            "codebook: expected a fitted one; call perturb.codebook.fit(loader, extractor), or "
            f"pass codes [K, {channels}] of a VQ model"
        )
    return codebook.codes


def swapped(
    values: Tensor, inside: Tensor, rng: Tensor, codebook: fitted.Codebook, codes: Tensor,
    law: Law, backend: str,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # fmt: skip
    """Features ``[G, P, C]`` under a law: swapped ones, codes' numbers, extras."""
    moved, _, code = codebook_swap(
        values, inside, rng, codes, skip=law.skip, strength=law.strength, layout="tokens",
        backend=backend,
    )  # fmt: skip
    if not law.quantise:
        return moved, code, {}
    near, _ = codebook.quantise(values, layout="tokens")
    return torch.where(inside[..., None], moved, near), code, {"quantised": near}


def unswapped(values: Tensor, law: Law) -> Extras:
    """Extras of features ``[G, P, C]`` that are left alone: ``swapped``'s."""
    code = torch.full(values.shape[:2], -1, dtype=torch.int64, device=values.device)
    if not law.quantise:
        return {"code": code}
    wide = torch.promote_types(values.dtype, torch.float32)
    return {"code": code, "quantised": values.detach().to(wide)}


class LevelsBatch(NamedTuple):
    """What :class:`DSRLevels` returns.

    Attributes:
        lo: The coarse level.
        hi: The fine level.
        ground_truth: float32 {0, 1} ``(B, 1, H, W)``, in blocks of the coarse level's positions, of
            the fine level's where that alone is anomalous.
        label: int64 ``(B,)``.
        choice: int64 ``(B,)``: 0 both levels, 1 the coarse alone, 2 the fine alone; of normal
            images too.
    """

    lo: FeatureBatch
    hi: FeatureBatch
    ground_truth: Tensor
    label: Tensor
    choice: Tensor


class DSRLevels(nn.Module):
    """DSR on its two levels: both swapped in half of the images, either alone in a quarter.

    ``rebuild`` makes the fine level's features of the coarse level's swapped ones, as DSR's
    decoder does; images whose coarse level stays keep the fine features that were given.

    Args:
        lo: Codebook of the coarse level, see :class:`DSR`.
        hi: Of the fine level.
        rebuild: Coarse features ``(B, C, h, w)`` to fine ones ``(B, C', h', w')``; None: the fine
            level does not depend on the coarse one.
        both: P(both); either alone has half of the rest.
        skip: See :class:`DSR`, likewise the next seven.
        strength: Share of the codes among which one is drawn, anew on each level.
        p: P(an image has an anomaly).
        log2_cells: Of the mask, which both levels share.
        threshold: Of the mask.
        rotation: Of the mask.
        image: Size the masks are drawn at.
        quantise: Whether the rest becomes its nearest codes; here it does, as in the original.
        seed: 64-bit seed; None takes ``torch.initial_seed()`` once.
        active: ``"train"`` (identity in eval mode) or ``"always"``.
        backend: See :class:`Perturbation`.
    """

    def __init__(
        self,
        lo: fitted.Codebook | Tensor | int | None = None,
        hi: fitted.Codebook | Tensor | int | None = None,
        rebuild: Callable[[Tensor], Tensor] | None = None,
        *,
        both: float = 0.5,
        skip: float = 0.05,
        strength: float | tuple[float, float] = (0.2, 1.0),
        p: float = 0.5,
        log2_cells: tuple[int, int] = (0, 5),
        threshold: float | tuple[float, float] = 0.5,
        rotation: float | tuple[float, float] = (-90.0, 90.0),
        image: tuple[int, int] = IMAGE,
        quantise: bool = True,
        seed: int | None = None,
        active: str = "train",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.lo, self.hi = owned(lo), owned(hi)
        # In a tuple: a module of the detector is no part of this one.
        self._rebuild = (rebuild,)
        self.both = checks.probability("both", both)
        self.law = Law(skip, strength, p, log2_cells, threshold, rotation, image, quantise)
        for codebook in (self.lo, self.hi):
            self.law.check(codebook)
        self.active = checks.one_of("active", active, ("train", "always"))
        self.backend = checks.one_of("backend", backend or default_backend(), BACKENDS)
        self._numbering = Numbering(seed)

    @property
    def working(self) -> bool:
        """Whether a call swaps, or hands features through."""
        return self.training or self.active == "always"

    def forward(
        self,
        lo: Tensor,
        hi: Tensor,
        *,
        index: Any = None,
        epoch: int | None = None,
        where: tuple[Tensor, Tensor] | None = None,
    ) -> LevelsBatch:
        """Swap both levels.

        Args:
            lo: Coarse features ``(B, C, h, w)``; not modified.
            hi: Fine features ``(B, C', h', w')``.
            index: Sample indices ``[B]`` on the host; needs an epoch.
            epoch: Epoch in [0, 2**32).
            where: Positions that may be swapped, on either grid.

        Returns:
            A :class:`LevelsBatch`; its ``clean`` features are those given, their nearest codes are
            in ``extras["quantised"]`` (in eval mode, where nothing is quantised, they themselves).

        Raises:
            TypeError, ValueError: Bad input.
            RuntimeError: A codebook is not fitted.
        """
        grids = [layouts.grid(each, "nchw") for each in (lo, hi)]
        if len(lo) != len(hi):
            raise ValueError(f"hi: expected {len(lo)} images like lo, got {len(hi)}")
        number = self._numbering(index, epoch, len(lo))
        key = randomness.sample_keys(number, "features.dsr.choice", lo.device)
        coin = group_words(key)
        alone = 1 + (coin[1] >> 31)
        choice = torch.where(coin[0] < round(self.both * 2**32), 0, alone)
        if self.working:
            drawn = self.law.mask(number, "dsr", lo, self.backend)
        else:
            drawn = lo.new_zeros((len(lo), 1, *self.law.image), dtype=torch.float32)
        pooled, inside = [], []
        for n, grid in enumerate(grids):
            assert grid.size is not None
            here = masks.resize(drawn, grid.size, "maxpool").flatten(1) > 0
            here = here & (choice != 2 - n)[:, None]
            if where is not None:
                here = here & grid.flat("where", where[n], (lo, hi)[n])
            inside.append(here)
            pooled.append(self.law.blocky(grid.shaped(here)))
        coarse = self._level(lo, self.lo, grids[0], inside[0], number, "dsr.lo")
        base, (rebuild,) = hi.detach(), self._rebuild
        if rebuild is not None:
            with torch.no_grad():
                made = rebuild(coarse.features)
            if made.shape != hi.shape:
                raise ValueError(
                    f"rebuild: expected {list(hi.shape)} like hi, got {list(made.shape)}"
                )
            moved = inside[0].any(1)[:, None, None, None]
            base = torch.where(moved, made.to(hi.dtype), base)
        fine = self._level(base, self.hi, grids[1], inside[1], number, "dsr.hi")
        if self.working and rebuild is not None and "quantised" in fine.extras:
            fine.extras["quantised"] = self.hi.quantise(hi, layout="nchw")[0]
        fine = fine._replace(clean=hi)
        truth = torch.where((choice == 2)[:, None, None, None], pooled[1], pooled[0])
        return LevelsBatch(coarse, fine, truth, (coarse.label | fine.label), choice)

    def _level(
        self, features: Tensor, codebook: fitted.Codebook, grid: layouts.Grid, inside: Tensor,
        number: tuple[Tensor, Tensor], stream: str,
    ) -> FeatureBatch:  # fmt: skip
        if not self.working:
            extras = unswapped(grid.view(features), self.law)
            if "quantised" in extras:
                extras["quantised"] = features.detach()
            return FeatureBatch(
                features, grid.shaped(inside), grid.labels(inside), features, extras
            )
        codes = ready(codebook, grid.channels)
        rng = randomness.sample_keys(number, f"features.{stream}", features.device)
        with torch.autocast(features.device.type, enabled=False):
            values = grid.view(features.detach())
            moved, code, extras = swapped(
                values, inside, rng, codebook, codes, self.law, self.backend
            )
            restored = grid.restore(moved, features)
        shown = {name: grid.restore(value, features) for name, value in extras.items()}
        shown["code"] = code
        return FeatureBatch(restored, grid.shaped(inside), grid.labels(inside), features, shown)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as DistributedSampler does; in [0, 2**32)."""
        self._numbering.set_epoch(epoch)

    def get_extra_state(self) -> dict[str, int]:
        """Seed, epoch and counter, for ``state_dict``."""
        return self._numbering.get_state()

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore seed, epoch and counter from ``state_dict``."""
        self._numbering.set_state(state)
