"""Control: what a user asks of the anomalies, in place of what a method would draw."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..prepare.variation import Variation

UNITS = ("weight", "difference", "sigma")

# The least and the greatest number that a field may ask for.
BOUNDS: dict[str, tuple[float, float]] = {
    "size": (0.0, 1.0),
    "strength": (0.0, math.inf),
    "aspect": (1e-3, 1e3),
    "rotation": (-360.0, 360.0),
    "count": (0.0, 4.0),
}
NAMED = ("shape", "kind")


@dataclass(frozen=True, eq=False)
class Control:
    """Where anomalies are, how large, how strong, of what shape, how many and of which kind.

    Given to a synthesizer, ``anoaug.create("draem", control=anoaug.Control(size=0.02))``, it holds
    for every call; given to a call, ``synth(images, control=...)``, for that one, field by field
    before the synthesizer's. A dict of the same fields will do. What is None goes by the method's
    own laws, whose other draws do not change. ``anoaug.describe(name)["controls"]`` says which
    controls a method has and how they apply; one that it lacks is refused.

    Each field is one of

    * a value for all samples;
    * a pair ``(low, high)``, from which every copy of every sample draws, uniformly, or, of
      ``shape`` and ``kind``, several names, of which one is drawn, each as likely;
    * at a call, one value per sample: a tensor on the CPU or an array ``[B]`` (of ``location``
      ``[B, 2]`` or ``[B, 4]``); NaN, of names -1 or ``""``, leaves a sample its law.

    Args:
        size: Area of each copy as a share of the image, in (0, 1]. Rectangles, patches and shapes
            get sides to fit; what a foreground cuts off goes. Masks from noise get the threshold
            that leaves this share within the foreground and the location.
        location: Shares of the image: a point ``(y, x)``, a box ``(y0, x0, y1, x1)``, or a tensor
            ``[1 or B, 1, H, W]`` on the CPU of weights >= 0, from which a pixel is drawn as a
            point. A mask with a box of its own has its centre there, moved into the image where it
            fits. Others are confined to the box, or to a disc about the point that has room for
            four times ``size`` (else a tenth of the image); if a synthesizer has layers of both
            kinds, so are all. A foreground still holds.
        strength: How strong the source is, in the unit below.
        unit: ``"weight"`` (by default): the source's weight, in [0, 1]; ``"difference"``: the mean
            absolute difference from the image that is reached inside the mask, in [0, 1], at most
            that of the whole weight; ``"sigma"``: that in units of ``variation``.
        variation: How much normal images vary: an :class:`anoaug.prepare.Variation`, or a standard
            deviation in [0, 1].
        shape: Kind of shape, of masks that draw from a ShapeBank: a name or number out of
            ``synth.shapes``.
        aspect: Width / height.
        rotation: Degrees.
        count: How many copies there are, counted over all layers; 0 leaves the sample normal.
        kind: Which kind of anomaly a sample gets if it is to be anomalous: a name, or a number into
            ``synth.kinds``; of a OneOf also a member's name.

    Raises:
        TypeError, ValueError: A field is none of the above.
    """

    size: Any = None
    location: Any = None
    strength: Any = None
    unit: str | None = None
    variation: Variation | float | None = None
    shape: Any = None
    aspect: Any = None
    rotation: Any = None
    count: Any = None
    kind: Any = None

    def __post_init__(self) -> None:
        for name in BOUNDS:
            self._set(name, self._numbers(name, getattr(self, name)))
        for name in NAMED:
            self._set(name, self._names(name, getattr(self, name)))
        self._set("location", self._location(self.location))
        if self.unit is not None:
            checks.one_of("unit", self.unit, UNITS)
        if isinstance(self.variation, Real) and not isinstance(self.variation, bool):
            self._set("variation", Variation(float(self.variation)))
        if self.variation is not None and not isinstance(self.variation, Variation):
            raise TypeError(
                "variation: expected an anoaug.prepare.Variation or a standard deviation in "
                f"[0, 1], got {type(self.variation).__name__}"
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _numbers(self, name: str, value: Any) -> Any:
        """A range, or a float64 tensor ``[B]``."""
        if value is None:
            return None
        low, high = BOUNDS[name]
        if isinstance(value, (Tensor, np.ndarray)):
            values = _on_host(name, value, (1,))
            if torch.compiler.is_compiling():
                return values
            known = values[~values.isnan()]
            least, most = (float(known.min()), float(known.max())) if len(known) else (high, low)
            _refuse_outside(name, (least, most) if len(known) else (), value)
            _refuse_parts(name, known, value)
            return values
        if isinstance(value, (bool, str)):
            raise TypeError(f"{name}: expected a number or a pair (low, high), got {value!r}")
        pair = checks.interval(name, value, low, high)
        _refuse_outside(name, pair, value)
        _refuse_parts(name, pair, value)
        return pair

    def _names(self, name: str, value: Any) -> Any:
        """Names or numbers to choose from, or an array ``[B]`` of them."""
        if isinstance(value, Tensor):
            return _on_host(name, value, (1,), whole=True).numpy()
        if isinstance(value, np.ndarray):
            if value.ndim != 1 or value.dtype.kind not in "iuU":
                raise TypeError(
                    f"{name}: expected names or whole numbers [B], got {value.dtype} "
                    f"{list(value.shape)}"
                )
            return value
        if value is None:
            return None
        several = isinstance(value, Iterable) and not isinstance(value, str)
        values = tuple(value) if several else (value,)
        if not values or not all(
            isinstance(one, (str, int)) and not isinstance(one, bool) for one in values
        ):
            raise TypeError(f"{name}: expected a name, a number or several, got {value!r}")
        return values

    def _location(self, value: Any) -> Any:
        """Four numbers, a float64 tensor ``[B, 4]``, or a map ``[1 or B, 1, H, W]``."""
        if value is None:
            return None
        if isinstance(value, (Tensor, np.ndarray)):
            if value.ndim == 1:
                raise ValueError(
                    f"location: expected points [B, 2], boxes [B, 4] or a map [1 or B, 1, H, W], "
                    f"got {list(value.shape)}; a place for all samples is a tuple: "
                    "location=(0.5, 0.5)"
                )
            values = _on_host("location", value, (2, 4))
            if values.dim() == 4:
                return _checked_map(values)
            if values.shape[1] not in (2, 4):
                raise ValueError(
                    "location: expected points [B, 2], boxes [B, 4] or a map [1 or B, 1, H, W], "
                    f"got {list(values.shape)}"
                )
            boxes = values if values.shape[1] == 4 else values.repeat(1, 2)
            if torch.compiler.is_compiling():
                return boxes
            free = boxes.isnan()
            if bool((free.any(1) & ~free.all(1)).any()):
                raise ValueError(
                    "location: expected samples of which all numbers are NaN, which leaves them "
                    "their law, or none, got some of each; a box (0, x0, 1, x1) leaves the height"
                )
            for box in boxes[~boxes.isnan().any(1)].tolist():  # host: refused elsewhere
                _check_box(box, box)
            return boxes
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) not in (2, 4):
            raise ValueError(
                "location: expected a point (y, x), a box (y0, x0, y1, x1), in shares of the "
                f"image, or a tensor, got {value!r}"
            )
        if not all(isinstance(one, Real) for one in value):
            raise TypeError(f"location: expected numbers, got {value!r}")
        box = tuple(float(one) for one in value) * (4 // len(value))
        _check_box(box, value)
        return box

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are not None, without ``unit`` and ``variation``."""
        names = (*BOUNDS, *NAMED, "location")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def by_sample(self) -> tuple[str, ...]:
        """The fields that have one value per sample."""
        return tuple(
            name
            for name, value in self.given.items()
            if isinstance(value, (Tensor, np.ndarray)) and (value.ndim < 4 or len(value) > 1)
        )

    def over(self, other: Control | None) -> Control:
        """This control, with what it leaves open from another."""
        if other is None:
            return self
        mine = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        }
        return dataclasses.replace(other, **mine)

    def take(self, rows: Tensor) -> Control:
        """The control of some samples, int64 numbers on the host."""
        some = {}
        for name in self.by_sample:
            value = getattr(self, name)
            some[name] = value[rows.numpy() if isinstance(value, np.ndarray) else rows]
        return dataclasses.replace(self, **some)

    def __repr__(self) -> str:
        told = []
        for name, value in self.given.items():
            if isinstance(value, (Tensor, np.ndarray)):
                value = f"<{list(value.shape)}>"
            elif len(value) == 1:
                value = repr(value[0])
            elif name in BOUNDS and value[0] == value[1]:
                value = f"{value[0]:g}"
            told.append(f"{name}={value}")
        told += [f"{n}={getattr(self, n)!r}" for n in ("unit", "variation") if getattr(self, n)]
        return f"Control({', '.join(told)})"


