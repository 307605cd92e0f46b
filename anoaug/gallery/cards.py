"""What a card tells and shows, and the cards of the image methods, from the registry alone."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import checks, methods, viz
from ..banks import Bank
from ..batch import AnomalyBatch
from ..synthesizer import Synthesizer

GAIN = 4  # by which differences are multiplied, that faint ones can be seen
DRAWS = 12  # at most, until an image has an anomaly
_QUALITY = 88  # of JPEG: anomalies stay as they are to the eye


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Args:
        kind: What it shows, the heading of its column.
        alt: The same in words, for those who do not see it.
        mime: ``"image/jpeg"`` or ``"image/png"``.
        data: The file.
        size: Height and width in pixels.
    """

    kind: str
    alt: str
    mime: str
    data: bytes
    size: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """Pictures that belong together, with a line of text: what was drawn."""

    label: str
    told: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Parameter:
    """A keyword, its default as Python writes it, and what it means."""

    name: str
    default: str
    text: str


@dataclass(frozen=True)
class Card:
    """A method as a reader chooses by; plain text, in which ````code```` may stand.

    Args:
        name: What ``create`` takes.
        group: The leaf of the taxonomy, by which cards are put together.
        summary: One line.
        paper: Authors, title, venue and identifier.
        tags: Lists of words by head, such as ``surfaces``; those that readers filter by.
        facts: Further pairs of head and text.
        lists: Further lists of sentences by head, such as ``deviations``.
        parameters: The method's own keywords.
        rows: Pictures.
        note: Why there are none, or what to know when looking at them.
    """

    name: str
    group: str
    summary: str
    paper: str
    tags: Mapping[str, tuple[str, ...]]
    facts: tuple[tuple[str, str], ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    rows: tuple[Row, ...] = ()
    note: str = ""


def method_cards(
    names: Sequence[str],
    images: Tensor,
    labels: Sequence[str],
    banks: Mapping[str, Bank],
    *,
    seed: int = 0,
    categories: Sequence[str] | None = None,
    surfaces: Sequence[Sequence[str]] | None = None,
    backend: str | None = None,
) -> Iterator[Card]:
    """Cards of image methods with their published defaults, each image anomalous, one by one.

    A draw that leaves no trace is drawn again under the next epoch, so that a card shows what a
    method does and not how often it does it.

    Args:
        names: Names of methods.
        images: Normal images ``[B, C, H, W]`` as for :func:`anoaug.viz.pixels`.
        labels: A name per image.
        banks: What can be given to methods, by keyword, such as ``textures`` and ``donors``. A
            method that needs another gets a card without pictures that says so.
        seed: Of the synthesizers.
        categories: Per image, that of its donors where the bank has categories.
        surfaces: Per image, what it shows, of :data:`anoaug.methods.SURFACES`: a method is drawn on
            images of a surface that it suits; None: on all.
        backend: As for every method.

    Raises:
        ValueError: An unknown method or surface, labels or surfaces that do not fit the images, or
            images that a method refuses; the message names it.
    """
    checks.images(images)
    if len(labels) != len(images) or len(images) == 0:
        raise ValueError(
            f"labels: expected a name for each of 1 or more images, got {len(labels)} names and "
            f"{len(images)} images"
        )
    known = _known(surfaces, len(images))
    before = [_photo("normal", label, image) for label, image in zip(labels, viz.pixels(images),
                                                                     strict=True)]  # fmt: skip
    for name in names:
        method = methods.get(name)
        lacking = [need for need in method.needs if need not in banks]
        if lacking:
            note = f"Not drawn: it needs {' and '.join(lacking)}, which was not given."
            yield _told(method, (), note)
            continue
        suits = set(method.surfaces)
        keep = [n for n, shown in enumerate(known) if shown is None or not suits.isdisjoint(shown)]
        if not keep:
            note = f"Not drawn: it suits {' and '.join(method.surfaces)}, which no image shows."
            yield _told(method, (), note)
            continue
        keywords: dict[str, Any] = {
            keyword: bank
            for keyword, bank in banks.items()
            if keyword in method.needs or (keyword == "textures" and keyword in method.defaults())
        }
        synth = methods.create(name, p=1.0, seed=seed, backend=backend, **keywords)
        call = {}
        if categories is not None and synth.categories:
            call["category"] = [categories[n] for n in keep]
        # Numbered as among all, so that an image has the same anomaly whatever is left out.
        own = ([labels[n] for n in keep], [before[n] for n in keep], keep)
        try:
            rows = _drawn(synth, images[keep] if len(keep) < len(images) else images, *own, call)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
        yield _told(method, rows, "")


def _known(surfaces: Sequence[Sequence[str]] | None, count: int) -> Sequence[Sequence[str] | None]:
    """The surfaces of each image, or None for each."""
    if surfaces is None:
        return [None] * count
    if len(surfaces) != count:
        raise ValueError(
            f"surfaces: expected those of each of {count} images, got {len(surfaces)}; () for an "
            "image on which nothing is to be drawn"
        )
    for one in surfaces:
        for surface in one:
            checks.one_of("surfaces", surface, methods.SURFACES)
    return surfaces


# ---- facts ---------------------------------------------------------------------------------------


def _told(method: methods.Method, rows: tuple[Row, ...], note: str) -> Card:
    known = methods.describe(method.name)
    lists = [("deviations", tuple(known["deviations"]))]
    if known.get("controls"):
        lists.insert(0, ("controls", _sentences(known["controls"])))
    return Card(
        name=known["name"],
        group=known["family"],
        summary=summary(method.build),
        paper=known["paper"],
        tags={
            **{key: tuple(known[key]) for key in ("surfaces", "defects", "needs")},
            "mask": (known["mask"],),
        },
        facts=(
            ("matches", known["matches"]),
            ("its mask", methods.MASKS[known["mask"]]),
            *_speed(method.name),
        ),
        lists=tuple((head, sentences) for head, sentences in lists if sentences),
        parameters=parameters(method.build, known["defaults"]),
        rows=rows,
        note=note,
    )


def _speed(name: str) -> Iterator[tuple[str, str]]:
    """What was measured, if anything was."""
    measured = methods.figures()
    rates = measured["methods"].get(name, {})
    heads = {"anoaug-compiled": "compiled", "anoaug": "auto", "original": "the original"}
    told = [f"{head} {rates[key]:,.0f}" for key, head in heads.items() if key in rates]
    if told:
        yield (
            "images/s",
            f"{', '.join(told)} (256 x 256, one thread of {measured['about']['machine']})",
        )


def _sentences(value: Any) -> tuple[str, ...]:
    """A list as it is; of a mapping, its pairs."""
    if isinstance(value, Mapping):
        return tuple(f"``{key}``: {text}" for key, text in value.items())
    return tuple(str(one) for one in value)


def summary(build: Any) -> str:
    """The first sentence of a docstring."""
    text = inspect.cleandoc(build.__doc__ or "")
    return " ".join(text.split("\n\n")[0].split())


def parameters(build: Any, defaults: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Keywords with their defaults and what a docstring's ``Args:`` say of them."""
    _, _, rest = inspect.cleandoc(build.__doc__ or "").partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", rest)[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    texts = {name: " ".join(text.split()) for name, text in entries}
    return tuple(
        Parameter(name, repr(value), texts.get(name, "")) for name, value in defaults.items()
    )


# ---- pictures ------------------------------------------------------------------------------------


@torch.no_grad()
def _drawn(
    synth: Synthesizer,
    images: Tensor,
    labels: Sequence[str],
    before: Sequence[Picture],
    index: Sequence[int],
    call: Mapping[str, Any],
) -> tuple[Row, ...]:
    rows: dict[int, Row] = {}
    for epoch in range(DRAWS):
        batch = synth(images, index=index, epoch=epoch, **call)
        shows = batch.extras.get("source_row")
        # host: a page is written from here on
        sources = list(range(len(batch.image))) if shows is None else shows.tolist()
        views: dict[int, list[int]] = {}
        for at, source in enumerate(sources):
            views.setdefault(source, []).append(at)
        for number in sorted(views.keys() - rows.keys()):
            # One view of each image, another of the next, so that all are seen.
            at = views[number][number % len(views[number])]
            if int(batch.label[at]) or epoch == DRAWS - 1:
                rows[number] = _row(synth, batch, at, labels[number], before[number])
        if len(rows) == len(images):
            break
    return tuple(rows[number] for number in sorted(rows))


def _row(synth: Synthesizer, batch: AnomalyBatch, at: int, label: str, before: Picture) -> Row:
    assert batch.clean is not None  # these synthesizers are made here, with clean="input"
    shown, original = (viz.pixels(of[at : at + 1])[0] for of in (batch.image, batch.clean))
    difference = (shown.int() - original.int()).abs().amax(0, keepdim=True) * GAIN
    text = f"no anomaly in {DRAWS} draws"
    if int(batch.label[at]):
        drawn = viz.captions_of(synth, batch, at)[0].split("\n")[1]
        share = 100.0 * float((batch.mask[at] > 0).float().mean())
        kind = synth.kinds[int(batch.kind[at])]
        text = ", ".join(word for word in (kind, drawn, f"mask {_percent(share)}") if word)
    clean = _photo("normal", label, original)
    return Row(
        label,
        text,
        (
            before if clean.data == before.data else clean,
            _photo("anomalous", label, shown),
            _picture("mask", f"mask: {label}", (batch.mask[at].clamp(0, 1) * 255 + 0.5), "png"),
            _picture("difference", f"difference: {label}", difference.clamp(max=255), "jpeg"),
        ),
    )


def _percent(share: float) -> str:
    """A percentage with a digit that says something, however small the share."""
    return f"{share:.0f} %" if share >= 10 else f"{share:.1g} %" if share < 1 else f"{share:.1f} %"


def _photo(kind: str, label: str, image: Tensor) -> Picture:
    grey = bool((image == image[:1]).all())  # host: pictures are for the eye
    return _picture(kind, f"{kind}: {label}", image[:1] if grey else image, "jpeg")


def _picture(kind: str, alt: str, image: Tensor, form: str) -> Picture:
    """An image ``[C, H, W]``, 0 to 255, as a file's bytes, the same for the same pixels."""
    pillow = checks.require("PIL.Image", "images")
    values = image.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()  # host: a file
    made = pillow.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    stream = io.BytesIO()
    if form == "png":
        made.save(stream, format="PNG", optimize=True)
    else:
        made.save(stream, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return Picture(kind, alt, f"image/{form}", stream.getvalue(), (image.shape[1], image.shape[2]))
