"""Synthesis inside a pipeline of DALI's, as an operator."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...ops import resolve_backend
from ...synthesizer import Synthesizer
from .gather import gather_samples
from .iterators import LAYOUTS, interleaved, planar


class _Inside:
    """A synthesizer as a Python operator: lists of DLPack capsules, one per sample."""

    def __init__(
        self, synth: Synthesizer, layout: str, epoch_size: int | None, position: int
    ) -> None:
        self.synth, self.layout = synth, layout
        self.epoch_size, self.position = epoch_size, position

    def __call__(self, images: list[Any], index: list[Any]) -> tuple[list[Any], ...]:
        """Called in a thread of DALI's, which has neither our gradient mode nor our stream."""
        dlpack: Any = torch.utils.dlpack
        pack, unpack = dlpack.to_dlpack, dlpack.from_dlpack
        pictures = [unpack(one) for one in images]
        sizes = {tuple(one.shape) for one in pictures}
        if len(sizes) > 1:
            raise ValueError(
                f"images: expected one size, got {sorted(sizes)}; put fn.resize before synthesize"
            )
        with torch.no_grad(), _stream_of_dali(pictures[0].device):
            batch = self._batch(pictures)
            # host: an operator on the GPU is given GPU inputs alone, and sampling needs the number
            numbers = torch.stack([unpack(one).reshape(()) for one in index]).cpu().to(torch.int64)
            outs = [
                self.synth(batch[rows], index=numbers[rows], epoch=epoch)
                for rows, epoch in self._epochs(len(batch))
            ]
            made = [torch.cat([out[k] for out in outs]).contiguous() for k in range(3)]
        # Labels as [1] each: DALI's batches have no tensors without axes.
        made[2] = made[2].unsqueeze(1)
        return tuple([pack(row) for row in part] for part in made)

    def _batch(self, pictures: list[Tensor]) -> Tensor:
        """The samples as one planar batch: a view of their stack, or gathered by the kernel."""
        first, backend = pictures[0], self.synth.backend
        if first.dim() == 3 and resolve_backend(backend, first.device) == "triton":
            last = interleaved((len(pictures), *first.shape), self.layout)
            return gather_samples(pictures, last, backend)
        return planar(torch.stack(pictures), self.layout)

    def _epochs(self, rows: int) -> list[tuple[slice, int]]:
        """Slices of the batch by the epoch they belong to."""
        if self.epoch_size is None:
            return [(slice(0, rows), self.synth.epoch)]
        parts, begin = [], 0
        while begin < rows:
            epoch, place = divmod(self.position, self.epoch_size)
            count = min(rows - begin, self.epoch_size - place)
            parts.append((slice(begin, begin + count), epoch))
            begin, self.position = begin + count, self.position + count
        return parts


def _stream_of_dali(device: torch.device) -> Any:
    """DALI's own stream as the current one, so that nothing has to be waited for."""
    if device.type != "cuda":
        return nullcontext()
    plugin = checks.require("nvidia.dali.python_function_plugin", "dali")
    return torch.cuda.stream(torch.cuda.ExternalStream(plugin.current_dali_stream(), device))


def synthesize(
    images: Any,
    index: Any,
    synth: Synthesizer,
    *,
    layout: str = "auto",
    epoch_size: int | None = None,
    position: int = 0,
    device: str = "cpu",
) -> tuple[Any, Any, Any]:
    """A synthesizer as an operator inside a DALI pipeline.

    Slower than :class:`SynthIterator`: DALI hands Python operators one tensor per sample, holds a
    lock around them, and copies what they return. A pipeline with one cannot be serialised. On the
    GPU all work is on DALI's own stream, and one kernel gathers the samples by their addresses.

    Args:
        images: DALI's images of one size, uint8 or float in [0, 1], ``HWC`` or ``CHW``.
        index: The samples' numbers, such as a reader's labels; on the GPU, ``index.gpu()``.
        synth: The synthesizer.
        layout: See :class:`SynthIterator`.
        epoch_size: Samples of an epoch of the reader, so that epochs are counted here, where
            batches are made ahead of time; with ``pad_last_batch=True`` rounded up to whole
            batches. None takes the synthesizer's epoch, as it stands then.
        position: Samples that a restored pipeline has given already: DALI's checkpoints do not
            know what a Python operator counted.
        device: Of the operator: ``"cpu"`` or ``"gpu"``, like ``images``.

    Returns:
        Image (``CHW``), mask (``CHW``, float32) and label (int64 ``[1]``), nodes of the pipeline.

    Raises:
        ImportError: DALI is missing.
        TypeError: Not a synthesizer.
    """
    fn = checks.require("nvidia.dali.fn", "dali")
    if not isinstance(synth, Synthesizer):
        raise TypeError(f"synth: expected an anoaug.Synthesizer, got {type(synth).__name__}")
    call = _Inside(synth, checks.one_of("layout", layout, LAYOUTS), epoch_size, position)
    image, mask, label = fn.dl_tensor_python_function(
        images, index, function=call, num_outputs=3, batch_processing=True,
        output_layouts=["CHW", "CHW", ""], device=device, synchronize_stream=False,
    )  # fmt: skip
    # A tuple, which a pipeline may return as it is; DALI's own list it may not.
    return image, mask, label
