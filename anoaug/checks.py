"""The door: every check of what a user hands in, and the one way to import an optional package.

Each function raises ValueError or TypeError with three parts: what was expected, what was got, how
to mend it.
"""

from __future__ import annotations

import difflib
import importlib
import math
import sys
from collections.abc import Iterable, Sequence
from numbers import Real
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency or say in one sentence how to get it.

    Args:
        module: Import name, for example ``"PIL.Image"``.
        extra: Name of the extra in setup.py that brings it, for example ``"images"``.

    Raises:
        ImportError: The package is missing; the message names the ``pip install`` that mends it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.split(".")[0]
        raise ImportError(
            f"{name} is needed here and is not installed: pip install 'anoaug[{extra}]'"
        ) from error


# How alike a name has to be to be meant, and how much less than the closest the others may be.
_CLOSE, _NEXT = 0.55, 0.1


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known ones, the closest first, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=_CLOSE)
    ratios = [difflib.SequenceMatcher(None, one, name).ratio() for one in close]
    close = [one for one, ratio in zip(close, ratios, strict=True) if ratio > ratios[0] - _NEXT]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"


def finite(value: Any) -> bool:
    """Neither infinite nor NaN; by comparisons, which Dynamo guards where numbers are symbols."""
    return -sys.float_info.max <= value <= sys.float_info.max


def interval(
    name: str,
    value: float | tuple[float, float],
    low: float = float("-inf"),
    high: float = float("inf"),
) -> tuple[float, float]:
    """Normalise a fixed value or a ``(low, high)`` range, refusing a reversed or outlying one."""
    pair: Any = (value, value) if isinstance(value, Real) else tuple(value)  # type: ignore[arg-type]
    if len(pair) != 2 or not all(isinstance(v, Real) for v in pair):
        raise TypeError(f"{name}: expected a number or a pair (low, high), got {value!r}")
    first, second = float(pair[0]), float(pair[1])
    if not (first <= math.inf and second <= math.inf):  # NaN, which compares with nothing
        raise ValueError(f"{name}: expected a number or a pair (low, high), got {value!r}")
    if not first <= second:
        raise ValueError(
            f"{name}: expected (low, high) with low <= high, got {value!r}; swap the two"
        )
    if not (low <= first and second <= high):
        raise ValueError(f"{name}: expected values within [{low}, {high}], got {value!r}")
    return first, second


IMAGE_DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)
# White in image units; 1 for floats.
PEAKS = {torch.uint8: 255.0, torch.uint16: 65535.0}


