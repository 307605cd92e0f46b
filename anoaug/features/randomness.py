"""Keys: what makes the randomness of a feature perturbation a function of (seed, epoch, index)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import checks, rng

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define("feature_keys(Tensor index, Tensor state, str stream) -> Tensor")


def _feature_keys(index: Tensor, state: Tensor, stream: str) -> Tensor:
    seed, epoch = state.tolist()  # host: index and state live there
    drawn = rng.Draws(seed, epoch, index.numpy(), {stream: 2}).words(stream, 2)
    return torch.from_numpy(drawn.astype("int64")).T.contiguous()


def _feature_keys_fake(index: Tensor, state: Tensor, stream: str) -> Tensor:
    return index.new_empty((index.shape[0], 2))


_library.impl("feature_keys", _feature_keys, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_keys", _feature_keys_fake)


def sample_keys(number: tuple[Tensor, Tensor], stream: str, device: torch.device) -> Tensor:
    """A 64-bit key for every sample, int64 ``[G, 2]`` words in [0, 2**32), on a device.

    Args:
        number: Sample indices int64 ``[G]`` and (seed, epoch) int64 ``[2]``, on the host; see
            :class:`anoaug.numbering.Numbering`.
        stream: What the randomness is for; other names give other numbers.
        device: Where the features are; the copy does not wait.
    """
    keys: Tensor = torch.ops.anoaug.feature_keys(*number, stream)
    if device.type == "cuda":
        return keys.pin_memory().to(device, non_blocking=True)
    return keys.to(device)


def _feature_beta(index: Tensor, state: Tensor, stream: str, alpha: float) -> Tensor:
    seed, epoch = state.tolist()  # host: index and state live there
    drawn = rng.Draws(seed, epoch, index.numpy(), {stream: 1}).uniform(stream, 1)[0]
    return torch.from_numpy(_beta_quantile(alpha, drawn).astype("float32"))


def _feature_beta_fake(index: Tensor, state: Tensor, stream: str, alpha: float) -> Tensor:
    return index.new_empty((index.shape[0],), dtype=torch.float32)


_library.define("feature_beta(Tensor index, Tensor state, str stream, float alpha) -> Tensor")
_library.impl("feature_beta", _feature_beta, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_beta", _feature_beta_fake)


def _beta_quantile(alpha: float, share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quantiles of Beta(alpha, alpha), within 1e-5."""
    root, distribution = _beta_table(alpha)
    low = np.interp(np.minimum(share, 1.0 - share), distribution, root) ** (1.0 / alpha)
    return np.where(share <= 0.5, low, 1.0 - low)


@functools.lru_cache(maxsize=16)
def _beta_table(alpha: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The lower half of the distribution by x**alpha, in which its density is smooth."""
    root = np.linspace(0.0, 0.5**alpha, 1 << 15)
    density = (1.0 - root ** (1.0 / alpha)) ** (alpha - 1.0)
    total = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return root, 0.5 * total / total[-1]


def sample_beta(
    number: tuple[Tensor, Tensor], stream: str, alpha: float, device: torch.device
) -> Tensor:
    """A number from Beta(alpha, alpha) for every sample, float32 ``[G]``.

    Args:
        number: As for :func:`sample_keys`, likewise the others.
        stream: What the randomness is for.
        alpha: Above 0: small for numbers near 0 and 1.
        device: Where the features are.
    """
    drawn: Tensor = torch.ops.anoaug.feature_beta(*number, f"features.{stream}", alpha)
    if device.type == "cuda":
        return drawn.pin_memory().to(device, non_blocking=True)
    return drawn.to(device)


def keys(
    seed: int,
    index: Tensor | Sequence[int],
    *,
    epoch: int = 0,
    stream: str = "features",
    device: str | torch.device = "cpu",
) -> Tensor:
    """The ``rng=`` of functional ops: a key for every sample, int64 ``[G, 2]``.

    Args:
        seed: 64-bit seed.
        index: ``[G]`` sample indices on the host.
        epoch: Epoch, or step, in [0, 2**32).
        stream: What the randomness is for; give each op of a pipeline its own.
        device: Where the features are.

    Raises:
        TypeError, ValueError: Indices on CUDA, of another shape or no integers; another epoch.
    """
    named = checks.host_rows("index", index, len(index))
    checks.whole("epoch", epoch, 0, (1 << 32) - 1)
    state = torch.tensor([rng.signed64(seed), epoch], dtype=torch.int64, device="cpu")
    return sample_keys((named, state), stream, torch.device(device))
