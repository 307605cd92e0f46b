"""Colour stages: how drawn ops become what the render kernel executes, for a batch at once.

The laws of the ops are in photometric.py, the arithmetic in tonemaps.py; here ops are put into
sequence, packed into stages, and given the colours they meet at their place in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import tonemaps
from .tonemaps import Array, Bytes, Ints

Bools = npt.NDArray[np.bool_]
Draws = dict[str, Array]
Where = tuple[Ints, Ints]

STAGES = 3
# A fitted matrix sees this many levels of the source and these neighbours of each.
_FIT_LEVELS = 4
_FIT_STEPS = np.array([[0, 0, 0], [2, -2, 0], [-2, 2, 0], [1, 1, -2], [-1, -1, 2]])
# Levels that stand for a source behind a matrix where a histogram is asked for.
_HISTOGRAM_LEVELS = 256
# Columns of tonemaps.fit_matrices.
_KNOBS = {
    "turn": 0.0,
    "add": 0.0,
    "gain": 1.0,
    "shift": 0.0,
    "hls": 0.0,
    "before": 1.0,
    "after": 1.0,
}
# Rows of tonemaps.brightness_matrices for YCrCb, HSV, HLS, Lab, Luv, YUV; HSV and HLS are fitted.
_SPACE_ROWS = np.array([0, -1, -1, 1, 2, 0])
_HLS = 2


class Stages(NamedTuple):
    """What the render kernel executes, one row per sample.

    Geometry first (flips, then the turn), then sharpness, then the stages in order, each a table
    per channel followed by a matrix.

    Attributes:
        luts: uint8 ``[B, S, C, 256]``, S = 3.
        matrices: float32 ``[B, S, 3, 4]`` on RGB in 0..255, offset last; identity unless C is 3. On
            the grid of `tonemaps.on_grid`.
        active: int64 ``[B]``: leading stages in use; the rest are identities.
        sharpness: float64 ``[B]``: weight of the source against its smoothed copy, 1 = unchanged.
        angle: float64 ``[B]``: turn of the source in radians, from +x (right) towards +y (down).
        flip_y: bool ``[B]``: rows of the source reversed.
        flip_x: bool ``[B]``: columns of the source reversed.
    """

    luts: Bytes
    matrices: npt.NDArray[np.float32]
    active: Ints
    sharpness: Array
    angle: Array
    flip_y: Bools
    flip_x: Bools


def assemble(
    chosen: dict[str, Bools],
    parameters: dict[str, Draws],
    batch: int,
    channels: int,
    histograms: Ints | None,
) -> Stages:
    """Puts ops into stages.

    Args:
        chosen: ``{op: bool [slots, B]}``, true at the slot that holds the op.
        parameters: ``{op: {parameter: float64 [B]}}``.
        batch: B.
        channels: C of the result.
        histograms: int64 ``[B, C, 256]`` (or one channel for all) of the sources, or None.

    Raises:
        ValueError: Channels below 1, or histograms of another shape.
    """
    if channels < 1:
        raise ValueError(f"channels: expected at least 1, got {channels}")
    if histograms is not None:
        if histograms.shape not in ((batch, channels, 256), (batch, 1, 256)):
            raise ValueError(
                f"histograms: expected shape [{batch}, {channels}, 256], got "
                f"{list(histograms.shape)}; take them from the bank, one row per sample"
            )
        histograms = np.broadcast_to(histograms, (batch, channels, 256))
    plan = _Plan(chosen, parameters, batch, channels, blind=histograms is None)
    stack = _Stack(batch, channels, histograms)
    reads = plan.reads
    # Not slot by slot: a round takes every row from one op that looks at its colours to the next.
    turn = np.cumsum(reads, axis=0)
    for number in range(int(turn.max(initial=0)) + 1):
        now = turn == number
        if number > 0:
            slot, row = np.nonzero(now & reads)
            plan.look((slot, row), stack)
        stack.add(plan, now)
    return Stages(stack.luts, stack.matrices, stack.active, *_geometry(chosen, parameters, batch))


def scattered(stages: Stages, rows: Ints, batch: int) -> Stages:
    """Stages of the given rows among ``batch``; the others get none and are changed by nothing."""

    def spread(field: npt.NDArray[Any], fill: float = 0.0) -> npt.NDArray[Any]:
        wide = np.full((batch, *field.shape[1:]), fill, field.dtype)
        wide[rows] = field
        return wide

    return Stages(
        spread(stages.luts), spread(stages.matrices), spread(stages.active),
        spread(stages.sharpness, 1.0), spread(stages.angle), spread(stages.flip_y),
        spread(stages.flip_x),
    )  # fmt: skip


def _geometry(
    chosen: dict[str, Bools], parameters: dict[str, Draws], batch: int
) -> tuple[Array, Array, Bools, Bools]:
    never = np.zeros((1, batch), dtype=np.bool_)
    sharpened, turned, flipped_y, flipped_x = (
        chosen.get(name, never) for name in ("sharpness", "rotate", "flip_y", "flip_x")
    )
    sharpness, angle = np.ones(batch), np.zeros(batch)
    if sharpened is not never:
        sharpness = np.where(sharpened.any(axis=0), parameters["sharpness"]["factor"], 1.0)
    flip_y, flip_x = np.any(flipped_y, axis=0), np.any(flipped_x, axis=0)
    if turned is not never:
        angle = np.where(turned.any(axis=0), parameters["rotate"]["angle"], 0.0)
        slot = turned.argmax(axis=0)
        for flip, flipped in ((flip_y, flipped_y), (flip_x, flipped_x)):
            # The kernel flips first: a turn drawn before a flip goes the other way round.
            angle = np.where(flip & (flipped.argmax(axis=0) > slot), -angle, angle)
    return sharpness, angle, flip_y, flip_x


# ---- ops at their slots --------------------------------------------------------------------------


class _Plan:
    """Tables, matrices and knobs of all ops at their slots, ``[slots, B, ...]``, made op by op.

    What depends on the colours at a slot (histograms, mean grey, fitted matrices) waits for
    `look`; without histograms, ``blind``, contrast does not.
    """

    def __init__(
        self, chosen: dict[str, Bools], parameters: dict[str, Draws], batch: int, channels: int,
        blind: bool,
    ) -> None:  # fmt: skip
        size = (len(next(iter(chosen.values()))) if chosen else 0, batch)
        self.blind = blind
        self.tables = np.empty((*size, channels, 256), dtype=np.uint8)
        self.matrices = np.empty((*size, 3, 4))
        self.knobs = np.empty((*size, len(_KNOBS)))
        self.tabled, self.mixed, self.fitted, self.equalized = np.zeros((4, *size), dtype=np.bool_)
        self.cutoff = np.full(size, -1, dtype=np.int64)
        self.contrast = np.full(size, np.nan)
        self.black = np.zeros(size)
        for name, at in chosen.items():
            slot, row = np.nonzero(at)
            if len(row):
                self._put(name, (slot, row), {k: v[row] for k, v in parameters[name].items()})

    def _put(self, name: str, where: Where, p: Draws) -> None:
        """Enters op ``name`` at the (slot, row) pairs ``where`` with its parameters there."""
        channels = self.tables.shape[2]
        if name == "gamma":
            gamma = np.stack([p[f"gamma{c % 3}"] for c in range(channels)], axis=1)
            self._table(where, tonemaps.gamma_tables(gamma))
        elif name == "solarize":
            on = p["on"] > 0.0
            tables = tonemaps.solarize_tables(p["threshold"][on].astype(np.int64))
            self._table((where[0][on], where[1][on]), tables)
        elif name == "posterize":
            self._table(where, tonemaps.posterize_tables(p["bits"].astype(np.int64)))
        elif name == "invert":
            self._table(where, np.arange(255, -1, -1, dtype=np.uint8))
        elif name == "gain":
            self._table(where, tonemaps.affine_tables(p["factor"], np.zeros(len(p["factor"]))))
        elif name == "contrast" and self.blind:
            grey = np.full(len(where[0]), 127.5)
            self._table(where, tonemaps.contrast_tables(p["factor"], grey))
        elif name == "contrast":
            self.contrast[where] = p["factor"]
        elif name == "autocontrast":
            self.cutoff[where] = p["cutoff"]
        elif name == "stretch":
            self.cutoff[where] = 0
        elif name == "equalize":
            self.equalized[where] = True
        elif name == "rotate":
            # The share of a square that its own turned copy does not cover.
            sides = np.abs(np.sin(p["angle"])) + np.abs(np.cos(p["angle"]))
            self.black[where] = 1.0 - 2.0 / (1.0 + sides)
        elif name == "brightness":
            self._brightness(where, p)
        elif channels == 3:
            self._colour(name, where, p)

    def _brightness(self, where: Where, p: Draws) -> None:
        gain = p["gain"]
        # imgaug truncates the product to 8 bits: half a level less on average.
        shift = np.where(p["add_first"] > 0.0, gain * p["add"], p["add"]) - 0.5
        if self.tables.shape[2] != 3:
            self._table(where, tonemaps.affine_tables(gain, shift + 0.5))
            return
        space = p["space"].astype(np.int64)
        row = _SPACE_ROWS[space]
        fit = row < 0
        self._fit(where, gain=gain, shift=shift, hls=(space == _HLS).astype(np.float64))
        self.fitted[where] = fit
        self.matrices[where] = tonemaps.brightness_matrices(np.maximum(row, 0), gain, shift)

    def _colour(self, name: str, where: Where, p: Draws) -> None:
        """The ops that need three channels."""
        if name in ("saturation", "grayscale"):
            factor = p.get("factor", np.zeros(len(where[0])))
            self.matrices[where] = tonemaps.saturation_matrices(factor)
            self.mixed[where] = True
        elif name == "hue":
            self._fit(where, turn=6.0 * p["hue"])
        elif name == "hue_saturation":
            # OpenCV's 8-bit hue: 30 units a sextant, truncated towards zero.
            units = np.trunc(p["hue"] * 180.0 / 255.0)
            self._fit(where, turn=units / 30.0, add=p["saturation"] / 255.0)
        elif name == "saturation_hue":
            hue_first = p["hue_first"] > 0.0
            before = np.where(hue_first, 1.0, p["factor"])
            after = np.where(hue_first, p["factor"], 1.0)
            self._fit(where, turn=6.0 * p["hue"], before=before, after=after)

    def _table(self, where: Where, tables: Bytes) -> None:
        self.tables[where] = tables
        self.tabled[where] = True

    def _fit(self, where: Where, **knobs: Array) -> None:
        for i, (name, neutral) in enumerate(_KNOBS.items()):
            self.knobs[where[0], where[1], i] = knobs.get(name, neutral)
        self.fitted[where] = self.mixed[where] = True

    @property
    def reads(self) -> Bools:
        """Bool ``[slots, B]``: the ops that look at the colours they meet."""
        return self.fitted | self.equalized | (self.cutoff >= 0) | ~np.isnan(self.contrast)

    def look(self, where: Where, stack: _Stack) -> None:
        """Makes tables and matrices that depend on the colours, at most one of each row's."""
        fit = self.fitted[where]
        slot, row = where[0][fit], where[1][fit]
        if len(row):
            colours = stack.palette(row)
            self.matrices[slot, row] = tonemaps.fit_matrices(colours, self.knobs[slot, row])
        if len(row) == len(fit):
            return
        slot, row = where = (where[0][~fit], where[1][~fit])
        self.tabled[where] = True
        histograms = stack.histograms(row)
        on = self.equalized[where]
        if on.any():
            self.tables[slot[on], row[on]] = tonemaps.equalize_tables(histograms[on])
        cutoff = self.cutoff[where]
        on = cutoff >= 0
        if on.any():
            tables = tonemaps.autocontrast_tables(histograms[on], cutoff[on])
            self.tables[slot[on], row[on]] = tables
        factor = self.contrast[where]
        on = ~np.isnan(factor)
        if on.any():
            tables = tonemaps.contrast_tables(factor[on], tonemaps.mean_grey(histograms[on]))
            self.tables[slot[on], row[on]] = tables