def images(value: Any) -> Tensor:
    """Refuse what cannot be a batch of images; costs no synchronisation.

    Raises:
        TypeError: Not a tensor, or of a dtype without a meaning as intensity.
        ValueError: Wrong rank, zero channels, a side below 2, too many pixels, or requires_grad.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"images: expected a tensor (B, C, H, W), got {type(value).__name__}; "
            "torch.stack or torch.from_numpy makes one"
        )
    if value.dim() != 4:
        hint = "add a batch axis with images[None]" if value.dim() == 3 else "use (B, C, H, W)"
        raise ValueError(f"images: expected rank 4 (B, C, H, W), got {list(value.shape)}; {hint}")
    if value.dtype not in IMAGE_DTYPES:
        known = ", ".join(str(d).removeprefix("torch.") for d in IMAGE_DTYPES)
        raise TypeError(
            f"images: expected one of {known}, got {str(value.dtype).removeprefix('torch.')}; "
            "convert with .to(torch.uint8), .to(torch.uint16) or scale to float [0, 1]"
        )
    _, channels, height, width = value.shape
    if channels < 1:
        raise ValueError(f"images: expected at least one channel, got {list(value.shape)}")
    if height < 2 or width < 2:
        raise ValueError(
            f"images: expected height and width of at least 2, got {list(value.shape)}; "
            "is the layout (B, C, H, W)?"
        )
    if channels * height * width >= 2**31:
        raise ValueError(
            f"images: expected fewer than 2**31 values per image, got {list(value.shape)}; "
            "cut them into tiles"
        )
    if width <= 4 and channels > 16:
        raise ValueError(
            f"images: expected (B, C, H, W), got {list(value.shape)}, which looks like "
            "(B, H, W, C); pass images.permute(0, 3, 1, 2)"
        )
    if value.requires_grad:
        raise ValueError(
            "images: expected a tensor without gradient, got requires_grad=True; synthesis is not "
            "differentiable: pass images.detach()"
        )
    return value


def content(value: Tensor) -> None:
    """Refuse float images outside [0, 1] or with NaN. Reads the tensor: synchronises on CUDA.

    Raises:
        ValueError: Values lie outside [0, 1] or are not finite.
    """
    if not value.dtype.is_floating_point or value.numel() == 0:
        return
    ends = torch.aminmax(value.float())
    low, high = float(ends.min), float(ends.max)  # host: once per synthesizer, or asked for
    if low != low or high != high:
        raise ValueError("images: expected finite values in [0, 1], got NaN; clean the data first")
    if low < 0.0 or high > 1.0:
        mend = (
            "divide by 255 or pass uint8"
            if low >= 0.0
            else "synthesise before Normalize and give mean= and std= to the synthesizer instead"
        )
        raise ValueError(
            f"images: expected floats in [0, 1], got values from {low:.4g} to {high:.4g}; {mend}"
        )


def plane(name: str, value: Any, like: Tensor) -> Tensor:
    """Refuse a mask or foreground that does not fit the images; returns it as ``[B, 1, H, W]``.

    bool becomes uint8 without a copy; ``[B, H, W]`` gets its channel axis.

    Raises:
        TypeError: Not a tensor, or of another dtype than bool, uint8 or float.
        ValueError: Another size or device than the images.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor (B, 1, H, W), got {type(value).__name__}")
    if value.dim() == 3:
        value = value.unsqueeze(1)
    expected = [like.shape[0], 1, *like.shape[2:]]
    if list(value.shape) != expected:
        raise ValueError(
            f"{name}: expected shape {expected} to fit the images, got {list(value.shape)}; "
            "resize it with mode='nearest'"
        )
    if value.device != like.device:
        raise ValueError(
            f"{name}: expected device {like.device} like the images, got {value.device}; "
            f"pass {name}.to({str(like.device)!r})"
        )
    if value.dtype == torch.bool:
        value = value.view(torch.uint8)
    if value.dtype != torch.uint8 and not value.dtype.is_floating_point:
        raise TypeError(f"{name}: expected bool, uint8 or float, got {value.dtype}; use .bool()")
    if value.dtype == torch.float64:
        value = value.float()
    return value.detach().contiguous()


