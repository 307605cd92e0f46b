"""Methods that register themselves: what the registries of image and of feature methods share."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from . import checks


class Registered(Protocol):
    """What a registry asks of its entries."""

    @property
    def name(self) -> str:
        """Unique."""

    @property
    def build(self) -> Callable[..., Any]:
        """What makes one."""

    @property
    def family(self) -> str:
        """One of the registry's."""

    def defaults(self) -> dict[str, Any]:
        """Its own keywords."""


M = TypeVar("M", bound=Registered)


def keywords(build: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only arguments and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


class Registry(Generic[M]):
    """Methods by name, from all modules of a package.

    Args:
        package: Its name.
        path: Its ``__path__``.
        families: Of the methods.
        common: What takes the keywords that every method hands on.
        example: A name, and where the others are listed, for messages.
    """

    def __init__(
        self,
        package: str,
        path: Any,
        families: tuple[str, ...],
        common: Callable[..., Any],
        example: tuple[str, str],
    ) -> None:
        self.families, self.methods = families, dict[str, M]()
        self._package, self._path, self._common, self._example = package, path, common, example

    def add(self, method: M) -> None:
        """Register a method, or the same one again.

        Raises:
            ValueError: An unknown family, or a name of another module's.
        """
        checks.one_of("family", method.family, self.families)
        known = self.methods.get(method.name)
        if known is not None and known.build.__module__ != method.build.__module__:
            raise ValueError(f"method: expected a new name, got {method.name!r}, which is taken")
        self.methods[method.name] = method

    @functools.cached_property
    def _found(self) -> bool:
        """Files are found by themselves, once."""
        for module in pkgutil.iter_modules(self._path):
            importlib.import_module(f"{self._package}.{module.name}")
        return True

    def get(self, name: str) -> M:
        """A method by name.

        Raises:
            TypeError: Not a string.
            ValueError: Unknown; the message names the nearest.
        """
        assert self._found
        if not isinstance(name, str):
            example, listing = self._example
            raise TypeError(
                f"method: expected a name such as {example!r}, got {type(name).__name__}; "
                f"{listing} gives the names"
            )
        if name not in self.methods:
            hint = checks.nearest(name.lower().replace("-", "_"), self.methods)
            raise ValueError(f"method: {name!r} is unknown; {hint}")
        return self.methods[name]

    def names(self, family: str | None = None) -> list[str]:
        """Names of one family or all, sorted."""
        assert self._found
        if family is not None:
            checks.one_of("family", family, self.families)
        return sorted(n for n, m in self.methods.items() if family is None or m.family == family)

    def common(self) -> dict[str, Any]:
        """Keywords every method takes, with their defaults."""
        return keywords(self._common)

    def known(self, name: str) -> dict[str, Any]:
        """All keywords of a method: the common ones and its own."""
        return {**self.common(), **self.get(name).defaults()}
