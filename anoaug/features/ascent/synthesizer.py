"""Anomalies that a detector's own discriminator shapes: gradient ascent from noise, in a shell."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ... import checks
from ..functional.door import number
from ..functional.order import quantile as order_quantile
from ..functional.shells import annulus_project, ascent_step
from ..layouts import Grid
from ..ops.rows import feature_distances, gaussians
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site, everywhere
from . import discriminators, halves
from .glass import CONVENTIONS
from .hidden import Hidden, worthwhile

MODES = ("manifold", "hypersphere")


class AscentSynthesizer(Perturbation):
    """Noise, then steps up the discriminator's loss, kept in a shell around a base.

    GLASS (Chen et al., ECCV 2024) and DROCC (Goyal et al., ICML 2020). Every step evaluates the
    discriminator on true and fake features together and moves each fake one, by one length, up the
    loss of its label; since that is "anomalous", fakes move *toward* what passes for normal, and so
    become hard. Every ``every`` steps their distance from the base is brought into
    ``[r, spread * r]``.

    Runs in float32 with autocast off whatever the features' dtype is, by ``torch.autograd.grad`` of
    the summed loss with respect to the fakes alone: no ``.grad`` is touched, and it works under
    ``no_grad``. It does not wait for the device, but for one look at the first logits.

    ``mode="manifold"``: the base is the feature itself; the Jacobian of a fake with respect to its
    feature is exactly the identity. ``"hypersphere"``: the base is the positions' centre; a row
    that is clamped passes no radial gradient on, and the rest scaled by radius over distance.

    The discriminator is not registered as a submodule: state_dict and parameters leave it out.

    Args:
        discriminator: Takes true and fake features joined along the first axis, as they came but
            without prefix tokens, and returns a logit of "anomalous" for every row (or position),
            the first axis in the same order. Or pass it in each call. Seen in the dtype of its
            parameters.
        sigma: Standard deviation of the noise at the start.
        steps: Steps of ascent; 0: noise alone.
        step_size: Length of a step.
        every: Steps between projections.
        mode: ``"manifold"`` or ``"hypersphere"``.
        radius: r in the features' units. In ``"hypersphere"`` None takes the ``quantile`` of the
            distances to the centres, batch by batch.
        relative_radius: r as a multiple of ``sigma * sqrt(C)``, the length of the noise; instead of
            ``radius``.
        spread: The shell's outer radius over its inner one, at least 1.
        quantile: Of the distances, in [0, 1].
        centre: Fitted ``features.fitted.PositionalCentres``, or a tensor ``[C]``, ``[P, C]`` or
            ``[G, P, C]``; or pass it in each call. ``"hypersphere"`` needs one.
        target: Label of the fakes whose loss is ascended: 1, anomalous, or 0.
        loss: Logits of the fakes to a loss without axes, instead of the summed cross entropy.
        bn: ``"track"``: running statistics move with every step, as published. ``"freeze"``: they
            stay as they are.
        eps: Added to the length of gradients.
        mining: False leaves out the steps and projections.
        sees: ``"features"``: the discriminator gets them as they came; ``"rows"``: as (N, C).
        cache_first_linear: Compute the first layer on the true features once instead of at every
            step; with equal results, but for rounding. The discriminator has to be a module whose
            first layer is linear or a convolution. More is saved of an ``nn.Sequential`` with one
            batch normalisation or none, as published (``ascent.halves.split`` says which): it gets
            the fakes alone, and of the true features the norm's sums; and where its first layer is
            linear, in float32 (without TF32) or float64, steps between projections are taken among
            that layer's outputs, with W W^T instead of W and W^T. Under ``torch.compile`` these
            alone are saved.
        convention: ``"original"``: a radius that is a quantile is a constant; ``"anomalib"``: its
            gradient flows to the features.
        common: Keywords of :class:`Perturbation`.

    A call also takes ``discriminator``, ``centre`` and ``radius`` (a number or a tensor without
    axes, such as ``features.fitted.RadiusQuantile.update`` gives).

    The result's ``extras``: ``radius``; ``ascent_loss`` ``[steps]``, before each step; ``clamped``
    ``[steps // every]``, the share of rows each projection changed.

    Raises:
        TypeError, ValueError: Bad input; the message says what was expected and the mend.
    """

    stream = "ascent"
    takes = ("discriminator", "centre", "radius")

    def __init__(
        self,
        *,
        discriminator: Callable[[Tensor], Tensor] | None = None,
        sigma: float = 0.015,
        steps: int = 20,
        step_size: float = 0.001,
        every: int = 5,
        mode: str = "manifold",
        radius: float | None = None,
        relative_radius: float | None = None,
        spread: float = 2.0,
        quantile: float = 0.75,
        centre: Any = None,
        target: int = 1,
        loss: Callable[[Tensor], Tensor] | None = None,
        bn: str = "track",
        eps: float = 1e-10,
        mining: bool = True,
        sees: str = "features",
        cache_first_linear: bool = False,
        convention: str = "original",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for name, value in (("steps", steps), ("every", every)):
            if isinstance(value, bool) or not isinstance(value, int) or value < (name == "every"):
                raise ValueError(f"{name}: expected a whole number, got {value!r}")
        for name, size in (("sigma", sigma), ("step_size", step_size), ("eps", eps)):
            number(name, size, 0.0)
        self.mode = checks.one_of("mode", mode, MODES)
        self.bn = checks.one_of("bn", bn, ("track", "freeze"))
        self.sees = checks.one_of("sees", sees, ("features", "rows"))
        self.convention = checks.one_of("convention", convention, tuple(CONVENTIONS))
        if radius is not None and relative_radius is not None:
            raise ValueError(
                f"radius: expected it or relative_radius, got both ({radius}, {relative_radius}); "
                "they are units of the same thing"
            )
        for name, given in (("radius", radius), ("relative_radius", relative_radius)):
            if given is not None:
                number(name, given, 0.0)
        if mode == "manifold" and radius is None and relative_radius is None:
            raise ValueError("radius: expected radius or relative_radius in mode='manifold'")
        number("spread", spread, 1.0)
        if target not in (0, 1):
            raise ValueError(f"target: expected 1 (anomalous) or 0 (normal), got {target!r}")
        self.sigma, self.steps, self.step_size, self.every = sigma, steps, step_size, every
        self.radius, self.relative_radius, self.spread = radius, relative_radius, spread
        self.quantile = checks.probability("quantile", quantile)
        self.target, self.loss, self.eps, self.mining = target, loss, eps, mining
        self.cache_first_linear = cache_first_linear
        # A tuple keeps a module from being registered; a centre may be one and has state to keep.
        self._discriminator = (discriminator,)
        if isinstance(centre, Tensor):
            self.register_buffer("centre", centre.detach().clone())
        else:
            self.centre = centre
        self._judged = False

    def perturb(self, site: Site) -> Perturbed:
        """Noise, steps and projections at every position of ``where``."""
        inside = everywhere(site)
        real = site.features.contiguous()
        noise = site.noise
        if noise is None:
            keys = site.rng(self.stream)
            _, positions, channels = real.shape
            noise = gaussians(keys, positions, channels, self.backend).to(real.dtype)
        start = torch.where(inside[..., None], noise * self.sigma, 0.0)
        if not self.mining or not self.steps:
            moved = real + start
            extras = self.idle(site.features, site.grid, site.given)
            return Perturbed(torch.where(inside[..., None], moved, real), inside, extras)
        base = real if self.mode == "manifold" else self._centre(site, real)
        radius = self._radius(site, real, base)
        away = start if self.mode == "manifold" else real + start - base
        offset, extras = self._ascend(site, inside, real, base, away, radius, noise)
        extras["radius"] = torch.as_tensor(radius, dtype=real.dtype, device=real.device)
        return Perturbed(torch.where(inside[..., None], base + offset, real), inside, extras)

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """No steps: zeros."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        sizes = {"radius": (), "ascent_loss": (self.steps,), "clamped": (self.steps // self.every,)}
        return {name: features.new_zeros(size, dtype=dtype) for name, size in sizes.items()}

    def _ascend(
        self, site: Site, inside: Tensor, real: Tensor, base: Tensor, offset: Tensor,
        radius: float | Tensor, noise: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """The loop: offsets from the base, with the graph of the projections."""
        given = site.given.get("discriminator")
        judge = discriminators.unwrapped(self._discriminator[0] if given is None else given)
        dtype = discriminators.dtype_of(judge, real.dtype)
        stage = _Stage(
            judge, dtype, _constant(real), _constant(base), None if site.where is None else inside
        )
        first, alone, hidden = self._remembered(site.grid, stage)
        losses: list[Tensor] = []
        shares, far = [], radius * self.spread
        with discriminators.frozen_statistics(judge, self.bn == "freeze"), _remembering(first):
            for done in range(0, self.steps, self.every):
                count = min(self.every, self.steps - done)
                if hidden is not None:
                    offset, found = self._hidden_steps(site.grid, stage, hidden, offset, count)
                else:
                    offset, found = self._steps(site.grid, stage, first, alone, offset, count)
                losses += found
                if count == self.every:
                    shares.append(_clamped(offset, inside, radius, far))
                    # A row at its base goes where its noise points.
                    offset, _ = annulus_project(
                        offset, r_lo=radius, r_hi=far, eps=self.eps, noise=noise, layout="tokens",
                        backend=self.backend,
                    )  # fmt: skip
        extras = {"ascent_loss": torch.stack(losses)}
        if shares:
            extras["clamped"] = torch.stack(shares)
        return offset, extras

    def _remembered(
        self, grid: Grid, stage: _Stage
    ) -> tuple[discriminators.FirstLayer | None, halves.Halves | None, Hidden | None]:
        """What is computed before the first step, for the way the discriminator allows."""
        if not self.cache_first_linear:
            return None, None, None
        first = discriminators.FirstLayer(stage.judge)
        with _recording():
            values = self._arranged(grid, stage.fixed).to(stage.dtype)
            alone = halves.split(stage.judge, values)
            if alone is None:  # Dynamo follows no layer whose forward is another for a while
                return None if torch.compiler.is_compiling() else first, None, None
            rows = self.sees == "rows" or grid.layout != "nchw"
            if rows and worthwhile(alone, values, self.steps, self.every):
                return None, alone, Hidden(alone, self.step_size, self.eps, self._loss)
        return None, alone, None

    def _steps(
        self, grid: Grid, stage: _Stage, first: discriminators.FirstLayer | None,
        alone: halves.Halves | None, offset: Tensor, count: int,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Steps of features: offsets, and the loss before each."""
        losses = []
        for _ in range(count):
            with _recording():
                fake = stage.fake(offset).requires_grad_()
                moved = stage.chosen(fake)
                if alone is not None:
                    values = self._arranged(grid, moved).to(stage.dtype)
                    loss = self._loss(alone(values), values, len(values))
                else:
                    joined = self._arranged(grid, torch.cat((stage.fixed, moved))).to(stage.dtype)
                    if first is not None:
                        first.joined = joined
                        first.moved = self._arranged(grid, moved).to(stage.dtype)
                    loss = self._loss(stage.judge(joined), joined, len(joined) // 2)
                (gradient,) = torch.autograd.grad(loss, fake)
            if first is not None:
                first.check_used()
            losses.append(loss.detach())
            offset, _ = ascent_step(
                offset, gradient, eta=self.step_size, eps=self.eps, layout="tokens",
                backend=self.backend,
            )  # fmt: skip
        return offset, losses

    def _hidden_steps(
        self, grid: Grid, stage: _Stage, hidden: Hidden, offset: Tensor, count: int
    ) -> tuple[Tensor, list[Tensor]]:
        """The same among the first layer's outputs."""
        with _recording():
            fake = self._arranged(grid, stage.chosen(stage.fake(offset)))
            inside = stage.inside
            if inside is not None:
                inside = self._arranged(grid, inside[..., None])
            way, losses = hidden(fake, inside, count)
        return offset + way.reshape(offset.shape), losses

    def _arranged(self, grid: Grid, values: Tensor) -> Tensor:
        """``[2 G, P, C]`` as the discriminator wants them."""
        if self.sees == "rows" or grid.layout == "rows":
            return values.flatten(0, 1)
        if grid.layout == "tokens":
            return values
        assert grid.size is not None
        shaped = values.unflatten(1, grid.size)
        return shaped if grid.layout == "nhwc" else shaped.permute(0, 3, 1, 2)

    def _loss(self, logits: Any, joined: Tensor, count: int) -> Tensor:
        """The summed loss of the fakes, the last ``count``."""
        if not isinstance(logits, Tensor) or not logits.dim() or len(logits) != len(joined):
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"discriminator: expected {len(joined)} logits along the first axis for "
                f"{list(joined.shape)}, got {got}; sees='rows' gives it (N, C)"
            )
        if not logits.requires_grad:
            raise ValueError(
                "discriminator: expected logits with a gradient to the features, got none; does it "
                "detach them or run under no_grad?"
            )
        if not self._judged and not torch.compiler.is_compiling() and not _capturing(logits):
            self._judged = discriminators.warn_of_probabilities(logits)
        fakes = logits[len(logits) - count :]
        if fakes.dtype in (torch.float16, torch.bfloat16):
            fakes = fakes.float()
        if self.loss is not None:
            return self.loss(fakes)
        return functional.softplus(-fakes if self.target else fakes).sum()

    def _centre(self, site: Site, real: Tensor) -> Tensor:
        """Centres of the positions, ``[G, P, C]``."""
        centre = site.given.get("centre")
        centre = self.centre if centre is None else centre
        if centre is None:
            raise ValueError(
                "centre: expected one in mode='hypersphere', got none; pass centre= fitted on "
                "normal features"
            )
        if hasattr(centre, "lookup"):
            if site.grid.layout == "rows":
                found = centre.lookup(real.flatten(0, 1), category=site.category, layout="rows")
                return found.reshape(real.shape)
            return centre.lookup(real, category=site.category, layout="tokens")
        if not isinstance(centre, Tensor):
            raise TypeError(
                f"centre: expected PositionalCentres or a tensor, got {type(centre).__name__}"
            )
        if centre.dim() > 3 or tuple(centre.shape) not in {
            real.shape[at:] for at in range(real.dim())
        }:
            raise ValueError(
                f"centre: expected {list(real.shape)} or its last axes {list(real.shape[1:])}, got "
                f"{list(centre.shape)}; fit it on features of the same size"
            )
        return centre.detach().to(real.device, real.dtype).expand_as(real)

    def _radius(self, site: Site, real: Tensor, base: Tensor) -> float | Tensor:
        """The shell's inner radius."""
        radius: Any = site.given.get("radius")
        if radius is None:
            radius = self.radius
        if radius is None and self.relative_radius is not None:
            # max keeps Dynamo, where numbers are symbols, from taking factors in another order.
            radius = max(self.relative_radius * self.sigma, 0.0) * math.sqrt(real.shape[-1])
        if radius is None:
            distance = feature_distances(real, base, None, self.backend)
            radius = order_quantile(distance, self.quantile)
        if isinstance(radius, Tensor):
            if radius.dim():
                raise ValueError(f"radius: expected one number, got shape {list(radius.shape)}")
            return radius.detach() if CONVENTIONS[self.convention].detach else radius
        most = torch.finfo(site.dtype).max
        if number("radius", radius, 0.0) * self.spread >= most:
            raise ValueError(
                f"radius: expected a shell below {most:g}, the largest {site.dtype}, got "
                f"{radius} times {self.spread}; are the features' units those of the radius?"
            )
        return float(radius)


class _Stage(NamedTuple):
    """What stands still during an ascent.

    Attributes:
        judge: The discriminator.
        dtype: Which it wants.
        fixed: True features ``[G, P, C]``.
        base: Of the shell.
        inside: bool ``[G, P]``, where fakes may be; None: everywhere.
    """

    judge: Any
    dtype: torch.dtype
    fixed: Tensor
    base: Tensor
    inside: Tensor | None

    def fake(self, offset: Tensor) -> Tensor:
        """Fakes without a graph."""
        return self.base + _constant(offset)

    def chosen(self, fake: Tensor) -> Tensor:
        """Fakes where they may be, true features elsewhere."""
        if self.inside is None:
            return fake
        return torch.where(_constant(self.inside)[..., None], fake, self.fixed)


def _remembering(first: discriminators.FirstLayer | None) -> Any:
    return contextlib.nullcontext() if first is None else first.remembering()


def _clamped(offset: Tensor, inside: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Share of the rows ``inside`` that lie outside of the shell, without axes; 0 without rows."""
    length = torch.linalg.vector_norm(offset.detach(), dim=2)
    changed = ((length < low) | (length > high)) & inside
    return changed.sum() / inside.sum().clamp(min=1)


def _constant(value: Tensor) -> Tensor:
    """Without a graph; inference tensors, which cannot enter one, are copied."""
    if not torch.compiler.is_compiling() and value.is_inference():
        with torch.inference_mode(False):
            return value.clone()
    return value.detach()


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Gradients on, whatever the caller has switched off."""
    if torch.compiler.is_compiling():  # where Dynamo follows no inference mode
        with torch.enable_grad():
            yield
        return
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _capturing(value: Tensor) -> bool:
    return value.is_cuda and torch.cuda.is_current_stream_capturing()
