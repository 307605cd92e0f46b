"""Label maps a synthesizer finds by itself, as it does foregrounds."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from .foregrounds import Finder
from .masks.planes import Superpixels


class LabelFinder(Finder):
    """The ``of`` of a :class:`anoaug.masks.Superpixels`, called once per call of a synthesizer.

    Returns float32 ``(B, 1, H, W)`` of whole numbers.

    Args:
        step: The mask.
    """

    dtype: ClassVar[torch.dtype] = torch.float32
    keywords: ClassVar[tuple[str, str]] = ("of", "slots")

    def __init__(self, step: Superpixels) -> None:
        if step.of is None:
            raise ValueError(f"{step.name}: expected masks.Superpixels with of=, got one without")
        self.step = step
        super().__init__(step.of)

    def accepted(self, found: Any, images: Tensor) -> Tensor:
        """What the callable gave, as ``__call__`` returns it."""
        return self.step.read(found, images)

    def __deepcopy__(self, memo: dict[int, Any]) -> LabelFinder:
        return LabelFinder(self.step)

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelFinder, (self.step,)
