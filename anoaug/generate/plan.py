"""What a data set is to be: the settings, which image is number k, and the synthesizers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import checks, methods
from ..banks import Bank, DonorBank, TextureBank, imagefolder
from ..rng import Draws
from ..synthesizer import Synthesizer
from .survey import Source

FORMATS = ("png", "bmp")
GIVEN = ("textures", "donors")  # keywords of methods that are given as folders here

# Keywords of every method that may be set here; the others are what makes a data set one.
_COMMON = ("control", "label_rule", "min_area", "tolerance")
_OURS = ("p", "views", *GIVEN)
_MET = (*GIVEN, "foreground")  # needs of methods that can be met here


@dataclass(frozen=True)
class Settings:
    """What the images depend on besides the folders; :func:`anoaug.generate.generate` explains.

    Attributes:
        n: Anomalous images.
        methods: Names of methods.
        seed: 64-bit seed.
        size: Height and width, or None for each image's own.
        resize: ``"stretch"`` or ``"crop"``.
        texture_size: Side of the textures.
        donor_size: Height and width of the donors.
        format: ``"png"`` or ``"bmp"``.
        normals: Whether the normal images are written too.
        keywords: Keywords of the methods, some as ``"method.keyword"``.
    """

    n: int
    methods: tuple[str, ...]
    seed: int = 0
    size: tuple[int, int] | None = None
    resize: str = "stretch"
    texture_size: int = 256
    donor_size: tuple[int, int] = (256, 256)
    format: str = "png"
    normals: bool = False
    keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("methods: expected at least one, got none; 'draem' is one")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods: expected each once, got {', '.join(self.methods)}")
        for name in self.methods:
            lacking = [need for need in methods.get(name).needs if need not in _MET]
            if lacking:
                raise ValueError(
                    f"methods: {name} needs {' and '.join(lacking)}, which cannot be given here; "
                    f"use anoaug.create({name!r}, ...)"
                )
        if self.n < len(self.methods):
            raise ValueError(
                f"n: expected at least one image per method, {len(self.methods)}, got {self.n}"
            )
        imagefolder.Rule(self.size or (1, 1), resize=self.resize)
        imagefolder.Rule((self.texture_size, self.texture_size))
        checks.one_of("format", self.format, FORMATS)
        for name in self.methods:
            self.keywords_of(name)

    def keywords_of(self, method: str) -> dict[str, Any]:
        """The keywords that are meant for a method: ``"keyword"`` where it has it, or its own.

        Raises:
            ValueError: A keyword that no method has, or that cannot be set here.
        """
        known = {name: {*methods.get(name).defaults(), *_COMMON} for name in self.methods}
        chosen: dict[str, Any] = {}
        for text, value in self.keywords.items():
            owner, _, keyword = text.rpartition(".")
            owners = [owner] if owner else [name for name in known if keyword in known[name]]
            if keyword in _OURS:
                raise ValueError(f"{text}: cannot be set here; see the options and arguments")
            if owner and owner not in known:
                raise ValueError(f"{text}: {owner!r} is not used; {checks.nearest(owner, known)}")
            if not owners or keyword not in known[owners[0]]:
                everything = set().union(*(known[name] for name in owners or known)) - {*_OURS}
                hint = checks.nearest(keyword, everything)
                raise ValueError(f"{text}: no keyword of {', '.join(owners or known)}; {hint}")
            if not _is_plain(value):
                raise TypeError(f"{text}: expected plain data, which a manifest can hold, got "
                                f"{value!r}; use anoaug.create() and write the images "
                                "yourself")  # fmt: skip
            if method in owners:
                chosen[keyword] = value
        return chosen

    def rule(self, source: Source) -> imagefolder.Rule:
        """How an image is brought to its size."""
        return imagefolder.Rule(self.size or source.size, source.channels, self.resize)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Settings:
        """The settings again."""
        keywords = {keyword: tupled(value) for keyword, value in data["keywords"].items()}
        return cls(**{**{k: tupled(v) for k, v in data.items()}, "keywords": keywords})


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(one) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def tupled(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples."""
    if isinstance(value, Mapping):
        return {name: tupled(one) for name, one in value.items()}
    return tuple(tupled(one) for one in value) if isinstance(value, (list, tuple)) else value


class Task(NamedTuple):
    """What is to be written as number k.

    Attributes:
        number: k.
        method: Name of the method, ``"good"`` for a normal image.
        category: Name of the category.
        ordinal: Which image of this method and category it is.
    """

    number: int
    method: str
    category: str
    ordinal: int


