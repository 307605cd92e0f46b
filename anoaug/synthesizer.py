"""Synthesizer: layers composed into a module that turns batches of normal images anomalous."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks, foregrounds, ops, pictures, recipe
from . import control as controlling
from . import finish as finishing
from .batch import AnomalyBatch, Brought, Params, united
from .binding import Binding, Layer, named
from .capture import CapturedSynthesizer, warmed
from .checks import PEAKS
from .modalities.call import Appearance, Modalities
from .normals import transformed
from .norms import Norms
from .numbering import Numbering
from .rows import sent
from .settings import Settled

NormalTransform = Callable[[Tensor], Tensor]


class Synthesizer(Settled):
    """Turns batches of normal images into batches with anomalies, masks and labels.

    A pure function of (seed, epoch, sample index): pass ``index`` and ``epoch`` to make it so, or
    let the internal counter number the samples.

    Args:
        layers: Up to four layers (counts included), folded in order, all gathering from the
            original image.
        p: P(anomalous) per sample in [0, 1].
        seed: 64-bit seed. None takes ``torch.initial_seed()`` once, so that ``torch.manual_seed``
            is obeyed.
        name: Name of the kind of anomaly where a layer gives none.
        choose: ``"all"`` layers on every anomalous sample, or ``"one"`` drawn by ``weights``.
        weights: Odds of the layers with ``choose="one"``; equal by default.
        views: True returns ``B * (1 + layers)`` rows, view by view: the images untouched, then each
            layer alone; ``p`` is not used. A number n returns ``B * n`` rows: all layers n times
            with the same draws, for masks that differ between views (``masks.Cells``).
            ``extras["source_row"]`` says where rows come from.
        label_rule: ``"footprint"`` (pixels the blend touches) or ``"changed"`` (of those, pixels
            where some channel differs by more than ``tolerance``).
        tolerance: Least change in [0, 1] for ``"changed"``.
        min_area: An anomaly smaller than this leaves the sample normal and untouched: pixels, or
            below 1 a share of the image.
        label: ``"hard"``: the mask is {0, 1}; ``"soft"``: the blend's weight.
        clean: ``"input"``, ``"output"`` or None: what ``AnomalyBatch.clean`` holds.
        mean: Per-channel mean in [0, 1] for a normalised float output; with ``std``.
        std: Per-channel standard deviation.
        dtype: Output dtype: a float dtype or its name, or None for the input's (float32 for integer
            input with mean and std). Integer input becomes [0, 1].
        memory_format: ``"input"``, ``"contiguous"`` or ``"channels_last"`` output.
        active: ``"train"`` (identity with an empty mask in eval mode) or ``"always"``.
        normal_transform: Applied to the images before synthesis (DRAEM rotates 30 % of them): a
            callable on ``(B, C, H, W)``, a Synthesizer, or an augmentation of kornia, whose
            parameters then come from (seed, epoch, index) too. ``clean`` is the image after it.
        foreground: Finds the objects in the images (after ``normal_transform``) of calls that bring
            no foreground: a callable such as :class:`anoaug.prepare.Foreground` or
            :class:`anoaug.prepare.Cached`, or ``"otsu"``; see :class:`anoaug.foregrounds.Finder`.
        modalities: Looks of anomalies in ``extra`` tensors, by name; see :mod:`anoaug.modalities`.
        finish: Makes the mask of the finished images: :class:`anoaug.finish.Difference` or another
            callable on images before and after and the weights; where empty the sample is normal.
        control: Size, location, strength, shape, count and kind of every call's anomalies, see
            :class:`anoaug.Control`, or a dict of its fields. With True nothing is asked for yet,
            but hard pastes have a weight, so that calls may ask for a strength.
        backend: ``"auto"``, ``"triton"``, ``"torch"``, or ``"compiled"`` (the CPU by Numba, several
            times faster; compiles once, then from disk); ANOAUG_BACKEND sets the default.
        validate: Check the content of every batch (float range, NaN), not only of the first.

    Shape:
        images ``(B, C, H, W)`` uint8, uint16, or float in [0, 1]; B may be 0.
    """

    _fixed = frozenset({"choose", "control", "kinds", "layers", "mean", "name", "std", "views"})

    def __init__(
        self,
        *layers: Layer,
        p: float = 0.5,
        seed: int | None = None,
        name: str = "anomaly",
        choose: str = "all",
        weights: Sequence[float] | None = None,
        views: bool | int = False,
        label_rule: str = "footprint",
        tolerance: float = 1 / 255,
        min_area: float = 1,
        label: str = "hard",
        clean: str | None = "input",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: torch.dtype | str | None = None,
        memory_format: str = "input",
        active: str = "train",
        normal_transform: NormalTransform | None = None,
        foreground: foregrounds.ForegroundLike | None = None,
        modalities: Mapping[str, Appearance] | None = None,
        finish: finishing.Finish | None = None,
        control: controlling.Control | Mapping[str, Any] | bool | None = None,
        backend: str | None = None,
        validate: bool = False,
    ) -> None:
        super().__init__()
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: expected anoaug.Layer, got {type(layer).__name__}")
        recipe.check_layers([layer.count[1] for layer in layers])  # type: ignore[index]
        self.control = controlling.as_control(control, by_sample=False)
        self.layers = layers if self.control is None else controlling.weighed(layers)
        self.name = name
        self._p = checks.probability("p", p)
        self.choose = checks.one_of("choose", choose, ("all", "one"))
        self._weights = self._odds(weights, len(layers))
        self.views = recipe.checked_views(views)
        self.label_rule, self.tolerance, self.min_area = label_rule, tolerance, min_area
        self.label, self.clean, self.active = label, clean, active
        self.mean, self.std = checks.statistics(mean, std)
        self.dtype, self.memory_format = dtype, memory_format
        self.normal_transform = normal_transform
        self.foreground, self.finish = foreground, finish
        self.backend, self.validate = backend, validate
        kinds = dict.fromkeys(layer.kind or name for layer in layers)
        if not {"normal", "given"}.isdisjoint(kinds):
            raise ValueError(
                "name: expected another name than 'normal' and 'given', which stand for no and for "
                f"real defects, got {name!r}"
            )
        self.kinds: tuple[str, ...] = ("normal", *kinds, "given")
        self._binding = Binding(self.layers, self.kinds, name, moving=normal_transform is not None)
        self._modalities = Modalities(modalities, self.layers, self.kinds, name, self._binding)
        self._scope = controlling.Scope(
            self.layers, self.kinds, choose, self.views, label_rule, self.control
        )
        self._numbering = Numbering(seed)
        self._checked = False
        self._take_effect()
        self._made = True

    # ---- composition -----------------------------------------------------------------------------

    def _odds(self, weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
        if self.choose != "one":
            if weights is not None:
                raise ValueError("weights: expected choose='one' with them, got choose='all'")
            return ()
        return checks.odds("weights", [1.0] * count if weights is None else weights, count)

    def _take_effect(self) -> None:
        self._norm = Norms(self.mean, self.std, self.dtype is not None)
        self._encode()

    def _encode(self) -> None:
        self._text = recipe.encode(
            recipe.Laws(
                layers=self._binding.laws,
                probability=self._p,
                weights=self._weights,
                views=self.views,
                min_area=self.min_area,
                tolerance=self.tolerance,
            )
        )

    @property
    def p(self) -> float:
        """P(anomalous) per sample; may be set at any time."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = checks.probability("p", value)
        self._encode()

    @property
    def weights(self) -> tuple[float, ...]:
        """Odds of the layers with ``choose="one"``, else empty; may be set at any time."""
        return self._weights

    @weights.setter
    def weights(self, value: Sequence[float]) -> None:
        self._weights = self._odds(value, len(self.layers))
        self._encode()

    def laws(self, channels: int, dtype: torch.dtype = torch.uint8) -> str:
        """The recipe's laws for images of a channel count and dtype."""
        return recipe.specialise(self._text, channels, PEAKS.get(dtype, 1.0))

    # ---- state -----------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The 64-bit seed (signed)."""
        return self._numbering.seed

    @property
    def epoch(self) -> int:
        """The epoch used where a call gives none."""
        return self._numbering.epoch

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the banks' categories; ``category=`` takes them or their positions."""
        return self._binding.categories

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the tensors that calls must give (``masks.Given``, ``sources.Given``)."""
        return self._binding.slots + self._binding.pictures

    @property
    def controls(self) -> dict[str, str]:
        """Which fields of a :class:`anoaug.Control` apply, and how."""
        return dict(self._scope.controls)

    @property
    def shapes(self) -> tuple[str, ...]:
        """Names of the kinds of shape that ``Control(shape=)`` chooses from; may be empty."""
        return self._scope.shapes

    @property
    def computed(self) -> bool:
        """Whether a layer's source is computed between sampling and render."""
        return bool(self._binding.computed)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as DistributedSampler does; in [0, 2**32)."""
        self._numbering.set_epoch(epoch)

    def _now(self) -> dict[str, Any]:
        now = {**super()._now(), "p": self.p, "seed": self.seed}
        return {**now, "weights": self.weights} if self.choose == "one" else now

    def share_memory(self) -> Synthesizer:
        """Share seed and epoch with DataLoader workers, so that ``set_epoch`` reaches them."""
        self._numbering.share()
        return self

    def get_extra_state(self) -> dict[str, int]:
        """Seed, epoch and counter, for ``state_dict``."""
        return self._numbering.get_state()

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore seed, epoch and counter from ``state_dict``."""
        self._numbering.set_state(state)

    # ---- the call --------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        *,
        index: Tensor | Sequence[int] | None = None,
        epoch: int | None = None,
        category: Any = None,
        foreground: Tensor | None = None,
        slots: dict[str, Tensor] | None = None,
        mask: Tensor | None = None,
        label: Tensor | None = None,
        extra: Mapping[str, Tensor] | None = None,
        control: controlling.Control | Mapping[str, Any] | None = None,
        params: Params | None = None,
    ) -> AnomalyBatch:
        """Synthesise anomalies on a batch.

        Args:
            images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1]; never modified.
            index: Sample indices ``[B]`` on the host; needs an epoch.
            epoch: Epoch in [0, 2**32); ``set_epoch`` sets a lasting one.
            category: Per-sample category ``[B]``, names or numbers into ``self.categories``, or
                one for all: chooses donors, and what a foreground by category looks for.
            foreground: ``(B, 1, H, W)``: anomalies stay on it; None: as ``self.foreground`` finds.
            slots: Tensors by name: ``(B, 1, H, W)`` for ``masks.Given``, ``(B, C, H, W)`` like the
                images for ``sources.Given``.
            mask: ``(B, 1, H, W)`` of real defects, united with the synthetic ones.
            label: ``[B]`` labels of real defects, united likewise.
            extra: Further modalities ``(B, any C, H, W)`` by name; they come back in ``extras``.
            control: Size, location and so on, see :class:`anoaug.Control`; its fields come before
                those of the synthesizer's.
            params: Replay these instead of sampling. Give tensors again that you gave besides;
                ``normal_transform`` is not repeated: give the batch's ``clean`` image, from which
                ``self.foreground`` finds the same again.

        Returns:
            An :class:`AnomalyBatch`.

        Raises:
            TypeError, ValueError: Bad input; the message says what was expected and the mend.
        """
        brought = Brought(
            index, epoch, category, foreground, slots, mask, label, extra, control, params
        )
        if torch.compiler.is_compiling():
            return self._compiled(images, brought)
        with self._numbering.kept_if_refused():
            return self._call(images, brought)

    def _compiled(self, images: Tensor, brought: Brought) -> AnomalyBatch:
        """The call as ``torch.compile`` takes it."""
        return self._call(images, brought)

    def _call(self, images: Tensor, brought: Brought, number: Any = None) -> AnomalyBatch:
        """The call; with ``number`` modalities are drawn for these samples, also beside params."""
        index, epoch, category, foreground, slots, mask, label, extra, control, params = brought
        checks.images(images)
        self._check_content(images)
        beside = self._modalities.checked(extra, images, None if number else params)
        working = self.training or self.active == "always" or params is not None
        if working and params is None:
            number = self._numbering(index, epoch, len(images))
            if self.normal_transform is not None:
                checks.left_behind(mask=mask, foreground=foreground, slots=slots, extra=extra)
                images = transformed(self, images, number, category)
        if working and foreground is None and self.foreground is not None:
            foreground = self.foreground(images, index, self._names(category, len(images)))
        slots = self._binding.found(images, index, slots) if working else slots
        laws = self.laws(images.shape[1], images.dtype)
        layout, views = recipe.layout_of(laws), recipe.rows_of(laws) if working else 1
        width, size = recipe.width_of(laws), tuple(images.shape[2:])
        orders, within, asked = None, None, None
        if params is not None:
            controlling.refuse_beside_params(control)
            asked = orders = params.orders
            within = params.within
            host = self._binding.replayed(params, layout, width, len(images) * views, size)
            table = sent(host, images.device)
        elif working:
            asked = controlling.ordered(self._scope, control, number, images)
            orders, within = controlling.tiled(asked, views)
            host = self._draw(images, number, category, host=True, orders=asked)
            table = host.to(images.device, non_blocking=images.is_cuda)
        else:
            controlling.examined(self._scope, control, images)
            table = images.new_zeros((len(images), width), dtype=torch.float32)
            host = torch.zeros(table.shape, dtype=torch.float32, device="cpu")
        planes, confined = self._binding.planes(images, foreground, slots, working)
        shown = self._binding.given_pictures(images, slots, working)
        real = None if mask is None else checks.plane("mask", mask, images)
        known = None if label is None else checks.row_vector("label", label, len(images))
        last = self._channels_last(images)
        if views > 1:
            # Not repeat, which would part interleaved channels.
            images = torch.cat([images] * views)
            planes = [plane.repeat(views, 1, 1, 1) for plane in planes]
            shown = [picture.repeat(views, 1, 1, 1) for picture in shown]
            real = None if real is None else real.repeat(views, 1, 1, 1)
            known = None if known is None else known.repeat(views)
        read = [*self._binding.tensors(images.device, images.shape[1])[0], *shown]
        if self.computed or controlling.pending(self._binding, working, orders, within):
            call = pictures.Call(
                images, table, host, planes, read, confined, laws, self.backend, given=len(shown)
            )
            changed = self.label_rule == "changed"
            call, read = controlling.settled(
                call, self._binding, self.foreground, working, changed, orders, within
            )
            table, host, confined = call.table, call.host, call.foreground
            planes = list(call.planes)
        kept = images.dtype
        render = ops.render if self.finish is None else finishing.rendering(self.finish)
        out, clean, drawn, flag, kind = render(
            images, table, planes, read, self._norm(images), layout, confined,
            self.label_rule == "changed", self.label == "soft", self.clean == "output",
            self.dtype or (kept if self.mean is None or kept.is_floating_point else torch.float32),
            last, self.backend,
        )  # fmt: skip
        tables = None
        if working and beside:
            call = pictures.Call(images, table, host, planes, read, confined, laws, self.backend)
            beside, tables = self._modalities(
                beside, call, drawn, number or params, category, asked
            )
        if real is not None or known is not None:
            drawn, flag, kind = united(drawn, flag, kind, real, known, len(self.kinds) - 1)
        return AnomalyBatch(
            out, drawn, flag, kind,
            {"input": images, "output": clean, None: None}[self.clean],
            Params(table, layout, self._binding.digests, size, None, tables, within),
            self._extras(len(images), views, images.device) | beside,
        )  # fmt: skip

    def _extras(self, rows: int, views: int, device: torch.device) -> dict[str, Tensor]:
        if not self.views:
            return {}
        return {"source_row": torch.arange(rows // views, device=device).repeat(views)}

    def capture(
        self,
        images: Tensor,
        foreground: Tensor | None = None,
        slots: dict[str, Tensor] | None = None,
    ) -> CapturedSynthesizer:
        """A CUDA graph of the call for batches like this one; see :class:`CapturedSynthesizer`."""
        return CapturedSynthesizer(self, images, foreground, slots)

    def warmup(
        self,
        shape: Sequence[int],
        dtype: torch.dtype = torch.uint8,
        device: str | torch.device = "cpu",
    ) -> None:
        """Compile and load all that batches of a kind need, before the first of them.

        Draws nothing and moves no counter.

        Args:
            shape: ``(B, C, H, W)``.
            dtype: Of the images.
            device: Of the images.
        """
        warmed(self, shape, dtype, device)

    def _check_content(self, images: Tensor) -> None:
        """Look at the values: on the first call or on every, never while compiling or capturing."""
        if torch.compiler.is_compiling() or (self._checked and not self.validate):
            return
        if not images.dtype.is_floating_point:
            return
        if not (images.is_cuda and torch.cuda.is_current_stream_capturing()):
            checks.content(images)
            self._checked = True

    def _names(self, category: Any, rows: int) -> list[str] | None:
        """Names of the samples' categories, if the foreground asks for them."""
        wanted = self.foreground is not None and self.foreground.by_category
        return named(category, rows, self.categories) if wanted else None

    def sample(
        self,
        images: Tensor,
        *,
        index: Tensor | Sequence[int] | None = None,
        epoch: int | None = None,
        category: Any = None,
    ) -> Tensor:
        """Draw the parameter table of a batch, float32 ``[rows, P]`` on the images' device.

        Rows are the batch's, times the views. Arguments are those of the call.
        """
        with self._numbering.kept_if_refused():
            number = self._numbering(index, epoch, len(images))
            orders = controlling.ordered(self._scope, None, number, images)
            return self._draw(images, number, category, orders=orders)

    def _drawn(self, images: Tensor, number: tuple[Tensor, Tensor], category: Any) -> Params:
        layout = recipe.layout_of(self.laws(images.shape[1], images.dtype))
        orders = controlling.ordered(self._scope, None, number, images)
        table = self._draw(images, number, category, orders=orders)
        drawn = Params(table, layout, self._binding.digests, tuple(images.shape[2:]))
        return drawn._replace(within=orders and orders.within, orders=orders)

    def _draw(
        self, like: Tensor, number: tuple[Tensor, Tensor], category: Any, host: bool = False,
        orders: controlling.Orders | None = None,
    ) -> Tensor:  # fmt: skip
        _, channels, height, width = like.shape
        tensors, histograms = self._binding.tensors(like.device, channels)
        table = ops.sample(
            *number, self._binding.category(category, len(number[0])), tensors, histograms,
            self._binding.numbers, self.laws(channels, like.dtype), height, width,
            like.device.type == "cuda", None if orders is None else orders.matrix,
        )  # fmt: skip
        return table if host else table.to(like.device, non_blocking=like.is_cuda)

    def _channels_last(self, images: Tensor) -> bool:
        if self.memory_format != "input":
            return self.memory_format == "channels_last"
        last = images.is_contiguous(memory_format=torch.channels_last)
        return last and not images.is_contiguous()

    def extra_repr(self) -> str:
        """Name, p and layers."""
        layers = ", ".join(
            " ".join(type(s).__name__ for s in (*x.mask.steps(), x.source, x.blend))
            for x in self.layers
        )
        return f"{self.name!r}, p={self.p}, seed={self.seed}, layers=[{layers}]"
