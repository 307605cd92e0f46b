"""Functional ops on features and the compositions of torch functions that stand in for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Beta, MultivariateNormal
from torch.nn.functional import binary_cross_entropy, normalize

from anoaug import features
from anoaug.features import functional as ops
from benchmarks.timing import Work

CLASSES = 4
ANGLE = 10.0


def keys(count: int, x: Tensor) -> Tensor:
    """Keys of so many samples, made anew at every step as in training."""
    return features.keys(0, range(count), device=x.device)


def uniad(x: Tensor, backend: str) -> Work:
    """UniAD's jitter."""
    return lambda: ops.norm_scaled_jitter(x, rng=keys(len(x), x), scale=20.0, backend=backend)


def plain_uniad(x: Tensor) -> Work:
    """Norms of tokens over their channels times noise."""

    def work() -> object:
        length = x.norm(dim=-1, keepdim=True) / x.shape[-1]
        return x + torch.randn_like(x) * length * 20.0

    return work


def shell(x: Tensor) -> tuple[Tensor, float]:
    """A base, and a radius that about half of the features lie within."""
    return x.mean(0), 0.25 * math.sqrt(x.shape[1])


def annulus(x: Tensor, backend: str) -> Work:
    """The projection onto [r, 2 r]."""
    base, radius = shell(x)
    # Without a draw for features at their base, as the composition has none.
    return lambda: ops.annulus_project(
        x, r_lo=radius, base=base, on_zero="stay", backend=backend
    )  # fmt: skip


def plain_annulus(x: Tensor) -> Work:
    """GLASS's projection."""
    base, radius = shell(x)

    def work() -> object:
        away = x - base
        length = away.norm(dim=1, keepdim=True)
        return base + away * (length.clamp(radius, 2 * radius) / (length + 1e-10))

    return work


def ascent(x: Tensor, backend: str) -> Work:
    """One step along a gradient."""
    gradient = x.flip(0)
    return lambda: ops.ascent_step(x, gradient, eta=0.001, backend=backend)


def plain_ascent(x: Tensor) -> Work:
    """GLASS's step."""
    gradient = x.flip(0)
    return lambda: x + 0.001 * (gradient / (gradient.norm(dim=1, keepdim=True) + 1e-10))


def push(x: Tensor, backend: str) -> Work:
    """PBAS's push away from a centre of every position."""
    centres = x.mean(0)
    return lambda: ops.radial_push(x, centres=centres, on_zero="stay", backend=backend)


def plain_push(x: Tensor) -> Work:
    """The same by a norm, a mean and a division."""
    centres = x.mean(0)

    def work() -> object:
        away = x - centres
        far = away.norm(dim=-1, keepdim=True)
        return x + 0.25 * far.mean() * (away / far)

    return work


def distance_scaled(x: Tensor, backend: str) -> Work:
    """CRAS's noise about a centre of every position."""
    centres = x.mean(0)
    return lambda: ops.distance_scaled_noise(
        x, rng=keys(len(x), x), centres=centres, backend=backend
    )  # fmt: skip


def plain_distance_scaled(x: Tensor) -> Work:
    """The same by two norms."""
    centres = x.mean(0)

    def work() -> object:
        noise = torch.randn_like(x) * 0.015
        share = noise.norm(dim=-1, keepdim=True) / (x - centres).norm(dim=-1, keepdim=True)
        return x + (1 + 0.3 * (share / share.mean() - 1)) * noise

    return work


def geodesic(x: Tensor, backend: str) -> Work:
    """A turn on the sphere."""
    return lambda: ops.geodesic_step(x, rng=keys(8, x), angle=ANGLE, backend=backend)


def plain_geodesic(x: Tensor) -> Work:
    """The same by a tangent of unit length."""
    angle = math.radians(ANGLE)

    def work() -> object:
        length = x.norm(dim=-1, keepdim=True)
        unit = x / length
        noise = torch.randn_like(x)
        tangent = normalize(noise - (noise * unit).sum(-1, keepdim=True) * unit, dim=-1)
        return length * (math.cos(angle) * unit + math.sin(angle) * tangent)

    return work


def judge(x: Tensor) -> nn.Module:
    """GLASS's discriminator, without its sigmoid."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(x.shape[1], 1024),
            nn.BatchNorm1d(1024),
            nn.LeakyReLU(0.2),
            nn.Linear(1024, 1, bias=False),
        ).to(x.device)


def glass(cache: bool) -> Callable[[Tensor, str], Work]:
    """GLASS's twenty steps, the first layer on true features cached or not."""

    def make(x: Tensor, backend: str) -> Work:
        synthesizer = features.AscentSynthesizer(
            discriminator=judge(x), radius=0.5, cache_first_linear=cache, seed=0, backend=backend
        )
        return lambda: synthesizer(x)

    return make


