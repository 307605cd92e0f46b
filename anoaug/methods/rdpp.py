"""RD++: simplex noise added in one small box (Tien et al., CVPR 2023)."""

from __future__ import annotations

from typing import Any

from .. import blends, checks, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method

# The 3-D OpenSimplex noise of the original against ours, as measured: its standard deviation, and
# how much wider its features are at one frequency (the two correlate alike from 1 to 16 pixels).
STRENGTH, WIDTH = 0.58, 1.9


@method(
    "rdpp",
    family="inpainting",
    paper=(
        "Tien, Nguyen, Tran et al.: RD++ (Revisiting Reverse Distillation), CVPR 2023 "
        "(https://github.com/tientrandinh/Revisiting-Reverse-Distillation)"
    ),
    matches=(
        "the official code: sides of 10 to 31 pixels at 256, 0.2 x noise of 6 octaves with "
        "persistence 0.6, the coarsest 32 pixels long; every sample anomalous"
    ),
    deviations=(
        "2-D simplex noise, as strong and as coarse as the original's (measured), but grey: there "
        "the channels are neighbouring slices of a 3-D field, correlated by 0.95 to 0.98",
        "every sample has noise of its own; the original shows one field from its corner each time",
        "the sum is clipped to the images' range",
        "box and noise grow with the image; the original works at 256",
    ),
    defects=("contamination", "stain", "texture change", "discolouration"),
    surfaces=("texture", "object"),
)
def rdpp(
    *,
    p: float = 1.0,
    height: float | tuple[float, float] = (10 / 256, 32 / 256),
    width: float | tuple[float, float] = (10 / 256, 32 / 256),
    intensity: float | tuple[float, float] = 0.2,
    wavelength: float = 32 / 256,
    octaves: int = 6,
    persistence: float = 0.6,
    **common: Any,
) -> Synthesizer:
    """Simplex noise added in one box.

    Args:
        p: P(anomalous).
        height: Share of the image's height.
        width: Share of the image's width.
        intensity: Factor of the noise in [0, 1].
        wavelength: Length of the coarsest octave, a share of the image's sides.
        octaves: Number of octaves, each twice as fine; 1 to 8.
        persistence: Amplitude of an octave relative to the one before.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    low, high = checks.interval("intensity", intensity, 0.0, 1.0)
    length, _ = checks.interval("wavelength", wavelength, 2**-10, 16.0)
    source = sources.Simplex(
        amplitude=(STRENGTH * low, STRENGTH * high),
        cells=1.0 / (WIDTH * length),
        octaves=octaves,
        persistence=persistence,
    )
    mask = masks.Rectangle(height=height, width=width, unit="share")
    return Synthesizer(Layer(mask, source, blends.Hard(mix="add")), p=p, **common)
