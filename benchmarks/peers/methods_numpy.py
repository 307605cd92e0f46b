"""Further methods on one image at a time, as code that users run does them: NumPy, OpenCV, Pillow.

Written from descriptions of the public code, with its laws and its order of work; Python loops over
pixels, float16 arithmetic and detours by larger images are left out, which would only make a peer
slower. Each takes an (H, W, 3) uint8 image and returns the image and its mask (H, W); what is drawn
comes from one generator. DRAEM and CutPaste have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.filters import median
from skimage.morphology import disk

from benchmarks.peers.cutpaste_pil import colour_jitter
from benchmarks.peers.draem_numpy import Doubles, perlin_field, rotate_field
from benchmarks.peers.texture_ops import augment

Bytes = npt.NDArray[np.uint8]
Made = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Peer = Callable[[Bytes], Made]


def _field(size: tuple[int, int], rng: np.random.Generator) -> Doubles:
    rows, columns = (2 ** rng.integers(0, 6, size=2)).tolist()
    field = perlin_field(size, rng.random((rows + 1, columns + 1)))
    return rotate_field(field, rng.uniform(-90.0, 90.0))


class _Peer:
    """What all share: textures or donors (N, H, W, 3), and a generator."""

    def __init__(self, others: Bytes, seed: int) -> None:
        self.others = others
        self.rng = np.random.default_rng(seed)

    def _other(self) -> Bytes:
        return np.asarray(self.others[self.rng.integers(len(self.others))])


class MemSeg(_Peer):
    """Perlin mask; a plain texture or, half of the time, the image's own recoloured shuffled tiles.

    Yang et al., EAAI 2023; the port in common use: 8 x 8 tiles, opacity U(0.15, 1), cut to uint8.
    """

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        rng = self.rng
        mask = (_field(image.shape[:2], rng) > 0.5).astype(np.float64)[..., None]
        source = self._tiles(image) if rng.random() < 0.5 else self._other()
        factor = rng.uniform(0.15, 1.0)
        made = image * (1 - mask) + mask * (factor * source + (1 - factor) * image)
        return made.astype(np.uint8), mask[..., 0].astype(np.uint8)

    def _tiles(self, image: Bytes) -> Bytes:
        own = augment(image, self.rng)
        height, width = own.shape[0] // 8, own.shape[1] // 8
        tiles = (
            own.reshape(8, height, 8, width, 3)
            .transpose(0, 2, 1, 3, 4)
            .reshape(64, height, width, 3)
        )
        tiles = tiles[self.rng.permutation(64)].reshape(8, 8, height, width, 3)
        return np.asarray(tiles.transpose(0, 2, 1, 3, 4).reshape(own.shape))


class RealNet(_Peer):
    """Perlin mask, texture after 3 of 10 operations, opacity U(0.2, 1); Zhang et al., CVPR 2024."""

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        mask = (_field(image.shape[:2], self.rng) > 0.5).astype(np.float64)[..., None]
        source, factor = augment(self._other(), self.rng), self.rng.uniform(0.2, 1.0)
        made = image * (1 - mask) + mask * (factor * source + (1 - factor) * image)
        return made.astype(np.uint8), mask[..., 0].astype(np.uint8)


class Glass(_Peer):
    """Either of two Perlin masks, both, or the first, until one is not empty; float32 images.

    Chen et al., ECCV 2024. Its nine operations cost what DRAEM's ten do; those are taken.
    """

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        rng = self.rng
        normal = image.astype(np.float32) / np.float32(255.0)
        texture = augment(self._other(), rng).astype(np.float32) / np.float32(255.0)
        mask = np.zeros(image.shape[:2], bool)
        while not mask.any():
            first, second = (_field(image.shape[:2], rng) > 0.5 for _ in range(2))
            turn = rng.random()
            mask = first | second if turn > 2 / 3 else first & second if turn > 1 / 3 else first
        weight = np.float32(np.clip(rng.normal(0.5, 0.1), 0.2, 0.8))
        inside = mask.astype(np.float32)[..., None]
        made = normal * (1 - inside) + inside * ((1 - weight) * texture + weight * normal)
        return made, inside[..., 0]


class Destseg(_Peer):
    """Perlin mask and a plain texture, float32; Zhang et al., CVPR 2023."""

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        normal = image.astype(np.float32) / np.float32(255.0)
        mask = (_field(image.shape[:2], self.rng) > 0.5).astype(np.float32)[..., None]
        texture, beta = self._other().astype(np.float32) / 255.0, 0.8 * self.rng.random()
        made = normal * (1 - mask) + (1 - beta) * texture * mask + beta * normal * mask
        return made.astype(np.float32), mask[..., 0]


class Dsr(_Peer):
    """Perlin mask and one colour, float32; Zavrtanik et al., ECCV 2022."""

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        normal = image.astype(np.float32) / np.float32(255.0)
        mask = (_field(image.shape[:2], self.rng) > 0.5).astype(np.float32)[..., None]
        colour, beta = self.rng.random(3, dtype=np.float32), 0.8 * self.rng.random()
        made = normal * (1 - mask) + (1 - beta) * colour * mask + beta * normal * mask
        return made.astype(np.float32), mask[..., 0]


class Cdo(_Peer):
    """Up to four boxes of white noise, at the image's own size; Cao et al., IEEE TII 2023."""

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        rng, (height, width, _) = self.rng, image.shape
        made, mask = image.copy(), np.zeros((height, width), np.uint8)
        for _ in range(rng.integers(0, 5)):
            tall, wide = (int(rng.integers(side // 40, side // 10)) for side in (height, width))
            y, x = int(rng.integers(tall, height - tall)), int(rng.integers(wide, width - wide))
            area = (slice(y - tall, y + tall), slice(x - wide, x + wide))
            made[area] = rng.integers(0, 255, (2 * tall, 2 * wide, 3), dtype=np.uint8)
            mask[area] = 1
        return made, mask


class Nsa(_Peer):
    """Up to four patches of another image, ``cv2.seamlessClone`` (mixed), logistic labels.

    Schlueter et al., ECCV 2022, with its settings for textures.
    """

    slope, middle = 1 / 3, 7.0

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        rng, donor = self.rng, self._other()
        made, inside = image, np.zeros(image.shape[:2], np.uint8)
        for number in range(4):
            if number and rng.random() < 0.5:
                continue
            made, mask = self._patched(made, donor)
            inside |= mask
        return made, self._label(image, made, inside)

    def _patched(self, image: Bytes, donor: Bytes) -> tuple[Bytes, Bytes]:
        rng, sides = self.rng, image.shape[:2]
        half = [int(np.clip(0.03 + rng.gamma(2, 0.05), 0.03, 0.4) * side) for side in sides]
        least = [int(0.03 * side) for side in sides]
        centre = [
            int(rng.integers(low, side - low)) for low, side in zip(least, sides, strict=True)
        ]
        (y0, y1), (x0, x1) = (
            (max(c - h, 0), min(c + h, side))
            for c, h, side in zip(centre, half, sides, strict=True)
        )
        scale = float(np.clip(rng.normal(1.0, 0.5), 0.5, 2.0))
        tall, wide = (
            int(np.clip(scale * length, 2 * low, 0.8 * side))
            for length, low, side in zip((y1 - y0, x1 - x0), least, sides, strict=True)
        )
        patch = cv2.resize(donor[y0:y1, x0:x1], (wide, tall))
        top, left = (int(rng.integers(0, s - n)) for s, n in zip(sides, (tall, wide), strict=True))
        mask = np.zeros(sides, np.uint8)
        area = (slice(top, top + tall), slice(left, left + wide))
        mask[area] = 1
        inner = np.zeros((tall, wide), np.uint8)
        inner[1:-1, 1:-1] = 255
        if int((inner > 0).sum()) < 50:
            return image, np.zeros(sides, np.uint8)
        at = (left + wide // 2, top + tall // 2)
        return np.asarray(cv2.seamlessClone(patch, image, inner, at, cv2.MIXED_CLONE)), mask

    def _label(self, before: Bytes, after: Bytes, inside: Bytes) -> npt.NDArray[Any]:
        change = np.abs(before.astype(np.float64) - after).mean(-1) * inside
        label = cv2.medianBlur((change > 1).astype(np.uint8), 5)
        levels = median(change * label, disk(5))
        return np.asarray(label / (1 + np.exp(-self.slope * (levels - self.middle))))


class Reb(_Peer):
    """A Bezier blob with a crop of another image in it; Lyu et al., 2023, ``bezier_cut``."""

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        rng, (height, width, _) = self.rng, image.shape
        area = rng.uniform(0.02, 0.15) * height * width
        aspect = float(np.exp(rng.uniform(np.log(1 / 3.3), np.log(3.3))))
        tall = int(np.clip(np.sqrt(area / aspect), 4, height - 1))
        wide = int(np.clip(np.sqrt(area * aspect), 4, width - 1))
        top, left = int(rng.integers(0, height - tall)), int(rng.integers(0, width - wide))
        sy, sx = int(rng.integers(0, height - tall)), int(rng.integers(0, width - wide))
        crop = Image.fromarray(self._other()[sy : sy + tall, sx : sx + wide])
        fill = np.asarray(colour_jitter(crop, rng)).astype(np.float32)
        weight = self._outline(tall, wide)
        if rng.random() < 0.5:
            element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
            weight = cv2.GaussianBlur(cv2.erode(weight, element), (5, 5), 5)
        share = weight.astype(np.float32)[..., None] / np.float32(255.0)
        made, mask = image.copy(), np.zeros((height, width), np.uint8)
        area_ = (slice(top, top + tall), slice(left, left + wide))
        made[area_] = (share * fill + (1 - share) * image[area_]).astype(np.uint8)
        mask[area_] = weight > 0
        return made, mask

    def _outline(self, tall: int, wide: int) -> Bytes:
        rng = self.rng
        points = rng.uniform(0, 99, (int(rng.integers(5, 7)), 2))
        around = points - points.mean(0)
        points = points[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
        before, after = np.roll(points, 1, 0), np.roll(points, -1, 0)
        k, t = rng.choice((0.2, 0.3, 0.4)), np.linspace(0, 1, 10)[:, None]
        path = []
        later = np.roll(points, -2, 0)
        for here, there, came, goes in zip(points, after, before, later, strict=True):
            if rng.random() < 0.5:
                path.append(here[None])
                continue
            one, two = here + k * (there - came) / 2, there - k * (goes - here) / 2
            path.append(
                (1 - t) ** 3 * here
                + 3 * (1 - t) ** 2 * t * one
                + 3 * (1 - t) * t**2 * two
                + t**3 * there
            )
        line = np.concatenate(path)
        line = (line - line.min(0)) / np.ptp(line, 0) * (wide - 1, tall - 1)
        filled = np.zeros((tall, wide), np.uint8)
        cv2.fillPoly(filled, [line.round().astype(np.int32)], 255)
        return filled


class Fpi(_Peer):
    """A square of another image over the same place, by one weight; Tan et al., 2020."""

    def __call__(self, image: Bytes) -> Made:
        """Synthesise on one image."""
        rng, (height, width, _) = self.rng, image.shape
        half = int(rng.integers(int(0.05 * height), int(0.2 * height)))
        y, x = (int(rng.integers(int(0.1 * s), int(0.9 * s))) for s in (height, width))
        area = (slice(max(y - half, 0), y + half), slice(max(x - half, 0), x + half))
        factor, donor = rng.uniform(0.05, 0.95), self._other()
        made, mask = image.copy(), np.zeros((height, width), np.float32)
        made[area] = (1 - factor) * image[area] + factor * donor[area]
        mask[area] = factor * (image[area] != donor[area]).any(-1)
        return made, mask


class Riad(_Peer):
    """Three copies with a third of the cells of 2 to 16 pixels hidden in each, one after another.

    Zavrtanik et al., Pattern Recognition 2021; without the original's Python loop over pixels, and
    of one cell size per image, not per batch.
    """

    def __call__(self, image: Bytes) -> Made:
        """Hide on one image: (3, H, W, 3) and masks (3, H, W)."""
        height, width = image.shape[:2]
        side = int(self.rng.choice((2, 4, 8, 16)))
        rows, columns = height // side, width // side
        order = self.rng.permutation(rows * columns)
        masks = np.zeros((3, rows * columns), np.uint8)
        for number, part in enumerate(np.array_split(order, 3)):
            masks[number, part] = 1
        grid = masks.reshape(3, rows, columns)
        whole = grid.repeat(side, 1).repeat(side, 2)
        return image * (1 - whole)[..., None], whole


PEERS: dict[str, type[_Peer]] = {
    "cdo": Cdo, "destseg": Destseg, "dsr_image": Dsr, "fpi": Fpi, "glass_las": Glass,
    "memseg": MemSeg, "nsa": Nsa, "realnet": RealNet, "reb": Reb, "riad": Riad,
}  # fmt: skip
DONORS = ("nsa", "fpi", "reb")  # whose others are normal images; of all others they are textures
