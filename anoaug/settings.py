"""What of a synthesizer may be set after it was made, what may not, and all of it as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from . import checks, config, foregrounds, kornia_bridge, ops
from . import finish as finishing

if TYPE_CHECKING:
    from typing_extensions import Self

FORMATS = ("input", "contiguous", "channels_last")


def _least_area(value: Any) -> float:
    low, high = checks.interval("min_area", value, 0.0)
    if low != high:
        raise ValueError(f"min_area: expected one number, got {value!r}")
    return low


def _clean(value: Any) -> str | None:
    return value if value is None else checks.one_of("clean", value, ("input", "output"))


def _transform(one: Any, value: Any) -> Any:
    """What is done to the normal images; what is found by index would not move along."""
    if isinstance(value, Settled) and value.views:
        raise ValueError(
            "normal_transform: expected one row per image, got a Synthesizer with views; "
            "make it with views=False"
        )
    if value is not None and not callable(value):
        raise TypeError(f"normal_transform: expected a callable, got {value!r}")
    if one._made:
        for found in (one.foreground, *one._binding.finders.values()):
            foregrounds.finder(found, value is not None)
    return kornia_bridge.keyed(value)


# How each setting is checked, when a synthesizer is made and later: of itself and the value.
DOORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "label_rule": lambda _, v: checks.one_of("label_rule", v, ("footprint", "changed")),
    "tolerance": lambda _, v: checks.probability("tolerance", v),
    "min_area": lambda _, v: _least_area(v),
    "label": lambda _, v: checks.one_of("label", v, ("hard", "soft")),
    "clean": lambda _, v: _clean(v),
    "dtype": lambda _, v: checks.float_dtype("dtype", v),
    "memory_format": lambda _, v: checks.one_of("memory_format", v, FORMATS),
    "active": lambda _, v: checks.one_of("active", v, ("train", "always")),
    "foreground": lambda one, v: foregrounds.finder(v, one.normal_transform is not None),
    "normal_transform": _transform,
    "backend": lambda _, v: checks.one_of("backend", v or ops.default_backend(), ops.BACKENDS),
    "finish": lambda _, v: finishing.checked(v),
    "validate": lambda _, v: bool(v),
}


class Settled(nn.Module):
    """Base of synthesizers: keeps what they were made with and what was set since.

    Every setting is checked whenever it is set, said by :meth:`to_config` and takes effect at the
    next call. What the parts were bound with is fixed: setting it raises an AttributeError.
    """

    # Which class or function made it, with what; settings that were set since.
    _said: Any
    _since: dict[str, Any]
    # Other types come in than are kept.
    backend: Any
    foreground: Any
    dtype: Any
    min_area: Any
    normal_transform: Any
    views: Any
    # Whether it is made, so that what is fixed stays.
    _made = False
    _fixed: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Keeps what was said, for :meth:`to_config`."""
        made = super().__new__(cls)
        object.__setattr__(made, "_said", config.kept((cls, arguments, keywords)))
        object.__setattr__(made, "_since", {})
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fixed and self._made:
            raise AttributeError(
                f"{name}: expected it as {type(self).__name__} was made, got another; make a new "
                f"one, such as anoaug.from_config({{**synth.to_config(), {name!r}: ...}})"
            )
        door = DOORS.get(name)
        super().__setattr__(name, value if door is None else door(self, value))
        if door is not None and self._made:
            self._since[name] = value
            self._take_effect()

    def _take_effect(self) -> None:
        """Make anew what is made of settings."""

    def _now(self) -> dict[str, Any]:
        """Keywords that were other when it was made, or may have been."""
        return dict(self._since)

    def to_config(self) -> dict[str, Any]:
        """The synthesizer as plain data; :func:`anoaug.from_config` makes the same of it.

        Raises:
            TypeError: It holds what plain data cannot say: tensors, modules, functions.
        """
        return config.call_of(self._said, self._now())
