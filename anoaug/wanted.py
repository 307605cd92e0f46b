"""What a control asks of samples, as numbers that laws take in place of what they would draw.

A matrix float64 ``[B, copies, columns]`` on the host, copies counted over all layers; NaN leaves
the law's own. :mod:`anoaug.control` makes it, ``anoaug::sample`` takes it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Wanted(NamedTuple):
    """The columns of the matrix; of one copy of a layer float64 ``[B]`` each, NaN where free.

    Attributes:
        size: Area as a share of the image, by sides.
        level: The same by thresholds, which go by the pixels; not the laws' concern.
        least: Share of what a location leaves of a layer that is above the threshold at least,
            where no size is asked for; not the laws' concern.
        y0: Box in which the centre lies, in shares of the image; a point is a box without sides.
        x0: See above, likewise the next two.
        y1: See above.
        x1: See above.
        strength: Weight of the source in [0, 1].
        difference: Mean difference within the mask to be reached, in [0, 1]; not the laws' concern.
        sigma: The same in units of a product's variation by pixel.
        aspect: Width / height.
        rotation: Degrees.
        shape: Number of a bank's kind of shape.
        copies: How many there are over all layers; the same in all of them.
        kind: Number of a kind of anomaly, likewise.
    """

    size: Floats
    level: Floats
    least: Floats
    y0: Floats
    x0: Floats
    y1: Floats
    x1: Floats
    strength: Floats
    difference: Floats
    sigma: Floats
    aspect: Floats
    rotation: Floats
    shape: Floats
    copies: Floats
    kind: Floats


COLUMN = {name: number for number, name in enumerate(Wanted._fields)}


def of_copy(matrix: Floats | None, copy: int) -> Wanted | None:
    """What is asked of one copy."""
    return None if matrix is None else Wanted(*matrix[:, copy].T)


def instead(own: Floats, wanted: Floats) -> Floats:
    """The wanted numbers, and the law's own where there are none."""
    return np.where(np.isnan(wanted), own, wanted)
