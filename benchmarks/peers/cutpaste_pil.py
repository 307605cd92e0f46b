"""CutPaste and its scar on one image with Pillow, as the implementations in use do it.

Li et al., "CutPaste", CVPR 2021; parameters of the most used public implementation: log-uniform
aspect, colour jitter 0.1 on the patch, the scar rotated with its alpha as the paste mask. Those
return no pixel mask; this one draws it, because a segmentation target is what we compare.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

Bytes = npt.NDArray[np.uint8]

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
_JITTER = 0.1


def colour_jitter(patch: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation times U(0.9, 1.1) and hue plus U(-0.1, 0.1) turns.

    The four come in random order, as in torchvision's ColorJitter on a Pillow image.
    """
    for step in rng.permutation(len(_ENHANCERS) + 1):
        if step < len(_ENHANCERS):
            patch = _ENHANCERS[step](patch).enhance(rng.uniform(1 - _JITTER, 1 + _JITTER))
            continue
        hue, saturation, value = patch.convert("HSV").split()
        shift = np.uint8(int(rng.uniform(-_JITTER, _JITTER) * 255) & 0xFF)
        turned = Image.fromarray(np.asarray(hue) + shift)  # uint8 wraps, as hue does
        patch = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    return patch


class CutPastePil:
    """CutPaste on one image at a time.

    Args:
        kind: ``"normal"`` (a rectangle of 2 to 15 % of the image) or ``"scar"`` (2 to 16 by 10 to
            25 pixels, rotated by up to 45 degrees either way).
        seed: Seed of the generator all draws come from.

    Raises:
        ValueError: ``kind`` is neither of the two.
    """

    def __init__(self, kind: str, seed: int) -> None:
        if kind not in ("normal", "scar"):
            raise ValueError(f"kind: expected 'normal' or 'scar', got {kind!r}; use one of the two")
        self.kind = kind
        self.rng = np.random.default_rng(seed)

    def __call__(self, image: Bytes) -> tuple[Bytes, Bytes]:
        """Paste once into an (H, W, 3) uint8 image; returns image and (H, W) mask in {0, 1}."""
        picture = Image.fromarray(image)
        mask = Image.new("L", picture.size)
        patch, alpha = self._scar(picture) if self.kind == "scar" else self._rectangle(picture)
        place = self._corner(picture, patch.width, patch.height)
        result = picture.copy()
        result.paste(patch, place, alpha)
        mask.paste(1, (*place, place[0] + patch.width, place[1] + patch.height), alpha)
        return np.asarray(result), np.asarray(mask)

    def _corner(self, picture: Image.Image, width: int, height: int) -> tuple[int, int]:
        return (
            int(self.rng.uniform(0, max(picture.width - width, 0))),
            int(self.rng.uniform(0, max(picture.height - height, 0))),
        )

    def _crop(self, picture: Image.Image, width: int, height: int) -> Image.Image:
        left, top = self._corner(picture, width, height)
        return colour_jitter(picture.crop((left, top, left + width, top + height)), self.rng)

    def _rectangle(self, picture: Image.Image) -> tuple[Image.Image, None]:
        area = self.rng.uniform(0.02, 0.15) * picture.width * picture.height
        aspect = math.exp(self.rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        width = min(max(int(math.sqrt(area * aspect)), 1), picture.width)
        height = min(max(int(math.sqrt(area / aspect)), 1), picture.height)
        return self._crop(picture, width, height), None

    def _scar(self, picture: Image.Image) -> tuple[Image.Image, Image.Image]:
        width, height = int(self.rng.uniform(2, 16)), int(self.rng.uniform(10, 25))
        patch = self._crop(picture, width, height).convert("RGBA")
        turned = patch.rotate(self.rng.uniform(-45, 45), expand=True)
        return turned.convert("RGB"), turned.getchannel("A")