def plain_glass(x: Tensor) -> Work:
    """The loop of GLASS's trainer."""
    model = judge(x)

    def work() -> object:
        fake = x + torch.randn_like(x) * 0.015
        for step in range(20):
            fake.requires_grad_(True)
            scores = model(torch.cat((x, fake))).sigmoid()[len(x) :]
            loss = binary_cross_entropy(scores, torch.ones_like(scores))
            (gradient,) = torch.autograd.grad(loss, fake)
            with torch.no_grad():
                fake = fake + 0.001 * gradient / (gradient.norm(dim=1, keepdim=True) + 1e-10)
                if (step + 1) % 5 == 0:
                    away = fake - x
                    length = away.norm(dim=1, keepdim=True)
                    fake = x + away * (length.clamp(0.5, 1.0) / (length + 1e-10))
        return fake

    return work


def prototypes(x: Tensor) -> Tensor:
    """Codes to search."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2048, x.shape[1], generator=generator).to(x.device)


def nearest(x: Tensor, backend: str) -> Work:
    """Which of 2048 codes is nearest."""
    codes = prototypes(x)
    return lambda: ops.nearest(x, codes)


def plain_nearest(x: Tensor) -> Work:
    """The same from the whole matrix."""
    codes = prototypes(x)
    return lambda: (normalize(x, dim=1) @ normalize(codes, dim=1).T).argmax(1)


def quantile(x: Tensor, backend: str) -> Work:
    """GLASS's quantile."""
    return lambda: ops.quantile(x, 0.75)


def plain_quantile(x: Tensor) -> Work:
    """By a sort."""
    return lambda: torch.quantile(x.flatten(), 0.75)


def token_select(x: Tensor, backend: str) -> Work:
    """A random subset of each image's tokens."""
    return lambda: ops.token_select(x, rng=keys(len(x), x))


def plain_token_select(x: Tensor) -> Work:
    """The same, image by image."""

    def work() -> object:
        mask = torch.zeros(x.shape[:2], device=x.device)
        for row in mask:
            row[subset(x)] = 1.0
        return mask

    return work


def patch_noise(x: Tensor, backend: str) -> Work:
    """GeneralAD's noise on such a subset."""
    return lambda: ops.patch_noise(x, rng=keys(len(x), x), sigma=0.25, backend=backend)


def plain_patch_noise(x: Tensor) -> Work:
    """The same, image by image."""

    def work() -> object:
        moved = x.clone()
        for image in moved:
            chosen = subset(x)
            image[chosen] += torch.randn(len(chosen), x.shape[2], device=x.device) * 0.25
        return moved

    return work


def subset(x: Tensor) -> Tensor:
    """Indices of a random number of tokens."""
    count = int(torch.randint(1, x.shape[1] + 1, (1,)))
    return torch.randperm(x.shape[1], device=x.device)[:count]


def plain_mixstyle(x: Tensor) -> Work:
    """MixStyle's module, when its coin falls so."""
    beta = Beta(0.1, 0.1)

    def work() -> object:
        mean = x.mean((2, 3), keepdim=True)
        deviation = (x.var((2, 3), keepdim=True) + 1e-6).sqrt()
        share = beta.sample((len(x), 1, 1, 1)).to(x.device)
        other = torch.randperm(len(x), device=x.device)
        scale = share * deviation + (1 - share) * deviation[other]
        return (x - mean) / deviation * scale + share * mean + (1 - share) * mean[other]

    return work


