"""Pictures of batches: mask overlays, contact sheets, PNG files written whole or not at all.

Everything here draws what it is given on the CPU: :func:`preview` what a synthesizer does, the rest
what its callers chose. Needs Pillow, imported where it is used.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import checks, recipe
from .batch import AnomalyBatch
from .oneof import OneOf
from .prepare import Choice
from .synthesizer import Synthesizer

if TYPE_CHECKING:
    from PIL.Image import Image

TINT = (255, 45, 85)  # far from greys, from most materials and from most textures
_OTHERS = (40, 110, 255)  # what was not chosen

_PAPER, _INK, _MUTED, _FRAME = (255, 255, 255), (28, 28, 30), (110, 110, 115), (225, 225, 228)
_ELLIPSIS = "..."


def pixels(images: Tensor) -> Tensor:
    """What to show of a batch: uint8 ``(B, 3, H, W)`` on the images' device.

    Args:
        images: ``(B, C, H, W)`` with C of 1 (repeated) or 3: uint8, uint16 (high byte), or float in
            [0, 1], which becomes ``v * 255 + 0.5`` truncated.

    Raises:
        TypeError: Not a tensor, or not an image dtype.
        ValueError: Another rank or channel count, or floats outside [0, 1].
    """
    checks.images(images)
    checks.content(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(
            f"images: expected 1 or 3 channels to show, got {images.shape[1]}; "
            "choose three, for example images[:, :3]"
        )
    if images.dtype == torch.uint16:
        images = images.to(torch.int32) // 256
    elif images.dtype != torch.uint8:
        images = images.float() * 255 + 0.5
    return images.to(torch.uint8).expand(-1, 3, -1, -1)


def overlay(
    images: Tensor,
    masks: Tensor,
    tint: tuple[int, int, int] = TINT,
    strength: float = 0.5,
    outline: bool = True,
) -> Tensor:
    """Images with their masks tinted; pixels outside the mask are those of :func:`pixels`.

    Args:
        images: ``(B, C, H, W)`` as for :func:`pixels`.
        masks: ``(B, 1, H, W)``: bool, uint8 (above 0 is inside) or float (a weight in [0, 1]).
        tint: RGB, 0 to 255.
        strength: Weight of the tint where the mask is 1, in [0, 1].
        outline: Draw the inner edge of the mask in full tint, one pixel wide.

    Returns:
        uint8 ``(B, 3, H, W)`` on the images' device.

    Raises:
        TypeError: Not tensors, or of other dtypes.
        ValueError: Shapes or devices that do not fit, or values out of range.
    """
    strength = checks.probability("strength", strength)
    shown = pixels(images).float()
    level = checks.plane("masks", masks, images)
    level = (level > 0).float() if level.dtype == torch.uint8 else level.float().clamp(0.0, 1.0)
    weight = strength * level
    if outline and len(images):
        inside = (level > 0).float()
        # An erosion; the padding counts as inside, so that the picture's border is no edge.
        core = -functional.max_pool2d(-inside, 3, stride=1, padding=1)
        weight = torch.where(inside > core, 1.0, weight)
    colour = torch.tensor(tint, dtype=torch.float32, device=shown.device)[:, None, None]
    return (shown + weight * (colour - shown) + 0.5).to(torch.uint8)


def contact_sheet(
    rows: Sequence[Sequence[Tensor | None]],
    captions: Sequence[Sequence[str]],
    *,
    title: str = "",
    subtitle: str = "",
    groups: Sequence[int] | None = None,
    scale: int | None = None,
) -> Image:
    """Panels in rows with captions below them, on white.

    Args:
        rows: Panels ``(C, H, W)`` as for :func:`pixels`, all of one size; None leaves a gap.
        captions: One text per panel. Its first line is set dark, the others lighter; a line wider
            than the panel is shortened in its middle.
        title: Set large above the panels.
        subtitle: Set below the title.
        groups: Columns per group, for example ``(1, 2, 2)``; groups stand further apart. One group
            when None.
        scale: Whole factor by which panels are enlarged, without interpolation; None enlarges
            panels narrower than 160 pixels, which captions would not fit.

    Returns:
        A Pillow image, RGB.

    Raises:
        ValueError: No panel, panels of different sizes, or captions or groups that do not fit.
        ImportError: Pillow is missing.
    """
    columns = max((len(row) for row in rows), default=0)
    _check_grid(rows, captions, columns, groups)
    shapes = {tuple(panel.shape[1:]) for row in rows for panel in row if panel is not None}
    if len(shapes) != 1:
        raise ValueError(
            f"rows: expected panels of one size, got {sorted(shapes) or 'none'}; resize them first"
        )
    (height, width) = shapes.pop()
    scale = max(1, -(-160 // width)) if scale is None else scale
    page = _Page.plan((height * scale, width * scale), captions, columns, groups, title, subtitle)

    image, draw, fonts = page.blank(len(rows))
    pillow = checks.require("PIL.Image", "images")
    page.heading(draw, fonts, title, subtitle)
    for at, (row, texts) in enumerate(zip(rows, captions, strict=True)):
        top = page.top + at * page.step
        for left, panel, text in zip(page.lefts, row, texts, strict=False):
            if panel is None:
                continue
            shown = pixels(panel[None])[0].permute(1, 2, 0).cpu().contiguous().numpy()
            size = (width * scale, height * scale)
            picture = pillow.fromarray(shown).resize(size, pillow.Resampling.NEAREST)
            # A hairline keeps light panels apart from the paper.
            box = (left - 1, top - 1, left + size[0], top + size[1])
            draw.rectangle(box, outline=_FRAME)
            image.paste(picture, (left, top))
            page.caption(draw, fonts, text, left, top + size[1])
    return image


def comparison(
    labels: Sequence[str],
    images: Tensor,
    drawn: Sequence[tuple[Synthesizer, AnomalyBatch]],
    *,
    title: str = "",
    subtitle: str = "",
) -> Image:
    """A contact sheet of images and what synthesizers made of them, with what the tables tell.

    Args:
        labels: A name per image.
        images: ``(B, C, H, W)`` as for :func:`pixels`.
        drawn: Synthesizers, each with the batch it made of the images. Two share a row; of one
            alone, two images do.
        title: As for :func:`contact_sheet`.
        subtitle: Likewise.

    Returns:
        A Pillow image: in each row the clean image, then per synthesizer the anomalous one and its
        mask.

    Raises:
        ValueError: As :func:`overlay` and :func:`contact_sheet`.
    """
    shown = [(synth, batch, overlay(batch.image, batch.mask)) for synth, batch in drawn]
    units: list[list[tuple[Tensor | None, str]]] = []
    for at, label in enumerate(labels):
        for start in range(0, len(shown), 2):
            unit: list[tuple[Tensor | None, str]] = [(images[at], f"{label}\nclean")]
            for synth, batch, tinted in shown[start : start + 2]:
                told = captions_of(synth, batch, at)
                unit += zip((batch.image[at], tinted[at]), told, strict=True)
            units.append(unit)
    groups: tuple[int, ...] = (1, 2, 2)
    if len(drawn) == 1:  # one method leaves room for a second image
        groups = (3, 3)[: len(units)]
        units = [sum(units[k : k + 2], []) for k in range(0, len(units), 2)]
    return contact_sheet(
        [[panel for panel, _ in unit] for unit in units],
        [[caption for _, caption in unit] for unit in units],
        title=title, subtitle=subtitle, groups=groups,
    )  # fmt: skip


@torch.no_grad()
def preview(
    synth: Synthesizer,
    images: Tensor,
    path: str | os.PathLike[str] | None = None,
    rows: int = 8,
    **call: Any,
) -> Image:
    """What a synthesizer, ready-made or composed, makes of images: clean, anomalous, mask.

    The same picture each time, and nothing of a training's randomness is used up: images are
    numbered from 0 and the epoch is 0, unless ``call`` says otherwise. ``p`` is the synthesizer's:
    with 0.5 about half of the rows are normal. In eval mode all are, as in calls.

    Args:
        synth: The synthesizer.
        images: Normal images ``(B, C, H, W)`` as for its call. Of two channels the first is shown,
            of four or more the first three.
        path: A name that ends in ``.png``, to write the picture to in one step; None writes none.
        rows: At most this many rows, one image in each (with ``views=True`` one view).
        call: Keywords of the call, such as ``foreground=`` and ``slots=``, with one entry for each
            image of ``images``.

    Returns:
        A Pillow image, RGB; captions tell the kind, what was drawn, and the mask's area.

    Raises:
        TypeError: Not a synthesizer, or images that its call refuses.
        ValueError: No image or row, or a path that cannot be written; else as for the call.
        ImportError: Pillow is missing.

    Example:
        Look at a composed synthesizer before training with it::

            from anoaug import viz

            viz.preview(synth, images[:8], "preview.png")
    """
    if not isinstance(synth, Synthesizer):
        raise TypeError(
            f"synth: expected an anoaug.Synthesizer, got {type(synth).__name__}; "
            "anoaug.create('cutpaste') makes one"
        )
    if rows < 1 or len(checks.images(images)) == 0:
        raise ValueError(f"rows, images: expected 1 or more, got {rows} and {list(images.shape)}")
    if path is not None:
        path = png_path(path)
    if call.get("params") is None:
        call = {"index": range(len(images)), "epoch": 0, **call}
    batch = synth(images, **call)
    shows = batch.extras.get("source_row")
    source = list(range(len(batch.image))) if shows is None else shows.tolist()
    before = images if batch.clean is None else batch.clean
    clean = _presentable(before, synth if synth.clean == "output" else None)
    shown = _presentable(batch.image, synth)
    tinted = overlay(shown, batch.mask)
    panels: list[list[Tensor | None]] = []
    captions = []
    for at in sorted(range(len(shown)), key=source.__getitem__)[:rows]:
        kind = synth.kinds[int(batch.kind[at])]
        _, area = captions_of(synth, batch, at)
        told = ", ".join(_told(synth, batch, at)) if int(batch.label[at]) else "unchanged"
        original = clean[source[at] if batch.clean is None else at]
        panels.append([original, shown[at], tinted[at]])
        captions.append([f"{source[at]}\nclean", f"{kind}\n{told}", area])
    sheet = contact_sheet(panels, captions, title=synth.name)
    if path is not None:
        save_png(sheet, path)
    return sheet


def foregrounds(
    choice: Choice, path: str | os.PathLike[str] | None = None, rows: int = 4, columns: int = 6
) -> Image:
    """What :func:`anoaug.prepare.auto` chose, in red, beside the next best rules, in blue.

    Args:
        choice: The choice.
        path: A name that ends in ``.png``, to write the picture to in one step; None writes none.
        rows: At most this many images, 1 or more.
        columns: At most this many rules, 1 or more.
    """
    path = None if path is None else png_path(path)
    images, tried = choice.images[:rows], choice.candidates[:columns]
    shown = _presentable(images, None)
    panels, captions = [shown], ["image"]
    for place, one in enumerate(tried):
        panels.append(overlay(shown, one.foreground(images), _OTHERS if place else TINT))
        captions.append(one.caption if place else f"{one.caption}, chosen")
    sheet = contact_sheet(
        list(zip(*panels, strict=True)), [captions] * len(images), title="Foreground",
        subtitle=repr(choice.foreground), groups=(1, 1, len(tried) - 1)[: 1 + len(tried)],
    )  # fmt: skip
    if path is not None:
        save_png(sheet, path)
    return sheet


def _presentable(images: Tensor, normalised: Synthesizer | None) -> Tensor:
    """Images as :func:`pixels` takes them: not normalised, in [0, 1], of 1 or 3 channels."""
    if images.dtype.is_floating_point:
        images = images.float()
        if normalised is not None and normalised.mean is not None and normalised.std is not None:
            mean, std = (
                torch.tensor(tuple(each), device=images.device)[:, None, None]
                for each in (normalised.mean, normalised.std)
            )
            images = images * std + mean
        images = images.clamp(0.0, 1.0)
    return pixels(images[:, : 3 if images.shape[1] >= 3 else 1])


def captions_of(synth: Synthesizer, batch: AnomalyBatch, at: int) -> tuple[str, str]:
    """Captions of sample ``at``: method and what its table tells, and the mask's area."""
    if not int(batch.label[at]):
        return f"{synth.name}\nnormal", "mask\nempty"
    share = 100.0 * float((batch.mask[at] > 0).float().mean())
    told = ", ".join(_told(synth, batch, at))
    return f"{synth.name}\n{told}", f"mask\n{share:.1f} % of the image"


