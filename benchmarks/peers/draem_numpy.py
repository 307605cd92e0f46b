"""DRAEM's per-image synthesis as it runs inside ``Dataset.__getitem__``, in NumPy and OpenCV.

Zavrtanik et al., "DRAEM", ICCV 2021; re-derived from a description of its public code. It does the
work that code does, in the precision that code uses (a dense float64 lattice, a float64 blend, the
coin tossed after everything was computed), and nothing beyond. Left out: reading files, resizing,
and the rotation of 30 % of the normal images.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.peers.texture_ops import augment

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def perlin_field(size: tuple[int, int], turns: Doubles) -> Doubles:
    """One Perlin field by the dense formulation: the lattice repeated to every pixel.

    Args:
        size: (H, W) in pixels.
        turns: (rows + 1, columns + 1) gradient angles in turns, [0, 1).

    Returns:
        (H, W) float64 in [-1, 1], not normalised.

    Raises:
        ValueError: H or W is not a multiple of the number of cells, as in the original.
    """
    height, width = size
    rows, columns = turns.shape[0] - 1, turns.shape[1] - 1
    if height % rows or width % columns:
        raise ValueError(
            f"expected an image size divisible by the cells {(rows, columns)}, got {size}; "
            "use a multiple of 32 pixels"
        )
    y = np.arange(height) * (rows / height) % 1.0
    x = np.arange(width) * (columns / width) % 1.0
    fraction_y, fraction_x = np.meshgrid(y, x, indexing="ij")
    angles = 2.0 * math.pi * turns
    gradients = np.stack((np.cos(angles), np.sin(angles)), axis=-1)

    def corner(down: int, right: int) -> Doubles:
        lattice = gradients[down : down + rows, right : right + columns]
        dense = lattice.repeat(height // rows, axis=0).repeat(width // columns, axis=1)
        offset = np.stack((fraction_y - down, fraction_x - right), axis=-1)  # [H, W, 2]
        return np.asarray((offset * dense).sum(axis=-1))

    fade_y, fade_x = _fade(fraction_y), _fade(fraction_x)
    left, right = corner(0, 0), corner(0, 1)
    left = left + fade_y * (corner(1, 0) - left)
    right = right + fade_y * (corner(1, 1) - right)
    return np.asarray(math.sqrt(2.0) * (left + fade_x * (right - left)))


def _fade(t: Doubles) -> Doubles:
    return np.asarray(6 * t**5 - 15 * t**4 + 10 * t**3)


def rotate_field(field: Doubles, degrees: float) -> Doubles:
    """Rotate about the pixel-centre centre, bilinear, zeros outside, same size."""
    height, width = field.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(field, matrix, (width, height)), dtype=np.float64)


def blend(
    normal: Floats, source: Bytes, field: Doubles, threshold: float, beta: float
) -> tuple[Floats, Floats]:
    """Threshold the field and mix: inside, ``(1 - beta) * texture + beta * normal``.

    Args:
        normal: (H, W, 3) float32 in [0, 1].
        source: (H, W, 3) uint8 texture.
        field: (H, W) float64 noise.
        threshold: The mask is where the field is strictly above it.
        beta: Weight of the normal image.

    Returns:
        The mixed image (H, W, 3) and the mask (H, W, 1), float32, computed in float64.
    """
    mask = np.where(field > threshold, 1.0, 0.0)[..., None]
    texture = source.astype(np.float32) * mask / 255.0
    mixed = normal * (1.0 - mask) + (1.0 - beta) * texture + beta * normal * mask
    return mixed.astype(np.float32), mask.astype(np.float32)


class DraemNumpy:
    """DRAEM's anomaly synthesis for one image at a time, on the CPU.

    Args:
        textures: (N, H, W, 3) uint8, decoded and of the images' size.
        seed: Seed of the generator all draws come from.
        p: Probability that the coin keeps the anomaly. It is tossed after the work, as in the
            original, so a lower value saves no time.
        threshold: Threshold of the Perlin field.

    Raises:
        ValueError: ``textures`` is not (N, H, W, 3) uint8.
    """

    def __init__(self, textures: Bytes, seed: int, p: float = 0.5, threshold: float = 0.5) -> None:
        if textures.ndim != 4 or textures.shape[3] != 3 or textures.dtype != np.uint8:
            raise ValueError(
                f"textures: expected uint8 (N, H, W, 3), got {textures.dtype} {textures.shape}; "
                "decode and resize them first"
            )
        self.textures = textures
        self.p = p
        self.threshold = threshold
        self.rng = np.random.default_rng(seed)

    def __call__(self, image: Bytes) -> tuple[Floats, Floats, int]:
        """Synthesise on one (H, W, 3) uint8 image.

        Returns:
            image (3, H, W) float32 in [0, 1]; mask (1, H, W) float32 in {0, 1}; label 0 or 1, 0
            where the mask came out empty.
        """
        rng = self.rng
        normal = image.astype(np.float32) / np.float32(255.0)
        source = augment(self.textures[rng.integers(len(self.textures))], rng)
        rows, columns = (2 ** rng.integers(0, 6, size=2)).tolist()
        field = perlin_field(image.shape[:2], rng.random((rows + 1, columns + 1)))
        field = rotate_field(field, rng.uniform(-90.0, 90.0))
        mixed, mask = blend(normal, source, field, self.threshold, rng.random() * 0.8)
        if rng.random() >= self.p:
            mixed, mask = normal, np.zeros_like(mask)
        return mixed.transpose(2, 0, 1), mask.transpose(2, 0, 1), int(mask.any())