# Not asked of dataclasses in a call: torch.compile traces one.
FIELDS = tuple(field.name for field in dataclasses.fields(Control))


def as_control(value: Any, by_sample: bool = True) -> Control | None:
    """A control from what a user gave: a Control, a mapping of its fields, True for none yet.

    Args:
        value: See above; None and False stay None.
        by_sample: Whether fields may have one value per sample.

    Raises:
        TypeError, ValueError: It is none, or has fields that no control has.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Control()
    if isinstance(value, Mapping):
        for name in value:
            if name not in FIELDS:
                raise ValueError(
                    f"control: {name!r} is no field of it; {checks.nearest(str(name), FIELDS)}"
                )
        value = Control(**value)
    if not isinstance(value, Control):
        raise TypeError(
            f"control: expected anoaug.Control, a dict of its fields or True, got "
            f"{type(value).__name__}"
        )
    if not by_sample and value.by_sample:
        raise ValueError(
            f"control: expected one value or a range for all samples, got one per sample in "
            f"{', '.join(value.by_sample)}; give those to the call, synth(images, control=...)"
        )
    return value


def _on_host(name: str, value: Any, dims: tuple[int, ...], whole: bool = False) -> Tensor:
    """A float64 tensor (or int64) on the host, of so many dimensions."""
    if isinstance(value, np.ndarray) and value.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected numbers, got an array of {value.dtype}")
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
    if tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected numbers, got {tensor.dtype}")
    if tensor.device.type != "cpu":
        raise ValueError(
            f"{name}: expected a CPU tensor, got one on {tensor.device}; laws read it on the host, "
            "which would have to wait for the device"
        )
    if tensor.dim() not in dims:
        raise ValueError(
            f"{name}: expected one value per sample, {' or '.join(map(str, dims))} dimensions, got "
            f"{list(tensor.shape)}"
        )
    if whole and tensor.dtype.is_floating_point:
        raise TypeError(f"{name}: expected whole numbers, got {tensor.dtype}; use .long()")
    return tensor.detach().to(torch.int64 if whole else torch.float64)


def _refuse_outside(name: str, ends: Any, value: Any) -> None:
    """Refuse numbers beyond a field's bounds; a size of 0 too."""
    low, high = BOUNDS[name]
    if len(ends) and not (low <= ends[0] and ends[1] <= high and (name != "size" or ends[0] > 0)):
        interval = "(0, 1]" if name == "size" else f"[{low:g}, {high:g}]"
        raise ValueError(
            f"{name}: expected numbers in {interval}, got {str(value)[:80]}; "
            "NaN leaves a sample its law"
        )


