"""Contact sheets: panels in rows on white paper, with captions and a heading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from .. import checks
from .overlays import pixels

if TYPE_CHECKING:
    from PIL.Image import Image

_PAPER, _INK, _MUTED, _FRAME = (255, 255, 255), (28, 28, 30), (110, 110, 115), (225, 225, 228)
_ELLIPSIS = "..."


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
