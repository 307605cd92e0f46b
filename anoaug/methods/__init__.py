"""The literature: one short self-registering file per paper.

A method is a function that returns a :class:`anoaug.Synthesizer`, decorated with :func:`method`.
Files are found by themselves; README's table and ``anoaug methods`` read the registry.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import checks, config
from ..checks import one_of
from ..registry import Registry
from ..registry import keywords as keywords_of
from ..synthesizer import Synthesizer
from .inputs import STAND_INS

FAMILIES = ("self-contained", "external", "inpainting")

# What methods are for: grain without objects, a pattern that repeats, things on a ground, things
# that are at the same place in every image.
SURFACES = ("texture", "regular texture", "object", "aligned object")

# What the mask of a method marks.
MASKS = {
    "defect": "an anomaly that a detector is to find",
    "corruption": (
        "pixels hidden for a network to fill in, no defect; label 1 and kind say that some are"
    ),
}

# What people call keywords; and what they take for keywords, with the place where it belongs.
_SYNONYMS = {
    "probability": "p",
    "prob": "p",
    "texture": "textures",
    "dtd": "textures",
    "beta": "opacity",
}
_ELSEWHERE = {
    "category": "pass it at the call: synth(images, category=...)",
    "device": "leave it out: the device follows the images",
    "size": "leave it out: the size follows the images",
}


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: Name for :func:`create`.
        build: The function that makes the synthesizer.
        family: Leaf of the taxonomy: ``"self-contained"``, ``"external"`` or ``"inpainting"``.
        paper: Authors, title, venue and identifier.
        matches: Whether the paper or which code is matched where the two disagree.
        deviations: Where this implementation differs from what it matches.
        defects: Kinds of real defect it resembles.
        surfaces: Surfaces it suits, of :data:`SURFACES`.
        needs: What it cannot do without, such as ``"textures"``.
        mask: What its mask marks: a ``"defect"``, or a ``"corruption"``: pixels hidden for a
            network to fill in. Rows of the latter have label 1 and the method's kind, which then
            say that something is hidden, not that the product is bad.
        categories: What is published for each product: keywords by category, which
            :class:`anoaug.ByCategory` goes by.
    """

    name: str
    build: Callable[..., Synthesizer]
    family: str
    paper: str
    matches: str
    deviations: tuple[str, ...]
    defects: tuple[str, ...]
    surfaces: tuple[str, ...]
    needs: tuple[str, ...] = ()
    mask: str = "defect"
    categories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """The method's own keywords with their published defaults."""
        return keywords_of(self.build)

    def controls(self) -> dict[str, str]:
        """Which controls apply with the published defaults, and how; :class:`anoaug.Control`."""
        given = {name: stand_in() for name, stand_in in STAND_INS.items() if name in self.needs}
        given |= {k: STAND_INS[k]() for k in ("shapes",) if k in self.defaults()}
        return self.build(seed=0, control=True, **given).controls


_REGISTRY = Registry[Method](
    __name__, __path__, FAMILIES, Synthesizer.__init__, ("draem", "anoaug.list_methods()")
)


def method(
    name: str,
    *,
    family: str,
    paper: str,
    matches: str,
    deviations: tuple[str, ...] = (),
    defects: tuple[str, ...],
    surfaces: tuple[str, ...],
    needs: tuple[str, ...] = (),
    mask: str = "defect",
    categories: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., Synthesizer]], Callable[..., Synthesizer]]:
    """Register a method; the arguments are the fields of :class:`Method`.

    The function takes keyword-only arguments with the published defaults and ``**common``, which it
    hands on to the Synthesizer.
    """
    one_of("mask", mask, tuple(MASKS))
    for surface in surfaces:
        one_of("surfaces", surface, SURFACES)

    def register(build: Callable[..., Synthesizer]) -> Callable[..., Synthesizer]:
        made = Method(
            name, build, family, paper, matches, deviations, defects, surfaces, needs, mask,
            categories or {},
        )  # fmt: skip
        _REGISTRY.add(made)
        return build

    return register


get = _REGISTRY.get


