"""Kornia's augmentations with anoaug's randomness: as a source of a layer, or on normal images.

The one place that knows kornia. Its parameters are drawn sample by sample, each from a 64-bit key,
so that a sample's result does not depend on the batch it is in and comes back from its key.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import checks
from .banks import TextureBank
from .parts import Source, part
from .pictures import Computed, Scene, keys_of, rows_on, untraced
from .rng import Draws

# Before 0.9 noise was drawn while it was applied.
_FLOOR = (0, 9)

# Where kornia's parameters are not simply one row per sample, by class; found by comparing every 2D
# augmentation of 0.9.0 alone and in a batch.
# Read from one row on behalf of all: samples share a call only where they agree.
_SHARED = {"RandomMotionBlur": "ksize_factor", "RandomDissolving": "step_range_factor"}
# Numbers of rows of the batch.
_ROWS = {"RandomChannelDropout": "batch_idx"}
# Their last bits depend on how many samples are computed together: these get a call each.
_ALONE = frozenset(("RandomElasticTransform", "RandomJPEG"))
# Those that mix samples, or cut batches up in their own way.
_REFUSED = {
    "MixAugmentationBaseV2": "it mixes the samples of a batch",
    "PatchSequential": "its parameters number the patches of a whole batch",
    "VideoSequential": "it expects videos",
    "AugmentationBase3D": "it expects volumes",
}
# Counted among the mixing ones by kornia, and changes each image by itself.
_TOLERATED = "RandomJigsaw"

# Kornia 0.9 draws from torch's global generator, never from NumPy's or Python's; two threads must
# not borrow it at once.
_borrowing = threading.Lock()


def _renew() -> None:
    """In a forked worker no thread is left that could hold the lock."""
    global _borrowing
    _borrowing = threading.Lock()


if hasattr(os, "register_at_fork"):  # nothing forks elsewhere
    os.register_at_fork(after_in_child=_renew)


class Augmentation:
    """A kornia augmentation as a function of images and keys.

    The module is copied, and its parameters are always drawn on the CPU: from each sample's key, as
    for a batch of that sample alone, with torch's global generator seeded with the key and put back
    afterwards. (What another thread draws from that generator in this short while is ours, and
    comes again.) So ``p`` and ``p_batch`` are decided per sample, and ``same_on_batch`` has no
    meaning.

    Samples then share a call, unless they differ in what kornia draws once for a batch: the order
    of ``ColorJitter`` and ``ColorJiggle`` (unless ``order=`` fixes it), the kernel size of
    ``RandomMotionBlur``, the children that ``random_apply`` chooses. Two get a call
    per sample: ``RandomElasticTransform`` and ``RandomJPEG``, whose last bits depend on the batch.
    So equal keys give equal bits in any batch: on the CPU, within one release of kornia, for all
    its 2D augmentations; on CUDA as far as its operations do.

    A module of your own must read from row r of images and parameters alone for row r of its
    result.

    Args:
        module: A 2D augmentation of ``kornia.augmentation``, an ``ImageSequential`` or an
            ``AugmentationSequential`` on images.

    Attributes:
        digest: Name of the module's settings and of kornia's version.

    Raises:
        TypeError: It is no augmentation, takes no ``params``, or mixes the samples of a batch.
        ImportError: Kornia is missing or older than 0.9.
    """

    def __init__(self, module: nn.Module) -> None:
        if not is_augmentation(module):
            raise TypeError(
                "module: expected an augmentation of kornia.augmentation, got "
                f"{type(module).__name__}; put plain modules into an ImageSequential"
            )
        version = checks.require("kornia", "kornia").__version__
        if tuple(int(n) for n in version.split(".")[:2]) < _FLOOR:
            raise ImportError(
                f"kornia {version} draws some parameters too late: pip install -U 'anoaug[kornia]'"
            )
        if "params" not in inspect.signature(module.forward).parameters:
            raise TypeError(
                f"module: expected one that takes params=, got {type(module).__name__}, whose "
                "result could not be repeated"
            )
        self._alone = False
        for each in module.modules():
            kinds = _kinds(each)
            self._alone |= not kinds.isdisjoint(_ALONE)
            for kind, reason in _REFUSED.items():
                if kind in kinds and _TOLERATED not in kinds:
                    raise TypeError(
                        f"module: expected one that changes each sample by itself, got "
                        f"{type(each).__name__}: {reason}"
                    )
        self._module = copy.deepcopy(module).cpu()
        held: Any
        for held in self._module.modules():
            if hasattr(held, "disable_features"):  # else it keeps its last output
                held.disable_features = True
        self._placed: dict[torch.device, nn.Module] = {}
        # Addresses of functions differ between processes.
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(module))
        self.digest = f"kornia {version} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def __call__(self, images: Tensor, keys: Sequence[int]) -> Tensor:
        """The images after the augmentation.

        Args:
            images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
            keys: 64-bit numbers, one per image.

        Returns:
            Like ``images``: integers are rounded half up, all is clipped to [0, white], and what
            kornia made NaN is 0.

        Raises:
            ValueError: The augmentation changes the size or the channels.
            TypeError: It draws random numbers while it is applied.
        """
        if len(images) == 0:
            return images.clone()
        peak = checks.PEAKS.get(images.dtype, 1.0)
        values = images.to(torch.float32) / peak
        made = torch.nan_to_num(self._applied(values, keys)) * peak
        if not images.dtype.is_floating_point:
            made = torch.floor(made + 0.5)
        return made.clamp(0.0, peak).to(images.dtype)

    def of_samples(self, images: Tensor, index: Tensor, state: Tensor) -> Tensor:
        """The images after the augmentation, with keys from the stream "normal_transform".

        Args:
            images: ``(B, C, H, W)``.
            index: int64 ``[B]`` sample indices on the host.
            state: int64 ``[2]`` on the host: seed and epoch.
        """
        made: Tensor = untraced(self._of_samples)(images, index, state)
        return made

    def _of_samples(self, images: Tensor, index: Tensor, state: Tensor) -> Tensor:
        seed, epoch = state.tolist()  # host: index and state live there
        draws = Draws(seed, epoch, index.numpy(), {"normal_transform": 2})
        return self(images, keys_of(draws.words("normal_transform", 2)))

    def _applied(self, values: Tensor, keys: Sequence[int]) -> Tensor:
        """The augmentation of float32 images in [0, 1], one call per group of samples."""
        groups = self._groups(keys, torch.Size((1, *values.shape[1:])))
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            if len(groups) == 1:
                return self._call(values, groups[0][1])
            out = torch.empty_like(values)
            for rows, params in groups:
                chosen = rows_on(rows, values.device)
                out[chosen] = self._call(values[chosen], params)
        return out

    def _groups(self, keys: Sequence[int], size: torch.Size) -> list[tuple[list[int], Any]]:
        """Rows that share a call, and their joined parameters."""
        module: Any = self._module
        drawn = []
        # Kornia makes tensors without saying where: on torch's default device, whatever that is.
        with _borrowing, torch.random.fork_rng(devices=[]), torch.device("cpu"):
            for key in keys:  # of which the CPU's generator takes the lower half
                torch.default_generator.manual_seed(key)
                drawn.append(module.forward_parameters(size))
        groups: dict[Any, list[int]] = {}
        for row, params in enumerate(drawn):
            common = row if self._alone else _common(module, params)
            groups.setdefault(common, []).append(row)
        return [(rows, _joined(module, [drawn[r] for r in rows])) for rows in groups.values()]

    def _call(self, values: Tensor, params: Any) -> Tensor:
        try:
            with _NothingRandom(repr(self)), values.device:
                made = self._on(values.device)(values, params=params)
        except Exception as error:
            # Kornia's own refusals; most of them are of images that are not coloured.
            if type(error) is not ValueError and not type(error).__module__.startswith("kornia."):
                raise
            raise ValueError(
                f"module: expected an augmentation that takes images of {values.shape[1]} "
                f"channels, got {self!r}, which refuses {list(values.shape)}: "
                f"{str(error).splitlines()[0]} Convert the images, or choose another"
            ) from error
        if not isinstance(made, Tensor) or made.shape != values.shape:
            got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(
                f"module: expected images of {list(values.shape)} from {self!r}, got {got}; leave "
                "out what crops or resizes"
            )
        return made.to(values.dtype)

    def _on(self, device: torch.device) -> nn.Module:
        """The module on a device; its parameters are drawn by the one on the CPU."""
        if device.type == "cpu":
            return self._module
        if device not in self._placed:
            self._placed[device] = copy.deepcopy(self._module).to(device)
        return self._placed[device]

    def __repr__(self) -> str:
        return " ".join(repr(self._module).split())

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the copies on devices."""
        return {**self.__dict__, "_placed": {}}


