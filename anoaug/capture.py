"""A synthesizer's call as one CUDA graph: sample on the host, copy the table, replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .batch import AnomalyBatch

if TYPE_CHECKING:
    from .synthesizer import Synthesizer

_WARM_UPS = 3


class CapturedSynthesizer:
    """Replays a synthesizer on batches of one shape; made by ``Synthesizer.capture``.

    Inputs are copied into static buffers and the results are static too: the next call overwrites
    them, so clone what has to last.

    Args:
        synth: The synthesizer.
        images: A batch ``(B, C, H, W)`` on a CUDA device, of the shape and dtype to come.
        foreground: Likewise ``(B, 1, H, W)``, or None.
        slots: Likewise, by name, or None.
    """

    def __init__(
        self,
        synth: Synthesizer,
        images: Tensor,
        foreground: Tensor | None,
        slots: dict[str, Tensor] | None,
    ) -> None:
        if not images.is_cuda:
            raise ValueError(
                f"capture: expected images on a CUDA device, got {images.device}; "
                "CUDA graphs exist nowhere else, call the synthesizer itself"
            )
        if synth.views or synth.normal_transform is not None:
            raise ValueError(
                "capture: expected a synthesizer without views and normal_transform, whose work "
                "lies outside the graph; call the synthesizer itself"
            )
        self.synth = synth
        self.images = images.clone()
        self.given: dict[str, Any] = {"foreground": None, "slots": None}
        if foreground is not None:
            self.given["foreground"] = foreground.clone()
        if slots is not None:
            self.given["slots"] = {name: value.clone() for name, value in slots.items()}
        # Compiles the kernels and fills every cache before the capture forbids it.
        first = synth(self.images, index=range(len(images)), epoch=0, **self.given)
        self.params = first.params._replace(table=first.params.table.clone())
        stream = torch.cuda.Stream(images.device)
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                synth(self.images, params=self.params, **self.given)
        torch.cuda.current_stream(images.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.batch = synth(self.images, params=self.params, **self.given)

    def __call__(
        self,
        images: Tensor | None = None,
        *,
        index: Any = None,
        epoch: int | None = None,
        category: Any = None,
        foreground: Tensor | None = None,
        slots: dict[str, Tensor] | None = None,
    ) -> AnomalyBatch:
        """Sample anew, copy what is given, replay.

        Args:
            images: A batch of the captured shape and dtype; None keeps the last.
            index: As in the synthesizer's call, likewise the next two.
            epoch: Epoch in [0, 2**32).
            category: Per-sample category.
            foreground: New foreground, where one was captured.
            slots: New tensors, where they were captured.

        Returns:
            The static AnomalyBatch.
        """
        if images is not None:
            if images.shape != self.images.shape or images.dtype != self.images.dtype:
                raise ValueError(
                    f"capture: expected {list(self.images.shape)} {self.images.dtype} as captured, "
                    f"got {list(images.shape)} {images.dtype}; capture again for another shape"
                )
            self.images.copy_(images, non_blocking=True)
        for name, value in {"foreground": foreground, **(slots or {})}.items():
            if value is not None:
                held = self.given["foreground"] if name == "foreground" else self.given["slots"]
                (held if isinstance(held, Tensor) else held[name]).copy_(value, non_blocking=True)
        table = self.synth.sample(self.images, index=index, epoch=epoch, category=category)
        self.params.table.copy_(table, non_blocking=True)
        self.graph.replay()
        return self.batch
