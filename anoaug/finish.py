"""Finishing: labels that need the finished image and a pixel's neighbours.

After the render and before the output's dtype and normalisation, a *finish* looks at the image
before and after and gives the mask. Pixels outside it are put back as they were, so that nothing
changed is without a label; where it is empty the sample is normal and untouched.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import checks, cpu, ops
from .pictures import untraced
from .prepare.morphology import median as majority
from .prepare.morphology import odd
from .recipe import MIN_AREA
from .reference import median as reference
from .reference.render import Rendered, store

Finish = Callable[[Tensor, Tensor, Tensor], Tensor]

RULES = ("binary", "continuous", "intensity", "logistic")


@dataclass(frozen=True)
class Difference:
    """Labels by how much the image changed (NSA).

    A pixel that an anomaly covers is labelled where the mean change of its channels is above
    ``tolerance``, after a median over a square. Its value, which ``label="soft"`` shows, is 1
    (``"binary"``), the blend's weight (``"continuous"``), or goes by the change there, a median
    over a disc: the change itself as a share of white (``"intensity"``) or
    ``1 / (1 + exp(-slope * (change - middle)))`` in grey levels (``"logistic"``).

    Patches that overlap share their labels; the published code lets a later patch erase an earlier
    one's. Its intensities count to 255 and reach beyond the labels by the disc's radius; here they
    end where the label does.

    Args:
        rule: ``"binary"``, ``"continuous"``, ``"intensity"`` or ``"logistic"``.
        slope: Of the logistic function, per grey level of 255.
        middle: Change in grey levels of 255 at which the logistic function is a half.
        tolerance: Least mean change, as a share of white.
        side: Odd side in pixels of the square of the first median; 1 for none.
        radius: Radius in pixels of the disc of the second; 0 for none.

    ``torch.compile`` breaks the graph at the second median.

    Source: Schlueter et al., Natural Synthetic Anomalies, ECCV 2022.
    """

    rule: str = "logistic"
    slope: float = 1 / 3
    middle: float = 7.0
    tolerance: float = 1 / 255
    side: int = 5
    radius: int = 5

    by_backend: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.one_of("rule", self.rule, RULES)
        checks.probability("tolerance", self.tolerance)
        odd("side", self.side)
        for name in ("slope", "middle"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}: expected a finite number, got {getattr(self, name)!r}")
        if not isinstance(self.radius, int) or not 0 <= self.radius <= 10:
            raise ValueError(f"radius: expected 0 to 10 pixels, got {self.radius!r}")

    def __call__(
        self, before: Tensor, after: Tensor, weight: Tensor, backend: str = "auto"
    ) -> Tensor:
        """The mask of a batch.

        Args:
            before: ``[B, C, H, W]`` uint8, uint16 or float.
            after: Likewise, with its anomalies.
            weight: float32 ``[B, 1, H, W]``: the blends' weight.
            backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``; the same bits.

        Returns:
            float32 ``[B, 1, H, W]`` in [0, 1].
        """
        chosen = ops.resolve_backend(backend, before.device)
        if chosen not in ("cpu", "compiled"):
            return self._of(before, after, weight, backend)
        made: Tensor = untraced(self._on_host)(before, after, weight, chosen)
        return made

    def _of(self, before: Tensor, after: Tensor, weight: Tensor, backend: str) -> Tensor:
        """The mask of whole images."""
        peak = checks.PEAKS.get(before.dtype, 1.0)
        change = (before.to(torch.float32) - after.to(torch.float32)).abs().sum(1, keepdim=True)
        # Sums, which are exact for integers, are compared rather than means.
        channels = before.shape[1]
        moved = (change > self.tolerance * peak * channels) & (weight > 0)
        inside = majority(moved.to(torch.uint8), self.side).to(torch.float32)
        if self.rule == "binary":
            return inside
        if self.rule == "continuous":
            return inside * weight
        levels = change * inside * (255.0 / (peak * channels))
        levels = median(levels, self.radius, backend) * inside
        return self._valued(inside, levels)

    def _valued(self, inside: Tensor, levels: Tensor) -> Tensor:
        if self.rule == "intensity":
            return levels * (1.0 / 255.0)
        return inside / (1.0 + torch.exp(-self.slope * (levels - self.middle)))

    def _on_host(self, before: Tensor, after: Tensor, weight: Tensor, chosen: str) -> Tensor:
        """The same on the host, sample by sample where there is weight: 0 around it stays 0."""
        out = torch.zeros(weight.shape, dtype=torch.float32, device="cpu")
        if chosen == "compiled" and before.dtype in checks.PEAKS:
            self._compiled(before, after, weight, out)
            return out
        reach = max(self.side // 2, self.radius)
        for n, plane in enumerate((weight[:, 0] > 0).numpy()):
            area = _box(plane, reach)
            if area is None:
                continue
            at = (slice(n, n + 1), slice(None), *area)
            with cpu.one_thread:
                out[at] = self._of(before[at], after[at], weight[at], "auto")
        return out

    def _compiled(self, before: Tensor, after: Tensor, weight: Tensor, out: Tensor) -> None:
        """The same by compiled loops, for integer images."""
        from .compiled import driver, labels

        peak, channels = checks.PEAKS[before.dtype], before.shape[1]
        rule = labels.RULES.index(self.rule if self.rule in labels.RULES else "valued")
        values = np.zeros(1, np.float32)
        if rule == labels.VALUED:
            values = self._table(channels, peak).numpy()
        planes = [each.numpy() for each in (before, after, weight, out)]
        bar = np.float32(self.tolerance * peak * channels)
        disc = np.array(reference.disc(self.radius))
        arguments = (*planes, bar, self.side, disc, values, rule)
        driver.share_out(lambda start, stop: labels.labelled(*arguments, start, stop), len(before))

    @functools.lru_cache(maxsize=8)  # noqa: B019 - of settings, which compare by value
    def _table(self, channels: int, peak: float) -> Tensor:
        """The label for every sum of integer changes."""
        levels = torch.arange(channels * int(peak) + 1, dtype=torch.float32, device="cpu")
        levels = levels * (255.0 / (peak * channels))
        return self._valued(torch.ones_like(levels), levels)


def _box(plane: npt.NDArray[np.bool_], reach: int) -> tuple[slice, slice] | None:
    """Rows and columns of a plane's bounding box, some pixels wider, or None where it is empty."""
    rows, columns = (np.flatnonzero(plane.any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return (
        slice(max(int(top) - reach, 0), min(int(bottom) + reach, plane.shape[0])),
        slice(max(int(left) - reach, 0), min(int(right) + reach, plane.shape[1])),
    )


def median(values: Tensor, radius: int, backend: str = "auto") -> Tensor:
    """Median of the disc around each pixel; beyond the image its nearest pixel counts.

    What ``skimage.filters.median(image, disk(radius))`` gives, exactly.

    Args:
        values: float32 ``[B, 1, H, W]``, >= 0.
        radius: Of the disc in pixels; 0 changes nothing.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``.

    Returns:
        float32 ``[B, 1, H, W]``.
    """
    if radius == 0 or values.numel() == 0:
        return values
    made: Tensor = untraced(_median)(values.contiguous(), radius, backend)
    return made


def _median(values: Tensor, radius: int, backend: str) -> Tensor:
    chosen = ops.resolve_backend(checks.one_of("backend", backend, ops.BACKENDS), values.device)
    if chosen in ("cpu", "compiled"):
        with cpu.one_thread:
            return _where_needed(values, radius)
    if chosen == "torch":
        return reference.median(values, radius)
    from .kernels import median as kernels

    out = torch.empty_like(values)
    tile = ops.INTERPRETED_TILE if ops.interpreting() else kernels.TILE_PIXELS
    with ops.current(values.device):
        kernels.launch(out, values, radius, len(reference.disc(radius)), tile)
    return out


def _where_needed(values: Tensor, radius: int) -> Tensor:
    """The median on the host: where at most half of a disc is above 0 it is 0."""
    places = np.array(reference.disc(radius))
    out = torch.zeros_like(values)
    for sample, plane in zip(values[:, 0], out[:, 0], strict=True):
        y, x = torch.nonzero(sample, as_tuple=True)  # host: the CPU's way
        if len(y) == 0:
            continue
        # A median above 0 lies within the radius of such pixels.
        size = sample.shape
        (top, bottom), (left, right) = (
            (max(int(at.min()) - radius, 0), min(int(at.max()) + radius + 1, side))
            for at, side in zip((y, x), size, strict=True)
        )
        wide = np.pad(sample.numpy(), radius, mode="edge")
        wide = wide[top : bottom + 2 * radius, left : right + 2 * radius]
        height, width = bottom - top, right - left
        count = np.zeros((height, width), np.uint16)
        above = (wide > 0).view(np.uint8)
        for dy, dx in places + radius:
            count += above[dy : dy + height, dx : dx + width]
        ys, xs = np.nonzero(count > len(places) // 2)
        first = ys * wide.shape[1] + xs
        steps = (places[:, 0] + radius) * wide.shape[1] + places[:, 1] + radius
        near = np.ascontiguousarray(wide).reshape(-1)[first[:, None] + steps]
        found = np.partition(near, len(places) // 2, axis=1)[:, len(places) // 2]
        plane.numpy()[ys + top, xs + left] = found
    return out


# ---- the hook ------------------------------------------------------------------------------------


def rendering(finish: Finish) -> Callable[..., Rendered]:
    """``ops.render`` with a finish: of the same arguments and results."""

    def render(
        images: Tensor, table: Tensor, slots: Sequence[Tensor], banks: Sequence[Tensor],
        norm: Tensor | None, layout: str, foreground: int, changed: bool, soft: bool,
        clean: bool, dtype: torch.dtype, channels_last: bool, backend: str,
    ) -> Rendered:  # fmt: skip
        raw = torch.float32 if images.dtype.is_floating_point else images.dtype
        loops = ops.resolve_backend(backend, images.device) == "compiled"
        images = ops.natively_laid_out(images) if loops else images
        out, _, weight, flag, kind = ops.render(
            images, table, slots, banks, None, layout, foreground, changed, True, False, raw,
            channels_last, backend,
        )  # fmt: skip
        # Ours may be told who is to do it, and what it gives is nobody else's.
        told = {"backend": backend} if getattr(finish, "by_backend", False) else {}
        mask: Any = finish(images, out, weight, **told)
        mask = checks.plane("finish", mask, images).to(torch.float32)
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            native = out.dtype == images.dtype and out.dtype in (*checks.PEAKS, torch.float32)
            settle = _settled_by_loops if loops and native else _settled_on_host
            mask = mask if told else mask.detach().to(torch.float32, copy=True)
            mask, counts = settle(out, images, mask.contiguous(), weight, flag, table, soft)
            kept = out
        else:
            area = (mask > 0).flatten(1).sum(1)
            counts = (flag > 0) & (area.to(torch.float32) >= table[:, MIN_AREA])
            rows = counts[:, None, None, None]
            mask = torch.where(rows, mask if soft else (mask > 0).to(torch.float32), 0.0)
            kept = torch.where(mask > 0, out, images.to(out.dtype))
        memory = torch.channels_last if channels_last else torch.contiguous_format

        def planes(values: Tensor) -> Tensor:
            if norm is not None or values.dtype != dtype:
                values = values.to(torch.float32).transpose(0, 1)
                values = store(values, norm, dtype).transpose(0, 1)
            return values.contiguous(memory_format=memory)

        image = planes(kept)
        untouched = images.new_empty(0, dtype=image.dtype)
        if clean:
            untouched = planes(images.to(out.dtype)).clone(memory_format=memory)
        flag = counts.to(flag.dtype)
        return image, untouched, mask, flag, kind * flag

    return render


def _settled_on_host(
    out: Tensor, images: Tensor, mask: Tensor, weight: Tensor, flag: Tensor, table: Tensor,
    soft: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The mask as it is given back, in place, and whether samples count; puts ``out`` back too.

    Where a sample has no weight it is the image still: what was painted in vain is looked for in
    the others, and there under the weight alone.
    """
    counts = flag > 0
    least = table[:, MIN_AREA].tolist()  # host: everything lives there
    for n, alive in enumerate(counts.tolist()):  # host: the CPU's way
        if not alive:
            mask[n] = 0.0
            continue
        plane = mask[n, 0].numpy()
        inside = plane > 0
        if int(inside.sum()) < least[n]:
            counts[n] = False
            plane[:] = 0.0
            inside[:] = False
        elif not soft:
            plane[:] = inside
        gone = (weight[n, 0].numpy() > 0) & ~inside
        if gone.any():
            # By NumPy: torch cannot write uint16 by index.
            y, x = np.divmod(np.flatnonzero(gone), gone.shape[1])
            out[n].numpy()[:, y, x] = images[n].to(out.dtype).numpy()[:, y, x]
    return mask, counts


def _settled_by_loops(
    out: Tensor, images: Tensor, mask: Tensor, weight: Tensor, flag: Tensor, table: Tensor,
    soft: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same by compiled loops."""
    from .compiled import driver, labels

    counts = flag > 0
    planes = [each.numpy() for each in (out, images, mask, weight, counts)]
    arguments = (*planes, table[:, MIN_AREA].contiguous().numpy(), soft)
    driver.share_out(lambda start, stop: labels.settled(*arguments, start, stop), len(out))
    return mask, counts


def checked(finish: Any) -> Finish | None:
    """Refuse what cannot finish."""
    if finish is not None and (not callable(finish) or isinstance(finish, type)):
        raise TypeError(
            f"finish: expected a callable such as anoaug.finish.Difference() or None, got "
            f"{finish!r}"
        )
    made: Finish | None = finish
    return made
