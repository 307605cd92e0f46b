"""DRAEM's ten texture operations on uint8 images, with the libraries its pipeline leans on.

The originals run through imgaug, which no longer imports on NumPy 2; the same parameter laws are
applied here with NumPy look-up tables, OpenCV and Pillow, which is what imgaug calls underneath.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

Bytes = npt.NDArray[np.uint8]
Operation = Callable[[Bytes, np.random.Generator], Bytes]

_LEVELS = np.arange(256, dtype=np.float64)
# (to the space, back from it, index of its brightness channel)
_BRIGHTNESS_SPACES = (
    (cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB, 0),
    (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, 2),
    (cv2.COLOR_RGB2HLS, cv2.COLOR_HLS2RGB, 1),
    (cv2.COLOR_RGB2Lab, cv2.COLOR_Lab2RGB, 0),
    (cv2.COLOR_RGB2Luv, cv2.COLOR_Luv2RGB, 0),
    (cv2.COLOR_RGB2YUV, cv2.COLOR_YUV2RGB, 0),
)


def _table(levels: npt.NDArray[np.float64]) -> Bytes:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def gamma(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Gamma U(0.5, 2), one exponent per channel."""
    exponents = rng.uniform(0.5, 2.0, size=image.shape[2])
    table = _table(255.0 * (_LEVELS[:, None] / 255.0) ** exponents)
    return np.asarray(cv2.LUT(image, table[None]), dtype=np.uint8)


def brightness(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Brightness times U(0.8, 1.2) and plus an integer of [-30, 30], in either order.

    The brightness is that of a colour space drawn from YCrCb, HSV, HLS, Lab, Luv and YUV.
    """
    forward, back, channel = _BRIGHTNESS_SPACES[int(rng.integers(len(_BRIGHTNESS_SPACES)))]
    factor = rng.uniform(0.8, 1.2)
    offset = float(rng.integers(-30, 31))
    scale, shift = _table(_LEVELS * factor), _table(_LEVELS + offset)
    table = shift[scale] if rng.random() < 0.5 else scale[shift]
    converted = np.array(cv2.cvtColor(image, forward))
    converted[..., channel] = table[converted[..., channel]]
    return np.asarray(cv2.cvtColor(converted, back), dtype=np.uint8)


def sharpness(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Pillow's sharpness, factor U(0, 2)."""
    enhanced = ImageEnhance.Sharpness(Image.fromarray(image)).enhance(rng.uniform(0.0, 2.0))
    return np.asarray(enhanced)


def hue_saturation(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Hue and saturation plus independent integers of [-50, 50]; hue wraps, saturation clips.

    The hue's integer is rescaled by 180/255 into OpenCV's half degrees.
    """
    hue = int(rng.integers(-50, 51) / 255.0 * 180.0)
    saturation = float(rng.integers(-50, 51))
    converted = np.array(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    converted[..., 0] = ((_LEVELS + hue) % 180).astype(np.uint8)[converted[..., 0]]
    converted[..., 1] = _table(_LEVELS + saturation)[converted[..., 1]]
    return np.asarray(cv2.cvtColor(converted, cv2.COLOR_HSV2RGB), dtype=np.uint8)


def solarize(image: Bytes, rng: np.random.Generator) -> Bytes:
    """With probability 0.5, invert what is at or above a threshold of U(32, 128)."""
    if rng.random() >= 0.5:
        return image
    threshold = rng.uniform(32.0, 128.0)
    table = np.where(threshold > _LEVELS, _LEVELS, 255.0 - _LEVELS).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def posterize(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Keep the upper 1 to 8 bits."""
    dropped = 8 - int(rng.integers(1, 9))
    return np.asarray(image & np.uint8(0xFF << dropped & 0xFF))


def invert(image: Bytes, rng: np.random.Generator) -> Bytes:
    """255 minus the value, always."""
    del rng
    return np.asarray(np.uint8(255) - image)


def autocontrast(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Pillow's autocontrast with an integer cut-off of [0, 20] per cent."""
    stretched = ImageOps.autocontrast(Image.fromarray(image), cutoff=int(rng.integers(0, 21)))
    return np.asarray(stretched)


def equalize(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Pillow's histogram equalisation."""
    del rng
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def rotate(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Rotation by U(-45, 45) degrees about the centre, bilinear, zeros outside."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), rng.uniform(-45.0, 45.0), 1.0
    )
    return np.asarray(cv2.warpAffine(image, matrix, (width, height)), dtype=np.uint8)


OPERATIONS: tuple[Operation, ...] = (
    gamma,
    brightness,
    sharpness,
    hue_saturation,
    solarize,
    posterize,
    invert,
    autocontrast,
    equalize,
    rotate,
)


def augment(texture: Bytes, rng: np.random.Generator) -> Bytes:
    """Three distinct operations of the ten, in drawn order, on the whole uint8 [H, W, 3] image."""
    for choice in rng.choice(len(OPERATIONS), size=3, replace=False):
        texture = OPERATIONS[choice](texture, rng)
    return texture