def _told(synth: Synthesizer, batch: AnomalyBatch, at: int) -> Iterator[str]:
    """What can be said of a sample in a few words, from the named columns of its table."""
    if isinstance(synth, OneOf) and batch.params.choice is not None:
        synth = synth.members[int(batch.params.choice[at])]
    table = batch.params.table[at : at + 1].cpu().numpy()
    drawn = recipe.recipe(synth.laws(batch.image.shape[1], batch.image.dtype))
    values, numbers = drawn.describe(table), drawn.describe(table.view(np.int32))
    for place, layer in enumerate(drawn.layers):
        if not values[f"layer{place}.gate"][0] > 0:
            continue
        mine = {
            # Of a column of several words the first speaks for all: the part's, not its places'.
            name.rsplit(".", 1)[1]: (values[name][0].flat[0], numbers[name][0].flat[0])
            for name in values
            if name.startswith(f"layer{place}.")
        }
        if "half_h" in mine:
            yield f"{2 * mine['half_w'][0]:.0f} x {2 * mine['half_h'][0]:.0f} pixels"
            turn = (mine[name][0] if name in mine else name == "cos" for name in ("sin", "cos"))
            angle = math.degrees(math.atan2(*turn))
            if abs(angle) >= 0.5:
                yield f"{angle:.0f}°"
        if "opacity" in mine:
            yield f"opacity {mine['opacity'][0]:.2f}"
        bank = getattr(synth.layers[layer.law].source, "bank", None)
        if bank is not None and "image" in mine:
            yield bank.names[mine["image"][1]]


