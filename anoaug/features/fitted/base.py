"""What fitted modules share: the loop over a loader, state in buffers, the door."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ... import checks
from .. import layouts
from . import ranks


class Fitted(nn.Module):
    """Base of what is learnt from normal features without gradients.

    All state is in buffers: ``state_dict`` holds it, also for a fresh unfitted module, whose
    buffers take on the shapes that are loaded; copies, pickles and EMA twins are independent. It
    stays float32 where a model is brought to another dtype (``.half()``). Under a process group
    every rank sees what all have seen: call ``update`` and ``fit`` on all of them.
    ``update`` never waits for the device; ``fit`` does.

    Args:
        layout: Of the features, see :func:`anoaug.features.layouts.grid`; by their rank if None.
        prefix: Tokens before the first position, which are left out.
        share: Whether ranks of a process group share what they see.
    """

    # The buffer that has elements once the module is fitted.
    anchor: ClassVar[str] = ""

    def __init__(self, *, layout: str | None = None, prefix: int = 0, share: bool = True) -> None:
        super().__init__()
        if layout is not None:
            checks.one_of("layout", layout, tuple(layouts.LAYOUTS))
        self.layout, self.prefix, self.share = layout, prefix, share

    @property
    def is_fitted(self) -> bool:
        """Whether there is something to use; costs no synchronisation."""
        return getattr(self, self.anchor).numel() > 0

    def reset(self) -> None:
        """Forget everything."""
        raise NotImplementedError(f"{type(self).__name__}.reset")

    def update(self, features: Tensor) -> Any:
        """Take one batch in."""
        raise NotImplementedError(f"{type(self).__name__}.update")

    def fit(
        self,
        loader: Any,
        extractor: Callable[[Any], Tensor] | None = None,
        *,
        image: str | int | Callable[[Any], Any] | None = None,
        category: str | int | Callable[[Any], Any] | None = None,
        device: str | torch.device | None = None,
        progress: bool = True,
    ) -> Any:
        """Forget, and learn from a loader of normal images.

        A fit that is interrupted leaves the module as it was.

        Args:
            loader: Iterable of batches: tensors, ``(images, ...)``, mappings or objects with
                ``image``. Ranks may have different numbers of batches.
            extractor: Images to features, in any layout; None: the batches are features. A module,
                or the method of one, runs in eval mode and gets its modes back.
            image: Where the images of a batch are: a key, a position, or a function of the batch.
            category: Likewise for int64 ``[B]`` categories.
            device: Where images go; by default where the extractor's parameters are.
            progress: Show a bar (needs tqdm).

        Returns:
            The module.

        Raises:
            ValueError, TypeError: An empty loader, or batches that hold no images.
        """
        before = {name: value.clone() for name, value in self._own_buffers()}
        owner = extractor if isinstance(extractor, nn.Module) else _owner(extractor)
        place = torch.device(device) if device is not None else _place(owner)
        batches = _with_bar(loader, type(self).__name__) if progress else loader
        features, named = None, None
        try:
            with torch.no_grad(), _evaluating(owner):
                self.reset()
                for batch, going in ranks.rounds(batches, self.share):
                    if going:
                        images = _images(batch, image)
                        if place is not None and isinstance(images, Tensor):
                            images = images.to(place, non_blocking=True)
                        features = self._extract(images, extractor)
                        named = None if category is None else _picked(batch, category, "category")
                        count = len(images)
                    else:
                        assert isinstance(features, Tensor)
                        features, count = features[:0], 0
                        named = None if category is None else []
                    if not isinstance(features, Tensor):
                        raise TypeError(
                            "extractor: expected a tensor of features, got "
                            f"{type(features).__name__}; fit one module per layer"
                        )
                    self._absorb(features, count, named)
                self._finish()
        except BaseException:
            for name, value in before.items():
                self._set(name, value)
            raise
        return self

    def _extract(self, images: Any, extractor: Callable[[Any], Tensor] | None) -> Any:
        """The features of a batch of a fit."""
        return images if extractor is None else extractor(images)

    def _absorb(self, features: Tensor, images: int, category: Any) -> None:
        """Take in a batch of a fit; ``images`` says how many images its rows are of."""
        self.update(features)

    def _finish(self) -> None:
        """Conclude a fit."""

    # ---- state -----------------------------------------------------------------------------------

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return self.named_buffers(recurse=False)

    def _set(self, name: str, value: Tensor) -> None:
        """Give a buffer a value: in place where the shape stays, so that references stay good."""
        old = getattr(self, name)
        with torch.no_grad():
            if old.shape == value.shape and old.device == value.device and not _sealed(old):
                old.copy_(value)
            else:
                dtype = value.dtype if old.dtype.is_floating_point else old.dtype
                fresh = value.detach().to(dtype).clone()
                setattr(self, name, _opened(fresh))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move, but stay float32: half a model's precision would lose means and counts of many."""
        before = dict(self._own_buffers())
        super()._apply(fn, recurse)
        for name, value in list(self._own_buffers()):
            if value.dtype != before[name].dtype:
                setattr(self, name, before[name].to(value.device))
        return self

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any, **keywords: Any
    ) -> None:
        for name, old in self._own_buffers():
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor) and given.shape != old.shape:
                setattr(self, name, old.new_zeros(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest, **keywords)

    # ---- the door --------------------------------------------------------------------------------

    def _view(
        self, features: Any, layout: str | None = None, groups: int | None = None
    ) -> tuple[Tensor, layouts.Grid]:
        """Features as ``[G, P, C]``, at least float32; a layout that is given has no prefix."""
        prefix = self.prefix if layout is None else 0
        grid = layouts.grid(features, layout or self.layout, groups=groups, prefix=prefix)
        seen = grid.view(features)
        return seen.to(torch.promote_types(seen.dtype, torch.float32)), grid

    def _must_be_fitted(self) -> None:
        if not self.is_fitted:
            name = type(self).__name__
            raise RuntimeError(
                f"{name}: expected a fitted one; call {name}.fit(loader, extractor), update(), or "
                "load a state_dict first"
            )

    def _must_match(self, name: str, expected: Sequence[int], got: Sequence[int]) -> None:
        if list(expected) != list(got):
            raise ValueError(
                f"features: expected {name} {list(expected)} as {type(self).__name__} was fitted "
                f"for, got {list(got)}; use the same layer and image size, or fit again"
            )


def _sealed(value: Tensor) -> bool:
    """Whether a tensor was made in inference mode and could enter no autograd graph."""
    return not torch.compiler.is_compiling() and value.is_inference()


def _opened(value: Tensor) -> Tensor:
    if not _sealed(value):
        return value
    with torch.inference_mode(False):
        return value.clone()


def named(category: Any, groups: int, categories: int) -> Tensor | None:
    """Categories of the images, int64 ``[groups]`` on the host; None where there is but one.

    Raises:
        ValueError: None given where there are several, or numbers outside [0, categories).
    """
    if categories == 1:
        return None
    if category is None:
        raise ValueError(
            f"category: expected one in [0, {categories}) per image on the host, got None"
        )
    names = checks.host_rows("category", category, groups)
    if groups and not torch.compiler.is_compiling():
        low, high = int(names.min()), int(names.max())
        if low < 0 or high >= categories:
            raise ValueError(
                f"category: expected numbers in [0, {categories}), got {low} to {high}"
            )
    return names


def _images(batch: Any, where: Any) -> Any:
    """The images of a batch."""
    if where is not None:
        return _picked(batch, where, "image")
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        return _picked(batch, "image", "image")
    if hasattr(batch, "image"):
        return batch.image
    if isinstance(batch, (tuple, list)) and batch:
        return batch[0]
    raise TypeError(
        f"loader: expected batches that hold images, got {type(batch).__name__}; say where with "
        "image="
    )


def _picked(batch: Any, where: Any, name: str) -> Any:
    if callable(where):
        return where(batch)
    try:
        return batch[where]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{name}: expected {where!r} in the batches, got {type(batch).__name__} "
            f"{list(batch) if isinstance(batch, Mapping) else ''}; name yours with {name}="
        ) from error


def _owner(extractor: Any) -> nn.Module | None:
    """The module whose method an extractor is."""
    owner = getattr(extractor, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _place(owner: nn.Module | None) -> torch.device | None:
    first = None if owner is None else next(owner.parameters(), None)
    return None if first is None else first.device


def _with_bar(loader: Any, name: str) -> Any:
    bar = checks.require("tqdm", "images").tqdm
    total = len(loader) if hasattr(loader, "__len__") else None
    return bar(loader, total=total, desc=f"fit {name}", unit="batch")


@contextmanager
def _evaluating(module: nn.Module | None) -> Iterator[None]:
    """Eval mode for a while; every submodule gets its own mode back."""
    modes = {} if module is None else {part: part.training for part in module.modules()}
    if module is not None:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
