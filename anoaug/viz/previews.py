"""Sheets of what synthesizers make of images, with what their tables tell; of foregrounds too."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import checks, recipe
from ..batch import AnomalyBatch
from ..oneof import OneOf
from ..prepare import Choice
from ..synthesizer import Synthesizer
from .files import png_path, save_png
from .overlays import TINT, overlay, pixels
from .sheet import contact_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

_OTHERS = (40, 110, 255)  # what was not chosen


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
