"""torchvision's transforms v2: synthesis as a transform of samples or of batches.

Importing this module needs torchvision: ``pip install 'anoaug[torchvision]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..synthesizer import Synthesizer
from .wrapped import made

_v2: Any = checks.require("torchvision.transforms.v2", "torchvision")
_tv_tensors: Any = checks.require("torchvision.tv_tensors", "torchvision")
_functional: Any = checks.require("torchvision.transforms.v2.functional", "torchvision")


class AnomalyTransform(_v2.Transform):
    """A synthesizer as a transform: in ``v2.Compose``, a Dataset, in collate, after a loader.

    Takes what transforms v2 take: an image, ``(image, ...)``, several arguments, or a dict, single
    ``(C, H, W)`` or batched ``(B, C, H, W)``. The image is the first ``tv_tensors.Image``, else the
    first PIL image, else the first plain tensor; a ``tv_tensors.Mask`` is the mask of real defects
    and gets the anomalies united. Where there is none, one is added: a dict gets ``"mask"``,
    anything else becomes a tuple with the mask right behind the image. Everything else is handed
    through, boxes and keypoints too: an anomaly moves nothing.

    In eval mode the input comes back, with an empty mask. Samples are numbered by the
    synthesizer's counter, disjoint between ranks and DataLoader workers, which differ from epoch to
    epoch; with the number of the sample in a dict's ``index`` and ``set_epoch`` called, anomalies
    are a function of (seed, epoch, index). Nothing is drawn from a global generator.

    Put it before ``Normalize``: floats have to be in [0, 1]; and behind what crops, or the anomaly
    may be cut off.

    Args:
        synth: A :class:`anoaug.Synthesizer` or :class:`anoaug.OneOf`, or the name of a method.
        p: P(anomalous) per sample; None keeps the synthesizer's own. With a number a synthesizer
            that is given is copied.
        label: Where the label is, which becomes at least 1 where there is an anomaly: a key of a
            dict or a position in a tuple. ``"default"``: ``"label"`` or ``"labels"`` of a dict,
            where there is one (a dict without gets ``"label"``), nothing of a tuple. None: nowhere.
        index: Key of the sample's number in a dict.
        keywords: Of the method, if a name is given.

    Raises:
        TypeError: Neither a synthesizer nor a name, a sample without an image, or a PIL image with
            a palette, of 16 or of 1 bit, or in CMYK.
        ValueError: A synthesizer with views, a ``normal_transform`` or another output than its
            input; or the label is not where it should be.
    """

    def __init__(
        self,
        synth: Synthesizer | str,
        *,
        p: float | None = None,
        label: str | int | None = "default",
        index: str | None = "index",
        **keywords: Any,
    ) -> None:
        super().__init__()
        self.synth = made(synth, p, keywords)
        self.label = label
        self.index = index

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as DistributedSampler does."""
        self.synth.set_epoch(epoch)

    def forward(self, *inputs: Any) -> Any:
        """The sample with anomalies."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        places = _places(sample)
        where = _image(places)
        image = places[where]
        images, single = _batched(image)
        marked = next((k for k, v in places.items() if isinstance(v, _tv_tensors.Mask)), None)
        mask = None if marked is None else _planes(places[marked], images, single)
        named = self._label(sample, places)
        label = None if named is None else _vector(places[named], len(images))
        number = places.get((self.index,)) if isinstance(sample, Mapping) else None
        number = None if number is None else _vector(number, len(images)).tolist()
        with torch.no_grad():
            out = self.synth(images, index=number, mask=mask, label=label)
        made: dict[tuple[Any, ...], Any] = {where: _like(image, out.image, single)}
        plane = out.mask[0] if single else out.mask
        if marked is not None:
            known = places[marked]
            shaped = plane.reshape(known.shape).to(known.dtype)
            made[marked] = _tv_tensors.wrap(shaped, like=known)
        if named is not None:
            made[named] = _label_like(places[named], out.label)
        result = _rebuilt(sample, made)
        found = out.label[0] if single else out.label
        if marked is None:
            result = _with_mask(result, where, _tv_tensors.Mask(plane.to(torch.uint8)))
        if isinstance(result, Mapping) and self.label == "default" and named is None:
            result = {**result, "label": found}
        return result

    def _label(self, sample: Any, places: dict[tuple[Any, ...], Any]) -> tuple[Any, ...] | None:
        """Where the label is."""
        if self.label is None:
            return None
        if self.label == "default":
            keys = ("label", "labels") if isinstance(sample, Mapping) else ()
            return next(((key,) for key in keys if (key,) in places), None)
        place = self.label
        if isinstance(place, int) and isinstance(sample, (tuple, list)) and place < 0:
            place += len(sample)
        if (place,) not in places:
            raise ValueError(
                f"label: expected one at {self.label!r}, got a sample with "
                f"{[key[0] if len(key) == 1 else key for key in places]}; name its key or position "
                "with label=, or leave labels alone with label=None"
            )
        return (place,)


# Modes of PIL images that come back as they were, and whose numbers are brightness.
_MODES = ("L", "LA", "RGB", "RGBA", "F")


def _places(sample: Any, at: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every leaf of nested mappings, tuples and lists, by its path."""
    if isinstance(sample, Mapping):
        parts = list(sample.items())
    elif isinstance(sample, (tuple, list)):
        parts = list(enumerate(sample))
    else:
        return {at: sample}
    return {k: v for key, part in parts for k, v in _places(part, (*at, key)).items()}