def list_methods(family: str | None = None) -> list[str]:
    """Names of the methods, of one family or all, sorted."""
    return _REGISTRY.names(family)


def common_keywords() -> dict[str, Any]:
    """Keywords every method takes, with the Synthesizer's defaults."""
    return _REGISTRY.common()


def create(name: str, /, **keywords: Any) -> Synthesizer:
    """Make a method's synthesizer with its published defaults.

    Args:
        name: A name from :func:`list_methods`.
        keywords: Any keyword of the method, which ``describe(name)["defaults"]`` lists with their
            published values, or of :class:`anoaug.Synthesizer` (``describe(name)["common"]``);
            ``name=`` names the kind of anomaly.

    Returns:
        A synthesizer; call it on a batch of normal images ``(B, C, H, W)``.

    Raises:
        ValueError: Unknown method; the message names the nearest.
        TypeError: No name, or an unknown keyword; the message names the nearest.

    Example:
        Half of the images get a pasted patch of 5 to 20 % of their area::

            synth = anoaug.create("cutpaste", p=0.5, area=(0.05, 0.2), seed=0)
            batch = synth(images)  # batch.image, batch.mask, batch.label
    """
    chosen, known = get(name), _REGISTRY.known(name)
    for keyword in keywords:
        if keyword not in known:
            raise TypeError(
                f"create({name!r}): {keyword!r} is not a keyword of it; {_hint(keyword, known)}"
            )
    made = chosen.build(**{"name": name, **keywords})
    made._said = ("anoaug.create", (name,), config.kept(keywords))
    return made


def _hint(keyword: str, known: dict[str, Any]) -> str:
    """What was probably meant by an unknown keyword."""
    said = keyword.lower()
    if said in _ELSEWHERE:
        return _ELSEWHERE[said]
    meant = _SYNONYMS.get(said, said)
    if meant in known:
        return f"did you mean {meant}?"
    # Data that a method does not take were hardly meant for another of its keywords.
    others = sorted(name for name, other in _REGISTRY.methods.items() if keyword in other.needs)
    return f"it is for {', '.join(others)}" if others else checks.nearest(said, known)


def describe(name: str) -> dict[str, Any]:
    """What a method is, in words and values; ``anoaug methods NAME`` prints it.

    Returns:
        ``name``, ``family``, ``paper``, ``matches`` (whether paper or code), ``deviations`` from
        it, ``mask`` (``"defect"``, or ``"corruption"``: hidden pixels, no defect), ``defects`` it
        resembles, ``surfaces`` it suits, ``needs`` (what it cannot do without),
        ``controls`` (what :class:`anoaug.Control` may ask of it made with ``control=True``, and how
        that applies), ``defaults`` (its own keywords for :func:`create` with their published
        values), ``categories`` (what is published for single products, as keywords by name, for
        :class:`anoaug.ByCategory`) and ``common`` (the keywords of every method).

    Raises:
        TypeError, ValueError: As for :func:`create`.
    """
    chosen = get(name)
    return {
        "name": chosen.name,
        "family": chosen.family,
        "paper": chosen.paper,
        "matches": chosen.matches,
        "deviations": list(chosen.deviations),
        "mask": chosen.mask,
        "defects": list(chosen.defects),
        "surfaces": list(chosen.surfaces),
        "needs": list(chosen.needs),
        "controls": chosen.controls(),
        "defaults": chosen.defaults(),
        "categories": {name: dict(own) for name, own in chosen.categories.items()},
        "common": common_keywords(),
    }


@functools.lru_cache(maxsize=1)
def figures() -> dict[str, Any]:
    """How fast the methods were found to be; ``benchmarks.run --suite methods`` writes the file.

    Returns:
        ``about`` (machine, threads, date, commit), and ``methods``: by name images/s at 256 x 256,
        by ``anoaug`` (``backend="auto"``), ``anoaug-compiled``, of some ``numpy`` (a peer of ours,
        image by image) and ``original`` (the public code's own figure on a like machine).
    """
    known: dict[str, Any] = json.loads((Path(__file__).parent / "figures.json").read_text("utf-8"))
    return known
