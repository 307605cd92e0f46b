"""A law of every method, in closed form or as measured of the original: what its draws follow.

Each entry of :data:`LAWS` gives p-values of draws under what is published (or, where nothing is,
stated in the method's docstring). ``test_every_method.py`` refuses those below :data:`DOUBT`: a
right method fails for one seed in ten thousand, and the seed stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from anoaug import Synthesizer, recipe

Numbers = npt.NDArray[np.float64]
DOUBT = 1e-4
ROWS = 1500


class Draws:
    """What a synthesizer draws for many samples.

    Args:
        synth: Of which every sample is anomalous.
        side: Of the square images: large, so that whole pixels are as good as real numbers, or
            256 where a law counts pixels.
    """

    def __init__(self, synth: Synthesizer, side: int = 2048, rows: int = ROWS) -> None:
        self.side, self.synth = side, synth
        blank = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(rows, -1, side, side)
        table = synth.sample(blank, index=range(rows), epoch=0)
        self._columns = recipe.recipe(synth.laws(3)).describe(table.numpy())

    def __call__(self, name: str, layer: int = 0) -> Numbers:
        """The column of that role and last name, such as ``"mask.half_h"``."""
        role, _, last = name.partition(".")
        found = [
            value
            for key, value in self._columns.items()
            if key.startswith(f"layer{layer}.{role}.") and key.endswith(f".{last}")
        ]
        assert len(found) == 1, f"{name}: {len(found)} columns"
        return found[0].astype(np.float64)

    def gates(self) -> Numbers:
        """Whether each layer is there, ``[layers, rows]``."""
        names = sorted(name for name in self._columns if name.endswith(".gate"))
        return np.stack([self._columns[name] for name in names]).astype(np.float64)


Law = Callable[[Synthesizer], Iterator[float]]


# ---- p-values ------------------------------------------------------------------------------------


def uniform(values: Numbers, low: float, high: float, slack: float = 0.002) -> float:
    """Of numbers uniform in [low, high], which rounding to pixels moves by up to ``slack``."""
    if values.min() < low - slack or values.max() > high + slack:
        return 0.0
    return float(stats.kstest((values - low) / (high - low), "uniform").pvalue)


def odds(tally: Any, expected: Sequence[float]) -> float:
    """Of numbers of cases with these odds."""
    counts = np.asarray(tally, dtype=np.float64)
    shares = np.asarray(expected, dtype=np.float64)
    return float(stats.chisquare(counts, counts.sum() * shares / shares.sum()).pvalue)


def whole(values: Numbers, among: Sequence[float]) -> float:
    """Of numbers each as often as the others, and no others."""
    found = np.abs(values[:, None] - np.asarray(among)).argmin(1)
    if np.abs(values - np.asarray(among)[found]).max() > 1e-3:
        return 0.0
    return odds(np.bincount(found, minlength=len(among)), [1.0] * len(among))


def mean(values: Numbers, expected: float, error: float = 0.0) -> float:
    """Of numbers whose mean is as expected, which is known up to a standard error."""
    deviation = np.hypot(values.std() / np.sqrt(len(values)), error)
    return float(2.0 * stats.norm.sf(abs(values.mean() - expected) / deviation))


# ---- laws that methods share ---------------------------------------------------------------------


def sides(draws: Draws, low: float, high: float) -> Iterator[float]:
    """Height and width uniform, as shares of the image's."""
    for name in ("mask.half_h", "mask.half_w"):
        yield uniform(2 * draws(name) / draws.side, low, high)


def boxes(
    draws: Draws, area: tuple[float, float], aspect: float, role: str = "mask"
) -> Iterator[float]:
    """A uniform area, an aspect log-uniform in [1 / aspect, aspect]."""
    tall, wide = 2 * draws(f"{role}.half_h") / draws.side, 2 * draws(f"{role}.half_w") / draws.side
    yield uniform(tall * wide, *area)
    yield uniform(np.log(wide / tall), -np.log(aspect), np.log(aspect), 0.02)


def component(synth: Synthesizer) -> Iterator[float]:
    """The boxes in which a component is looked for: a uniform mean side, a log-uniform aspect."""
    draws = Draws(synth)
    tall, wide = (2 * draws(f"source.{name}")[:, 0] / draws.side for name in ("half_h", "half_w"))
    yield uniform(np.sqrt(tall * wide), 0.08, 0.3)
    yield uniform(np.log(wide / tall), -np.log(2.0), np.log(2.0))


