"""The arithmetic of colour: look-up tables, histograms and colour matrices; nothing is drawn here.

Everything is NumPy, float64 inside, over a batch of rows without a loop over them. A *table* is
uint8 ``[rows, C, 256]``; a *matrix* is ``[rows, 3, 4]`` on RGB in 0..255, offset last.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

LUMA = np.array([0.299, 0.587, 0.114])

_LEVELS = np.arange(256, dtype=np.float64)
_LOG_LEVELS = np.log(np.maximum(_LEVELS, 1e-300) / 255.0)
_IDENTITY = np.eye(3, 4)
# In levels squared; draws what a texture of one colour leaves open towards the identity.
_FIT_RIDGE = 0.5

# Brightness v -> v + (m - 1)(G v + g) + a(s + T v / 255) per space; columns G (3), s, T (3), g. The
# first row is YCrCb and YUV in closed form; Lab and Luv are least-squares fits to the 8-bit
# conversions over greys with a chroma of 20 levels, so that they depend on no data set.
_BRIGHTNESS = np.array(
    [
        [[0.299, 0.587, 0.114, 1.0, 0.0, 0.0, 0.0, 0.0]] * 3,
        [
            [0.32, 0.70, 0.09, 0.87, 0.14, 0.06, 0.07, -2.75],
            [0.23, 0.81, 0.08, 0.85, 0.05, 0.21, 0.02, -4.83],
            [0.21, 0.67, 0.23, 0.85, 0.02, 0.02, 0.24, -5.18],
        ],
        [
            [0.11, 0.90, 0.11, 0.86, -0.44, 0.60, 0.12, -3.90],
            [0.28, 0.72, 0.12, 0.88, 0.20, -0.11, 0.16, -5.01],
            [0.29, 0.91, -0.08, 0.82, 0.29, 0.73, -0.67, -4.40],
        ],
    ]
)


# ---- tables --------------------------------------------------------------------------------------


def gamma_tables(gamma: Array) -> Bytes:
    """``255 (v / 255) ** gamma`` truncated, for gamma ``[rows, C]``."""
    # The nudge keeps levels that are mapped to integers independent of the last bit of exp.
    return (255.0 * np.exp(gamma[..., None] * _LOG_LEVELS) + 1e-9).astype(np.uint8)


def affine_tables(slope: Array, offset: Array) -> Bytes:
    """``slope v + offset`` truncated and clipped, both ``[rows]``; ``[rows, 1, 256]``."""
    values = slope[:, None] * _LEVELS + offset[:, None]
    return np.clip(values, 0.0, 255.0).astype(np.uint8)[:, None]


def contrast_tables(factor: Array, pivot: Array) -> Bytes:
    """PIL's blend with a grey, ``pivot + factor (v - pivot)`` truncated; ``[rows, 1, 256]``."""
    values = pivot[:, None] + factor[:, None] * (_LEVELS - pivot[:, None])
    return np.clip(values, 0.0, 255.0).astype(np.uint8)[:, None]


def solarize_tables(threshold: Ints) -> Bytes:
    """Inverts every level from ``threshold`` on; ``[rows, 1, 256]``."""
    levels = np.arange(256)
    return np.where(levels >= threshold[:, None], 255 - levels, levels).astype(np.uint8)[:, None]


def posterize_tables(bits: Ints) -> Bytes:
    """Keeps the ``bits`` high bits of every level; ``[rows, 1, 256]``."""
    mask = (0xFF00 >> bits) & 0xFF
    return (np.arange(256) & mask[:, None]).astype(np.uint8)[:, None]