def save_png(image: Image | Tensor, path: str | os.PathLike[str]) -> Path:
    """Write a PNG in one step, as others see it: never a half-written file.

    Args:
        image: A Pillow image, or a tensor ``(C, H, W)`` as for :func:`pixels`.
        path: A name that ends in ``.png``, in a folder that exists.

    Returns:
        The path.

    Raises:
        ValueError: Another extension, or no such folder.
        OSError: The folder cannot be written.
    """
    path = png_path(path)
    if isinstance(image, Tensor):
        shown = pixels(image[None])[0].permute(1, 2, 0).cpu().contiguous().numpy()
        image = checks.require("PIL.Image", "images").fromarray(shown)
    temporary = path.with_name(f".{os.getpid()}-{uuid.uuid4().hex}.png.tmp")
    try:
        with open(temporary, "xb") as stream:
            image.save(stream, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def png_path(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that :func:`save_png` could not write; nothing is created.

    Raises:
        ValueError: Another extension, a folder, or in a folder that does not exist.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".png":
        raise ValueError(f"expected a name that ends in .png, got {str(path)!r}; change it")
    if path.is_dir():
        raise ValueError(f"expected a file to write, got the folder {str(path)!r}; add a name")
    if not path.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {str(path.parent)!r}; make it first")
    return path


# ---- the page ------------------------------------------------------------------------------------


class _Fonts(NamedTuple):
    title: Any
    body: Any


class _Page(NamedTuple):
    """Where everything goes, in pixels. All lengths follow from the size of the body text."""

    body: int
    panel: tuple[int, int]
    lefts: tuple[int, ...]
    top: int
    step: int
    width: int

    @classmethod
    def plan(
        cls,
        panel: tuple[int, int],
        captions: Sequence[Sequence[str]],
        columns: int,
        groups: Sequence[int] | None,
        title: str,
        subtitle: str,
    ) -> _Page:
        """Lay out a sheet; ``panel`` is the height and width a panel is shown at."""
        body = min(max(round(panel[1] / 13), 12), 32)
        margin, gap, between = round(2.4 * body), round(0.5 * body), round(1.8 * body)
        lefts, left = [], margin
        for count in groups or (columns,):
            for _ in range(count):
                lefts.append(left)
                left += panel[1] + gap
            left += between - gap
        lines = max((text.count("\n") + 1 for row in captions for text in row if text), default=0)
        caption = round((0.45 + 1.3 * lines) * body) if lines else 0
        top = margin
        top += round(2.6 * body) if title else 0
        top += round(1.4 * body) if subtitle else 0
        top += round(0.9 * body) if title or subtitle else 0
        step = panel[0] + caption + round(1.5 * body)
        return cls(body, panel, tuple(lefts), top, step, left - between + margin)

    def blank(self, rows: int) -> tuple[Image, Any, _Fonts]:
        """An empty page for this many rows, its pen and its fonts."""
        pillow = checks.require("PIL.Image", "images")
        font = checks.require("PIL.ImageFont", "images")
        # Pillow carries one scalable face: no font file is looked for, every machine draws alike.
        fonts = _Fonts(font.load_default(size=round(1.9 * self.body)), font.load_default(self.body))
        height = self.top + rows * self.step - round(1.5 * self.body) + round(2.0 * self.body)
        image = pillow.new("RGB", (self.width, height), _PAPER)
        return image, checks.require("PIL.ImageDraw", "images").Draw(image), fonts

    def heading(self, draw: Any, fonts: _Fonts, title: str, subtitle: str) -> None:
        """Title and subtitle."""
        left, y = self.lefts[0], round(2.4 * self.body)
        room = self.width - 2 * left
        if title:
            text = fitted(title, fonts.title, room)
            draw.text((left, y), text, font=fonts.title, fill=_INK)
            y += round(2.6 * self.body)
        if subtitle:
            text = fitted(subtitle, fonts.body, room)
            draw.text((left, y), text, font=fonts.body, fill=_MUTED)

    def caption(self, draw: Any, fonts: _Fonts, text: str, left: int, y: int) -> None:
        """A caption whose panel ends at ``y``."""
        y += round(0.45 * self.body)
        for number, line in enumerate(text.split("\n")):
            fill = _INK if number == 0 else _MUTED
            line = fitted(line, fonts.body, self.panel[1])
            draw.text((left, y + round(1.3 * self.body * number)), line, font=fonts.body, fill=fill)


def fitted(text: str, font: Any, width: float) -> str:
    """A line shortened in its middle until it is no wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        head = (kept + 1) // 2
        short = text[:head] + _ELLIPSIS + text[len(text) - (kept - head) :]
        if font.getlength(short) <= width:
            return short
    return _ELLIPSIS


def _check_grid(
    rows: Sequence[Sequence[Tensor | None]],
    captions: Sequence[Sequence[str]],
    columns: int,
    groups: Sequence[int] | None,
) -> None:
    if columns == 0:
        raise ValueError("rows: expected at least one panel, got none")
    if [len(row) for row in rows] != [len(row) for row in captions]:
        raise ValueError(
            "captions: expected one text per panel, in the same rows; give '' for no caption"
        )
    if groups is not None and (sum(groups) != columns or min(groups) < 1):
        raise ValueError(
            f"groups: expected positive counts with a sum of {columns} columns, got {list(groups)}"
        )
