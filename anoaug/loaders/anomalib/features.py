"""Anomalies in features: SuperSimpleNet's generator, GLASS's ascent step, Dinomaly's bottleneck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...features import attach, attached
from ...features.functional import annulus_project, ascent_step
from ...features.hooks import Handle
from ...features.methods import create as perturbation
from .states import stateless


class SuperSimpleNetGenerator(nn.Module):
    """anomalib's generator for SuperSimpleNet: noise under Perlin masks, on a doubled batch.

    The noise is regenerated in the backward pass and not kept. Outputs have the dtypes of the
    original's.

    Args:
        noise_mean: Has to be 0.
        noise_std: Standard deviation.
        threshold: Perlin noise above it is noisy.
        triple: The older signature: ``(features, mask, labels)`` to a triple; else
            ``(input_features, adapted_features, masks, labels)`` to four.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.

    Raises:
        ValueError: A mean other than 0, or an argument out of range.
    """

    def __init__(
        self,
        noise_mean: float = 0.0,
        noise_std: float = 0.015,
        threshold: float = 0.2,
        *,
        triple: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if noise_mean != 0.0:
            raise ValueError(f"noise_mean: expected 0, got {noise_mean!r}; add it to the features")
        self.noise_std, self.threshold, self.triple = noise_std, threshold, triple
        self.perturb = perturbation(
            "supersimplenet", sigma=noise_std, threshold=threshold, rescue=True, active="always",
            seed=seed, layout="nchw",
        )  # fmt: skip
        stateless(self)

    def forward(self, *args: Any, **keywords: Any) -> tuple[Any, ...]:
        """Perturbed features, masks and labels, in the order of the original."""
        names = ["input_features", "adapted_features", "masks", "labels"]
        if self.triple:
            names = ["features", "mask", "labels"]
        given = {**dict(zip(names, args, strict=False)), **keywords}
        if set(given) != set(names):
            raise TypeError(
                f"forward: expected {', '.join(names)}, got {', '.join(sorted(given))}; "
                f"triple={not self.triple} has the other signature"
            )
        raw = None if self.triple else given["input_features"]
        features = given["features" if self.triple else "adapted_features"]
        real, label = given["mask" if self.triple else "masks"], given["labels"]
        beside = {} if raw is None else {"raw": raw}
        known = None if label is None else (label > 0).to(torch.int64).flatten()
        out = self.perturb(features, real, known, **beside)
        mask = out.mask.to(real.dtype)
        found = (
            out.label if label is None else out.label.to(label.dtype).reshape(-1, *label.shape[1:])
        )
        if self.triple:
            return out.features, mask, found
        return out.extras.get("raw"), out.features, mask, found


class GlassAscentStep:
    """In place of the method ``_gradient_ascent_step`` of anomalib's GLASS.

    The same step and the same projection, in float32 and by our kernels; a feature that meets its
    base is moved to the inner radius in the gradient's direction instead of staying. The whole loop
    is :class:`anoaug.features.AscentSynthesizer`. :func:`accelerate` puts one there.

    Example:
        With the radius of GLASS's own code, before training::

            model = anomalib.models.Glass()
            step = anoaug.loaders.anomalib.GlassAscentStep(svd=model.model.svd, detach=True)
            model.model._gradient_ascent_step = step

    Args:
        svd: anomalib's: 1 is the hypersphere around the centre, 0 the manifold around the feature.
        step_size: Length of a step.
        every: Steps between projections.
        radius: r of the manifold.
        detach: Whether the hypersphere's radius is a constant, as in GLASS's own code; anomalib
            lets the gradient through.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.
    """

    def __init__(
        self,
        svd: int = 0,
        *,
        step_size: float = 0.001,
        every: int = 5,
        radius: float = 0.5,
        detach: bool = False,
        backend: str | None = None,
    ) -> None:
        if svd not in (0, 1):
            raise ValueError(f"svd: expected 0 (manifold) or 1 (hypersphere), got {svd!r}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every: expected a whole number from 1 on, got {every!r}")
        self.svd, self.step_size, self.every, self.radius = svd, step_size, every, radius
        self.detach, self.backend = detach, backend

    def __call__(
        self,
        gaus_feats: Tensor,
        gaus_loss: Tensor,
        center: Tensor,
        true_feats: Tensor,
        r_t: Tensor,
        step: int,
    ) -> Tensor:
        """One step, and at every fifth a projection.

        Args:
            gaus_feats: ``(N, C)`` fakes, in the graph of the loss.
            gaus_loss: Their loss, without axes.
            center: ``(N, C)`` centres of the positions.
            true_feats: ``(N, C)`` true features.
            r_t: The hypersphere's radius, one number.
            step: From 0 on.

        Returns:
            ``(N, C)`` fakes, with the graph of the projection.
        """
        with torch.autocast(gaus_feats.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(gaus_loss, gaus_feats)
            moved, _ = ascent_step(gaus_feats, gradient, eta=self.step_size, backend=self.backend)
            if (step + 1) % self.every:
                return moved
            radius: Any = self.radius
            if self.svd:
                radius = r_t.reshape(()).detach() if self.detach else r_t.reshape(())
            moved, _ = annulus_project(
                moved, r_lo=radius, r_hi=2 * radius, base=center if self.svd else true_feats,
                noise=gradient, backend=self.backend,
            )  # fmt: skip
        return moved


class DinomalyBottleneck(nn.Module):
    """In place of the module in ``Dinomaly.model.bottleneck``: its layers, with dropout of ours.

    Which channels are dropped is a function of seed, epoch and sample index, the same when
    activation checkpointing runs a pass again, and independent of the batch. Torch's own dropout is
    faster, so that :func:`accelerate` leaves it. Weights have the names of the original and nothing
    else is in ``state_dict``: its checkpoints load. Dropout follows ``train()`` and ``eval()``.

    Args:
        in_features: Channels of the tokens ``(B, P, C)``.
        hidden_features: Of the layer between; ``in_features`` if None.
        out_features: Of the result; ``in_features`` if None.
        act_layer: Makes the activation.
        drop: Probability of a channel to be dropped, in [0, 1).
        bias: Whether the linear layers have one.
        apply_input_dropout: Whether the input is a third site, as in Dinomaly's bottleneck.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.

    Example:
        Before the optimiser is made or after, as the layers are the model's own::

            model = anomalib.models.Dinomaly()
            bottleneck = model.model.bottleneck
            bottleneck[0] = anoaug.loaders.anomalib.DinomalyBottleneck.of(bottleneck[0], seed=0)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        drop: float = 0.0,
        bias: bool = False,
        apply_input_dropout: bool = False,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        hidden = hidden_features or in_features
        self.fc1: nn.Module = nn.Linear(in_features, hidden, bias=bias)
        self.act = act_layer()
        self.fc2: nn.Module = nn.Linear(hidden, out_features or in_features, bias=bias)
        self._begin(drop, apply_input_dropout, seed)

    def _begin(self, drop: float, first: bool, seed: int | None) -> None:
        """The sites, and noise at them."""
        names = ["before", "between", "after"][not first :]
        self.before, self.between, self.after = (nn.Identity() for _ in range(3))
        noise = perturbation("noisy_bottleneck", p=drop, seed=seed, layout="tokens")
        self.p = noise.p
        if drop:
            attach(self, names, noise)

    @classmethod
    def of(cls, module: nn.Module, *, seed: int | None = None) -> DinomalyBottleneck:
        """One with the very layers of an original, and its probability.

        Raises:
            TypeError: No module like anomalib's ``DinomalyMLP``.
        """
        parts: list[Any] = [getattr(module, name, None) for name in ("fc1", "act", "fc2", "drop")]
        if not all(isinstance(part, nn.Module) for part in parts) or not hasattr(parts[3], "p"):
            raise TypeError(
                f"module: expected anomalib's DinomalyMLP, got {type(module).__name__}; it is "
                "model.model.bottleneck[0] of Dinomaly"
            )
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.fc1, made.act, made.fc2, drop = parts
        made._begin(drop.p, bool(getattr(module, "apply_input_dropout", False)), seed)
        return made.train(module.training)

    @property
    def handle(self) -> Handle | None:
        """The noise's hooks: a context for indices and epochs, see :func:`features.attach`."""
        found = attached(self)
        return found[0] if found else None

    def train(self, mode: bool = True) -> DinomalyBottleneck:
        """Dropout on, or off."""
        super().train(mode)
        for handle in attached(self):
            for noise in handle.perturbs.values():
                noise.train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(B, P, C)`` to tokens."""
        hidden = self.between(self.act(self.fc1(self.before(x))))
        made: Tensor = self.after(self.fc2(hidden))
        return made
