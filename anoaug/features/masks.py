"""Masks on the grid of features: real ones brought there, synthetic ones drawn there."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, interpolate

from .. import checks, ops, recipe, rng
from ..binding import Binding, Layer
from ..masks import Given, Mask, Perlin
from ..masks.content import Seeker
from ..numbering import Numbering
from ..sources import Constant

# ---- masks of images on the features' grid -------------------------------------------------------


class Rule(str, enum.Enum):
    """When a position of the grid is anomalous. A method's own is its ``mask_rule``.

    The same sparse mask can cover ten times as much by one rule as by another.

    Attributes:
        MAXPOOL: Where the pixels it stands for reach one half anywhere (DSR, GLASS; both need
            sizes that divide, here any will do: windows of the pixels that touch the position).
        AREA: Where any of those pixels is above 0, however little.
        NEAREST: Where one pixel, the first that it stands for, reaches one half (RealNet).
        BILINEAR: Where the mask, interpolated at its centre, reaches one half (SuperSimpleNet,
            DeSTSeg).
    """

    MAXPOOL = "maxpool"
    AREA = "area"
    NEAREST = "nearest"
    BILINEAR = "bilinear"


def resize(mask: Tensor, size: tuple[int, int], rule: Rule | str) -> Tensor:
    """Bring masks of images to the grid of features.

    Args:
        mask: ``(B, 1, H, W)`` or ``(B, H, W)``: bool, integers (above 0 is inside) or floats in
            [0, 1].
        size: Height and width of the grid, smaller or larger than the mask.
        rule: A :class:`Rule` or its name.

    Returns:
        float32 {0, 1} ``(B, 1, h, w)``.

    Raises:
        TypeError: Not a tensor.
        ValueError: Another shape, size or rule.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask: expected a tensor, got {type(mask).__name__}")
    if not (mask.dim() == 3 or (mask.dim() == 4 and mask.shape[1] == 1)):
        raise ValueError(
            f"mask: expected (B, 1, H, W) or (B, H, W), got {list(mask.shape)}; "
            "one plane for each image"
        )
    name = checks.one_of("rule", rule.value if isinstance(rule, Rule) else rule, RULES)
    height, width = checked_size(size)
    level = mask.to(torch.float32) if mask.is_floating_point() else (mask > 0).to(torch.float32)
    level = level.reshape(len(mask), 1, *mask.shape[-2:])
    if not level.numel():
        if len(mask):
            raise ValueError(f"mask: expected at least one pixel, got {list(mask.shape)}")
        return level.new_zeros((0, 1, height, width))
    if name == "area":
        return (adaptive_avg_pool2d(level, (height, width)) > 0).to(torch.float32)
    if name == "maxpool":
        level = adaptive_max_pool2d(level, (height, width))
    elif name == "nearest":
        level = interpolate(level, (height, width), mode="nearest")
    else:
        level = interpolate(level, (height, width), mode="bilinear", align_corners=False)
    return (level >= 0.5).to(torch.float32)


RULES = tuple(rule.value for rule in Rule)


def checked_size(size: Any) -> tuple[int, int]:
    """Refuse what is no height and width.

    Raises:
        ValueError: See there.
    """
    if not isinstance(size, Sequence) or len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: expected height and width from 1 on, got {size!r}")
    return int(size[0]), int(size[1])


# ---- masks drawn on the features' grid -----------------------------------------------------------


def power_of_two(size: tuple[int, int]) -> tuple[int, int]:
    """The next power of two of height and width."""
    return _power(size[0]), _power(size[1])


def _power(side: int) -> int:
    # By comparisons, which leave a side that is a symbol for Dynamo free below the power.
    power = 1
    while power < side:
        power *= 2
    return power


def perlin(size: tuple[int, int], threshold: float, log2_cells: tuple[int, int] = (0, 5)) -> Perlin:
    """Perlin noise above a threshold, without rotation, as fine as a grid can show.

    Exponents beyond that of the shorter side's power of two would give cells smaller than a
    position; they are clamped (the published code fails there).

    Args:
        size: Height and width of the grid.
        threshold: Noise above this is inside.
        log2_cells: Least and greatest exponent of the cells per axis.
    """
    finest = min(power_of_two(size)).bit_length() - 1
    low, high = (min(exponent, finest) for exponent in log2_cells)
    return Perlin(log2_cells=(low, high), threshold=threshold, rotation=0.0)


class Drawing(NamedTuple):
    """A mask expression, ready to be drawn on any grid; :func:`drawing` makes one.

    Attributes:
        laws: The laws of its table.
        layout: How backends read the table.
        bound: What banks it reads; None: none.
    """

    laws: str
    layout: str
    bound: Binding | None

    def banks(self, device: torch.device) -> list[Tensor]:
        """What the layout's masks read, on a device."""
        return [] if self.bound is None else self.bound.tensors(device, 1)[0]

    def table(
        self, number: tuple[Tensor, Tensor], size: tuple[int, int], stream: str,
        device: torch.device,
    ) -> Tensor:  # fmt: skip
        """Parameters of every sample, float32 ``[B, width]``, on a device.

        Args:
            number: Sample indices and (seed, epoch), on the host.
            size: The grid's height and width.
            stream: What the masks are for; other names give other masks.
            device: Where features are; the copy does not wait.
        """
        index, state = number
        banks, histograms, numbers = self.banks(device), [], []
        if self.bound is not None:
            histograms, numbers = self.bound.tensors(device, 1)[1], self.bound.numbers
        pin = device.type == "cuda"
        table = ops.sample(
            index, forked(state, stream), torch.full_like(index, -1), banks, histograms, numbers,
            self.laws, *size, pin,
        )  # fmt: skip
        return table.to(device, non_blocking=True) if pin else table.to(device)

    def level(self, table: Tensor, size: tuple[int, int], backend: str) -> Tensor:
        """The signed level, float32 ``(B, 1, h, w)``, inside > 0."""
        return ops.field(table, self.banks(table.device), self.layout, *size, backend)


