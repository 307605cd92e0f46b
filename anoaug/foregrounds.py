"""Foregrounds a synthesizer finds by itself: a callable on the images of each call, as one op.

What finds them is in :mod:`anoaug.prepare`; here is how it is called.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import checks, prepare

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define("foreground(Tensor images, Tensor index, str[]? names, int number) -> Tensor")

# Rules of prepare.Foreground that need no setting.
RULES = ("background", "otsu", "saliency", "triangle")

ForegroundLike = Callable[..., Tensor] | str


class Finder:
    """A callable that says where the objects are, called once per call of a synthesizer.

    It is called as ``find(images)``, or as ``find(images, index)`` if it has a parameter ``index``,
    as :class:`anoaug.prepare.Cached` does; ``index`` is then the call's, int64 ``[B]`` on the host.
    If it has a parameter ``category``, as :class:`anoaug.prepare.ByCategory` does, that is the
    names of the samples' categories, a list with "" where unknown, or None if the call brings none
    (an attribute ``by_category`` that is False says that they are not looked at).
    It returns ``(B, 1, H, W)`` on the images' device: bool, uint8 (above 0 is foreground) or float
    (above 0.5). Copies of a finder share the callable, and so what a cache holds.

    ``torch.compile`` takes the call as one opaque op. Nothing here waits for the device.

    Args:
        find: The callable, or the name of a rule of :class:`anoaug.prepare.Foreground` that needs
            no setting: ``"otsu"``, ``"triangle"``, ``"background"`` or ``"saliency"``.

    Raises:
        TypeError: Neither of these.
        ValueError: An unknown name.
    """

    dtype: ClassVar[torch.dtype] = torch.uint8
    # The keyword by which it came, and that of a call which brings what it finds.
    keywords: ClassVar[tuple[str, str]] = ("foreground", "foreground")

    def __init__(self, find: ForegroundLike) -> None:
        if isinstance(find, str):
            if find == "auto":
                raise ValueError(
                    "foreground: expected a rule, got 'auto', which has to see the product first; "
                    "pass foreground=anoaug.prepare.auto('path/to/normal/images')"
                )
            find = prepare.Foreground(checks.one_of("foreground", find, RULES))
        if not callable(find) or isinstance(find, type):
            raise TypeError(
                f"foreground: expected a callable on images such as anoaug.prepare.Foreground() "
                f"or the name of a rule, got {type(find).__name__}; masks go to the call: "
                "synth(images, foreground=masks)"
            )
        self.find: Callable[..., Tensor] = find
        self.by_index = _takes("index", find)
        self.by_category = bool(getattr(find, "by_category", _takes("category", find)))
        self._register()

    @property
    def rule(self) -> Any:
        """Equal for finders that find the same."""
        return hashable(self.find)

    def _register(self) -> None:
        self._number = next(_numbers)
        _finders[self._number] = self

    def __call__(
        self,
        images: Tensor,
        index: Tensor | Sequence[int] | None,
        category: Sequence[str] | None = None,
    ) -> Tensor:
        """The foregrounds of a batch.

        Args:
            images: ``(B, C, H, W)``.
            index: Sample indices ``[B]`` on the host, or None where the callable takes none.
            category: Names of the samples' categories, "" where unknown, likewise.

        Returns:
            uint8 ``(B, 1, H, W)``, 0 or 1.

        Raises:
            ValueError: The index is missing, or the callable's masks do not fit the images.
            TypeError: The callable gave something else than masks.
        """
        if not self.by_index:
            numbers = torch.empty(0, dtype=torch.int64, device="cpu")
        elif index is None:
            raise ValueError(
                f"index: expected one with {self.keywords[0]}={self!r}, which keeps masks by it; "
                "pass index= and an epoch (IndexedDataset gives loaders one), or "
                f"{self.keywords[1]}= itself"
            )
        else:
            numbers = checks.host_rows("index", index, len(images))
        names = list(category) if self.by_category and category is not None else None
        return _found(images, numbers, names, self._number)

    def accepted(self, found: Any, images: Tensor) -> Tensor:
        """What the callable gave, as ``__call__`` returns it."""
        found = checks.plane("foreground", found, images)
        inside = found.bool() if found.dtype == torch.uint8 else found > 0.5
        return inside.view(torch.uint8)

    def __repr__(self) -> str:
        return repr(self.find)

    def __deepcopy__(self, memo: dict[int, Any]) -> Finder:
        return Finder(self.find)

    def __reduce__(self) -> tuple[Any, ...]:
        return Finder, (self.find,)


def hashable(value: Any) -> Any:
    """Something to tell values apart by: the value, or its id where it has no hash."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def finder(value: ForegroundLike | Finder | None, moving: bool = False) -> Finder | None:
    """A finder of what a user gave; None stays None.

    Args:
        value: What the user gave.
        moving: Whether a ``normal_transform`` comes before it.

    Raises:
        ValueError: Masks by index do not move along with the image.
    """
    found = value if value is None or isinstance(value, Finder) else Finder(value)
    if moving and found is not None and found.by_index:
        raise ValueError(
            f"{found.keywords[0]}: expected one that looks at the image, with normal_transform, "
            f"got {found!r}, which would keep one transform's mask by index; give what it keeps, "
            "such as anoaug.prepare.Foreground(), or transform images before the call"
        )
    return found


def _takes(keyword: str, find: Callable[..., Any]) -> bool:
    called = find.forward if isinstance(find, nn.Module) else find
    try:
        return keyword in inspect.signature(called).parameters
    except ValueError:  # some builtins do not say
        return False


# An op takes no object, hence numbers; a finder that is gone takes its own along.
_finders: weakref.WeakValueDictionary[int, Finder] = weakref.WeakValueDictionary()
_numbers = itertools.count()


@torch.no_grad()
def _find(images: Tensor, index: Tensor, names: list[str] | None, number: int) -> Tensor:
    one = _finders[number]
    known = {"category": names} if one.by_category else {}
    rows = (index,) if one.by_index else ()
    return one.accepted(one.find(images, *rows, **known), images)


def _fake(images: Tensor, index: Tensor, names: list[str] | None, number: int) -> Tensor:
    size = (images.shape[0], 1, *images.shape[2:])
    return images.new_empty(size, dtype=_finders[number].dtype)


_library.impl("foreground", _find, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::foreground", _fake)

_found = torch.ops.anoaug.foreground.default