@part
@dataclass(frozen=True)
class Kornia(Computed):
    """The image itself, or a texture, after an augmentation of kornia.

    The augmentation is applied to whole images; the layer's mask chooses what is seen of them. Each
    sample's parameters come from its own key (see :class:`Augmentation`).

    Args:
        module: The augmentation: any 2D one of ``kornia.augmentation``, ``ImageSequential`` or
            ``AugmentationSequential``. It is copied.
        of: What it is applied to: ``"own"`` (the image itself), a TextureBank (a random texture,
            stretched over the image) or another source.
        number: See :class:`anoaug.pictures.Computed`.
    """

    module: nn.Module | Augmentation | str
    of: Source | TextureBank | str = "own"

    wraps: ClassVar[str] = "of"

    def __post_init__(self) -> None:
        held: Any = self.module
        digest = isinstance(held, str) and held.startswith("kornia ")  # as laws hold it
        if not digest and not isinstance(held, Augmentation):
            object.__setattr__(self, "module", Augmentation(held))
        if not isinstance(self.of, (Source, TextureBank)) and self.of != "own":
            raise TypeError(f"of: expected 'own', a TextureBank or a source, got {self.of!r}")

    def compute(self, scene: Scene) -> Tensor:
        """Augment the rows that will be painted."""
        augmentation, colours = self.module, scene.colours()
        if not isinstance(augmentation, Augmentation):
            raise TypeError("module: expected an augmentation, got its digest, which only names it")
        rows, keys = scene.rows, scene.keys
        if len(rows) == len(colours):
            return augmentation(colours, keys)
        picked = rows_on(rows, colours.device)
        # torch neither indexes uint16 nor writes to it.
        bits = torch.int16 if colours.dtype == torch.uint16 else colours.dtype
        out = colours.contiguous().view(bits).clone()
        chosen = out[picked].view(colours.dtype)
        out[picked] = augmentation(chosen, [keys[row] for row in rows]).view(bits)
        return out.view(colours.dtype)

    def plain(self) -> Computed:
        """With the module's digest in its place."""
        return replace(self, module=self.digests()[0])

    def digests(self) -> tuple[str, ...]:
        """The module's digest."""
        held = self.module
        return (held.digest if isinstance(held, Augmentation) else str(held),)


