"""Keys: what makes the randomness of a feature perturbation a function of (seed, epoch, index)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rng

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


def keys(
    seed: int, index: Tensor, *, epoch: int = 0, stream: str = "features", device: str = "cpu"
) -> Tensor:
    """The ``rng=`` of functional ops: a key for every sample, int64 ``[G, 2]``.

    Args:
        seed: 64-bit seed.
        index: int64 ``[G]`` sample indices on the host.
        epoch: Epoch, or step, in [0, 2**32).
        stream: What the randomness is for; give each op of a pipeline its own.
        device: Where the features are.
    """
    state = torch.tensor([rng.signed64(seed), epoch], dtype=torch.int64, device="cpu")
    return sample_keys((index, state), stream, torch.device(device))
