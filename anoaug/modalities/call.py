"""The modalities of a call: checked, brought to units from 0 on, rendered, brought back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import checks, ops, pictures, recipe
from ..batch import Params
from ..binding import Binding, Layer
from ..recipe import ACTIVE, MIN_AREA
from ..wanted import COLUMN
from .appearances import WELL_KNOWN, Appearance
from .laws import BesideLaws

__all__ = ["Appearance", "Modalities"]

# Names in AnomalyBatch.extras that are not a modality's.
_TAKEN = ("source_row",)


class _Bound:
    """An appearance bound to a synthesizer's layers."""

    def __init__(
        self, name: str, look: Appearance, layers: Sequence[Layer], kinds: Sequence[str],
        called: str, primary: Binding,
    ) -> None:  # fmt: skip
        theirs = look.layers(layers)
        if theirs is not None and primary.seeking:
            raise ValueError(
                f"modalities[{name!r}]: expected masks that lie where they are drawn, got one that "
                "seeks its place, which sources cannot follow into a modality; take Depth, XRay or "
                "Infrared"
            )
        self.name, self.look, self.shared = name, look, theirs is not None
        if theirs is None:
            alone = dataclasses.replace(look.profile(), kind=layers[0].kind)
            self.binding = Binding([alone], kinds, called)
        else:
            # Masks that read banks do so by the numbers that they have in the image's recipe.
            self.binding = Binding(theirs, kinds, called, primary.banks)
        if self.binding.pictures:
            raise ValueError(
                f"modalities[{name!r}]: expected sources that need no tensor of the call, got "
                f"sources.Given({self.binding.pictures[0]!r}); give Modality another source="
            )
        together = getattr(look, "together", False)
        laws = BesideLaws(name, self.binding.laws, self.shared, together, look.p)
        self.text = recipe.encode(laws)
        self._checked = False

    def units(self, value: Tensor) -> tuple[Tensor, Tensor | None]:
        """The channels to change, with black at 0, and where they may be (uint8) unless all may."""
        part, look = self._part(value), self.look
        low, high = look.span(value.dtype)
        if look.range is None and look.hole is None:
            self._check(part, part, None)
            return part, None
        wide = part.to(torch.float32)
        good = (wide >= low) & (wide <= high)
        if look.hole is not None:
            good = good & (wide != look.hole)
        self._check(part, wide, good)
        good = good.all(1, keepdim=True).to(torch.uint8)
        return (part if low == 0 else wide - low), good

    def over(self, value: Tensor, laws: str) -> str:
        """The laws of its columns, over those of the image."""
        low, high = self.look.span(value.dtype)
        channels = value.shape[1] if self.look.channels is None else len(self.look.channels)
        return f"{recipe.specialise(self.text, channels, high - low)}\n{laws}"

    def _part(self, value: Tensor) -> Tensor:
        """The channels to change."""
        if self.look.channels is None:
            return value
        return torch.stack([value[:, channel] for channel in self.look.channels], 1)

    def back(self, value: Tensor, units: Tensor, made: Tensor) -> Tensor:
        """The whole modality from what was made of its units."""
        low, high = self.look.span(value.dtype)
        if low != 0:
            there = made + low
            if not value.dtype.is_floating_point:
                there = torch.floor(there + 0.5).clamp(low, high)
            # What was not touched keeps its bits, which a difference and a sum may not.
            there = torch.where(made != units, there, self._part(value).to(torch.float32))
            made = there.to(value.dtype)
        if self.look.channels is None:
            return made
        whole = value.clone()
        for number, channel in enumerate(self.look.channels):
            whole[:, channel].copy_(made[:, number])
        return whole

    def _check(self, part: Tensor, wide: Tensor, good: Tensor | None) -> None:
        """Refuse, on the first call, values that do not fit the range."""
        if torch.compiler.is_compiling() or self._checked or part.numel() == 0:
            return
        name, span = self.name, self.look.span(part.dtype)
        mend = f"say modalities={{{name!r}: ...(range=(low, high))}}"
        if self.look.range is not None:
            if not good.any():  # type: ignore[union-attr]  # host: once
                raise ValueError(
                    f"{name}: expected values within the range {span}, got none; "
                    "are its units those of the tensor?"
                )
        elif part.dtype.is_floating_point:
            known = wide[torch.isfinite(wide)]
            ends = torch.aminmax(known.float()) if known.numel() else None
            low, high = (0.0, 0.0) if ends is None else (float(ends.min), float(ends.max))
            if low < 0.0 or high > 1.0:
                raise ValueError(
                    f"{name}: expected floats in [0, 1], got values from {low:.4g} to {high:.4g}; "
                    f"{mend} in the tensor's units"
                )
        self._checked = True