@dataclass(frozen=True)
class Plan:
    """Which image is number k.

    Anomalous images come first, methods in turn, then categories in turn, so that both get equal
    shares and number k does not depend on how many follow. The normal images come behind.

    Attributes:
        settings: The settings.
        sources: The normal images, sorted by name.
    """

    settings: Settings
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        least = len(self.settings.methods) * len(self.categories)
        if self.settings.n < least:
            raise ValueError(
                f"n: expected at least one image per method and category, {least}, "
                f"got {self.settings.n}"
            )

    @functools.cached_property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, sorted."""
        return tuple(sorted(self._members))

    @functools.cached_property
    def _members(self) -> dict[str, list[Source]]:
        members: dict[str, list[Source]] = {}
        for source in self.sources:
            members.setdefault(source.category, []).append(source)
        return members

    @functools.cached_property
    def _ordinals(self) -> dict[str, int]:
        return {
            source.name: place
            for members in self._members.values()
            for place, source in enumerate(members)
        }

    @property
    def total(self) -> int:
        """All images to be written."""
        return self.settings.n + (len(self.sources) if self.settings.normals else 0)

    @functools.cached_property
    def _digits(self) -> int:
        each = len(self.settings.methods) * len(self.categories)
        normal = max(map(len, self._members.values())) if self.settings.normals else 0
        return max(3, len(str(max(-(-self.settings.n // each), normal) - 1)))

    def task(self, number: int) -> Task:
        """What number k is."""
        if number >= self.settings.n:
            source = self.sources[number - self.settings.n]
            return Task(number, "good", source.category, self._ordinals[source.name])
        turn, method = divmod(number, len(self.settings.methods))
        ordinal, category = divmod(turn, len(self.categories))
        return Task(number, self.settings.methods[method], self.categories[category], ordinal)

    def source(self, task: Task, skipped: int = 0) -> Source:
        """The normal image of a task, or one of the next after it.

        All of a category are used once before one is used again, in an order that is drawn anew
        for each method and each round.
        """
        members = self._members[task.category]
        if task.method == "good":
            return members[task.ordinal]
        round_, place = divmod(task.ordinal, len(members))
        order = self._order(task.method, task.category, round_)
        return members[order[(place + skipped) % len(members)]]

    def _order(self, method: str, category: str, round_: int) -> list[int]:
        return _shuffled(
            self.settings.seed, f"sources of {method} of {category}", round_,
            len(self._members[category]),
        )  # fmt: skip

    def names(self, task: Task) -> tuple[str, str]:
        """Relative POSIX names of the image and its mask, ``""`` for no mask."""
        stem = f"{task.ordinal:0{self._digits}d}"
        end = self.settings.format
        if task.method == "good":
            return f"{task.category}/train/good/{stem}.{end}", ""
        return (
            f"{task.category}/test/{task.method}/{stem}.{end}",
            f"{task.category}/ground_truth/{task.method}/{stem}_mask.png",
        )

    def folders(self) -> list[str]:
        """Every folder that files are written to."""
        found = []
        for category in self.categories:
            for method in self.settings.methods:
                found += [f"{category}/test/{method}", f"{category}/ground_truth/{method}"]
            if self.settings.normals:
                found.append(f"{category}/train/good")
        return found


@functools.lru_cache(maxsize=64)
def _shuffled(seed: int, name: str, round_: int, count: int) -> list[int]:
    words = Draws(seed, round_, np.arange(count), {name: 1}).words(name, 1)[0]
    order: list[int] = np.argsort(words, kind="stable").tolist()  # host: the plan of a run
    return order


def banks(
    settings: Settings, folder: Path, textures: Path | None, donors: Path | None, progress: bool
) -> dict[str, Bank]:
    """The banks that the methods read, by keyword."""
    wanted = {keyword for name in settings.methods for keyword in methods.get(name).defaults()}
    found: dict[str, Bank] = {}
    if "textures" in wanted and textures is None:
        found["textures"] = TextureBank.procedural(size=settings.texture_size)
    elif "textures" in wanted:
        found["textures"] = TextureBank.from_folder(
            textures, size=settings.texture_size, progress=progress  # type: ignore[arg-type]
        )  # fmt: skip
    if "donors" in wanted:
        found["donors"] = DonorBank.from_folder(
            donors or folder, size=settings.donor_size, progress=progress, resize=settings.resize
        )
    return found


def synthesizers(settings: Settings, found: Mapping[str, Bank]) -> dict[str, Synthesizer]:
    """The methods' synthesizers, which make every image anomalous.

    Raises:
        ValueError, TypeError: A keyword's value is refused.
    """
    made = {}
    for name in settings.methods:
        defaults = methods.get(name).defaults()
        given: dict[str, Any] = {k: bank for k, bank in found.items() if k in defaults}
        if "views" in defaults:  # a file shows one
            given["views"] = False
        made[name] = methods.create(
            name, **settings.keywords_of(name), **given, p=1.0, seed=settings.seed, active="always"
        )
    return made


def commonest_size(sources: Sequence[Source]) -> tuple[int, int]:
    """The size that most images have; the greatest of several."""
    sizes = [source.size for source in sources]
    return max(sorted(set(sizes), reverse=True), key=sizes.count)
