"""Orders: a control made into numbers for the samples of a call, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import checks, rng
from ..recipe import MAX_LAYERS
from ..wanted import COLUMN
from .request import BOUNDS, Control, as_control
from .scope import Scope

Number = tuple[Tensor, Tensor]  # sample indices, and (seed, epoch)

_NONE = float("nan")
# Where a place is asked for and no size, so much of it is above the threshold at least: what noise
# covers of an image. Less may be nothing, and the place would stay normal.
_LEAST = 0.05
# Area of the disc about a point in which a mask without a box lies: in sizes, or of the image.
_ROOM, _USUAL = 4.0, 0.1
_MASK = 0xFFFFFFFF


class Orders(NamedTuple):
    """What a control asks of some samples.

    Attributes:
        matrix: float64 ``[B, copies, columns]`` on the host, see :mod:`anoaug.wanted`.
        within: float64 ``[B, 5]`` on the host: the region to which masks without a box are
            confined, y0, x0, y1, x1 in shares of the image and the radius of a disc in pixels about
            its middle (0: the box); NaN: none. None where there is none for any.
        variation: What ``sigma`` counts in; of a OneOf one for each member.
        pixels: Whether something is left to do once there are pixels: a threshold, a difference.
        seeks: Whether masks of noise have to be found in a place.
    """

    matrix: Tensor
    within: Tensor | None = None
    variation: Any = None
    pixels: bool = False
    seeks: bool = False

    def take(self, rows: Any) -> Orders:
        """The orders of some rows: indices, a slice or a boolean mask."""
        rows = rows.to("cpu") if isinstance(rows, Tensor) else rows
        within = None if self.within is None else self.within[rows]
        return self._replace(matrix=self.matrix[rows], within=within)


def refuse_beside_params(control: Any) -> None:
    """Refuse a control in a replay.

    Raises:
        ValueError: There is one.
    """
    if control is not None:
        raise ValueError(
            "control: expected none with params, which replay what was controlled when they were "
            "drawn; leave one of the two out"
        )


def tiled(orders: Orders | None, views: int) -> tuple[Orders | None, Tensor | None]:
    """The orders of a table's rows, and their regions; ``orders`` are of the samples."""
    if orders is not None and views > 1:
        rows = torch.arange(len(orders.matrix), device="cpu").repeat(views)
        orders = orders.take(rows)
    return orders, None if orders is None else orders.within


def ordered(scope: Scope, given: Any, number: Number, images: Tensor) -> Orders | None:
    """The orders of a call.

    Args:
        scope: What the synthesizer can do, and its own control.
        given: What the call brings, see :func:`as_control`; comes first.
        number: Of the samples.
        images: The batch.

    Raises:
        TypeError, ValueError: A control that the synthesizer lacks, or values of the wrong length.
    """
    control = as_control(given)
    control = scope.control if control is None else control.over(scope.control)
    size = (images.shape[2], images.shape[3])
    given = {} if control is None else control.given
    if control is None or not given:
        return None
    scope.check(control, len(number[0]))
    rows, empty = len(number[0]), len(number[0]) == 0
    columns = {name: torch.full((rows, MAX_LAYERS), _NONE, dtype=torch.float64, device="cpu")
               for name in COLUMN}  # fmt: skip
    for name in BOUNDS:
        if name in given and name != "strength":
            columns["copies" if name == "count" else name] = _numbers(name, given[name], number)
    if "kind" in given:
        columns["kind"] = names_of("kind", given["kind"], scope.kinds[1:-1], number, first=1)
    if "shape" in given:
        chosen = names_of("shape", given["shape"], scope.shapes, number)
        lookup = torch.tensor(scope.numbers, dtype=torch.float64, device="cpu")
        for copy in range(scope.copies):
            known = lookup[copy][chosen[:, copy].nan_to_num(nan=0.0).to(torch.int64)]
            columns["shape"][:, copy] = torch.where(chosen[:, copy].isnan(), _NONE, known)
    if "strength" in given:
        _weigh(columns, control, number)
    within = None
    if "location" in given:
        within = _place(columns, scope, given["location"], number, size)
    if empty:
        within = None
    by_threshold = torch.tensor(
        [*scope.thresholds, *[False] * (MAX_LAYERS - scope.copies)], device="cpu"
    )
    sought = by_threshold & columns["size"].isnan() & ~columns["y0"].isnan()
    columns["least"] = torch.where(sought, _LEAST, _NONE)
    columns["level"] = torch.where(by_threshold, columns["size"], _NONE)
    columns["size"] = torch.where(by_threshold, _NONE, columns["size"])
    matrix = torch.stack([columns[name] for name in COLUMN], 2)
    return Orders(matrix, within, control.variation, scope.waits(control), scope.seeks(control))


def examined(scope: Scope, given: Any, images: Tensor) -> None:
    """Refuse what :func:`ordered` would, in a call that draws nothing.

    Raises:
        TypeError, ValueError: As there.
    """
    if given is not None:
        none = torch.zeros(len(images), dtype=torch.int64, device="cpu")
        ordered(scope, given, (none, none.new_zeros(2)), images)


def drawn(name: str, number: Number) -> Tensor:
    """Uniform numbers of a control's own stream, float64 ``[B, copies]`` in [0, 1)."""
    index, state = number
    key = (state[0] & _MASK, (state[0] >> 32) & _MASK)
    counter = (index & _MASK, index >> 32, state[1] & _MASK, rng.stream_id(f"control.{name}"))
    words = torch.stack(rng.philox(key, counter), 1)
    return (words >> 8).to(torch.float64) * rng.UNIT


