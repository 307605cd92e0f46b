"""Components taken away, moved, turned, doubled and swapped: sources that find them by themselves.

A component is what stands out in a box: of some boxes drawn per sample, that in which the image
differs most from what surrounds the box, measured by how uneven these surroundings are. Its outline
is what differs from them; where that is nothing or all of the box, the box itself. Or it is handed
in, as a plane ``[B, 1, H, W]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import checks
from ...parts import Context, Values, part
from ...pictures import Computed, Scene
from ...placing import Range, between
from ...prepare import closing, dilation, median
from ...reference.masks import level_of
from .filling import fill
from .working import (
    WHOLE,
    Window,
    around,
    bounds,
    columns,
    constants,
    edited,
    gathered,
    grid,
    reduction,
    share,
    shrunk,
    span,
)

SHAPES = ("ellipse", "rectangle")

# Share of its box below or above which an outline is not believed.
_LEAST, _MOST = 0.08, 0.92
# Up to this many half sides from a box's centre is what surrounds it.
_AROUND = 1.45
# Sides in pixels of the small images in which boxes are compared, and steps of the best one.
_LOOKED_AT = 64
_CLIMBS = 3
# Width of the rim around an outline, a share of the image's shorter side.
_RIM = 0.01
_KEY = 2
_BOX = ("half_h", "half_w", "cy", "cx")


@dataclass(frozen=True)
class Component(Computed):
    """Base of the sources that work on a component.

    Lay them with ``masks.Everywhere()``, or ``masks.Everywhere() | masks.Given(name)`` for a
    component of that name, and ``label_rule="changed"``. A foreground given to the call says where
    components are looked for, and confines what changes.

    Args:
        given: Name of the plane that holds the component; None to look for one. Where it is empty
            nothing changes.
        side: Range of a box's geometric mean side, a share of the image's shorter one.
        aspect: Range of width / height, log-uniform.
        shape: ``"ellipse"`` or ``"rectangle"``: what a box may show of itself.
        outline: Whether to cut the component out along its outline.
        tries: Boxes to choose from, 1 to 64.
        visible: Least change that counts, in [0, 1]; lesser ones are taken back.
    """

    given: str | None = None
    side: float | Range = (0.08, 0.3)
    aspect: float | Range = (0.5, 2.0)
    shape: str = "ellipse"
    outline: bool = True
    tries: int = 32
    visible: float = 0.04

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", checks.interval("side", self.side, 0.01, 1.0))
        object.__setattr__(self, "aspect", checks.interval("aspect", self.aspect, 0.05, 20.0))
        checks.one_of("shape", self.shape, SHAPES)
        checks.probability("visible", self.visible)
        if not isinstance(self.tries, int) or not 1 <= self.tries <= 64:
            raise ValueError(f"tries: expected an integer from 1 to 64, got {self.tries!r}")

    @property
    def words(self) -> int:
        """Four per box, those of the move, then the key."""
        return 4 * self.tries + len(self.moves) + _KEY

    @property
    def moves(self) -> tuple[str, ...]:
        """Names of the columns that say where the component goes."""
        return ()

    def columns(self, channels: int) -> dict[str, int]:
        """Key, the boxes' half sides and centres in pixels, where the component goes."""
        boxes = dict.fromkeys(_BOX, self.tries)
        return super().columns(channels) | boxes | dict.fromkeys(self.moves, 1)

    def sample(self, context: Context) -> Values:
        """Draw the key, the boxes and the move."""
        u = context.uniform(self.words - _KEY)
        ranges: Any = (self.side, self.aspect)
        sizes = u[: 4 * self.tries].reshape(self.tries, 4, -1).transpose(1, 2, 0)
        side = between(sizes[0], ranges[0]) * min(context.height, context.width)
        aspect = np.exp(between(sizes[1], tuple(np.log(ranges[1]))))
        height = np.minimum(side / np.sqrt(aspect), context.height)
        width = np.minimum(side * np.sqrt(aspect), context.width)
        cy = (height - 1) / 2 + sizes[2] * (context.height - height)
        cx = (width - 1) / 2 + sizes[3] * (context.width - width)
        found = dict(zip(_BOX, (height / 2, width / 2, cy, cx), strict=True))
        if self.tries == 1:
            found = {name: value[:, 0] for name, value in found.items()}
        return {**super().sample(context), **found, **self.moved(u[4 * self.tries :])}

    def moved(self, u: Any) -> dict[str, Any]:
        """The columns of ``moves`` from a uniform number each."""
        return {}

    def compute(self, scene: Scene) -> Tensor:
        """The images with their components edited."""
        return edited(scene, lambda images, rows: self.edit(scene, images, rows), self.visible)

    def edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        """The edited images of some rows; see :func:`anoaug.sources.structure.working.edited`."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method edit, got none")

    def boxes(self, scene: Scene, rows: Tensor) -> Tensor:
        """Half sides and centres of the boxes in pixels, float32 ``[R, 4, tries]``: y, x, y, x."""
        return columns(scene, rows, _KEY, 4 * self.tries).view(-1, 4, self.tries)

    def move(self, scene: Scene, rows: Tensor) -> Tensor:
        """The columns of ``moves``, ``[R, n]``."""
        return columns(scene, rows, _KEY + 4 * self.tries, len(self.moves))

    def region(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        """The component of each row, uint8 ``[R, 1, H, W]``."""
        if self.given is not None:
            return (level_of(plane_of(scene, self.given)[rows]) > 0.0).to(torch.uint8)
        boxes, foreground = self.boxes(scene, rows), foreground_of(scene, rows)
        best = chosen(boxes, scores(images, foreground, boxes))
        return self.cut(images, climbed(images, foreground, best))

    def cut(self, images: Tensor, box: Tensor) -> Tensor:
        """What stands out in one box per row, ``[R, 4, 1]``; uint8 ``[R, 1, H, W]``."""
        whole = within(images, box, 1.0, self.shape == "ellipse")[:, :, 0].to(torch.uint8)
        if not self.outline:
            return whole
        square = within(images, box, 1.0)
        away, spread = departure(images, (within(images, box, _AROUND) - square)[:, 0])
        inside = square[:, 0]
        level = torch.maximum(2.5 * spread, 0.35 * (away * inside).amax((2, 3), keepdim=True))
        apart = (away > level).to(torch.uint8) * inside.to(torch.uint8)
        # Wide enough for the soft edge of a thing, or its shade would be taken for the ground's.
        rim = 2 * round(_RIM * min(images.shape[2:])) + 1
        apart = dilation(closing(median(apart, 3), 7, "disc"), rim, "disc")
        part = share(inside, apart.to(torch.float32))
        return torch.where((part > _LEAST) & (part < _MOST), apart, whole)


@part
@dataclass(frozen=True)
class Missing(Component):
    """A component that is not there: its place is filled from its surroundings."""

    def edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        """The image without the component."""
        return fill(images, self.region(scene, images, rows), scene.call.backend)


@part
@dataclass(frozen=True)
class Moved(Component):
    """A component in another place or another way round.

    Args:
        distance: Range of how far it goes, in units of its mean side.
        direction: Range of the direction in degrees from the image's columns to its rows.
        rotation: Range of its rotation in degrees, either way.
        keep: Whether it stays where it was too: an extra component.
        goals: Places to choose from, 1 to 16, each drawn as ``distance`` and ``direction`` say: the
            one that is in the image and the foreground, free, and on the evenest ground.
    """

    distance: float | Range = (0.2, 0.6)
    direction: float | Range = (-180.0, 180.0)
    rotation: float | Range = 0.0
    keep: bool = False
    goals: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "distance", checks.interval("distance", self.distance, 0.0, 10.0))
        for name in ("direction", "rotation"):
            value = checks.interval(name, getattr(self, name), -360.0, 360.0)
            object.__setattr__(self, name, value)
        if not isinstance(self.goals, int) or not 1 <= self.goals <= 16:
            raise ValueError(f"goals: expected an integer from 1 to 16, got {self.goals!r}")

    @property
    def moves(self) -> tuple[str, ...]:
        """Shifts in units of the mean side to every goal, cosine and sine of the rotation."""
        goals = [f"{axis}{n}" for n in range(self.goals) for axis in ("dy", "dx")]
        return ("cos", "sin", *goals)

    def moved(self, u: Any) -> dict[str, Any]:
        """Draw rotation and goals."""
        ranges: Any = (self.rotation, self.distance, self.direction)
        # One number says which way and how far.
        both = 2.0 * u[0]
        angle = np.deg2rad(between(both % 1.0, ranges[0])) * np.where(both < 1.0, -1.0, 1.0)
        found = {"cos": np.cos(angle), "sin": np.sin(angle)}
        for n in range(self.goals):
            distance = between(u[2 + 2 * n], ranges[1])
            direction = np.deg2rad(between(u[3 + 2 * n], ranges[2]))
            found[f"dy{n}"] = distance * np.sin(direction)
            found[f"dx{n}"] = distance * np.cos(direction)
        return found

    def edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        """The image with the component where it goes."""
        region = self.region(scene, images, rows)
        ground = images if self.keep else fill(images, region, scene.call.backend)
        place = bounds(region)
        move = self.move(scene, rows)
        turn, goals = move[:, :2], move[:, 2:].view(-1, self.goals, 2)
        size = (place[:, 2] * place[:, 3]).sqrt()[:, None, None] * 2.0
        goals = goals * size
        if self.goals > 1:
            goals = _evenest(ground, region, foreground_of(scene, rows), place, goals)
        return pasted(ground, images, region, place[:, :2], place[:, :2] + goals[:, 0], turn)


@part
@dataclass(frozen=True)
class Swapped(Component):
    """Two components in each other's place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given is not None:
            raise ValueError("given: expected None, two components are swapped; leave it out")

    def edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        """The image with the two that stand out most swapped."""
        boxes, foreground = self.boxes(scene, rows), foreground_of(scene, rows)
        score = scores(images, foreground, boxes)
        best = climbed(images, foreground, chosen(boxes, score))
        apart = (boxes[:, 2:] - best[:, 2:]).abs() / (boxes[:, :2] + best[:, :2])
        second = chosen(boxes, torch.where(apart.amax(1) > 1.1, score, -1.0))
        first = self.cut(images, best)
        other = self.cut(images, climbed(images, foreground, second)) * (1 - first)
        ground = fill(images, torch.maximum(first, other), scene.call.backend)
        centres = [bounds(region)[:, :2] for region in (first, other)]
        still = constants([(1.0, 0.0)], images.device)
        ground = pasted(ground, images, first, centres[0], centres[1], still)
        return pasted(ground, images, other, centres[1], centres[0], still)