# ---- packing -------------------------------------------------------------------------------------


class _Stack:
    """Packs each row's sequence of tables and matrices into stages.

    A table joins the open stage (two tables compose exactly) until a matrix closes it, so a
    sequence with m matrices takes at most m + 1 stages.
    """

    def __init__(self, batch: int, channels: int, histograms: Ints | None) -> None:
        self.luts = np.empty((batch, STAGES, channels, 256), dtype=np.uint8)
        self.luts[:] = np.arange(256, dtype=np.uint8)
        self.matrices = np.empty((batch, STAGES, 3, 4), dtype=np.float32)
        self.matrices[:] = np.eye(3, 4)
        self.active = np.zeros(batch, dtype=np.int64)
        self.source = histograms
        self._closed = np.ones(batch, dtype=np.bool_)
        self._mixed = np.zeros(batch, dtype=np.bool_)

    def add(self, plan: _Plan, now: Bools) -> None:
        """Applies the tables and matrices of the slots ``now``, bool ``[slots, B]``, in order."""
        tabled, mixed = plan.tabled & now, plan.mixed & now
        place = np.empty(now.shape, dtype=np.int64)
        joined = np.empty_like(now)
        for number, (table, matrix) in enumerate(zip(tabled, mixed, strict=True)):
            self.active += (table | matrix) & self._closed
            place[number] = self.active - 1
            joined[number] = table > self._closed
            self._closed = (self._closed > table) | matrix
        slot, row = np.nonzero(tabled > joined)
        self.luts[row, place[slot, row]] = plan.tables[slot, row]
        for number in np.flatnonzero(joined.any(axis=1)).tolist():
            rows = np.flatnonzero(joined[number])
            at, after = (rows, place[number, rows]), plan.tables[number, rows]
            base = np.arange(0, after.size, 256).reshape(*after.shape[:2], 1)
            self.luts[at] = after.reshape(-1)[base + self.luts[at]]
        slot, row = np.nonzero(mixed)
        if len(row):
            self.matrices[row, place[slot, row]] = tonemaps.on_grid(plan.matrices[slot, row])
            self._mixed[row] = True
        slot, row = np.nonzero(now & (plan.black != 0.0))
        if len(row):
            self._blacken(row, plan.black[slot, row])

    def _blacken(self, rows: Ints, share: Array) -> None:
        """Counts ``share`` of the rows' pixels as black ones that the source lacks."""
        if self.source is not None:
            extra = self.source[rows].sum(axis=-1) * (share / (1.0 - share))[:, None]
            self.source = self.source.copy()
            self.source[rows, :, 0] += np.floor(extra + 0.5).astype(np.int64)

    def histograms(self, rows: Ints) -> Ints:
        """Histograms ``[rows, C, 256]`` here: exact until a matrix, then estimated.

        Raises:
            ValueError: The stack was made without histograms.
        """
        if self.source is None:
            raise ValueError("histograms: expected those of the sources, got None; hand them in")
        source, mixed = self.source[rows], self._mixed[rows]
        plain = ~mixed
        if not self.active[rows].any():
            return source
        if plain.all():
            return tonemaps.push_histograms(source, self.luts[rows, 0])
        result = np.empty_like(source)
        result[plain] = tonemaps.push_histograms(source[plain], self.luts[rows[plain], 0])
        source, rows = source[mixed], rows[mixed]
        levels = tonemaps.quantiles(source, _HISTOGRAM_LEVELS, ends=True)
        counts = tonemaps.count_levels(self._replay(rows, levels))
        # Each level stands for its share of the pixels.
        result[mixed] = counts * source.sum(axis=-1, keepdims=True) // _HISTOGRAM_LEVELS
        return result

    def palette(self, rows: Ints) -> Ints:
        """Colours ``[rows, n, 3]`` such as the rows show here; greys without histograms."""
        if self.source is None:
            grey = (2 * np.arange(_FIT_LEVELS) + 1) * 128 // _FIT_LEVELS
            colours = np.broadcast_to(grey[:, None], (len(rows), _FIT_LEVELS, 3))
        else:
            colours = tonemaps.quantiles(self.source[rows], _FIT_LEVELS)
        colours = np.clip(colours[:, :, None] + _FIT_STEPS, 0, 255)
        return self._replay(rows, colours.reshape(len(rows), -1, 3))

    def _replay(self, rows: Ints, colours: Ints) -> Ints:
        """Takes colours ``[rows, n, C]`` through the stages as the render kernel would."""
        row, channel = np.arange(len(rows))[:, None, None], np.arange(colours.shape[2])
        for stage in range(int(self.active[rows].max(initial=0))):
            looked = self.luts[rows, stage][row, channel, colours]
            colours = looked.astype(np.int64)
            if colours.shape[2] == 3:
                matrix = self.matrices[rows, stage].astype(np.float64).swapaxes(1, 2)
                mixed = looked @ matrix[:, :3] + matrix[:, 3:]
                colours = np.floor(np.clip(mixed, 0.0, 255.0) + 0.5).astype(np.int64)
        return colours
