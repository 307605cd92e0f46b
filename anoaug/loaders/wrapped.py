"""What transforms of other libraries have in common: the synthesizer they wrap."""

from __future__ import annotations

import copy
from typing import Any

from .. import methods
from ..synthesizer import Synthesizer


def made(synth: Synthesizer | str, p: float | None, keywords: dict[str, Any]) -> Synthesizer:
    """The synthesizer that a transform of another library wraps.

    Args:
        synth: A synthesizer, or the name of a method.
        p: P(anomalous); None keeps the synthesizer's own, a number makes a copy.
        keywords: Of the method.

    Raises:
        TypeError: Neither, or keywords beside a synthesizer.
        ValueError: One whose rows, images or values are not those of its input.
    """
    if isinstance(synth, str):
        synth = methods.create(synth, **keywords)
    elif not isinstance(synth, Synthesizer):
        raise TypeError(
            f"synth: expected a Synthesizer or a method's name, got {type(synth).__name__}; "
            "anoaug.create('draem') makes one"
        )
    elif keywords:
        raise TypeError(
            f"synth: expected a method's name with {', '.join(sorted(keywords))}, got a "
            "Synthesizer; give the keywords to it"
        )
    wrong = {
        "views, which multiply rows": bool(synth.views),
        "a normal_transform; put it in front": synth.normal_transform is not None,
        "mean and std; normalise behind it": synth.mean is not None,
        "dtype; convert behind it": synth.dtype is not None,
    }
    for what, there in wrong.items():
        if there:
            raise ValueError(f"synth: expected one without {what}, got {synth.name!r} with it")
    if p is not None:
        synth = copy.deepcopy(synth)
        synth.p = p
    return synth
