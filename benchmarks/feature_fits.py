"""What is learnt from features, and DROCC's loop, beside the torch that people write for it.

Either side starts every call from the same state, so that a call is one update (or one fit) and
both give the same result where nothing is drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, one_hot

from anoaug import features
from anoaug.features import fitted
from anoaug.features import functional as ops
from benchmarks.feature_ops import judge, keys
from benchmarks.timing import Work

MOMENTUM, DECAY, QUANTILE = 0.9, 0.99, 0.75


def centres(x: Tensor, backend: str) -> Work:
    """The second batch of a mean of every position."""
    module = fitted.PositionalCentres("mean", layout="tokens").to(x.device)
    module.update(x)
    state = {name: value.clone() for name, value in module.state_dict().items()}

    def work() -> object:
        module.load_state_dict(state)
        module.update(x.flip(0) + 0.1)
        return module.centres[0]

    return work


def plain_centres(x: Tensor) -> Work:
    """A running mean."""
    start = x.mean(0)
    return lambda: start + ((x.flip(0) + 0.1).mean(0) - start) * 0.5


def matched(x: Tensor, backend: str) -> Work:
    """PBAS's moving average: the means of a batch into the centres most alike."""
    module = fitted.PositionalCentres("ema", "cosine", momentum=MOMENTUM, layout="tokens")
    module.to(x.device).update(x)
    state = {name: value.clone() for name, value in module.state_dict().items()}

    def work() -> object:
        module.load_state_dict(state)
        module.update(x.flip(1))
        return module.centres[0]

    return work


def plain_matched(x: Tensor) -> Work:
    """The same, mean by mean."""
    start, means = x.mean(0), x.flip(1).mean(0)

    def work() -> object:
        moved = start.clone()
        near = (normalize(means, dim=1) @ normalize(start, dim=1).T).argmax(1)
        for mean, place in zip(means, near, strict=True):
            moved[place] = MOMENTUM * moved[place] + (1 - MOMENTUM) * mean
        return moved

    return work


def codes_of(x: Tensor, most: int) -> Tensor:
    """The first features as codes."""
    return x[: min(most, len(x) // 2)].clone()


def code_update(x: Tensor, backend: str) -> Work:
    """One batch's moving averages of a codebook of 1024."""
    codes = codes_of(x, 1024)
    module = fitted.Codebook(len(codes), decay=DECAY, layout="rows").to(x.device)

    def work() -> object:
        module.load_codebook(codes)
        module.update(x)
        return module.codes

    return work


def plain_code_update(x: Tensor) -> Work:
    """A VQ layer's: which code, by all distances; counts and sums by a one-hot matrix."""
    codes = codes_of(x, 1024)

    def work() -> object:
        near = torch.cdist(x, codes).argmin(1)
        chosen = one_hot(near, len(codes)).to(x.dtype)
        counts = DECAY + chosen.sum(0) * (1 - DECAY)
        sums = DECAY * codes + (chosen.T @ x) * (1 - DECAY)
        moved = sums / counts[:, None]
        return torch.where(chosen.any(0)[:, None], moved, codes)

    return work


def code_fit(x: Tensor, backend: str) -> Work:
    """A codebook of 64 by k-means, seeding and ten rounds."""
    size = min(64, len(x) // 2)

    def work() -> object:
        module = fitted.Codebook(size, iterations=10, layout="rows", seed=0).to(x.device)
        return module.fit([x], progress=False).codes

    return work


def plain_code_fit(x: Tensor) -> Work:
    """k-means from random rows by whole matrices, ten rounds."""
    size = min(64, len(x) // 2)

    def work() -> object:
        codes = x[torch.randperm(len(x), device=x.device)[:size]]
        for _ in range(10):
            chosen = one_hot(torch.cdist(x, codes).argmin(1), size).to(x.dtype)
            codes = (chosen.T @ x) / chosen.sum(0).clamp(min=1)[:, None]
        return codes

    return work


def radius(x: Tensor, backend: str) -> Work:
    """GLASS's radius of one batch."""
    module = fitted.RadiusQuantile(QUANTILE, layout="tokens").to(x.device)
    return lambda: module.update(x)


def plain_radius(x: Tensor) -> Work:
    """By ``torch.quantile``, which sorts."""
    return lambda: torch.quantile(x.norm(dim=-1).flatten(), QUANTILE)


def apart(x: Tensor) -> Tensor:
    """Which positions are normal: three of four."""
    place = torch.arange(x.shape[0] * x.shape[1], device=x.device).view(x.shape[:2])
    return place % 4 > 0


def masked_radius(x: Tensor, backend: str) -> Work:
    """The same of some of the positions, without a gather that the host waits for."""
    module, inside = fitted.RadiusQuantile(QUANTILE, layout="tokens").to(x.device), apart(x)
    return lambda: module.update(x, inside)


def plain_masked_radius(x: Tensor) -> Work:
    """By a sort of what is gathered, as GLASS's code has it."""
    inside = apart(x)

    def work() -> object:
        ordered = x.norm(dim=-1)[inside].sort().values
        place = QUANTILE * (len(ordered) - 1)
        low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
        return low + (high - low) * (place - int(place))

    return work


def random_subset(x: Tensor, backend: str) -> Work:
    """As many random positions of each image as it asks for."""
    counts = torch.arange(1, len(x) + 1, device=x.device) * x.shape[1] // (len(x) + 1)
    return lambda: ops.random_subset(keys(len(x), x), counts, x.shape[1])


def plain_random_subset(x: Tensor) -> Work:
    """Image by image, from a permutation."""
    counts = [n * x.shape[1] // (len(x) + 1) for n in range(1, len(x) + 1)]

    def work() -> object:
        mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        for row, count in zip(mask, counts, strict=True):
            row[torch.randperm(x.shape[1], device=x.device)[:count]] = True
        return mask

    return work


def drocc(x: Tensor, backend: str) -> Work:
    """DROCC's fifty steps, with its shell [0.2, 0.4]."""
    synthesizer = features.create("drocc", discriminator=judge(x), seed=0, backend=backend)
    return lambda: synthesizer(x)


def plain_drocc(x: Tensor) -> Work:
    """The loop of DROCC's trainer."""
    model = judge(x)

    def work() -> object:
        fake = x + torch.randn_like(x)
        for step in range(50):
            fake.requires_grad_(True)
            logits = model(torch.cat((x, fake)))[len(x) :]
            loss = binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            (gradient,) = torch.autograd.grad(loss, fake)
            with torch.no_grad():
                fake = fake + 0.001 * gradient / gradient.norm(dim=1, keepdim=True)
                if (step + 1) % 10 == 0:
                    away = fake - x
                    length = away.norm(dim=1, keepdim=True)
                    fake = x + away * (length.clamp(0.2, 0.4) / length)
        return fake

    return work