def is_augmentation(value: Any) -> TypeGuard[nn.Module]:
    """Whether a value is a module of kornia's kind: one that draws its parameters apart."""
    return isinstance(value, nn.Module) and callable(getattr(value, "forward_parameters", None))


def keyed(transform: Any) -> Any:
    """A transform that takes keys for its random numbers, if it is kornia's; else as it is."""
    return Augmentation(transform) if is_augmentation(transform) else transform


# ---- the parameters of samples, joined -----------------------------------------------------------
#
# An augmentation's are a dict of tensors; a container's a list of (name, data) items, data being
# those of the child of that name, or None for a plain module.


def _kinds(module: nn.Module) -> set[str]:
    """Names of a module's classes; of what it wraps for an operation of an automatic policy."""
    wrapped = getattr(module, "op", None)
    classes = type(wrapped if isinstance(wrapped, nn.Module) else module).__mro__
    return {cls.__name__ for cls in classes}


def _per_sample(name: str, value: Any) -> bool:
    """Whether an entry drawn for one sample has a row for it."""
    return name != "forward_input_shape" and value.dim() > 0 and value.shape[0] == 1


def _common(module: nn.Module, params: Any) -> Any:
    """What samples must have in common to share a call; hashable."""
    if params is None:
        return None
    if not isinstance(params, dict):
        children = ((item.name, module.get_submodule(item.name), item.data) for item in params)
        return tuple((name, _common(child, data)) for name, child, data in children)
    shared = {_SHARED.get(kind) for kind in _kinds(module)}
    entries: list[Any] = []
    for name, value in params.items():
        if name == "order" and getattr(module, "_fixed_order", None) is not None:
            continue  # drawn and not looked at
        if not isinstance(value, Tensor):
            entries.append((name, repr(value)))
        elif _per_sample(name, value) and name not in shared:
            entries.append((name, (value.dtype, value.shape)))
        else:
            entries.append((name, (value.dtype, value.shape, tuple(value.flatten().tolist()))))
    return tuple(entries)


def _joined(module: nn.Module, drawn: Sequence[Any]) -> Any:
    """The parameters of samples with the same ``_common`` as those of one batch."""
    first = drawn[0]
    if first is None:
        return None
    if not isinstance(first, dict):
        return [
            item._replace(
                data=_joined(module.get_submodule(item.name), [one[n].data for one in drawn])
            )
            for n, item in enumerate(first)
        ]
    numbering = {_ROWS.get(kind) for kind in _kinds(module)}
    return {
        name: _joined_entry(name, [one[name] for one in drawn], name in numbering) for name in first
    }


def _joined_entry(name: str, values: Sequence[Any], numbers_rows: bool) -> Any:
    first = values[0]
    if not isinstance(first, Tensor):
        return first
    if name == "forward_input_shape":
        return torch.cat([torch.full_like(first[:1], len(values)), first[1:]])
    if not _per_sample(name, first):
        return first
    joined = torch.cat(list(values))
    if numbers_rows:
        numbers = torch.arange(len(values), device=joined.device)
        joined += numbers.view(-1, *(1,) * (joined.dim() - 1))
    return joined


class _NothingRandom(TorchDispatchMode):
    """Refuse every operation of this thread that draws random numbers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise TypeError(
                "module: expected one that draws all its parameters in forward_parameters, got "
                f"{self.name}, which draws random numbers ({func}) while it is applied; leave that "
                "part out"
            )
        return func(*args, **(kwargs or {}))
