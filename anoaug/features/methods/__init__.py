"""The literature's feature-space methods: one short self-registering file per paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ... import checks
from ...registry import Registry
from ...registry import keywords as keywords_of
from ..perturbation import Perturbation

FAMILIES = ("prior-dependent", "data-driven", "appearance")


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: Name for :func:`create`.
        build: The class, or a function, that makes the perturbation.
        family: Leaf of the taxonomy: ``"prior-dependent"`` or ``"data-driven"``; or
            ``"appearance"``: changes how normal features look and leaves labels alone.
        paper: Authors, title, venue and identifier.
        matches: Whether the paper or which code is matched where the two disagree.
        deviations: Where this implementation differs from what it matches.
        features: What it was made for: the features, their layout and channels.
        labels: What its mask and label say.
        needs: What it cannot do without, such as ``"fit"``.
    """

    name: str
    build: Callable[..., Any]
    family: str
    paper: str
    matches: str
    deviations: tuple[str, ...]
    features: str
    labels: str
    needs: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """The method's own keywords with their published defaults."""
        return keywords_of(self.build)


_REGISTRY = Registry[Method](
    __name__, __path__, FAMILIES, Perturbation.__init__,
    ("simplenet", "anoaug.features.list_methods()"),
)  # fmt: skip


def method(
    name: str,
    *,
    family: str,
    paper: str,
    matches: str,
    deviations: tuple[str, ...] = (),
    features: str,
    labels: str,
    needs: tuple[str, ...] = (),
) -> Callable[[Any], Any]:
    """Register a method; the arguments are the fields of :class:`Method`.

    What is decorated takes keyword-only arguments with the published defaults and ``**common``,
    which it hands on to :class:`Perturbation`.
    """

    def register(build: Any) -> Any:
        _REGISTRY.add(
            Method(name, build, family, paper, matches, deviations, features, labels, needs)
        )
        return build

    return register


get = _REGISTRY.get


def list_methods(family: str | None = None) -> list[str]:
    """Names of the methods, of one family or all, sorted."""
    return _REGISTRY.names(family)


def common_keywords() -> dict[str, Any]:
    """Keywords every method takes, with their defaults."""
    return _REGISTRY.common()


def create(name: str, /, **keywords: Any) -> Any:
    """Make a method's perturbation with its published defaults.

    Args:
        name: A name from :func:`list_methods`.
        keywords: Any keyword of the method, which ``describe(name)["defaults"]`` lists with their
            published values, or of :class:`Perturbation` (``describe(name)["common"]``).

    Raises:
        ValueError: Unknown method; the message names the nearest.
        TypeError: An unknown keyword; the message names the nearest.

    Example:
        Noise on a detector's adapted features::

            perturb = anoaug.features.create("simplenet", seed=0)
            fake = perturb(adapted)  # .features, .mask, .label, .clean
    """
    chosen, known = get(name), _REGISTRY.known(name)
    for keyword in keywords:
        if keyword not in known:
            raise TypeError(
                f"create({name!r}): {keyword!r} is not a keyword of it; "
                f"{checks.nearest(keyword.lower(), known)}"
            )
    return chosen.build(**keywords)


def describe(name: str) -> dict[str, Any]:
    """What a method is, in words and values: the fields of :class:`Method`, and its keywords."""
    chosen = get(name)
    return {
        "name": chosen.name,
        "family": chosen.family,
        "paper": chosen.paper,
        "matches": chosen.matches,
        "deviations": list(chosen.deviations),
        "features": chosen.features,
        "labels": chosen.labels,
        "needs": list(chosen.needs),
        "defaults": chosen.defaults(),
        "common": common_keywords(),
    }
