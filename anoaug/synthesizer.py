"""Layer and Synthesizer: parts composed into a module that turns normal batches anomalous."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import checks, ops, recipe, rng
from .banks import Bank, TextureBank
from .batch import AnomalyBatch, Params
from .blends import Blend, Hard
from .masks import Given, Mask
from .photometric import RandomOps
from .sources import Source

PEAKS = {torch.uint8: 255.0, torch.uint16: 65535.0}
COUNTER_DOMAIN = 1 << 47  # indices from the internal counter never meet those of a dataset

NormalTransform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """One anomaly layer: where x what x how.

    Args:
        mask: Where: a mask or a combination of masks.
        source: What.
        blend: How; hard paste by default.
        count: Copies of the layer with their own draws: a number or a range (low, high), at most 4
            over all layers. With a range each sample draws how many it gets.
        kind: Name of the kind of anomaly, for ``AnomalyBatch.kind``; the synthesizer's name by
            default.
    """

    mask: Mask
    source: Source
    blend: Blend = Hard()
    count: int | tuple[int, int] = 1
    kind: str | None = None

    def __post_init__(self) -> None:
        for name, value, base in (
            ("mask", self.mask, Mask),
            ("source", self.source, Source),
            ("blend", self.blend, Blend),
        ):
            if not isinstance(value, base):
                raise TypeError(
                    f"Layer: expected {name} from anoaug.{name}s, got {type(value).__name__}"
                )
        low, high = checks.interval("count", self.count, 0, recipe.MAX_LAYERS)
        if low != int(low) or high != int(high) or high < 1:
            raise ValueError(f"count: expected whole numbers, at least 1, got {self.count!r}")
        object.__setattr__(self, "count", (int(low), int(high)))


class Synthesizer(nn.Module):
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
        views: Return ``B * (1 + layers)`` rows: the images untouched, then each layer alone, view
            by view; ``extras["source_row"]`` says where rows come from. ``p`` is not used.
        label_rule: ``"footprint"`` (pixels the blend touches) or ``"changed"`` (of those, pixels
            where some channel differs by more than ``tolerance``).
        tolerance: Least change in [0, 1] for ``"changed"``.
        min_area: An anomaly smaller than this leaves the sample normal and untouched: pixels, or
            below 1 a share of the image.
        label: ``"hard"``: the mask is {0, 1}; ``"soft"``: the blend's weight.
        clean: ``"input"``, ``"output"`` or None: what ``AnomalyBatch.clean`` holds.
        mean: Per-channel mean in [0, 1] for a normalised float output; with ``std``.
        std: Per-channel standard deviation.
        dtype: Output dtype: None for the input's, or a float dtype. Integer input becomes [0, 1].
        memory_format: ``"input"``, ``"contiguous"`` or ``"channels_last"`` output.
        active: ``"train"`` (identity with an empty mask in eval mode) or ``"always"``.
        normal_transform: Applied to the images before synthesis (DRAEM rotates 30 % of them): a
            callable on ``(B, C, H, W)``, or a Synthesizer. ``clean`` is the image after it.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``; ANOAUG_BACKEND sets the default.
        validate: Check the content of every batch (float range, NaN), not only of the first.

    Shape:
        images ``(B, C, H, W)`` uint8, uint16, or float in [0, 1]; B may be 0.
    """

    def __init__(
        self,
        *layers: Layer,
        p: float = 0.5,
        seed: int | None = None,
        name: str = "anomaly",
        choose: str = "all",
        weights: Sequence[float] | None = None,
        views: bool = False,
        label_rule: str = "footprint",
        tolerance: float = 1 / 255,
        min_area: float = 1,
        label: str = "hard",
        clean: str | None = "input",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: torch.dtype | None = None,
        memory_format: str = "input",
        active: str = "train",
        normal_transform: NormalTransform | None = None,
        backend: str | None = None,
        validate: bool = False,
    ) -> None:
        super().__init__()
        recipe.check_layers(layers)
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: expected anoaug.Layer, got {type(layer).__name__}")
        self.layers = layers
        self.name = name
        self.p = checks.probability("p", p)
        self.choose = recipe.one_of("choose", choose, ("all", "one"))
        self.weights = self._odds(weights, len(layers))
        self.views = views
        self.label_rule = recipe.one_of("label_rule", label_rule, ("footprint", "changed"))
        self.tolerance = checks.probability("tolerance", tolerance)
        self.min_area = float(checks.interval("min_area", min_area, 0.0)[0])
        self.label = recipe.one_of("label", label, ("hard", "soft"))
        self.clean = clean if clean is None else recipe.one_of("clean", clean, ("input", "output"))
        if (mean is None) != (std is None):
            raise ValueError("mean, std: expected both or neither, got one; give both")
        self.mean, self.std = mean, std
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype: expected a float dtype or None, got {dtype}")
        self.dtype = dtype
        formats = ("input", "contiguous", "channels_last")
        self.memory_format = recipe.one_of("memory_format", memory_format, formats)
        self.active = recipe.one_of("active", active, ("train", "always"))
        self.normal_transform = normal_transform
        name = ops.default_backend() if backend is None else backend
        self.backend = recipe.one_of("backend", name, ops.BACKENDS)
        self.validate = validate
        self.kinds: tuple[str, ...] = ("normal", *dict.fromkeys(self._kind(x) for x in layers))
        self.kinds += ("given",)
        self._bind()
        seed = torch.initial_seed() if seed is None else seed
        # On the host whatever the module's device is: sampling happens there. Not a buffer, because
        # DDP would broadcast it and every rank would repeat rank 0.
        self._state = torch.tensor([rng.signed64(int(seed)), 0], dtype=torch.int64)
        self._counter = torch.zeros((), dtype=torch.int64)
        self._checked = False

    # ---- composition -----------------------------------------------------------------------------

    def _kind(self, layer: Layer) -> str:
        return layer.kind or self.name

    def _odds(self, weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
        if self.choose != "one":
            if weights is not None:
                raise ValueError("weights: expected choose='one' with them, got choose='all'")
            return ()
        odds = tuple(float(w) for w in (weights if weights is not None else [1.0] * count))
        if len(odds) != count or min(odds) < 0 or sum(odds) <= 0:
            raise ValueError(
                f"weights: expected {count} numbers >= 0 with a positive sum, got {weights!r}"
            )
        return odds

    def _bind(self) -> None:
        """Give every bank and every given tensor its number."""
        banks: list[Bank] = []
        slots: list[str] = []
        laws = []
        for layer in self.layers:
            mask = []
            for step in layer.mask.steps():
                if isinstance(step, Given):
                    if step.name not in slots:
                        slots.append(step.name)
                    step = dataclasses.replace(step, slot=slots.index(step.name))
                mask.append(step)
            source: Any = layer.source
            bank = getattr(source, "bank", None)
            if bank is not None:
                if not isinstance(bank, Bank):
                    raise TypeError(
                        f"bank: expected a bank such as TextureBank, got {type(bank).__name__}; "
                        "TextureBank.from_folder(path) makes one"
                    )
                if not any(bank is known for known in banks):
                    banks.append(bank)
                number = next(n for n, known in enumerate(banks) if known is bank)
                source = dataclasses.replace(source, bank=number)
            kind = self.kinds.index(self._kind(layer))
            count = recipe_count(layer.count)
            laws.append(recipe.LayerLaw(tuple(mask), source, layer.blend, count, kind))
        self._laws = tuple(laws)
        self.slots = tuple(slots)
        self.banks = tuple(banks)
        self.categories = tuple(sorted({name for bank in banks for name in bank.categories}))
        self._numbers = [_renumbered(bank, self.categories) for bank in banks]
        self._tensors: dict[tuple[torch.device, int], tuple[list[Tensor], list[Tensor]]] = {}
        self._norms: dict[tuple[torch.device, float], Tensor] = {}
        self._texts: dict[tuple[Any, ...], str] = {}

    def _sharpened(self, number: int) -> bool:
        """Whether some layer reads the smoothed twin of a bank."""
        return any(
            getattr(law.source, "bank", None) == number
            and isinstance(law.source.photometric, RandomOps)  # type: ignore[attr-defined]
            and "sharpness" in law.source.photometric.ops  # type: ignore[attr-defined]
            for law in self._laws
        )

    def _banks_on(self, device: torch.device, channels: int) -> tuple[list[Tensor], list[Tensor]]:
        """Bank tensors on a device and their histograms on the host, made once."""
        if (device, channels) not in self._tensors:
            tensors, histograms = [], []
            for number, bank in enumerate(self.banks):
                fitting = bank.with_channels(channels)
                data, counts = fitting.data, torch.empty(0, dtype=torch.int64)
                if isinstance(fitting, TextureBank):
                    if self._sharpened(number):
                        data = torch.cat([data, fitting.smooth])
                    counts = torch.tensor(fitting.histograms)
                tensors.append(data.to(device))
                histograms.append(counts)
            self._tensors[device, channels] = tensors, histograms
        return self._tensors[device, channels]

    def laws(self, channels: int, dtype: torch.dtype = torch.uint8) -> str:
        """The recipe's laws for images of a channel count and dtype."""
        peak = PEAKS.get(dtype, 1.0)
        known = (channels, peak, self.p, self.weights)
        if known not in self._texts:
            self._texts[known] = recipe.encode(
                recipe.Laws(
                    layers=self._laws,
                    probability=self.p,
                    weights=self.weights,
                    views=self.views,
                    min_area=self.min_area,
                    tolerance=self.tolerance,
                    channels=channels,
                    peak=peak,
                )
            )
        return self._texts[known]

    def _norm(self, images: Tensor) -> Tensor | None:
        """float32 ``[2, C]`` from image units to the output, or None where nothing changes."""
        peak = PEAKS.get(images.dtype, 1.0)
        if self.mean is None and (self.dtype is None or peak == 1.0):
            return None
        if (images.device, peak) not in self._norms:
            channels = images.shape[1]
            mean = torch.tensor(self.mean or [0.0], dtype=torch.float64).expand(channels)
            std = torch.tensor(self.std or [1.0], dtype=torch.float64).expand(channels)
            norm = torch.stack([1.0 / (peak * std), -mean / std])
            self._norms[images.device, peak] = norm.to(torch.float32).to(images.device)
        return self._norms[images.device, peak]

    # ---- state -----------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The 64-bit seed (signed)."""
        return int(self._state[0])

    @property
    def epoch(self) -> int:
        """The epoch used where a call gives none."""
        return int(self._state[1])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as DistributedSampler does."""
        if not 0 <= int(epoch) < 2**32:
            raise ValueError(f"epoch: expected an integer in [0, 2**32), got {epoch!r}")
        self._state[1] = int(epoch)
        self._epoch_given = True

    _epoch_given = False

    def get_extra_state(self) -> dict[str, int]:
        """Seed, epoch and counter, for ``state_dict``."""
        return {"seed": self.seed, "epoch": self.epoch, "counter": int(self._counter)}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore seed, epoch and counter from ``state_dict``."""
        self._state = torch.tensor([state["seed"], state["epoch"]], dtype=torch.int64)
        self._counter = torch.tensor(state["counter"], dtype=torch.int64)

    def _numbered(self, rows: int) -> Tensor:
        """Sample indices from the counter: disjoint between ranks, whatever their number was."""
        rank, world = _place_among_ranks()
        # Rounded up to a multiple of the world, so that a resumed run may have another size.
        base = torch.div(self._counter + (world - 1), world, rounding_mode="floor") * world
        index = base + rank + world * torch.arange(rows) + COUNTER_DOMAIN
        self._counter.copy_(base + world * rows)
        return index

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
        params: Params | None = None,
    ) -> AnomalyBatch:
        """Synthesise anomalies on a batch.

        Args:
            images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1]; never modified.
            index: Sample indices ``[B]`` on the host; needs an epoch.
            epoch: Epoch in [0, 2**32); ``set_epoch`` sets a lasting one.
            category: Per-sample category ``[B]``, names or numbers into ``self.categories``, or
                one for all: chooses donors.
            foreground: ``(B, 1, H, W)``: anomalies stay where it is set.
            slots: Tensors ``(B, 1, H, W)`` for ``masks.Given`` parts, by name.
            mask: ``(B, 1, H, W)`` of real defects, united with the synthetic ones.
            label: ``[B]`` labels of real defects, united likewise.
            params: Replay these instead of sampling.

        Returns:
            An :class:`AnomalyBatch`.

        Raises:
            TypeError, ValueError: Bad input; the message says what was expected and the mend.
        """
        checks.images(images)
        if not torch.compiler.is_compiling() and (self.validate or not self._checked):
            if not _capturing(images):
                checks.content(images)
                self._checked = True
        number = self._index(index, epoch, len(images))
        images = self._transformed(images, number, index is not None, mask)
        planes, confined = self._planes(images, foreground, slots)
        real = None if mask is None else checks.plane("mask", mask, images)
        known = None if label is None else checks.row_vector("label", label, len(images))
        tensors, histograms = self._banks_on(images.device, images.shape[1])
        laws = self.laws(images.shape[1], images.dtype)
        source_row = None
        working = self.training or self.active == "always"
        if self.views and working:
            views = 1 + len(self.layers)
            source_row = torch.arange(len(images), device=images.device).repeat(views)
            images = images.repeat(views, 1, 1, 1)
            planes = [plane.repeat(views, 1, 1, 1) for plane in planes]
            real = None if real is None else real.repeat(views, 1, 1, 1)
            known = None if known is None else known.repeat(views)
        table = self._table(images, number, category, tensors, histograms, laws, params, working)
        layout = recipe_layout(laws)
        out, clean, drawn, flag, kind = ops.render(
            images, table, planes, tensors, self._norm(images), layout, confined,
            self.label_rule == "changed", self.label == "soft", self.clean == "output",
            self.dtype or (images.dtype if self.mean is None else _float_like(images.dtype)),
            self._channels_last(images), self.backend,
        )  # fmt: skip
        if real is not None or known is not None:
            drawn, flag, kind = self._united(drawn, flag, kind, real, known)
        return AnomalyBatch(
            out, drawn, flag, kind,
            {"input": images, "output": clean, None: None}[self.clean],
            Params(table, layout),
            {} if source_row is None else {"source_row": source_row},
        )  # fmt: skip

    def _index(
        self, index: Tensor | Sequence[int] | None, epoch: int | None, rows: int
    ) -> tuple[Tensor, Tensor]:
        """Sample indices and (seed, epoch) of a call."""
        state = self._state
        if epoch is not None:
            if not 0 <= int(epoch) < 2**32:
                raise ValueError(f"epoch: expected an integer in [0, 2**32), got {epoch!r}")
            state = torch.stack([state[0], torch.tensor(int(epoch))])
        if index is None:
            return self._numbered(rows), _worker_state(state)
        if epoch is None and not self._epoch_given:
            raise ValueError(
                "index: expected an epoch with it, or every epoch would repeat the same anomaly; "
                "pass epoch= or call set_epoch() first"
            )
        vector = checks.host_index(index, rows)
        if rows and not torch.compiler.is_compiling():
            rng.check_index_range(int(vector.min()), int(vector.max()))
        return vector, state

    def _transformed(
        self, images: Tensor, number: tuple[Tensor, Tensor], indexed: bool, mask: Tensor | None
    ) -> Tensor:
        """The images after ``normal_transform``."""
        if self.normal_transform is None or not (self.training or self.active == "always"):
            return images
        if mask is not None:
            raise ValueError(
                "mask: expected none together with normal_transform, which would leave it behind; "
                "transform images and masks before the call"
            )
        if isinstance(self.normal_transform, Synthesizer):
            index, state = number
            return self.normal_transform(images, index=index, epoch=int(state[1])).image
        return checks.images(self.normal_transform(images))

    def _planes(
        self, images: Tensor, foreground: Tensor | None, slots: dict[str, Tensor] | None
    ) -> tuple[list[Tensor], int]:
        """Per-pixel tensors in the recipe's order, and the one that confines every layer or -1."""
        given = dict(slots or {})
        if foreground is not None:
            given["foreground"] = foreground
        for name in self.slots:
            if name not in given:
                where = f"{name}=" if name == "foreground" else f"slots={{{name!r}: tensor}}"
                raise ValueError(f"{name}: this recipe needs it; pass {where} (B, 1, H, W)")
        planes = [checks.plane(name, given.pop(name), images) for name in self.slots]
        confined = -1
        if "foreground" in given:
            confined = len(planes)
            planes.append(checks.plane("foreground", given.pop("foreground"), images))
        if given:
            raise ValueError(
                f"slots: expected only {list(self.slots)}, got {sorted(given)} too; "
                "add masks.Given(name) to the recipe or leave them out"
            )
        return planes, confined

    def _table(
        self, images: Tensor, number: tuple[Tensor, Tensor], category: Any, tensors: list[Tensor],
        histograms: list[Tensor], laws: str, params: Params | None, working: bool,
    ) -> Tensor:  # fmt: skip
        """The parameter table on the images' device: sampled, replayed, or all zero in eval."""
        layout = recipe_layout(laws)
        if params is not None:
            if params.layout != layout:
                raise ValueError(
                    "params: expected those of a synthesizer with this recipe, channels and dtype, "
                    "got those of another; replay them with the synthesizer that made them"
                )
            if len(params.table) != len(images):
                raise ValueError(
                    f"params: expected {len(images)} rows like the images, got {len(params.table)}"
                )
            return params.table.to(images.device)
        if not working:
            return torch.zeros(len(images), recipe_width(laws), device=images.device)
        index, state = number
        table = ops.sample(
            index, state, self._category(category, len(index)), tensors, histograms, self._numbers,
            laws, images.shape[2], images.shape[3], images.device.type == "cuda",
        )  # fmt: skip
        return table.to(images.device, non_blocking=True)

    def _category(self, category: Any, rows: int) -> Tensor:
        """Category numbers ``[B]``, -1 where unknown."""
        if category is None:
            return torch.full((rows,), -1, dtype=torch.int64)
        if isinstance(category, (str, int)):
            category = [category] * rows
        if isinstance(category, Tensor):
            numbers = checks.host_index(category, rows)
        else:
            numbers = checks.row_vector("category", [self._category_number(c) for c in category], rows)
        if not torch.compiler.is_compiling() and rows and self.categories:
            low, high = int(numbers.min()), int(numbers.max())
            if low < -1 or high >= len(self.categories):
                raise ValueError(
                    f"category: expected numbers below {len(self.categories)}, got {low} to {high}"
                )
        return numbers if self.categories else torch.full_like(numbers, -1)

    def _category_number(self, name: str | int) -> int:
        if not isinstance(name, str) or not self.categories:
            return int(name) if not isinstance(name, str) else -1
        if name not in self.categories:
            raise ValueError(f"category: {name!r} is in no bank; "
                             f"{checks.nearest(name, self.categories)}")  # fmt: skip
        return self.categories.index(name)

    def _channels_last(self, images: Tensor) -> bool:
        if self.memory_format != "input":
            return self.memory_format == "channels_last"
        last = images.is_contiguous(memory_format=torch.channels_last)
        return last and not images.is_contiguous()

    def _united(
        self, drawn: Tensor, flag: Tensor, kind: Tensor, real: Tensor | None, known: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Synthetic and real defects together; a real one without a synthetic is kind "given"."""
        defect = torch.zeros_like(flag, dtype=torch.bool)
        if real is not None:
            inside = real > 0 if real.dtype == torch.uint8 else real > 0.5
            drawn = torch.maximum(drawn, inside.to(drawn.dtype))
            defect = inside.flatten(1).any(1)
        if known is not None:
            defect = defect | (known.to(flag.device) > 0)
        given = torch.where(defect & (flag == 0), len(self.kinds) - 1, kind)
        return drawn, torch.where(defect, 1, flag), given

    def extra_repr(self) -> str:
        """Name, p and layers."""
        layers = ", ".join(
            " ".join(type(s).__name__ for s in (*x.mask.steps(), x.source, x.blend))
            for x in self.layers
        )
        return f"{self.name!r}, p={self.p}, seed={self.seed}, layers=[{layers}]"

    def __deepcopy__(self, memo: dict[int, Any]) -> Synthesizer:
        """A copy with its own counter and the same banks."""
        copy = self.__class__.__new__(self.__class__)
        memo[id(self)] = copy
        nn.Module.__init__(copy)
        copy.__dict__.update(self.__dict__)
        copy._state, copy._counter = self._state.clone(), self._counter.clone()
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the caches of device tensors."""
        return {**self.__dict__, "_tensors": {}, "_norms": {}}


def recipe_count(count: int | tuple[int, int]) -> tuple[int, int]:
    """A layer's count as a range."""
    return (count, count) if isinstance(count, int) else count


def recipe_layout(laws: str) -> str:
    """The layout of laws."""
    return recipe.recipe(laws).layout


def recipe_width(laws: str) -> int:
    """The table width of laws."""
    return recipe.recipe(laws).width


def _float_like(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.float32


def _renumbered(bank: Bank, names: Sequence[str]) -> Tensor:
    """A bank's categories as numbers into the union of all banks' names, -1 where it has none."""
    table = torch.tensor([names.index(name) for name in bank.categories] or [-1])
    return table[torch.from_numpy(bank.category)] if bank.categories else table.expand(len(bank))


def _place_among_ranks() -> tuple[int, int]:
    """Rank and world size: of the process group, times the DataLoader workers inside a rank."""
    rank, world = 0, 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if not torch.compiler.is_compiling():
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            rank, world = rank * worker.num_workers + worker.id, world * worker.num_workers
    return rank, world


def _worker_state(state: Tensor) -> Tensor:
    """In a DataLoader worker the counter starts anew each epoch: its seed moves the stream."""
    if torch.compiler.is_compiling():
        return state
    worker = torch.utils.data.get_worker_info()
    if worker is None:
        return state
    base = worker.seed - worker.id  # the same in all workers of an epoch
    return torch.stack([torch.tensor(rng.signed64(rng.mix64(int(state[0]) ^ base))), state[1]])


def _capturing(images: Tensor) -> bool:
    return images.is_cuda and torch.cuda.is_current_stream_capturing()