def _image(places: dict[tuple[Any, ...], Any]) -> tuple[Any, ...]:
    """Where the image is."""

    def plain(value: Any) -> bool:
        return isinstance(value, Tensor) and not isinstance(value, _tv_tensors.TVTensor)

    kinds = (
        lambda value: isinstance(value, _tv_tensors.Image),
        lambda value: type(value).__module__.startswith("PIL."),
        lambda value: plain(value) and value.dim() >= 3,
    )
    for kind in kinds:
        for place, value in places.items():
            if kind(value):
                return place
    kinds_found = sorted({type(value).__name__ for value in places.values()})
    raise TypeError(
        "sample: expected a tv_tensors.Image, a PIL image or a tensor (C, H, W) in it, got "
        f"{', '.join(kinds_found) or 'nothing'}; v2.ToImage() makes one"
    )


def _batched(image: Any) -> tuple[Tensor, bool]:
    """Images ``(B, C, H, W)``, and whether there was one without a batch axis."""
    if not isinstance(image, Tensor):
        if image.mode not in _MODES:
            raise TypeError(
                f"image: expected a PIL image of mode {', '.join(_MODES)}, got {image.mode}, whose "
                "numbers are no brightness or that does not come back the same; "
                "image.convert('RGB') makes one, v2.ToImage() before this transform a tensor"
            )
        image = _functional.pil_to_tensor(image)
    images = image.as_subclass(Tensor)
    if images.dim() == 3:
        return images[None], True
    if images.dim() != 4:
        raise TypeError(
            f"image: expected (C, H, W) or (B, C, H, W), got {list(images.shape)}; videos are "
            "batches of frames"
        )
    return images, False


def _planes(mask: Tensor, images: Tensor, single: bool) -> Tensor:
    """A mask ``(H, W)``, ``(1, H, W)``, ``(B, H, W)`` or ``(B, 1, H, W)`` as ``[B, 1, H, W]``."""
    plain = mask.as_subclass(Tensor)
    expected = [len(images), 1, *images.shape[2:]]
    if plain.numel() != len(images) * images.shape[2] * images.shape[3]:
        raise ValueError(
            f"mask: expected {expected[1 if single else 0 :]} like the image, got "
            f"{list(plain.shape)}; resize both together"
        )
    return (plain > 0).reshape(expected)


def _vector(value: Any, rows: int) -> Tensor:
    """Numbers of a sample or a batch, int64 ``[B]``."""
    number = torch.as_tensor(value)
    if number.numel() != rows or number.dtype.is_floating_point and bool((number % 1 != 0).any()):
        raise ValueError(
            f"label: expected one whole number per image, [{rows}], got {list(number.shape)} "
            f"{number.dtype}; mixed labels (CutMix, MixUp) come after this transform"
        )
    return number.reshape(rows).to(torch.int64)


def _like(image: Any, images: Tensor, single: bool) -> Any:
    """The result as the kind of image that came in."""
    made = images[0] if single else images
    if not isinstance(image, Tensor):
        return _functional.to_pil_image(made)
    return _tv_tensors.wrap(made, like=image) if type(image) is not Tensor else made


def _label_like(value: Any, label: Tensor) -> Any:
    """Labels as what came in, a number or a tensor, at least 1 where there is an anomaly."""
    if not isinstance(value, Tensor):
        return type(value)(max(int(value), int(label[0])))  # a single sample, in a worker
    return torch.maximum(value, label.to(value.device, value.dtype).reshape(value.shape))


def _rebuilt(sample: Any, made: dict[tuple[Any, ...], Any], at: tuple[Any, ...] = ()) -> Any:
    """The sample with some leaves replaced."""
    if at in made:
        return made[at]
    if isinstance(sample, Mapping):
        return {key: _rebuilt(part, made, (*at, key)) for key, part in sample.items()}
    if isinstance(sample, (tuple, list)):
        parts = [_rebuilt(part, made, (*at, n)) for n, part in enumerate(sample)]
        return type(sample)(*parts) if hasattr(sample, "_fields") else type(sample)(parts)
    return sample


def _with_mask(sample: Any, where: tuple[Any, ...], mask: Any) -> Any:
    """The sample with a mask that it had no place for."""
    if isinstance(sample, Mapping):
        if "mask" in sample:
            raise ValueError(
                "mask: expected a tv_tensors.Mask under 'mask', got "
                f"{type(sample['mask']).__name__}; wrap it: tv_tensors.Mask(mask)"
            )
        return {**sample, "mask": mask}
    if isinstance(sample, (tuple, list)):
        behind = where[0] + 1
        return (*sample[:behind], mask, *sample[behind:])
    return sample, mask
