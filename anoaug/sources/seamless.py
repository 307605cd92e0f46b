"""Sources corrected to join the image without a seam: Poisson's equation on the layer's mask.

``Poisson`` is what OpenCV gives (NSA), ``PoissonInterpolation`` what PII solves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import checks, poisson
from ..banks import TextureBank
from ..masks.content import Seeker
from ..parts import Source, part
from ..pictures import Computed, Scene, rows_on
from ..recipe import LayerProgram, Placed, Step
from ..recipe import layout as recipe_layout
from ..reference import poisson as reference
from ..reference.render import indexable

MODES = (*poisson.MODES, "either")


@part
@dataclass(frozen=True)
class Poisson(Computed):
    """Another source, corrected so that it joins the image: what ``cv2.seamlessClone`` gives.

    The image is what the layers before left of it, so that patches follow one another. Inside the
    mask a hard paste then shows OpenCV's result (within a grey level, see
    :func:`anoaug.functional.poisson_blend`): the equation is solved on the mask's bounding
    rectangle, and the source's gradients count from three pixels within the mask's edge on.
    Pixels outside the mask keep their value; OpenCV changes those of the rectangle too.

    Args:
        source: What is corrected, or a TextureBank.
        mode: ``"mixed"``: the stronger gradients of source and image; ``"normal"``: the source's;
            ``"either"``: one of the two per sample.

        region: ``"mask"``: where the equation is solved as above. ``"box"``: on the first
            rectangle among the mask's parts and, if there are, the ellipses, whatever they do to
            the mask; the rest of it cuts what is solved.

    With ``blends.Opacity(..., mix="replace")`` the weight mixes gradients rather than colours.

    On CUDA the rectangle of a single upright ``masks.Rectangle`` is known to the host; any other
    mask's is found on the device, in windows of the image's size.
    """

    source: Source | TextureBank
    mode: str = "mixed"
    region: str = "mask"

    wraps: ClassVar[str] = "source"
    by_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.one_of("mode", self.mode, MODES)
        checks.one_of("region", self.region, ("mask", "box"))

    def compute(self, scene: Scene) -> Tensor:
        """The image with the corrected source wherever the layer's weight is above 0."""
        steps = scene.parts
        image = scene.before()
        if image.device.type == "cpu":
            image = image.contiguous()  # once, rather than whenever a render reads the picture
        chosen: list[int] = []
        if self.region == "box":
            kinds = [one.part.function for one in steps]
            if "rectangle" not in kinds:
                raise ValueError(
                    "region='box': expected a rectangle in the layer's mask, got none; "
                    "take region='mask'"
                )
            chosen = [kinds.index(kind) for kind in ("rectangle", "ellipses") if kind in kinds]
        alone = len(chosen) == 1 or (len(steps) == 1 and scene.call.foreground < 0)
        boxes = host_boxes(scene, steps[chosen[0] if chosen else 0]) if alone else None
        patch, inside = scene.patch(chosen)
        # A byte a pixel is read sooner by a kernel; the host looks at the rectangles alone.
        weight = inside if inside.device.type == "cpu" else inside.to(torch.uint8) * 255
        if scene.mix == "replace":
            # OpenCV's mask has 256 levels, of which the published code takes the next.
            share = scene.weight()
            if self.region == "box":
                share = share.amax((1, 2, 3), keepdim=True) * inside
            weight = (share * 255.0).ceil().to(torch.uint8)
        backend = scene.call.backend
        if self.mode != "either":
            return poisson.solve(image, patch, weight, boxes, self.mode, backend=backend)
        for mode, odd in (("mixed", 0), ("normal", 1)):
            mine = [n for n, key in enumerate(scene.keys) if key & 1 == odd]
            coin = torch.zeros(len(weight), dtype=torch.uint8, device=weight.device)
            coin = coin.index_fill(0, rows_on(mine, weight.device), 1).view(-1, 1, 1, 1)
            image = poisson.solve(image, patch, weight * coin, boxes, mode, backend=backend)
        return image

    def compiled(self, scene: Scene) -> Tensor | None:
        """The same in the rectangles alone, where the host knows them and nothing else is wanted.

        So it is for an upright one, which the rest of the mask may cut.
        """
        kinds = [one.part.function for one in scene.parts]
        cut = len(kinds) == 3 and kinds[2] == "intersection" and self.region == "box"
        alone = len(kinds) == 1 and (self.region == "box" or scene.call.foreground < 0)
        if kinds[0] != "rectangle" or not (cut or alone):
            return None
        native = scene.images.dtype in (torch.uint8, torch.float32)
        boxes = host_boxes(scene, scene.parts[0])
        if boxes is None or scene.inner is None or scene.mix == "replace" or not native:
            return None
        from ..compiled import driver, seamless

        call, layout = scene.call, recipe_layout(scene.call.recipe.layout)
        layer = layout.layers[scene.layer]
        layer = LayerProgram(layer.gate, layer.mask[:1], scene.inner, Step("opaque", 0, 0), "over")
        image = scene.plain()
        patch = torch.empty_like(image)
        layout = layout._replace(layers=(layer,))
        driver.lay(image, patch, call.table, call.planes, call.tensors, layout, -1)
        even = torch.tensor([key % 2 == 0 for key in scene.keys], dtype=torch.bool, device="cpu")
        mixed = {"either": even}.get(self.mode, torch.full_like(even, self.mode == "mixed"))
        rects = poisson.host_rectangles(boxes, image.shape)
        return seamless.pictured(scene.laid(), patch, boxes, rects, mixed, poisson.transform_one)