def _refuse_parts(name: str, numbers: Any, value: Any) -> None:
    """Refuse a count that is no whole number."""
    if name == "count" and any(float(one) % 1 for one in numbers):
        raise ValueError(f"count: expected whole numbers, got {str(value)[:80]}")


def _check_box(box: Sequence[float], value: Any) -> None:
    y0, x0, y1, x1 = box
    if not (0.0 <= y0 <= y1 <= 1.0 and 0.0 <= x0 <= x1 <= 1.0):
        raise ValueError(
            "location: expected shares of the image, 0 <= y0 <= y1 <= 1 and 0 <= x0 <= x1 <= 1, "
            f"got {value!r}; divide pixels by the image's sides"
        )


def _checked_map(values: Tensor) -> Tensor:
    if values.shape[1] != 1 or 0 in values.shape[1:]:
        raise ValueError(f"location: expected a map [1 or B, 1, H, W], got {list(values.shape)}")
    if torch.compiler.is_compiling():
        return values
    if not bool((values >= 0).all()) or not bool(torch.isfinite(values).all()):
        raise ValueError("location: expected a map of finite weights >= 0; clamp it at 0")
    if not bool((values.flatten(1).sum(1) > 0).all()):
        raise ValueError("location: expected a map with some weight above 0 for every sample")
    return values
