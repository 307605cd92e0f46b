"""What a mask is, and how masks combine: ``&``, ``|`` and ``~`` make postfix programs of parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..parts import Context, Part, Values, part


class Mask:
    """Base of everything that says where: parts and their combinations."""

    def steps(self) -> tuple[MaskPart, ...]:
        """The mask as postfix parts."""
        raise TypeError(f"expected a mask, got {type(self).__name__}")

    def __and__(self, other: Mask) -> Mask:
        """Inside both."""
        return Expression((*self.steps(), *_steps(other), Intersection()))

    def __or__(self, other: Mask) -> Mask:
        """Inside either."""
        return Expression((*self.steps(), *_steps(other), Union()))

    def __bool__(self) -> bool:
        """Refused: ``and``, ``or`` and ``not`` would silently drop a mask."""
        raise TypeError("mask: expected & | ~ to combine masks, got and, or, not (or an if)")

    def __invert__(self) -> Mask:
        """Outside."""
        return Expression((*self.steps(), Complement()))


def _steps(other: object) -> tuple[MaskPart, ...]:
    if not isinstance(other, Mask):
        raise TypeError(f"mask: expected a mask to combine with, got {type(other).__name__}")
    return other.steps()


class MaskPart(Part, Mask):
    """Base of mask parts: a registered frozen dataclass with a function and a law."""

    role: ClassVar[str] = "masks"
    # Whether ``sample`` publishes the mask's box, which "elsewhere" sources need.
    frames: ClassVar[bool] = False
    # The column that shifts the level, and whether a larger number raises or lowers it (1 or -1).
    shifts: ClassVar[tuple[str, int] | None] = None

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls that its law obeys, see :class:`anoaug.Control`."""
        return ()

    def steps(self) -> tuple[MaskPart, ...]:
        """Itself."""
        return (self,)


@dataclass(frozen=True)
class Expression(Mask):
    """A combination of masks in postfix order."""

    parts: tuple[MaskPart, ...]

    def steps(self) -> tuple[MaskPart, ...]:
        """The parts in postfix order."""
        return self.parts


@part
@dataclass(frozen=True)
class Intersection(MaskPart):
    """Operator ``&``: the smaller level."""

    function: ClassVar[str] = "intersection"


@part
@dataclass(frozen=True)
class Union(MaskPart):
    """Operator ``|``: the larger level."""

    function: ClassVar[str] = "union"


@part
@dataclass(frozen=True)
class Complement(MaskPart):
    """Operator ``~``: the negated level."""

    function: ClassVar[str] = "complement"


@part
@dataclass(frozen=True)
class Joined(MaskPart):
    """The operator of :func:`joined`.

    Args:
        odds: Of inside either, inside both, and the first mask alone: numbers >= 0, of which only
            the ratios matter.
    """

    odds: tuple[float, float, float] = (1.0, 1.0, 1.0)

    function: ClassVar[str] = "joined"

    def __post_init__(self) -> None:
        odds = tuple(float(odd) for odd in self.odds)
        if len(odds) != 3 or not 0 <= min(odds) <= max(odds) < float("inf") or sum(odds) == 0:
            raise ValueError(
                "odds: expected three numbers >= 0 with a positive sum, of inside either, inside "
                f"both, the first alone, got {self.odds!r}"
            )
        object.__setattr__(self, "odds", odds)

    @property
    def words(self) -> int:
        """One: the choice."""
        return 1

    def columns(self, channels: int) -> dict[str, int]:
        """The choice."""
        return {"mode": 1}

    def sample(self, context: Context) -> Values:
        """Draw the choice: 0 either, 1 both, 2 the first."""
        bounds = np.cumsum(self.odds) / np.sum(self.odds)
        mode = np.searchsorted(bounds, context.uniform(1)[0], side="right")
        return {"mode": mode.astype(np.int32)}


def joined(first: Mask, second: Mask, odds: Sequence[float] = (1.0, 1.0, 1.0)) -> Mask:
    """For each sample inside either mask, inside both, or the first alone (GLASS).

    Args:
        first: A mask.
        second: Another.
        odds: Of the three, in this order: numbers >= 0, of which only the ratios matter.
    """
    return Expression((*_steps(first), *_steps(second), Joined(tuple(odds))))  # type: ignore[arg-type]