def equalize_tables(histograms: Ints) -> Bytes:
    """What ``PIL.ImageOps.equalize`` looks up, bit for bit, for histograms ``[rows, C, 256]``."""
    below = np.cumsum(histograms, axis=-1) - histograms
    last = 255 - np.argmax(histograms[..., ::-1] > 0, axis=-1)[..., None]
    step = np.take_along_axis(below, last, axis=-1) // 255
    table = np.minimum((step // 2 + below) // np.maximum(step, 1), 255)
    return np.where(step > 0, table, np.arange(256)).astype(np.uint8)


def autocontrast_tables(histograms: Ints, cutoff: Ints) -> Bytes:
    """What ``PIL.ImageOps.autocontrast`` looks up, bit for bit, for cutoff percents ``[rows]``."""
    upto = np.cumsum(histograms, axis=-1)
    total = upto[..., -1:]
    cut = total * cutoff[:, None, None] // 100
    low = np.argmax(upto > cut, axis=-1)[..., None]
    high = 255 - np.argmax((total - upto + histograms > cut)[..., ::-1], axis=-1)[..., None]
    scale = 255.0 / np.maximum(high - low, 1)
    table = np.clip(_LEVELS * scale + -low * scale, 0.0, 255.0)
    return np.where(high > low, table, _LEVELS).astype(np.uint8)


# ---- histograms ----------------------------------------------------------------------------------


def push_histograms(histograms: Ints, tables: Bytes) -> Ints:
    """The histograms after ``tables``, exactly; both ``[rows, C, 256]``."""
    base = np.arange(0, histograms.size, 256).reshape(*histograms.shape[:2], 1)
    index = (base + tables).reshape(-1)
    counts = np.bincount(index, weights=histograms.reshape(-1), minlength=histograms.size)
    return counts.astype(np.int64).reshape(histograms.shape)


def count_levels(values: Ints) -> Ints:
    """How often each level occurs: int64 ``[rows, C, 256]`` of values ``[rows, n, C]``."""
    rows, _, channels = values.shape
    base = np.arange(0, rows * channels * 256, 256).reshape(rows, 1, channels)
    counts = np.bincount((base + values).reshape(-1), minlength=rows * channels * 256)
    return counts.reshape(rows, channels, 256)


def mean_grey(histograms: Ints) -> Array:
    """The rounded mean grey of each row, as PIL's contrast takes it, for ``[rows, C, 256]``."""
    means = (histograms * _LEVELS).sum(axis=-1) / np.maximum(histograms.sum(axis=-1), 1)
    grey = (means * LUMA).sum(axis=1) if means.shape[1] == 3 else means.mean(axis=1)
    return np.floor(grey + 0.5)


def quantiles(histograms: Ints, levels: int, ends: bool = False) -> Ints:
    """The ``(i + 0.5) / levels`` quantiles of each channel: int64 ``[rows, levels, C]``.

    Read across the channels they are colours: those the texture would have if its channels rose and
    fell together, the best guess that marginal histograms allow. With ``ends`` the first and the
    last are the darkest and the lightest level.
    """
    rows, channels, _ = histograms.shape
    upto = np.cumsum(histograms, axis=-1).reshape(rows * channels, 256)
    total = upto[:, -1:]
    # One sorted array for all rows: each is lifted by the pixels of the rows before it.
    lift = np.cumsum(total, axis=0) - total
    rank = (2 * np.arange(levels) + 1) * total // (2 * levels)
    if ends:
        rank[:, 0], rank[:, -1] = 0, np.maximum(total[:, 0] - 1, 0)
    rank += lift
    found = np.searchsorted((upto + lift).reshape(-1), rank.reshape(-1), side="right")
    found = found.reshape(rows * channels, levels) - 256 * np.arange(rows * channels)[:, None]
    return np.minimum(found, 255).reshape(rows, channels, levels).swapaxes(1, 2)


# ---- matrices ------------------------------------------------------------------------------------


def on_grid(matrices: Array) -> npt.NDArray[np.float32]:
    """Rounds matrices ``[..., 3, 4]`` to multiples of 2**-12 within +-4, offsets within +-1023.

    Every product and partial sum of a render kernel is then exact in float32, whatever the order of
    the sums and whether or not they are fused; and machines whose exp or solvers differ in the last
    bit agree.
    """
    bound = np.array([4.0, 4.0, 4.0, 1023.0])
    grid = np.floor(np.clip(matrices, -bound, bound) * 4096.0 + 0.5) / 4096.0
    return grid.astype(np.float32)


def saturation_matrices(factor: Array) -> Array:
    """PIL's blend with the grey image, ``L + factor (v - L)`` truncated, for factor ``[rows]``."""
    grey = np.zeros((3, 4))
    grey[:, :3] = LUMA
    matrices = grey + factor[:, None, None] * (_IDENTITY - grey)
    # Half a level truncates a rounding map; a sixteenth is left for the grid, that greys stay.
    matrices[..., 3] = np.where(factor > 0.0, -0.4375, 0.0)[:, None]
    return matrices


def brightness_matrices(space: Ints, gain: Array, shift: Array) -> Array:
    """Lightness times ``gain`` plus ``shift`` in space 0 (YCrCb, YUV), 1 (Lab) or 2 (Luv)."""
    c = _BRIGHTNESS[space]
    gain, shift = gain[:, None, None] - 1.0, shift[:, None, None]
    matrices = np.empty((len(space), 3, 4))
    matrices[..., :3] = _IDENTITY[:, :3] + gain * c[..., :3] + shift / 255.0 * c[..., 4:7]
    matrices[..., 3:] = gain * c[..., 7:] + shift * c[..., 3:4]
    return matrices


def _hue_saturation_value(
    colours: Array, turn: Array, add: Array, gain: Array, shift: Array
) -> Array:
    """HSV with hue + ``turn`` sextants, saturation + ``add`` of 1, value ``gain`` v + ``shift``."""
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    inverse = 1.0 / np.maximum(chroma, 1e-9)
    hue = np.where(
        value == red,
        (green - blue) * inverse,
        np.where(value == green, 2.0 + (blue - red) * inverse, 4.0 + (red - green) * inverse),
    )
    saturation = np.clip(chroma / np.maximum(value, 1e-9) + add, 0.0, 1.0)
    value = np.clip(gain * value + shift, 0.0, 255.0)
    place = (hue + turn)[..., None] + np.array([5.0, 3.0, 1.0])
    place -= 6.0 * np.floor(place * (1.0 / 6.0))
    wave = np.clip(np.minimum(place, 4.0 - place), 0.0, 1.0)
    return value[..., None] * (1.0 - saturation[..., None] * wave)


def _lightness(colours: Array, gain: Array, shift: Array) -> Array:
    """HLS with lightness ``gain`` l + ``shift``, hue and saturation kept."""
    old = 0.5 * (colours.max(axis=-1) + colours.min(axis=-1))
    new = np.clip(gain * old + shift, 0.0, 255.0)
    ratio = np.minimum(new, 255.0 - new) / np.maximum(np.minimum(old, 255.0 - old), 0.5)
    return new[..., None] + ratio[..., None] * (colours - old[..., None])


def fit_matrices(colours: Ints, knobs: Array) -> Array:
    """The affine colour map nearest, in least squares, to a hexcone op on the given colours.

    Args:
        colours: int64 ``[rows, n, 3]``.
        knobs: ``[rows, 7]``: hue turn in sextants, addition to the saturation (of 1), gain and
            shift (in levels) of the value or lightness, 1 to work on lightness (HLS) instead of
            value (HSV), saturation factor before and after (`saturation_matrices`).
    """
    points = colours.astype(np.float64)
    turn, add, gain, shift, hls, before, after = knobs.T[:, :, None]
    start = _saturate(points, before)
    target = _hue_saturation_value(start, turn, add, gain, shift)
    if hls.any():
        target = np.where(hls[..., None] > 0, _lightness(start, gain, shift), target)
    target = _saturate(target, after)
    mean, level = points.mean(axis=1), target.mean(axis=1)
    points, target = points - mean[:, None], target - level[:, None]
    ridge = _FIT_RIDGE * points.shape[1] * np.eye(3)
    gram, mixed = (points.swapaxes(1, 2) @ other + ridge for other in (points, target))
    linear = np.linalg.solve(gram, mixed).swapaxes(1, 2)
    offset = level - (linear * mean[:, None]).sum(axis=-1)
    return np.concatenate([linear, offset[..., None]], axis=-1)


def _saturate(colours: Array, factor: Array) -> Array:
    if (factor == 1.0).all():
        return colours
    grey = (colours * LUMA).sum(axis=-1)[..., None]
    return grey + factor[..., None] * (colours - grey)
