"""A shape that lies where the images' foreground is, filled from where the source's is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..checks import one_of
from ..parts import AFFINE, Context, Values, part
from .content import Choice, Seeker, Site, below
from .shapes import Shape

_CENTRE = ("cy", "cx")
_SIDES = ("tall", "wide", "turned_tall", "turned_wide")


@part
@dataclass(frozen=True)
class ObjectShape(Shape, Seeker):
    """A :class:`Shape` about a random pixel of the foreground (REB).

    Every pixel of the foreground is as likely; the turned box about the shape is then moved into
    the image. A source that takes from elsewhere (``sources.Own``, ``sources.Donor``) takes a box
    about a random pixel of *its* foreground.

    Needs the foreground of the images, ``foreground=`` at the call or of the synthesizer, and with
    donors a synthesizer's, which finds theirs too. The foreground then confines no layer, so that a
    shape may reach beyond it; ``& Objects()`` keeps of it what is object, in the image and in what
    is taken from elsewhere.

    Args:
        otherwise: Where nothing is foreground: ``"nothing"``, the sample goes without the shape, or
            ``"anywhere"``, everything is.
        name: Name of the foreground among the given tensors.
        slot: Number of the tensor in the op's list; set by the synthesizer.
    """

    otherwise: str = dataclasses.field(default="nothing", kw_only=True)
    name: str = dataclasses.field(default="foreground", kw_only=True)
    slot: int = dataclasses.field(default=-1, kw_only=True)

    takes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("otherwise", self.otherwise, ("nothing", "anywhere"))

    def columns(self, channels: int) -> dict[str, int]:
        """A shape's, then what it seeks its place with."""
        return super().columns(channels) | dict.fromkeys(("placed", "seek", *_CENTRE, *_SIDES), 1)

    @property
    def words(self) -> int:
        """A shape's, then one: the key of the candidates."""
        return super().words + 1

    def sample(self, context: Context) -> Values:
        """Draw the shape, at a place that no content has decided on."""
        values = super().sample(context)
        frame = context.frame
        tall, wide = 2.0 * frame.half_h, 2.0 * frame.half_w
        cos, sin = np.abs(np.cos(frame.angle)), np.abs(np.sin(frame.angle))
        return {
            **values,
            "placed": np.zeros(context.batch),
            "seek": context.words(1, super().words)[0],
            "cy": frame.cy,
            "cx": frame.cx,
            "tall": tall,
            "wide": wide,
            "turned_tall": np.ceil(cos * tall + sin * wide - 1e-9),
            "turned_wide": np.ceil(cos * wide + sin * tall - 1e-9),
        }

    def seek(self, site: Site) -> Choice:
        """A pixel of the foreground, and one of the source's where it takes from elsewhere."""
        words = site.words("seek", 2, 1)[:, :, 0]
        tall, wide, turned_tall, turned_wide = (
            site.column(name).to(torch.int64) for name in _SIDES
        )
        here = self._offered(site.objects(), site.allowed())
        (py, px), found = random_pixel(here, words[:, 0])
        cy = centred(py, turned_tall, here.shape[1])
        cx = centred(px, turned_wide, here.shape[2])
        yy, yx, y0, xy, xx, x0 = (site.column(name) for name in AFFINE)
        dy, dx = cy - site.column("cy"), cx - site.column("cx")
        mask = {
            "cy": cy, "cx": cx,
            "y0": y0 - (yy * dy + yx * dx), "x0": x0 - (xy * dy + xx * dx),
        }  # fmt: skip
        if getattr(site.source[0], "place", None) != "elsewhere":
            return Choice(mask, {}, found)
        there = self._offered(site.origin(), None)
        (qy, qx), some = random_pixel(there, words[:, 1])
        oy, ox = centred(qy, tall, there.shape[1]), centred(qx, wide, there.shape[2])
        yy, yx, _, xy, xx, _ = (site.taken(name) for name in AFFINE)
        source = {"y0": oy - (yy * cy + yx * cx), "x0": ox - (xy * cy + xx * cx)}
        return Choice(mask, source, found & some)

    def _offered(self, inside: Tensor, allowed: Tensor | None) -> Tensor:
        """The foreground, or everything where there is none and anywhere will do; what is allowed.

        A place that a control asks for need not be foreground where anywhere will do.
        """
        inside = inside if allowed is None else inside & allowed
        if self.otherwise == "nothing":
            return inside
        inside = inside | ~inside.any(2, keepdim=True).any(1, keepdim=True)
        return inside if allowed is None else inside & allowed

    def region(self, site: Site) -> Tensor:
        """The object in the image; of it, where a source from elsewhere shows its object too."""
        here = site.objects()
        if getattr(site.source[0], "place", None) != "elsewhere":
            return here
        there = site.origin()
        rows, columns = here.shape[1:]
        y = torch.arange(rows, dtype=torch.float32, device=here.device)[None, :, None]
        x = torch.arange(columns, dtype=torch.float32, device=here.device)[None, None, :]
        yy, yx, y0, xy, xx, x0 = (site.taken(name)[:, None, None] for name in AFFINE)
        # As the render reads the nearest pixel; beyond the source's edge it has no object.
        sy, sx = (
            torch.floor(((yy * y + yx * x) + y0) + 0.5),
            torch.floor(((xy * y + xx * x) + x0) + 0.5),
        )
        inside = (sy >= 0) & (sy < there.shape[1]) & (sx >= 0) & (sx < there.shape[2])
        iy, ix = (torch.where(inside, at, 0.0).to(torch.int64) for at in (sy, sx))
        sample = torch.arange(len(there), device=here.device)[:, None, None]
        return here & inside & there[sample, iy, ix]