def drawing(mask: Mask, p: float = 1.0) -> Drawing:
    """A mask expression, ready to be drawn.

    Args:
        mask: An expression of ``anoaug.masks`` that needs no image.
        p: Chance that a sample gets its mask, and not an emptied one.

    Raises:
        TypeError: Not a mask.
        ValueError: One that needs an image.
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask: expected a mask of anoaug.masks, got {type(mask).__name__}")
    if any(isinstance(step, (Given, Seeker)) for step in mask.steps()):
        raise ValueError(
            "mask: expected one that needs no image: without given tensors, foregrounds and "
            "objects; resize such a mask to the grid and pass it as where="
        )
    bound = Binding([Layer(mask, Constant())], ["mask"], "mask")
    laws = _laws(bound, p)
    return Drawing(laws, recipe.layout_of(laws), bound)


def _laws(bound: Binding, p: float) -> str:
    plain = recipe.encode(recipe.Laws(bound.laws, p, (), False, 1.0, 0.0))
    return recipe.specialise(plain, 1, 1.0)


def perlin_drawing(
    size: tuple[int, int], threshold: float, log2_cells: tuple[int, int], p: float
) -> Drawing:
    """:func:`perlin`, ready to be drawn; its laws are made once."""
    return said_drawing(size, said_perlin(threshold, log2_cells, p))


def said_perlin(threshold: float, log2_cells: tuple[int, int], p: float) -> str:
    """What :func:`said_drawing` makes on any grid, as text, in which Dynamo sees no symbols."""
    return json.dumps([threshold, log2_cells, p])


def said_drawing(size: tuple[int, int], said: str) -> Drawing:
    """:func:`perlin_drawing` of what :func:`said_perlin` gave."""
    laws = _perlin_laws(size, said)
    return Drawing(laws, recipe.layout_of(laws), None)


def _perlin_laws(size: tuple[int, int], said: str) -> str:
    return _made_laws(size, said)


@functools.lru_cache(maxsize=64)
def _made_laws(size: tuple[int, int], said: str) -> str:
    threshold, log2_cells, p = json.loads(said)
    mask = perlin(size, threshold, log2_cells)
    return _laws(Binding([Layer(mask, Constant())], ["mask"], "mask"), p)


# Plain data in, a constant out: nothing for Dynamo to trace.
_perlin_laws._dynamo_marked_constant = True  # type: ignore[attr-defined]


def forked(state: Tensor, stream: str) -> Tensor:
    """(seed, epoch) with a seed of a stream's own, int64 ``[2]`` on the host."""
    return torch.stack((state[0] ^ _salt(stream), state[1]))


def _salt(stream: str) -> int:
    return rng.signed64(rng.mix64(rng.stream_id(f"features.{stream}")))


_salt._dynamo_marked_constant = True  # type: ignore[attr-defined]


def resampled(level: Tensor, size: tuple[int, int]) -> Tensor:
    """A level on another grid, bilinear; itself on its own."""
    if tuple(level.shape[-2:]) == tuple(size):
        return level
    return interpolate(level, size, mode="bilinear", align_corners=False)


def drawn(
    mask: Mask,
    size: tuple[int, int],
    index: Tensor | Sequence[int],
    epoch: int = 0,
    *,
    seed: int = 0,
    p: float = 1.0,
    grid: str = "own",
    stream: str = "mask",
    device: str | torch.device | None = None,
    backend: str | None = None,
) -> Tensor:
    """Masks drawn on the grid of features: any mask of ``anoaug.masks`` that needs no image.

    Args:
        mask: A mask or a combination of masks; sizes in pixels are positions here. For
            SuperSimpleNet's, :func:`perlin` of the grid.
        size: Height and width of the features' grid.
        index: Sample indices ``[B]`` on the host.
        epoch: Epoch in [0, 2**32).
        seed: 64-bit seed.
        p: Chance that a sample gets its mask, and not an empty one.
        grid: ``"own"``, or ``"power_of_two"``: drawn on the next power of two of either side and
            resized, bilinear, before the threshold (SuperSimpleNet).
        stream: What the masks are for; other names give other masks.
        device: Where to compute.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        float32 {0, 1} ``(B, 1, h, w)``.

    Raises:
        TypeError, ValueError: Bad input.
    """
    size = checked_size(size)
    checks.one_of("grid", grid, ("own", "power_of_two"))
    name = checks.one_of("backend", backend or ops.default_backend(), ops.BACKENDS)
    made = drawing(mask, checks.interval("p", p, 0.0, 1.0)[0])
    number = Numbering(seed)(index, epoch, len(index))
    fine = power_of_two(size) if grid == "power_of_two" else size
    table = made.table(number, fine, stream, torch.device(device or "cpu"))
    level = resampled(made.level(table, fine, name), size)
    active = (table[:, recipe.ACTIVE] > 0)[:, None, None, None]
    return ((level > 0) & active).to(torch.float32)