# ---- looking -------------------------------------------------------------------------------------


def plane_of(scene: Scene, name: str) -> Tensor:
    """A plane that the layer's mask reads, by name, ``[B, 1, H, W]``.

    Raises:
        ValueError: The mask reads none of that name.
    """
    for placed in scene.call.recipe.layers[scene.layer].mask:
        if getattr(placed.part, "name", None) == name and hasattr(placed.part, "slot"):
            return scene.call.planes[placed.part.slot]
    raise ValueError(
        f"given: expected a mask that reads {name!r}, got none; lay the layer with "
        f"masks.Everywhere() | masks.Given({name!r})"
    )


def foreground_of(scene: Scene, rows: Tensor) -> Tensor | None:
    """The foreground of some rows, float32 ``[R, 1, H, W]`` of 0 and 1, where there is one."""
    if scene.call.foreground < 0:
        return None
    return (level_of(scene.call.planes[scene.call.foreground][rows]) > 0.0).to(torch.float32)


def within(
    images: Tensor, boxes: Tensor, grown: float, rounded: bool = False, window: Window = WHOLE
) -> Tensor:
    """1.0 within boxes (or the ellipses in them) ``[R, 4, n]``, else 0.0; ``[R, n, 1, h, w]``."""
    y, x = grid(images, window)
    half_h, half_w, cy, cx = (value[:, :, None, None] for value in boxes.unbind(1))
    v, u = (y - cy) / (half_h * grown), (x - cx) / (half_w * grown)
    inside = v.square() + u.square() if rounded else torch.maximum(v.abs(), u.abs())
    return (inside <= 1.0).to(torch.float32)[:, :, None]