def gaussians(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the classes and their common covariance."""
    rows = x.unflatten(0, (CLASSES, -1))
    mean = rows.mean(1)
    apart = (rows - mean[:, None]).flatten(0, 1)
    return mean, apart.T @ apart / len(x) + 1e-4 * torch.eye(x.shape[1], device=x.device)


def low_density(x: Tensor, backend: str) -> Work:
    """VOS's sample of every class, with the factor of the covariance."""
    mean, covariance = gaussians(x)

    def work() -> object:
        factor = torch.linalg.cholesky(covariance)
        return ops.low_density_gaussian(mean, factor, keys(CLASSES, x))

    return work


def plain_low_density(x: Tensor) -> Work:
    """VOS's loop: 10 000 samples of every class, and the densities of all."""
    mean, covariance = gaussians(x)

    def work() -> object:
        found = []
        for centre in mean:
            law = MultivariateNormal(centre, covariance)
            samples = law.rsample((10_000,))
            found.append(samples[(-law.log_prob(samples)).topk(1).indices])
        return torch.stack(found)

    return work


def boundary_sizes(x: Tensor) -> dict[str, Any]:
    """NPOS's numbers, within the rows there are."""
    return {"k": min(300, len(x)), "boundary": min(200, len(x)), "points": 3, "keep": 2}


def boundary(x: Tensor, backend: str) -> Work:
    """NPOS's samples of one class."""
    sizes = boundary_sizes(x)
    return lambda: ops.knn_boundary(x, keys(1, x), **sizes)


def plain_boundary(x: Tensor) -> Work:
    """The same from whole matrices of distances, in order."""
    sizes = boundary_sizes(x)

    def far(rows: Tensor, queue: Tensor) -> Tensor:
        apart = torch.cdist(normalize(rows, dim=-1), queue)
        return apart.topk(sizes["k"], dim=-1, largest=False).values[..., -1]

    def work() -> object:
        queue = normalize(x, dim=1)
        edge = far(x, queue).topk(sizes["boundary"]).indices
        chosen = edge[torch.randperm(len(edge), device=x.device)[: sizes["points"]]]
        noise = torch.randn(len(chosen), 600, x.shape[1], device=x.device)
        candidates = x[chosen][:, None] + 0.1 * noise
        best = far(candidates, queue).topk(sizes["keep"], dim=1).indices
        return candidates.gather(1, best[..., None].expand(-1, -1, x.shape[1])).flatten(0, 1)[None]

    return work


def annulus_noise(x: Tensor, backend: str) -> Work:
    """Noise of one length."""
    return lambda: ops.annulus_noise(x, rng=keys(8, x), radius=0.6, rel_width=0.0, backend=backend)


def plain_annulus_noise(x: Tensor) -> Work:
    """The same by a norm."""

    def work() -> object:
        noise = torch.randn_like(x)
        return x + 0.6 * noise / noise.norm(dim=1, keepdim=True)

    return work


def patch_copy(x: Tensor, backend: str) -> Work:
    """GeneralAD's copies of tokens."""
    return lambda: ops.patch_copy(x, rng=keys(len(x), x))


def plain_patch_copy(x: Tensor) -> Work:
    """The same, image by image."""

    def work() -> object:
        moved = x.clone()
        for image, before in zip(moved, x, strict=True):
            chosen = subset(x)
            order = torch.randperm(x.shape[1], device=x.device)[: len(chosen)]
            image[chosen] = before[order]
        return moved

    return work


def patch_shuffle(x: Tensor, backend: str) -> Work:
    """GeneralAD's permutation of tokens."""
    return lambda: ops.patch_shuffle(x, rng=keys(len(x), x))


def plain_patch_shuffle(x: Tensor) -> Work:
    """The same, image by image."""

    def work() -> object:
        moved = x.clone()
        for image, before in zip(moved, x, strict=True):
            chosen = subset(x)
            image[chosen] = before[chosen[torch.randperm(len(chosen), device=x.device)]]
        return moved

    return work


def token_mask(x: Tensor, backend: str) -> Work:
    """AMI-Net's hidden tokens."""
    return lambda: ops.token_mask(x, rng=keys(len(x), x))


def plain_token_mask(x: Tensor) -> Work:
    """The same, image by image."""

    def work() -> object:
        moved = x.clone()
        for image in moved:
            count = int(torch.rand(()) * x.shape[1])
            image[torch.randperm(x.shape[1], device=x.device)[:count]] = 0.0
        return moved

    return work


def mixing(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whom each image is mixed with, and its own share."""
    share = torch.linspace(0.2, 0.8, len(x), device=x.device)
    return share, torch.arange(len(x), device=x.device).roll(1)


def masked_mix(x: Tensor, backend: str) -> Work:
    """Manifold mixup."""
    share, partner = mixing(x)
    return lambda: ops.masked_mix(x, weight=share, partner=partner)


def plain_masked_mix(x: Tensor) -> Work:
    """The same in a line."""
    share, partner = mixing(x)
    own = share.view(-1, 1, 1, 1)
    return lambda: own * x + (1 - own) * x[partner]


def dropout(x: Tensor, backend: str) -> Work:
    """Dropout that is a function of keys."""
    return lambda: ops.feature_dropout(x, rng=keys(len(x), x), p=0.2, backend=backend)


def plain_dropout(x: Tensor) -> Work:
    """Torch's."""
    return lambda: torch.nn.functional.dropout(x, 0.2)


def residual(x: Tensor, backend: str) -> Work:
    """ResAD's features less their reference."""
    codes = prototypes(x)
    return lambda: ops.residual(x, codes)[0]


def plain_residual(x: Tensor) -> Work:
    """The same from the whole matrix."""
    codes = prototypes(x)
    return lambda: x - codes[(normalize(x, dim=1) @ normalize(codes, dim=1).T).argmax(1)]


def scorer(x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A score network that takes no time."""
    return lambda noisy, times: -noisy


def score(x: Tensor, backend: str) -> Work:
    """Shin's perturbation, three times."""
    network = scorer(x)
    return lambda: ops.score_perturbation(x, rng=keys(len(x), x), score=network, backend=backend)


def plain_score(x: Tensor) -> Work:
    """The loop over repeats."""
    network = scorer(x)
    deviation = float(((25.0 ** (2 * 1e-3) - 1) / (2 * math.log(25.0))) ** 0.5)

    def work() -> object:
        total = torch.zeros(len(x), *x.shape[2:], device=x.device)
        noisy = x
        times = torch.full((len(x),), 1e-3, device=x.device)
        for _ in range(3):
            noise = deviation * torch.randn_like(x)
            noisy = x + noise
            left = network(noisy, times) * deviation**2 + noise
            total += left.square().mean(1)
        return [noisy, total / 3]

    return work