def random_pixel(inside: Tensor, word: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """A pixel of masks, each as likely as any other; exactly alike on every device.

    Args:
        inside: bool ``[b, H, W]``.
        word: int64 ``[b]`` in [0, 2**32).

    Returns:
        Row and column, int64 ``[b]``, and bool ``[b]``: whether there is one.
    """
    return (pixel_on_host if inside.device.type == "cpu" else pixel_on_device)(inside, word)


def pixel_on_device(inside: Tensor, word: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """By rows first: the row that holds the pixel, then the pixel in it."""
    upto = inside.sum(2, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    total = upto[:, -1:].to(torch.int64)
    nth = below(word[:, None], total.clamp(min=1)).to(torch.int32)
    y = torch.searchsorted(upto, nth, right=True).clamp(max=inside.shape[1] - 1)
    before = torch.where(y > 0, upto.gather(1, (y - 1).clamp(min=0)), 0)
    row = inside.gather(1, y[:, :, None].expand(-1, 1, inside.shape[2]))[:, 0]
    counts = row.cumsum(1, dtype=torch.int32)
    x = torch.searchsorted(counts, nth - before, right=True).clamp(max=inside.shape[2] - 1)
    return (y[:, 0], x[:, 0]), total[:, 0] > 0


def pixel_on_host(inside: Tensor, word: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The same by NumPy: half of the rows are counted, then half of those, down to one."""
    found = []
    for plane, drawn in zip(inside.numpy(), word.tolist(), strict=True):  # host: host tensors
        total = np.count_nonzero(plane)
        left = ((drawn >> 8) * max(total, 1)) >> 24
        low, high = 0, len(plane)
        while high - low > 1:
            middle = (low + high) // 2
            above = np.count_nonzero(plane[low:middle])
            if left < above:
                high = middle
            else:
                low, left = middle, left - above
        columns = np.flatnonzero(plane[low])
        found.append((low, columns[left] if total else plane.shape[1] - 1, total))
    y, x, counted = torch.from_numpy(np.array(found, np.int64).reshape(-1, 3)).unbind(1)
    return (y, x), counted > 0


def centred(pixel: Tensor, side: Tensor, size: int) -> Tensor:
    """Centre of a box about a pixel, moved into an image of ``size`` pixels: float32, exact."""
    first = pixel - torch.div(side, 2, rounding_mode="floor")
    first = torch.minimum(first, size - side).clamp(min=0)
    return first.to(torch.float32) + (side - 1).to(torch.float32) * 0.5