@part
@dataclass(frozen=True)
class PoissonInterpolation(Computed):
    """The image's and a source's gradients mixed per pair of neighbours, and integrated (PII).

    Between two neighbours the difference is ``weight`` times the source's, or ``1 - weight`` times
    the image's own where that is the greater; on and beyond the edge of the mask's bounding
    rectangle the image stays. Solved exactly, clipped to the range of the image's own values by
    channel, and rounded in integer images. Take it with
    ``blends.Opacity(..., mix="replace")``, whose weight it is, and one upright rectangle.

    Args:
        source: What is mixed in, or a TextureBank.

    Source: Tan et al., Detecting Outliers with Poisson Image Interpolation, MICCAI 2021.
    """

    source: Source | TextureBank

    wraps: ClassVar[str] = "source"
    by_rows: ClassVar[bool] = True

    def compute(self, scene: Scene) -> Tensor:
        """The image with what was solved in the mask's rectangle."""
        # Beyond the mask too: neighbours across its edge have differences.
        image, patch, weight = scene.before(), scene.colours(), scene.weight()
        height, width = image.shape[2:]
        if min(height, width) < 3:
            return image
        share = weight.flatten(1).amax(1)
        rects = ringed(weight)
        if _alone(image.device):
            return _one_by_one(image, patch, share, rects)
        field = _field(image, patch, share, rects, height - 2, width - 2)
        added = _spread(poisson.transform(field, rects), rects, (height, width))
        old = image.to(torch.float32)
        value = _rounded(old + added, image.dtype, old.amin((2, 3), True), old.amax((2, 3), True))
        return value.to(image.dtype)


def _alone(device: torch.device) -> bool:
    """Whether rectangles are solved one by one: where the host may read them."""
    return device.type == "cpu"


def ringed(inside: Tensor) -> Tensor:
    """Bounding rectangles of masks within the image's outermost pixels, and a pixel more around.

    Args:
        inside: ``[B, 1, H, W]``, inside > 0.

    Returns:
        int32 ``[B, 5]``: sample, top, left, height, width; height and width 0 where empty.
    """
    found = reference.rectangles(inside)
    sample, top, left, tall, wide = found.unbind(1)
    there = (tall > 0).to(torch.int32)
    return torch.stack((sample, top - there, left - there, tall + 2 * there, wide + 2 * there), 1)


def mixed_divergence(own: Tensor, foreign: Tensor, weight: Tensor) -> Tensor:
    """What neighbours' differences lack of those that are wanted, summed at each inner pixel.

    Args:
        own: float32 ``[..., h, C, w]``: rows, channels, columns.
        foreign: Like ``own``.
        weight: float32 that broadcasts to them.

    Returns:
        float32 ``[..., h - 2, C, w - 2]``.
    """

    def lacking(axis: int) -> Tensor:
        mine, theirs = own.diff(dim=axis), foreign.diff(dim=axis)
        kept, wanted = (1.0 - weight) * mine, weight * theirs
        return torch.where(kept.abs() > wanted.abs(), kept, wanted) - mine

    along, down = lacking(-1)[..., 1:-1, :, :], lacking(-3)[..., 1:-1]
    return along.diff(dim=-1) + down.diff(dim=-3)


