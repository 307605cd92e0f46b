"""Kornia: synthesis as an augmentation, alone or inside an AugmentationSequential.

Importing this module needs kornia: ``pip install 'anoaug[kornia]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..control import Control
from ..synthesizer import Synthesizer
from .wrapped import made

_augmentation: Any = checks.require("kornia.augmentation", "kornia")

# What is ours among the parameters of a call.
TABLE, CHOICE, CALL = "anomaly_table", "anomaly_choice", "anomaly_call"
ASKED, WITHIN = "anomaly_asked", "anomaly_within"


class RandomAnomaly(_augmentation.IntensityAugmentationBase2D):
    """A synthesizer as an augmentation of kornia.

    Works alone and inside ``AugmentationSequential``, on tensors and on dicts:
    ``data_keys=["input", "mask"]`` gives the image with anomalies and the mask with theirs united;
    the image has to come first. Kornia hands classes through as they are: labels are in
    :attr:`label` after the call. ``params=aug._params`` replays to the bit. As everywhere in anoaug
    the module hands its input through in eval mode, and nothing is drawn from a global generator:
    samples are numbered by the synthesizer's counter, disjoint between ranks and workers.

    Put it before ``Normalize``: values have to be in [0, 1]. Kornia takes its images as floats; for
    uint8, other outputs and full speed call the synthesizer itself.

    Args:
        synth: A :class:`anoaug.Synthesizer` or :class:`anoaug.OneOf`, or the name of a method.
        p: P(anomalous) per sample; None keeps the synthesizer's own. With a number a synthesizer
            that is given is copied.
        control: Size, location, strength and so on of the anomalies, fixed or ranged, see
            :class:`anoaug.Control`, if a name is given; a synthesizer brings its own. What pixels
            decide, such as the size of noise, is decided anew by the images of a replay.
        keepdim: Return ``(C, H, W)`` for ``(C, H, W)``, as kornia's own.
        keywords: Of the method, if a name is given.

    Raises:
        TypeError: Neither a synthesizer nor a name, or keywords beside a synthesizer.
        ValueError: A synthesizer with views or a ``normal_transform``, or whose output is
            normalised or of another dtype than its input; a control that the method lacks.

    Example:
        Flipped, then anomalous, then normalised, image and mask alike::

            augment = kornia.augmentation.AugmentationSequential(
                kornia.augmentation.RandomHorizontalFlip(),
                anoaug.loaders.kornia.RandomAnomaly("draem", textures=bank, p=0.5, seed=0),
                kornia.augmentation.Normalize(mean, std),
                data_keys=["input", "mask"],
            )
            image, mask = augment(images, torch.zeros(len(images), 1, 256, 256))
    """

    def __init__(
        self,
        synth: Synthesizer | str,
        *,
        p: float | None = None,
        control: Control | Mapping[str, Any] | None = None,
        keepdim: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(p=1.0, keepdim=keepdim)  # who is anomalous is the synthesizer's to draw
        given = keywords if control is None else {**keywords, "control": control}
        self.synth = made(synth, p, given)
        self._calls = 0
        # What the last images left for their masks, and the number of their draw:
        # kornia hands copies of its parameters around.
        self._last: tuple[int, Tensor, Tensor] | None = None

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw the table of a batch: one row per sample, all that a replay needs."""
        like = torch.empty((), device="cpu").expand(batch_shape)
        number = self.synth._numbering(None, None, batch_shape[0])
        drawn = self.synth._drawn(like, number, None)
        self._calls += 1
        held = {TABLE: drawn.table, CALL: torch.tensor(self._calls, device="cpu")}
        asked = None if drawn.orders is None else drawn.orders.matrix
        beside = {CHOICE: drawn.choice, ASKED: asked, WITHIN: drawn.within}
        return held | {name: value for name, value in beside.items() if value is not None}

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """As kornia's, ``batch_prob`` saying which samples were drawn to be anomalous."""
        params: dict[str, Tensor] = super().forward_parameters(batch_shape)
        params["batch_prob"] = params[TABLE][:, 0].to(params["batch_prob"].dtype)
        return params

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """The images with anomalies; their masks and labels are kept for what comes next."""
        images = input.float() if input.dtype == torch.float64 else input
        if not (self.training or self.synth.active == "always"):
            nothing = images.new_zeros((len(images), 1, *images.shape[2:]))
            self._last = (
                int(params[CALL]),
                nothing,
                nothing.new_zeros(len(images), dtype=torch.int64),
            )
            return input
        blank = self.synth._drawn(
            torch.empty((), dtype=images.dtype, device="cpu").expand(0, *images.shape[1:]),
            self.synth._numbering([], 0, 0), None,
        )  # fmt: skip
        table = params[TABLE].to(images.device, non_blocking=images.is_cuda)
        asked, within = params.get(ASKED), params.get(WITHIN)
        if asked is not None:  # what else is asked for is the same in every call
            asked = blank.orders._replace(matrix=asked, within=within)
        held = blank._replace(table=table, choice=params.get(CHOICE), within=within, orders=asked)
        out = self.synth(images, params=held)
        self._last = int(params[CALL]), out.mask, out.label
        if images is input:
            return out.image
        # float64 goes through float32: what is not touched stays as it was, to the bit.
        return input + (out.image.to(input.dtype) - images.to(input.dtype))

    def apply_transform_mask(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Masks with the anomalies' united."""
        return torch.maximum(input, self._left(params).to(input.device, input.dtype))

    @property
    def label(self) -> Tensor:
        """Labels int64 ``[B]`` of the last call: 1 where there is an anomaly.

        Raises:
            RuntimeError: There was none.
        """
        if self._last is None:
            raise RuntimeError("label: expected a call before, got none; call the module first")
        return self._last[2]

    def _left(self, params: dict[str, Tensor]) -> Tensor:
        """Masks of the images that these parameters were applied to."""
        if self._last is None or self._last[0] != int(params[CALL]):
            raise ValueError(
                "data_keys: expected the image before its mask, whose anomalies follow from it, "
                "got the mask first; write data_keys=['input', 'mask'], and in a dict image first"
            )
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the last masks."""
        return {**super().__getstate__(), "_last": None}