def chosen(boxes: Tensor, score: Tensor) -> Tensor:
    """The box ``[R, 4, 1]`` of the highest score."""
    best = score.argmax(1)[:, None, None]
    return boxes.gather(2, best.expand(-1, 4, 1))


def climbed(images: Tensor, foreground: Tensor | None, box: Tensor) -> Tensor:
    """A box ``[R, 4, 1]`` moved and resized, step by step, to where it holds the thing whole."""
    moves = [
        (scale, down, right)
        for scale in (1.0, 0.8, 1.25)
        for down in (0.0, -0.4, 0.4)
        for right in (0.0, -0.4, 0.4)
    ]
    steps = constants(moves, images.device)
    for _ in range(_CLIMBS):
        half, centre = box[:, :2], box[:, 2:]
        near = torch.cat([half * steps[:, 0], centre + half * steps[:, 1:].T], 1)
        box = chosen(near, scores(images, foreground, near))
    return box


def departure(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """How far colours are from the mean of a place, ``[R, 1, H, W]``, and how far its own are."""
    away = (images - share(weight, images)).abs().amax(1, keepdim=True)
    return away, share(weight, away)


def scores(images: Tensor, foreground: Tensor | None, boxes: Tensor) -> Tensor:
    """How much each box holds a thing of its own, ``[R, n]``, at least 0.

    That is how far the colours in the box are from those around it, over how far these are from
    their mean; times the share of the foreground in it.
    """
    factor = reduction(images, _LOOKED_AT)
    small = shrunk(images, factor)
    boxes = boxes / factor
    window = span(boxes, _AROUND)
    inside = within(small, boxes, 1.0, window=window)
    ring = within(small, boxes, _AROUND, window=window) - inside
    here = (..., *window)
    planes = small[here][:, None]

    def mean(weight: Tensor, values: Tensor) -> Tensor:
        total = weight.sum((3, 4), keepdim=True).clamp(min=1e-6)
        return (weight * values).sum((3, 4), keepdim=True) / total

    away = (planes - mean(ring, planes)).abs().amax(2, keepdim=True)
    found = (mean(inside, away) / (mean(ring, away) + 0.02))[:, :, 0, 0, 0]
    if foreground is not None:
        covered = mean(inside, shrunk(foreground, factor)[here][:, None])[:, :, 0, 0, 0]
        found = found * covered * (covered > 0.5)
    return found


def _evenest(
    images: Tensor, region: Tensor, foreground: Tensor | None, place: Tensor, goals: Tensor
) -> Tensor:
    """The goal ``[R, 1, 2]`` in the image, in the foreground, free, and on the evenest ground."""
    factor = reduction(images)
    small = shrunk(images, factor)
    centres = (place[:, None, :2] + goals).transpose(1, 2)
    boxes = torch.cat([place[:, 2:, None].expand(-1, -1, goals.shape[1]), centres], 1) / factor
    inside = within(small, boxes, 1.0)
    total = inside.sum((3, 4), keepdim=True)
    middle = (inside * small[:, None]).sum((3, 4), keepdim=True) / total.clamp(min=1e-6)
    uneven = (inside * (small[:, None] - middle).abs().amax(2, keepdim=True)).sum((2, 3, 4))
    uneven = uneven / total[:, :, 0, 0, 0].clamp(min=1e-6)
    own = shrunk(region.to(torch.float32), factor)
    free = 1.0 - own if foreground is None else (1.0 - own) * shrunk(foreground, factor)
    lost = 1.0 - (inside * free[:, None]).sum((2, 3, 4)) / (4.0 * boxes[:, 0] * boxes[:, 1])
    best = (uneven + 4.0 * lost).argmin(1)
    return goals.gather(1, best[:, None, None].expand(-1, 1, 2))


def pasted(
    ground: Tensor, images: Tensor, region: Tensor, start: Tensor, goal: Tensor, turn: Tensor
) -> Tensor:
    """Components of images laid on a ground.

    Args:
        ground: float32 ``[R, C, H, W]``.
        images: Where the components are, likewise.
        region: The components, ``[R, 1, H, W]``.
        start: Their centres in pixels, ``[R, 2]``.
        goal: Where their centres go.
        turn: Cosine and sine of their rotation, ``[R, 2]``.
    """
    window = _landing(region, start, goal)
    here = (..., *window)
    y, x = grid(images, window)
    cos, sin = turn[:, :1, None, None], turn[:, 1:, None, None]
    dy, dx = y - goal[:, :1, None, None], x - goal[:, 1:, None, None]
    sy = cos * dy - sin * dx + start[:, :1, None, None]
    sx = sin * dy + cos * dx + start[:, 1:, None, None]
    inside = (sy >= 0) & (sy <= images.shape[2] - 1) & (sx >= 0) & (sx <= images.shape[3] - 1)
    weight = gathered(region.to(torch.float32), sy, sx) * inside
    moved = weight * gathered(images, sy, sx) + (1.0 - weight) * ground[here]
    out = ground.clone()
    out[here] = torch.where(weight > 0.0, moved, ground[here])
    return out


def _landing(region: Tensor, start: Tensor, goal: Tensor) -> Window:
    """The pixels that a component can reach when it is laid down at its goal, however turned."""
    held = around(region)
    if held == WHOLE:
        return WHOLE
    # host: on the host alone is a window not all of the image.
    (cy, cx), places = start[0].tolist(), goal[0].tolist()
    far = [max(c - one.start, one.stop - 1 - c) for c, one in zip((cy, cx), held, strict=True)]
    reach = math.hypot(*far) + 1.0
    first = [max(math.floor(place - reach), 0) for place in places]
    last = [max(math.ceil(place + reach) + 1, 0) for place in places]
    return slice(first[0], last[0]), slice(first[1], last[1])