def _numbers(name: str, value: Any, number: Number) -> Tensor:
    """A field's numbers, float64 ``[B, copies]``."""
    rows = len(number[0])
    if isinstance(value, Tensor):
        return value[:, None].expand(rows, MAX_LAYERS).clone()
    low, high = value
    if low == high:
        return torch.full((rows, MAX_LAYERS), low, dtype=torch.float64, device="cpu")
    u = drawn(name, number)
    if name == "count":
        return (low + torch.floor(u[:, :1] * (high - low + 1))).expand(-1, MAX_LAYERS).clone()
    return low + u * (high - low)


def names_of(name: str, value: Any, known: Sequence[str], number: Number, first: int = 0) -> Tensor:
    """Numbers of names, float64 ``[B, copies]``; NaN where free."""
    rows = len(number[0])
    if isinstance(value, np.ndarray):
        named = value.tolist()  # host: NumPy's
        places = [_place_of(name, one, known, first, free=True) for one in named]
        found = torch.tensor(places, dtype=torch.float64, device="cpu")
        return found[:, None].expand(rows, MAX_LAYERS).clone()
    places = [_place_of(name, one, known, first) for one in value]
    if len(places) == 1:
        return torch.full((rows, MAX_LAYERS), places[0], dtype=torch.float64, device="cpu")
    u = drawn(name, number)
    u = u[:, :1].expand(-1, MAX_LAYERS) if name == "kind" else u
    table = torch.tensor(places, dtype=torch.float64, device="cpu")
    return table[torch.floor(u * len(places)).to(torch.int64)]


def _place_of(
    name: str, value: str | int, known: Sequence[str], first: int, free: bool = False
) -> float:
    """The number of a name, counted from ``first``; NaN for one that leaves a sample free."""
    if free and (value == "" or value == -1):
        return _NONE
    if isinstance(value, str):
        if value not in known:
            raise ValueError(f"{name}: {value!r} is unknown; {checks.nearest(value, known)}")
        return float(first + list(known).index(value))
    if not first <= value < first + len(known):
        raise ValueError(
            f"{name}: expected numbers from {first} to {first + len(known) - 1}, which are "
            f"{', '.join(known)}, got {value}"
        )
    return float(value)


def _weigh(columns: dict[str, Tensor], control: Control, number: Number) -> None:
    """The columns of the strength."""
    unit = control.unit or "weight"
    asked = _numbers("strength", control.strength, number)
    if unit == "weight":
        columns["strength"] = asked
        return
    asked = asked[:, :1].expand(-1, MAX_LAYERS).clone()  # of the sample, not of its copies
    variation: Any = control.variation
    if unit == "sigma" and not variation.by_pixel:
        asked, unit = asked * float(variation.std), "difference"
    columns[unit] = asked
    # Rendered at the whole weight first, which is then lessened.
    columns["strength"] = torch.where(asked.isnan(), _NONE, 1.0)


def _place(
    columns: dict[str, Tensor], scope: Scope, value: Any, number: Number, size: tuple[int, int]
) -> Tensor | None:
    """The columns of the location; returns the region of masks without a box."""
    rows = len(number[0])
    if isinstance(value, Tensor) and value.dim() == 4:
        sides = _from_map(value, scope, number, size)
    elif isinstance(value, Tensor):
        sides = value[:, None].expand(rows, MAX_LAYERS, 4)
    else:
        sides = torch.tensor(value, dtype=torch.float64, device="cpu").expand(rows, MAX_LAYERS, 4)
    for k, name in enumerate(("y0", "x0", "y1", "x1")):
        columns[name] = sides[:, :, k].clone()
    if not scope.confines:
        return None
    region = sides[:, 0]
    point = (region[:, 0] == region[:, 2]) & (region[:, 1] == region[:, 3])
    wanted = columns["size"][:, 0]
    share = torch.where(wanted.isnan(), _USUAL, _ROOM * wanted)
    radius = (share * (size[0] * size[1]) / torch.pi).sqrt()
    radius = torch.where(point, radius, 0.0)
    return torch.cat([region, radius[:, None]], 1)


def _from_map(value: Tensor, scope: Scope, number: Number, size: tuple[int, int]) -> Tensor:
    """Points drawn by a map's weights, float64 ``[B, copies, 4]``."""
    rows, sides = len(number[0]), tuple(value.shape[2:])
    if sides != size:
        raise ValueError(
            f"location: expected a map of {size} pixels like the images, got {sides}; resize it"
        )
    sums = value.flatten(1).cumsum(1)
    u = drawn("location", number)
    # One region confines all of a sample's copies.
    u = u[:, :1].expand(-1, MAX_LAYERS) if scope.confines else u
    sums = sums.expand(rows, -1).contiguous()
    # The first pixel up to which more than the drawn share of the weight lies: itself has some.
    pixel = torch.searchsorted(sums, (u * sums[:, -1:]).contiguous(), right=True)
    pixel = pixel.clamp(max=sums.shape[1] - 1)
    y = (torch.div(pixel, size[1], rounding_mode="floor") + 0.5) / size[0]
    x = (pixel % size[1] + 0.5) / size[1]
    return torch.stack([y, x, y, x], 2)
