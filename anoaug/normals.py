"""What is done to the normal images of a call before synthesis: its ``normal_transform``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks, kornia_bridge
from .settings import Settled


def transformed(
    synth: Any, images: Tensor, number: tuple[Tensor, Tensor], category: Any = None,
    seed: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The images after a synthesizer's ``normal_transform``.

    Args:
        synth: The synthesizer.
        images: ``(B, C, H, W)``.
        number: Of the samples: indices, and (seed, epoch).
        category: The call's.
        seed: The synthesizer's own, where it is not that of its numbering.

    Raises:
        ValueError: A callable that leaves another number of images, or leaves them elsewhere.
    """
    transform: Any = synth.normal_transform
    if isinstance(transform, Settled):
        theirs: Any = transform
        index, state = number
        # Its own seed, moved as ours was if a DataLoader worker moved it.
        moved = state[0] ^ (synth._numbering.state[0] if seed is None else seed)
        state = torch.stack([theirs._numbering.state[0] ^ moved, state[1]])
        if theirs.normal_transform is not None:
            images = transformed(theirs, images, (index, state), category)
        # As a replay, it works in eval mode too where this synthesizer does.
        params = theirs._drawn(images, (index, state), None)
        made: Tensor = theirs(images, index=index, category=category, params=params).image
        return made
    if isinstance(transform, kornia_bridge.Augmentation):
        return transform.of_samples(images, *number)
    made = checks.images(transform(images))
    if len(made) != len(images) or made.device != images.device:
        raise ValueError(
            f"normal_transform: expected {len(images)} images on {images.device}, got "
            f"{len(made)} on {made.device}; transform each image where it is"
        )
    return made