def picture(name: str, value: Any, like: Tensor) -> Tensor:
    """Refuse what is not a tensor like the images; returns it contiguous.

    Raises:
        TypeError: Not a tensor, or of another dtype than the images.
        ValueError: Another shape or device than the images.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor (B, C, H, W), got {type(value).__name__}")
    if value.shape != like.shape:
        raise ValueError(
            f"{name}: expected shape {list(like.shape)} like the images, got {list(value.shape)}; "
            "resize it, and expand one channel with .expand"
        )
    if value.dtype != like.dtype:
        raise TypeError(
            f"{name}: expected {like.dtype} like the images, got {value.dtype}; "
            "scale and convert it as they were"
        )
    if value.device != like.device:
        raise ValueError(
            f"{name}: expected device {like.device} like the images, got {value.device}; "
            f"pass {name}.to({str(like.device)!r})"
        )
    return value.detach().contiguous()


def row_vector(name: str, value: Any, rows: int) -> Tensor:
    """Refuse labels or indices that are not one integer per sample; returns int64 ``[B]``.

    Raises:
        TypeError: Not integers.
        ValueError: Another length than the batch.
    """
    try:
        vector = value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
    except (ValueError, RuntimeError, OverflowError) as error:  # longer, or of several lengths
        raise ValueError(
            f"{name}: expected one integer in [-2**63, 2**63) per sample, got {str(value)[:80]}; "
            "hash longer numbers"
        ) from error
    if vector.numel() == 0:
        vector = vector.to(torch.int64)  # an empty list makes a float tensor
    if vector.dtype.is_floating_point or vector.dtype.is_complex:
        raise TypeError(f"{name}: expected integers, got {vector.dtype}; use .long()")
    if vector.shape != (rows,):
        raise ValueError(
            f"{name}: expected one number per sample, shape [{rows}], got {list(vector.shape)}"
        )
    return vector.to(torch.int64)


def host_rows(name: str, value: Any, rows: int) -> Tensor:
    """Refuse what is not on the host or not one integer per sample; returns int64 ``[B]``.

    Raises:
        ValueError: On another device (reading it would synchronise), or of the wrong length.
        TypeError: Not integers.
    """
    if isinstance(value, Tensor) and value.device.type != "cpu":
        raise ValueError(
            f"{name}: expected a CPU tensor, got one on {value.device}; reading it would make the "
            "host wait for the device: keep what the loader gave on the CPU"
        )
    return row_vector(name, value, rows)


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Refuse what is not an int of at least ``low`` and at most ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        span = f"from {low} on" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name}: expected a whole number {span}, got {value}")
    return value


def probability(name: str, value: float) -> float:
    """Refuse a probability outside [0, 1]."""
    if not isinstance(value, Real) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value!r}")
    return float(value)


def float_dtype(name: str, value: Any) -> torch.dtype | None:
    """Refuse what is no float dtype, its name or None.

    Raises:
        TypeError: Something else.
    """
    found = getattr(torch, value, value) if isinstance(value, str) else value
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise TypeError(f"{name}: expected a float dtype, its name or None, got {value!r}")
    return found


def odds(name: str, value: Any, count: int) -> tuple[float, ...]:
    """Refuse odds that are not ``count`` finite numbers >= 0 with a positive, finite sum.

    Raises:
        TypeError: Not a sequence of numbers.
        ValueError: Another count, a number out of range, or a sum that is.
    """
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise TypeError(
            f"{name}: expected a sequence of {count} numbers, got {value!r}; write {[1] * count}"
        )
    given: list[Any] = list(value)
    if not all(isinstance(one, Real) and 0.0 <= one < math.inf for one in given):  # type: ignore[operator]
        raise ValueError(f"{name}: expected finite numbers >= 0, got {given}; 0 leaves one out")
    if len(given) != count or not sum(given) > 0:
        raise ValueError(
            f"{name}: expected {count} numbers with a positive sum, got {given}; "
            "p=0 makes no anomalies"
        )
    try:
        found = tuple(float(one) for one in given)
    except OverflowError:
        found = (math.inf,)
    if not sum(found) < math.inf:
        raise ValueError(
            f"{name}: expected numbers with a finite sum, got {given}; divide them, only their "
            "ratios matter"
        )
    return found


def statistics(mean: Any, std: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation of a normalisation, both or neither: in [0, 1] and (0, 1]."""
    if (mean is None) != (std is None):
        raise ValueError("mean, std: expected both or neither, got one; give both")
    mean, std = numbers("mean", mean), numbers("std", std)
    if std is not None and not 0 < min(std) <= max(std) <= 1:
        raise ValueError(f"std: expected numbers in (0, 1], got {std}; divide by 255?")
    if mean is not None and not 0 <= min(mean) <= max(mean) <= 1:
        raise ValueError(f"mean: expected numbers in [0, 1], got {mean}; divide by 255?")
    return mean, std


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Return ``value`` if it is known, else raise naming the nearest."""
    if value not in known:
        hint = nearest(str(value), known)
        raise ValueError(f"{name}: expected one of {tuple(known)}, got {value!r}; {hint}")
    return value


def numbers(name: str, value: Any) -> tuple[float, ...] | None:
    """Numbers per channel as a tuple, or None; refuses anything else.

    Raises:
        TypeError: Not a sequence of numbers.
    """
    if value is None:
        return None
    try:
        return tuple(float(one) for one in value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: expected numbers per channel such as (0.485, 0.456, 0.406), got {value!r}"
        ) from error


def left_behind(**planes: Any) -> None:
    """Refuse per-pixel tensors that ``normal_transform`` would not move along.

    Raises:
        ValueError: One is given.
    """
    for name, value in planes.items():
        if value is not None:
            raise ValueError(
                f"{name}: expected none together with normal_transform, which would leave it "
                "behind; transform images and masks before the call"
            )