class Modalities:
    """What a synthesizer knows of further modalities.

    Args:
        given: Appearances by name, beside the well-known ones.
        layers: The synthesizer's layers.
        kinds: Its kinds.
        called: Its name.
        primary: Its binding.
    """

    def __init__(
        self, given: Mapping[str, Appearance] | None, layers: Sequence[Layer],
        kinds: Sequence[str], called: str, primary: Binding,
    ) -> None:  # fmt: skip
        looks: dict[str, Any] = {**WELL_KNOWN, **(given or {})}
        for name, look in looks.items():
            if not isinstance(name, str) or not name or name in _TAKEN:
                raise ValueError(f"modalities: expected a name other than {_TAKEN}, got {name!r}")
            if not isinstance(look, Appearance):
                raise TypeError(
                    f"modalities[{name!r}]: expected one from anoaug.modalities, such as Depth(), "
                    f"got {type(look).__name__}"
                )
        self._bound = {
            name: _Bound(name, look, layers, kinds, called, primary) for name, look in looks.items()
        }

    def __contains__(self, name: object) -> bool:
        return name in self._bound

    def read(self, name: str, value: Tensor, laws: str) -> tuple[str, int, tuple[str, ...]]:
        """Layout, width and banks of a modality's table, over an image's laws."""
        bound = self._bound[name]
        text = bound.over(value, laws)
        return recipe.layout_of(text), recipe.width_of(text), bound.binding.digests

    def checked(self, extra: Any, images: Tensor, params: Params | None) -> dict[str, Tensor]:
        """The modalities of a call, refused where they do not fit.

        Raises:
            TypeError, ValueError: No tensors ``(B, C, H, W)`` of the images' B, H, W and device by
                known names, or, in a replay, not those that were sampled.
        """
        if extra is None:
            return {}
        if not isinstance(extra, Mapping):
            raise TypeError(f"extra: expected tensors by name, got {type(extra).__name__}")
        for name, value in extra.items():
            if name not in self._bound:
                raise ValueError(
                    f"extra: {name!r} is no known modality; {checks.nearest(name, self._bound)} "
                    f"or make the synthesizer with modalities={{{name!r}: anoaug.modalities...}}"
                )
            if params is not None and name not in (params.modalities or {}):
                raise ValueError(
                    f"extra: expected modalities that params were sampled with, "
                    f"{sorted(params.modalities or {})}, got {name!r}; sample anew with it"
                )
            self._check(name, value, images)
        return dict(extra)

    def _check(self, name: str, value: Any, images: Tensor) -> None:
        if not isinstance(value, Tensor) or value.dim() != 4:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{name}: expected a tensor (B, C, H, W), got {got}; [:, None] adds C")
        wanted = [len(images), *images.shape[2:]]
        if [len(value), *value.shape[2:]] != wanted or value.shape[1] < 1:
            raise ValueError(
                f"{name}: expected B, H, W = {wanted} like the images, got shape "
                f"{list(value.shape)}; resize it to the images first"
            )
        if value.dtype not in checks.IMAGE_DTYPES:
            known = ", ".join(str(d).removeprefix("torch.") for d in checks.IMAGE_DTYPES)
            raise TypeError(f"{name}: expected one of {known}, got {value.dtype}; use .float()")
        if value.device != images.device:
            raise ValueError(
                f"{name}: expected device {images.device} like the images, got {value.device}"
            )
        if value.requires_grad:
            raise ValueError(f"{name}: expected a tensor without gradient; pass {name}.detach()")
        most = max(self._bound[name].look.channels or (0,))
        if most >= value.shape[1]:
            raise ValueError(
                f"{name}: expected channel {most} to be there, got {value.shape[1]} channels"
            )

    def __call__(
        self, extra: Mapping[str, Tensor], call: pictures.Call, drawn: Tensor, how: Any,
        category: Any, orders: Any = None,
    ) -> tuple[dict[str, Tensor], dict[str, Params]]:  # fmt: skip
        """The modalities with the image's anomalies, and their params.

        Args:
            extra: What :meth:`checked` gave.
            call: The image's call, views included.
            drawn: Its mask as it was rendered.
            how: Params to replay, or the numbers of the samples to draw for.
            category: The call's.
            orders: What a control asks of the samples, see :mod:`anoaug.control`, or None. Where
                and what is the image's; how strong a modality shows it is its own.
        """
        inside = (drawn > 0).to(torch.uint8)
        made, params = {}, {}
        for name, value in extra.items():
            bound = self._bound[name]
            units, good = bound.units(value)
            views = len(inside) // max(len(value), 1)
            if views > 1:
                value, units = value.repeat(views, 1, 1, 1), units.repeat(views, 1, 1, 1)
                good = None if good is None else good.repeat(views, 1, 1, 1)
            text = bound.over(value, call.laws)
            own = _drawn(bound, text, units, how, category, orders)
            params[name] = own
            painted = _rendered(bound, text, units, good, call, own.table, inside)
            made[name] = bound.back(value, units, painted)
        return made, params


