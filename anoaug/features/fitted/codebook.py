"""A codebook: vectors that stand for normal features, by k-means or as a VQ layer learns them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import layouts, randomness
from ..functional.nearest import nearest
from . import ranks
from .base import Fitted
from .sampling import RowSample, assigned, lloyd, seeded


class Codebook(Fitted):
    """K codes for features of C channels, fitted on any backbone or loaded from a VQ model.

    ``fit`` keeps a uniform sample of rows, seeds with k-means++ and refines; ``update`` moves the
    codes as a VQ layer's exponential moving averages do (van den Oord et al., 2017).

    Args:
        size: K; DSR has 4096.
        method: What refines in ``fit``: ``"kmeans"`` (Lloyd's, until nothing changes) or ``"vq"``
            (moving averages over batches of the sample).
        iterations: Rounds over the sample, at most.
        samples: Rows the sample holds, over all ranks.
        seed: 64-bit seed of sample and seeding.
        decay: Of the moving averages.
        layout: See :class:`Fitted`, likewise ``prefix`` and ``share``.
        prefix: Tokens before the first position, which are left out.
        share: Whether ranks share what they see.

    Attributes:
        codes: float32 ``[K, C]``; empty while unfitted.
        weight: float32 ``[K]``: moving averages of how many rows a code stands for.
    """

    anchor = "codes"

    codes: Tensor
    weight: Tensor

    def __init__(
        self,
        size: int = 4096,
        *,
        method: str = "kmeans",
        iterations: int = 25,
        samples: int = 65536,
        seed: int = 0,
        decay: float = 0.99,
        layout: str | None = None,
        prefix: int = 0,
        share: bool = True,
    ) -> None:
        super().__init__(layout=layout, prefix=prefix, share=share)
        self.size = checks.whole("size", size, 1)
        self.method = checks.one_of("method", method, ("kmeans", "vq"))
        self.iterations = checks.whole("iterations", iterations, 0)
        self.samples = checks.whole("samples", samples, size)
        self.seed = seed
        self.decay = checks.probability("decay", decay)
        self.register_buffer("codes", torch.zeros(0, 0))
        self.register_buffer("weight", torch.zeros(0))
        self._sample: RowSample | None = None

    def extra_repr(self) -> str:
        """Size and channels."""
        return f"{self.size}, {self.method}, {list(self.codes.shape)}"

    def reset(self) -> None:
        """Forget everything."""
        self.codes = self.codes.new_zeros(0, 0)
        self.weight = self.weight.new_zeros(0)

    def load_codebook(self, codes: Tensor) -> Codebook:
        """Take a VQ model's codes, ``[K, C]`` floats; K becomes the module's size.

        Raises:
            TypeError, ValueError: Not a finite float tensor of rank 2.
        """
        if not isinstance(codes, Tensor) or codes.dtype not in layouts.DTYPES:
            raise TypeError(f"codes: expected a float tensor [K, C], got {type(codes).__name__}")
        if codes.dim() != 2 or not len(codes):
            raise ValueError(
                f"codes: expected [K, C] with at least one code, got {list(codes.shape)}; a "
                "(C, K) embedding needs .T"
            )
        if not bool(codes.isfinite().all()):  # host: once a load
            raise ValueError("codes: expected finite numbers, got NaN or infinite ones")
        self.size = len(codes)
        self._set("codes", codes.detach().to(torch.float32))
        self._set("weight", torch.ones(len(codes), device=codes.device))
        return self

    def fit(self, *args: Any, **keywords: Any) -> Any:
        """See :meth:`Fitted.fit`."""
        self._sample = RowSample(self.samples, self.seed, "features.codebook.sample")
        try:
            return super().fit(*args, **keywords)
        finally:
            self._sample = None

    def _absorb(self, features: Tensor, images: int, category: Any) -> None:
        assert self._sample is not None
        values, _ = self._view(features)
        self._sample.add(values.to(torch.float32).flatten(0, 1))

    def _finish(self) -> None:
        assert self._sample is not None
        rows = self._sample.shared(self.share)
        if len(rows) < self.size:
            raise ValueError(
                f"size: expected at most as many codes as the {len(rows)} features of the loader, "
                f"got {self.size}; take fewer codes or more images"
            )
        key = randomness.keys(
            self.seed, torch.tensor([0]), stream="features.codebook.seeds", device=str(rows.device)
        )
        with torch.autocast(rows.device.type, enabled=False):
            codes, weight = seeded(rows, self.size, key), rows.new_ones(self.size)
            for _ in range(self.iterations):
                if self.method == "vq":
                    for part in rows.split(max(self.size, 4096)):
                        codes, weight = self._averaged(codes, weight, part, share=False)
                    continue
                moved, weight = lloyd(rows, codes)
                done = torch.equal(moved, codes)  # host: once a round of a fit
                codes = moved
                if done:
                    break
        # Ranks have the same sample; atomic sums may differ in the last bit.
        self._set("codes", ranks.of_first(codes, self.share))
        self._set("weight", ranks.of_first(weight, self.share))

    @torch.no_grad()
    def update(self, features: Tensor, *, layout: str | None = None) -> None:
        """Move the codes towards the means of one batch's features, all ranks' together.

        Args:
            features: In any layout.
            layout: Another layout than the module's, without prefix.

        Raises:
            RuntimeError: Not fitted.
        """
        self._must_be_fitted()
        values, grid = self._view(features, layout)
        self._must_match("channels", self.codes.shape[1:], (grid.channels,))
        with torch.autocast(values.device.type, enabled=False):
            rows = values.to(torch.float32).flatten(0, 1)
            codes, weight = self._averaged(self.codes, self.weight, rows, self.share)
        self._set("codes", codes)
        self._set("weight", weight)

    def _averaged(
        self, codes: Tensor, weight: Tensor, rows: Tensor, share: bool
    ) -> tuple[Tensor, Tensor]:
        """Moving averages of counts and means; a code that is never met stays where it is."""
        _, _, counts, sums = assigned(rows, codes)
        counts, sums = ranks.summed(counts, share), ranks.summed(sums, share)
        old = weight * self.decay
        new = old + counts * (1.0 - self.decay)
        moved = (codes * old[:, None] + sums * (1.0 - self.decay)) / new.clamp(min=1e-20)[:, None]
        any_row = counts.sum() > 0
        return (
            torch.where((counts > 0)[:, None], moved, codes),
            torch.where(any_row, new, weight),
        )

    def quantise(self, features: Tensor, *, layout: str | None = None) -> tuple[Tensor, Tensor]:
        """The nearest codes in the features' layout and dtype, and their numbers ``[G, P]``.

        Constants for autograd; tokens before the prefix stay as they are.
        """
        self._must_be_fitted()
        values, grid = self._view(features, layout)
        self._must_match("channels", self.codes.shape[1:], (grid.channels,))
        place, _ = nearest(values, self.codes, "euclidean")
        return grid.restore(self.codes[place], features.detach()), place