def perlin(synth: Synthesizer, low: float, rows: int = 400) -> Iterator[float]:
    """DRAEM's masks, 4.76 % of the image (1,800 fields) and one in nineteen empty; an opacity."""
    yield uniform(Draws(synth)("blend.opacity"), low, 1.0)
    out = synth(torch.full((rows, 3, 128, 128), 7, dtype=torch.uint8), index=range(rows), epoch=0)
    areas = out.mask.mean((1, 2, 3)).numpy().astype(np.float64)
    yield mean(areas, 0.0476, 0.0006)
    yield float(stats.binomtest(int((areas == 0).sum()), rows, 0.052).pvalue)


def square(synth: Synthesizer) -> Iterator[float]:
    """FPI's: half a side of 5 to 20 %, a weight of 0.05 to 0.95."""
    draws = Draws(synth)
    # Whole pixels on either side of a centre, cut where the image ends.
    centre = np.stack([draws("mask.cy"), draws("mask.cx")]) / draws.side
    free = (np.abs(centre - 0.5) < 0.3).all(0)
    yield uniform(draws("mask.half_h")[free] / draws.side, 0.05, 0.2)
    yield uniform(draws("blend.opacity"), 0.05, 0.95)


# ---- one by one ----------------------------------------------------------------------------------


def cdo(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield whole(draws.gates().sum(0), [0, 1, 2, 3, 4])
    yield from sides(draws, 0.05, 0.2)


def chip(synth: Synthesizer) -> Iterator[float]:
    """Discs of 0.35 to 0.75 of half a chip, which is 6 to 18 % of the image."""
    draws = Draws(synth)
    yield mean(draws("source.radius")[:, 0] / draws.side, 0.55 * 0.12 / 2)


def cutout(synth: Synthesizer) -> Iterator[float]:
    yield from sides(Draws(synth), 20 / 256, 51 / 256)


def cutpaste(synth: Synthesizer) -> Iterator[float]:
    yield from boxes(Draws(synth), (0.02, 0.15), 1 / 0.3)


def cutpaste_scar(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth, 256)
    yield whole(2 * draws("mask.half_w"), range(2, 16))
    yield whole(2 * draws("mask.half_h"), range(10, 25))
    yield uniform(np.degrees(np.arctan2(draws("mask.sin"), draws("mask.cos"))), -45.0, 45.0)


def cutpaste_union(synth: Synthesizer) -> Iterator[float]:
    yield odds(Draws(synth).gates().sum(1), [1, 1])


def displaced(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield uniform(np.hypot(draws("source.dy0"), draws("source.dx0")), 0.2, 0.6)
    yield from component(synth)


def dsr_image(synth: Synthesizer) -> Iterator[float]:
    yield uniform(Draws(synth)("source.colour").ravel(), 0.0, 1.0)
    yield from perlin(synth, 0.2)


def extra(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield uniform(np.hypot(draws("source.dy7"), draws("source.dx7")), 1.0, 4.0)
    yield from component(synth)


def fractal(synth: Synthesizer) -> Iterator[float]:
    """The map from the image to the shape's square: its scale is one over the side."""
    draws = Draws(synth, 1024, 300)
    side = 1.0 / np.hypot(draws("mask.yy"), draws("mask.yx"))
    yield uniform(side / side.max(), 0.2, 1.0, 0.02)


def glass_las(synth: Synthesizer) -> Iterator[float]:
    """Either, both, the first: the mean area is that of one field, whatever they overlap."""
    draws = Draws(synth)
    yield whole(draws("mask.mode"), sorted(set(draws("mask.mode").tolist())))
    weight = draws("blend.opacity")
    yield mean(weight, 0.5)
    inside = weight[(weight > 0.2) & (weight < 0.8)]
    yield float(stats.kstest(inside, stats.truncnorm(-3, 3, 0.5, 0.1).cdf).pvalue)
    out = synth(torch.full((400, 3, 128, 128), 7, dtype=torch.uint8), index=range(400), epoch=0)
    yield mean(out.mask.mean((1, 2, 3)).numpy().astype(np.float64), 0.0476, 0.0006)


def i3ad(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield whole(draws.gates().sum(0), [1, 2, 3, 4])
    yield from sides(draws, 0.05, 0.3)


def intra(synth: Synthesizer) -> Iterator[float]:
    """One of 16 x 16 patches is hidden, each as often where windows reach all alike."""
    draws = Draws(synth, 256)
    yield float((2 * draws("mask.half_h") == 16).all() and (2 * draws("mask.half_w") == 16).all())
    # Of ten places for a window of seven, each as often.
    yield whole(draws("mask.top") / 16, range(10))


def memseg(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield odds(draws.gates().sum(1), [1, 1])
    yield uniform(draws("blend.opacity", 1), 0.15, 1.0)
    yield from perlin(synth, 0.15)


def misprint(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield odds(draws.gates().sum(1), [1, 1, 1, 1])
    yield from boxes(draws, (0.05, 0.3), 2.5)


def noise_fill(synth: Synthesizer) -> Iterator[float]:
    """Boxes of up to 0.3 fit whatever their aspect."""
    draws = Draws(synth)
    area = 4 * draws("mask.half_h") * draws("mask.half_w") / draws.side**2
    fits = area < 0.3
    yield uniform(area[fits], 0.02, 0.3)
    yield float(stats.binomtest(int(fits.sum()), len(area), 0.28 / 0.38).pvalue)


def nsa(synth: Synthesizer) -> Iterator[float]:
    """The first patch always, each of three further ones half of the time."""
    draws = Draws(synth, 96)  # the donors' side
    gates = draws.gates()
    yield float(gates[0].all())
    yield odds(np.bincount(gates.sum(0).astype(int), minlength=5)[1:], [1, 3, 3, 1])
    half = draws("mask.half_h") / draws.side
    yield float(half.max() <= 0.4 + 1 / draws.side)


def pei(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield uniform(draws("mask.tall") * draws("mask.wide") / draws.side**2, 0.02, 0.15)


def rdpp(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth, 256)
    for name in ("mask.half_h", "mask.half_w"):
        yield whole(2 * draws(name), range(10, 32))


def reb(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield odds(draws.gates().sum(1), [1, 1, 1])
    yield uniform(draws("mask.tall") * draws("mask.wide") / draws.side**2, 0.02, 0.15)
    yield uniform(draws("blend.opacity", 2), 0.5, 1.0)


def riad(synth: Synthesizer) -> Iterator[float]:
    yield whole(1.0 / Draws(synth, 256)("mask.scale"), [2, 4, 8, 16])


def rotated(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    angle = np.degrees(np.arctan2(draws("source.sin"), draws("source.cos")))
    yield uniform(np.abs(angle), 20.0, 180.0)
    yield from component(synth)


def smai(synth: Synthesizer) -> Iterator[float]:
    yield uniform(Draws(synth)("mask.share"), 0.1, 0.3)


def thread(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield odds(draws.gates().sum(1), [0.6, 0.2, 0.2])
    yield uniform(2 * draws("source.half") / draws.side, 0.15, 0.6)


def warp(synth: Synthesizer) -> Iterator[float]:
    draws = Draws(synth)
    yield odds(draws.gates().sum(1), [0.5, 0.25, 0.25])
    yield from boxes(draws, (0.03, 0.15), 2.5)


LAWS: dict[str, Law] = {
    "cdo": cdo, "chip": chip, "cutout": cutout, "cutpaste": cutpaste,
    "cutpaste_scar": cutpaste_scar, "cutpaste_union": cutpaste_union,
    "destseg": lambda synth: perlin(synth, 0.2), "displaced": displaced,
    "draem": lambda synth: perlin(synth, 0.2), "dsr_image": dsr_image, "extra": extra,
    "fpi": square, "fractal": fractal, "glass_las": glass_las, "i3ad": i3ad, "intra": intra,
    "memseg": memseg, "misprint": misprint, "missing": component, "noise_fill": noise_fill,
    "nsa": nsa, "pei": pei, "pii": square, "rdpp": rdpp,
    "realnet": lambda synth: perlin(synth, 0.2), "reb": reb, "riad": riad, "rotated": rotated,
    "smai": smai, "swapped": component, "thread": thread, "warp": warp,
}  # fmt: skip
