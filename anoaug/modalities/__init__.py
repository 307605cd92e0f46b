"""Modalities: the same anomalies in further images of a scene, each as its sensor sees them.

``synth(image, extra={"depth": d, "ir": i, "xray": r})`` lays every anomaly into each modality where
it lies in the image, with an appearance of its own, and returns them in ``AnomalyBatch.extras``.
Masks, labels and kinds are the image's. A modality reads the image's table for the geometry; the
columns of its appearance come from streams that carry its name, so that one modality more changes
neither the image nor another modality.

What each looks like is said by ``Synthesizer(modalities={name: appearance})``: :class:`Depth`,
:class:`XRay` and :class:`Infrared` lay one tone along a profile of the finished mask, whatever the
layers are; :class:`Modality` repeats the layers with a source and a blend.
"""

from .appearances import Appearance, Depth, Infrared, Modality, XRay
from .profiles import Profile, Ramp, Spread

__all__ = [
    "Appearance",
    "Depth",
    "Infrared",
    "Modality",
    "Profile",
    "Ramp",
    "Spread",
    "XRay",
]