def _drawn(bound: _Bound, text: str, units: Tensor, how: Any, category: Any, orders: Any) -> Params:
    """The modality's columns, drawn or those of params."""
    layout, width, size = recipe.layout_of(text), recipe.width_of(text), tuple(units.shape[2:])
    if isinstance(how, Params):
        old = (how.modalities or {})[bound.name]
        table = bound.binding.replayed(old, layout, width, len(units), size)
        if units.is_cuda and table.device.type == "cpu":
            table = table.pin_memory()
        return old._replace(table=table.to(units.device, non_blocking=True))
    tensors, histograms = bound.binding.tensors(units.device, units.shape[1])
    wanted = None if orders is None else orders.matrix.clone()
    if wanted is not None:
        wanted[:, :, COLUMN["strength"]] = float("nan")
    table = ops.sample(
        *how, bound.binding.category(category, len(how[0])), tensors, histograms,
        bound.binding.numbers, text, *size, units.is_cuda, wanted,
    )  # fmt: skip
    table = table.to(units.device, non_blocking=units.is_cuda)
    return Params(table, layout, bound.binding.digests, size)


def _rendered(
    bound: _Bound, text: str, units: Tensor, good: Tensor | None, call: pictures.Call, own: Tensor,
    inside: Tensor,
) -> Tensor:  # fmt: skip
    """The modality's units with the anomalies."""
    binding = bound.binding
    table = _joined(call.table, own)
    if bound.shared:
        # Confined to the image's mask, which knows the foreground and what counts.
        allowed = inside if good is None else inside * good
        planes, confined = [*call.planes, allowed], len(call.planes)
    else:
        profile: Any = binding.laws[0].mask[0]
        planes, confined = [profile.level(inside, own[:, 1])], -1
        if good is not None:
            planes, confined = [*planes, good], 1
    read = list(binding.tensors(units.device, units.shape[1])[0])
    if binding.computed:
        host = _joined(call.host.cpu(), own.cpu())  # host: computed looks only; waits in a replay
        scene = pictures.Call(units, table, host, planes, read, confined, text, call.backend)
        read += pictures.compute(scene, binding.computed)
    last = units.is_contiguous(memory_format=torch.channels_last) and not units.is_contiguous()
    layout = recipe.layout_of(text)
    made: Tensor = ops.render(
        units, table, planes, read, None, layout, confined, False, False, False, units.dtype, last,
        call.backend,
    )[0]  # fmt: skip
    return made


def _joined(table: Tensor, own: Tensor) -> Tensor:
    """The table that a modality's layout reads: the image's columns, then its own."""
    joined = torch.cat([table, own], 1)
    joined[:, ACTIVE] *= own[:, 0]
    # Whether the anomaly counts, the image's mask has said.
    joined[:, MIN_AREA] = 0.0
    return joined
