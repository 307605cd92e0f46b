"""Control over what is drawn: size, location, strength, shape, aspect, rotation, count and kind.

:class:`Control` is what a user asks for (``request``). ``scope`` says what of it a synthesizer can
do, ``orders`` makes numbers of it, which laws read beside their draws (:mod:`anoaug.wanted`), and
``settle`` does, between sampling and render, what needs the pixels: regions, thresholds of noise,
and opacities that reach a difference.
"""

from .orders import Orders, examined, names_of, ordered, refuse_beside_params, tiled
from .request import Control, as_control
from .scope import Scope, weighed
from .settle import pending, settled

__all__ = [
    "Control",
    "Orders",
    "Scope",
    "as_control",
    "examined",
    "names_of",
    "ordered",
    "pending",
    "refuse_beside_params",
    "settled",
    "tiled",
    "weighed",
]