def _one_by_one(
    image: Tensor, patch: Tensor, share: Tensor, rects: Tensor
) -> Tensor:  # fmt: skip
    """Each rectangle at its own size, on the host."""
    out = image.clone(memory_format=torch.contiguous_format)
    for n, top, left, tall, wide in rects.tolist():  # host: the CPU's way
        if not tall:
            continue
        area = (n, slice(None), slice(top, top + tall), slice(left, left + wide))
        own, foreign = (each[area].to(torch.float32).transpose(0, 1) for each in (image, patch))
        added = poisson.transform_one(mixed_divergence(own, foreign, share[n]).contiguous())
        whole = image[n].to(torch.float32)
        low, high = (each[:, None] for each in (whole.amin((1, 2)), whole.amax((1, 2))))
        value = _rounded(own[1:-1, :, 1:-1] + added, image.dtype, low, high)
        out[area].transpose(0, 1)[1:-1, :, 1:-1] = value.to(image.dtype)
    return out


def _field(
    image: Tensor, patch: Tensor, share: Tensor, rects: Tensor, rows: int, columns: int
) -> Tensor:
    """The right side of the equation in windows of one size, float32 ``[B, rows, C, columns]``."""
    height, width = image.shape[2:]
    sample, top, left, tall, wide = rects.to(torch.int64)[:, :, None].unbind(1)
    down = torch.arange(rows + 2, device=rects.device)
    right = torch.arange(columns + 2, device=rects.device)
    y = (top + down).clamp(max=height - 1)[:, :, None]
    x = (left + right).clamp(max=width - 1)[:, None]

    def window(planes: Tensor) -> Tensor:
        # Advanced indices around a slice put the channel axis last.
        return indexable(planes)[sample[:, :, None], :, y, x].transpose(2, 3).to(torch.float32)

    field = mixed_divergence(window(image), window(patch), share.view(-1, 1, 1, 1))
    within = (down[:rows] < tall - 2)[:, :, None, None] & (right[:columns] < wide - 2)[
        :, None, None
    ]
    return torch.where(within, field, 0.0).contiguous()


def _spread(correction: Tensor, rects: Tensor, size: tuple[int, int]) -> Tensor:
    """Corrections of windows at their places, float32 ``[B, C, H, W]``, 0 around them."""
    _, top, left, tall, wide = rects.to(torch.int64)[:, :, None].unbind(1)
    down = torch.arange(size[0], device=rects.device) - top - 1
    right = torch.arange(size[1], device=rects.device) - left - 1
    within = ((down >= 0) & (down < tall - 2))[:, :, None]
    within = within & ((right >= 0) & (right < wide - 2))[:, None]
    sample = torch.arange(len(rects), device=rects.device)[:, None, None]
    y = down.clamp(0, correction.shape[1] - 1)[:, :, None]
    x = right.clamp(0, correction.shape[3] - 1)[:, None]
    added = correction[sample, y, :, x].permute(0, 3, 1, 2)
    return torch.where(within[:, None], added, 0.0)


def _rounded(value: Tensor, dtype: torch.dtype, low: Tensor, high: Tensor) -> Tensor:
    """Values within the range of their image, rounded half up in integer images."""
    value = torch.minimum(torch.maximum(value, low), high)
    return value if dtype.is_floating_point else torch.floor(value + 0.5)


def host_boxes(scene: Scene, placed: Placed) -> Tensor | None:
    """Top, left, height and width of a mask part, int64 ``[B, 4]``, where the host knows them.

    It does where that is an upright rectangle; rows without the layer are 0.
    """
    if placed.part.function != "rectangle":
        return None
    if isinstance(placed.part, Seeker) and scene.images.is_cuda:
        return None
    first = placed.offset
    columns = scene.call.host[:, first : first + 6].numpy().astype(np.float64)
    cy, cx, cos, sin, half_h, half_w = columns.T
    rows = np.zeros(len(columns), bool)
    rows[scene.rows] = True
    if (rows & ((sin != 0) | (cos != 1))).any():
        return None
    height, width = scene.images.shape[2:]
    sides = []
    # Inside is what lies nearer to the centre than half a side.
    for centre, half, size in ((cy, half_h, height), (cx, half_w, width)):
        start = np.clip(np.floor(centre - half) + 1, 0, size)
        stop = np.clip(np.ceil(centre + half), start, size)
        sides.append((start, stop - start))
    (top, tall), (left, wide) = sides
    boxes = np.where(rows[:, None], np.stack([top, left, tall, wide], 1), 0.0)
    return torch.from_numpy(boxes.astype(np.int64))
