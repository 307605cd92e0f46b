"""The normal image turned, as the published loaders turn it before they synthesise."""

from __future__ import annotations

from . import masks, sources
from .binding import Layer
from .synthesizer import Synthesizer

_SEED = 0x7E51_90D5  # a seed of its own: its angles have nothing to do with the anomalies


def turned(
    angle: float | tuple[float, float] = (-90.0, 90.0),
    *,
    p: float = 1.0,
    quarters: bool = False,
    fill: float = 0.0,
    seed: int = _SEED,
) -> Synthesizer:
    """A ``normal_transform`` that turns images about their middle; ``clean`` is turned too.

    ``turned((-90, 90), p=0.3)`` is what DRAEM does. Angles are a function of (seed, epoch, sample
    index), as anomalies are.

    Args:
        angle: Range in degrees.
        p: P(turned) per sample.
        quarters: First by 0, 90, 180 or 270 degrees, each equally likely; for square images, of
            which no pixel is lost.
        fill: Grey in [0, 1] of what is turned in from beyond the image.
        seed: 64-bit seed of the angles.
    """

    def whole(degrees: float | tuple[float, float]) -> Layer:
        sides = {"height": 1.0, "width": 1.0, "unit": "share"}
        frame = masks.Rectangle(**sides, rotation=degrees, place="middle")  # type: ignore[arg-type]
        return Layer(frame, sources.Own(interpolation="bilinear"))

    first = None
    if quarters:
        quarter = [whole(90.0 * n) for n in range(4)]
        first = Synthesizer(*quarter, p=p, choose="one", name="quarters", seed=seed)
    ground = Layer(masks.Everywhere(), sources.Constant(fill))
    return Synthesizer(ground, whole(angle), p=p, name="turned", seed=seed, normal_transform=first)
