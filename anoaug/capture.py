"""A synthesizer's call as one CUDA graph: sample on the host, copy, replay; warming up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import checks
from .batch import AnomalyBatch

if TYPE_CHECKING:
    from .synthesizer import Synthesizer

_WARM_UPS = 3


class CapturedSynthesizer:
    """Replays a synthesizer on batches of one shape; made by ``Synthesizer.capture``.

    Inputs are copied into static buffers and the results are static too: the next call overwrites
    them, so clone what has to last. Further modalities (``extra=``) are not taken.

    Args:
        synth: The synthesizer.
        images: A batch ``(B, C, H, W)`` on a CUDA device, of the shape and dtype to come.
        foreground: Likewise ``(B, 1, H, W)``, or None. A synthesizer that finds its own does so
            outside the graph, in every call that brings none.
        slots: Likewise, by name, or None; labels that the synthesizer finds, likewise.
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
        if synth.computed or synth._binding.seeking:
            raise ValueError(
                "capture: expected sources that the kernel reads, got one computed by the host in "
                "between, such as sources.Kornia; call the synthesizer itself"
            )
        own = synth.control
        if own is not None and (synth._scope.waits(own) or own.location is not None):
            raise ValueError(
                "capture: expected a control whose numbers are laws', such as the size of a "
                f"rectangle, got {own!r}, which the pixels or a region decide; call the "
                "synthesizer itself"
            )
        self.synth = synth
        self.images = images.clone()
        plane = (len(images), 1, *images.shape[2:])
        finders = synth._binding.finders
        held = {name: images.new_zeros(plane, dtype=torch.float32) for name in finders}
        held |= {name: value.clone() for name, value in (slots or {}).items()}
        self.given: dict[str, Any] = {"foreground": None, "slots": dict(held)}
        if foreground is None and synth.foreground is not None:
            foreground = images.new_zeros(plane, dtype=torch.uint8)
        if foreground is not None:
            held["foreground"] = self.given["foreground"] = foreground.clone()
        self.planes = held
        with torch.cuda.device(images.device):
            self._capture(images)

    def _capture(self, images: Tensor) -> None:
        synth = self.synth
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
        # A loader's thread may allocate meanwhile, which the default mode would take for an error.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
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
            foreground: The batch's foreground, if and only if one was captured; None where the
                synthesizer finds it.
            slots: The batch's tensors, if and only if some were captured.

        Returns:
            The static AnomalyBatch.
        """
        if not (self.synth.training or self.synth.active == "always"):
            raise RuntimeError(
                "capture: expected a synthesizer in train mode, got one in eval mode, which draws "
                "nothing; call the synthesizer itself"
            )
        if images is not None:
            if images.shape != self.images.shape or images.dtype != self.images.dtype:
                raise ValueError(
                    f"capture: expected {list(self.images.shape)} {self.images.dtype} as captured, "
                    f"got {list(images.shape)} {images.dtype}; capture again for another shape"
                )
            self.images.copy_(images, non_blocking=True)
        if foreground is None and self.synth.foreground is not None:
            names = self.synth._names(category, len(self.images))
            foreground = self.synth.foreground(self.images, index, names)
        slots = self.synth._binding.found(self.images, index, slots)
        new = {**(slots or {}), **({} if foreground is None else {"foreground": foreground})}
        if set(new) != set(self.planes):
            raise ValueError(
                f"capture: expected the tensors that were captured, {sorted(self.planes)}, got "
                f"{sorted(new)}; those of another batch must not stay"
            )
        for name, value in new.items():
            self.planes[name].copy_(value, non_blocking=True)
        table = self.synth.sample(self.images, index=index, epoch=epoch, category=category)
        self.params.table.copy_(table, non_blocking=True)
        with torch.cuda.device(self.images.device):
            self.graph.replay()
        return self.batch


def warmed(
    synth: Synthesizer, shape: Sequence[int], dtype: torch.dtype, device: str | torch.device
) -> None:
    """Call a synthesizer once on blank images; nothing of its state moves."""
    images = checks.images(torch.zeros(tuple(shape), dtype=dtype, device=device))
    plane = torch.zeros((len(images), 1, *images.shape[2:]), dtype=torch.uint8, device=device)
    given = {name: plane for name in synth._binding.slots if name != "foreground"}
    given |= {name: images for name in synth._binding.pictures}
    finder = synth.foreground
    # What one by category finds depends on what no blank image has.
    bare = finder.by_category if finder is not None else "foreground" in synth._binding.slots
    index = range(len(images))
    drawn = synth._drawn(images, synth._numbering(index, 0, len(images)), None)
    looked = synth._checked
    synth(
        images, index=index, params=drawn, slots=given or None, foreground=plane if bare else None
    )
    synth._checked = looked
