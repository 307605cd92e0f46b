"""The ascent's laws: where steps go, what projections bound, what stays untouched."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features.ascent import synthesizer

NUMBER: dict[str, Any] = {"index": [0], "epoch": 0}


def judge(channels: int, hidden: int = 32, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(channels, hidden)]
    layers += [nn.BatchNorm1d(hidden)] if norm else []
    layers += [nn.LeakyReLU(0.2), nn.Linear(hidden, 1, bias=False)]
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        nn.init.normal_(value, 0.0, value.shape[-1] ** -0.5, generator=generator)
    return network


def rows(count: int, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, generator=generator).to(dtype)


@pytest.fixture
def projections(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Lengths after each projection."""
    seen: list[Tensor] = []
    original = synthesizer.annulus_project

    def spy(*args: Any, **keywords: Any) -> Any:
        found = original(*args, **keywords)
        seen.append(found[0].detach().norm(dim=-1))
        return found

    monkeypatch.setattr(synthesizer, "annulus_project", spy)
    return seen


def test_glass_projects_four_times_and_drifts_by_at_most_its_steps(
    projections: list[Tensor],
) -> None:
    real, noise = rows(64, 1536), rows(64, 1536).flip(0)
    network = judge(1536).eval()
    glass = features.create("glass", discriminator=network, seed=0)
    out = glass(real, noise=noise)
    assert len(projections) == 4
    assert torch.equal(out.extras["clamped"], torch.zeros(4))  # as at the published defaults
    drift = (out.features - real - 0.015 * noise).norm(dim=1)
    assert (drift <= 0.02 + 1e-5).all() and (drift > 0.01).all()
    start = features.create("glass", discriminator=network, mining=False)(real, noise=noise)
    torch.testing.assert_close(start.features, real + 0.015 * noise)


def test_glass_clamps_into_its_shell_where_noise_is_shorter(projections: list[Tensor]) -> None:
    real = rows(64, 1024)
    glass = features.create("glass", discriminator=judge(1024).eval(), seed=0)
    with pytest.warns(UserWarning, match="relative_radius=0.85"):
        out = glass(real, **NUMBER)
    assert out.extras["clamped"][0] > 0.9
    for length in projections:
        assert (length >= 0.5 - 1e-5).all() and (length <= 1.0 + 1e-5).all()
    relative = features.create(
        "glass", discriminator=judge(1024).eval(), relative_radius=0.85, seed=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert relative(real, **NUMBER).extras["clamped"].max() == 0
    torch.testing.assert_close(
        relative(real).extras["radius"], torch.tensor(0.85 * 0.015 * math.sqrt(1024))
    )


@pytest.mark.parametrize("steps", [30, 50])
def test_drocc_projects_every_tenth_step(projections: list[Tensor], steps: int) -> None:
    drocc = features.create("drocc", discriminator=judge(32, norm=False), steps=steps, seed=0)
    real = rows(16, 32)
    out = drocc(real)
    assert len(projections) == steps // 10
    length = (out.features - real).norm(dim=1)
    assert (length >= 0.2 - 1e-5).all() and (length <= 0.4 + 1e-5).all()


@pytest.mark.parametrize("norm", [True, False])
def test_the_loss_of_anomalous_never_falls_on_a_frozen_discriminator(norm: bool) -> None:
    network = judge(64, norm=norm).eval()
    glass = features.create("glass", discriminator=network, relative_radius=0.85, seed=0)
    real = rows(128, 64)
    out = glass(real, **NUMBER)
    losses = out.extras["ascent_loss"]
    assert losses.shape == (20,) and (losses.diff() > 0).all()
    # The loss is that of label 1: fakes end up more normal than they began.
    start = features.create("glass", discriminator=network, mining=False, seed=0)
    before = network(start(real, **NUMBER).features).sum()
    assert network(out.features).sum() < before
    other = features.AscentSynthesizer(discriminator=network, radius=0.1, target=0, seed=0)
    assert network(other(real, **NUMBER).features).sum() > before


def test_target_and_loss_of_ones_own() -> None:
    network = judge(16, norm=False)
    real = rows(8, 16)
    one = features.AscentSynthesizer(discriminator=network, radius=0.05, seed=0)
    two = features.AscentSynthesizer(
        discriminator=network, radius=0.05, seed=0, loss=lambda logits: -logits.sum()
    )
    # Without statistics of the batch every row's direction is that of its own logit.
    torch.testing.assert_close(one(real, **NUMBER).features, two(real, **NUMBER).features)


def jacobian(call: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(call, at)


def test_the_manifolds_jacobian_is_the_identity_whatever_is_clamped() -> None:
    for radius in (1e-4, 5.0):
        synth = features.AscentSynthesizer(
            discriminator=judge(5).eval().double(), radius=radius, steps=6, every=2, seed=0
        )
        found = jacobian(lambda f, s=synth: s(f, **NUMBER).features, rows(3, 5, torch.float64))
        assert torch.equal(found.reshape(15, 15), torch.eye(15, dtype=torch.float64))


def test_the_hyperspheres_jacobian_shrinks_and_loses_the_radius() -> None:
    network = judge(5).eval().double()
    centre = torch.zeros(5, dtype=torch.float64)
    real = rows(1, 5, torch.float64)

    def make(radius: float) -> features.AscentSynthesizer:
        return features.AscentSynthesizer(
            discriminator=network, mode="hypersphere", centre=centre, radius=radius, steps=2,
            every=2, spread=1e6 if radius < 1e-3 else 2.0, seed=0, sigma=1e-3,
        )  # fmt: skip

    inside = jacobian(lambda f: make(1e-5)(f, **NUMBER).features, real).reshape(5, 5)
    torch.testing.assert_close(inside, torch.eye(5, dtype=torch.float64))
    clamped = jacobian(lambda f: make(100.0)(f, **NUMBER).features, real).reshape(5, 5)
    values = torch.linalg.svdvals(clamped)
    expected = 100.0 / float(real.norm())
    torch.testing.assert_close(
        values[:4], torch.full((4,), expected, dtype=torch.float64), rtol=1e-2, atol=0
    )
    assert values[4] < 1e-9 * expected


@pytest.mark.parametrize("convention", ["original", "anomalib"])
def test_the_radius_is_detached_or_not(convention: str) -> None:
    real = rows(12, 6, torch.float64).requires_grad_()
    glass = features.create(
        "glass", discriminator=judge(6).eval().double(), mode="hypersphere",
        centre=torch.zeros(6, dtype=torch.float64), convention=convention, steps=5, seed=0,
    )  # fmt: skip
    out = glass(real, **NUMBER)
    expected = torch.quantile(real.norm(dim=1), 0.75)
    torch.testing.assert_close(out.extras["radius"], expected)
    assert out.extras["radius"].requires_grad == (convention == "anomalib")
    distance = out.features.norm(dim=1)
    low, high = expected * (1 - 1e-6), expected * 2 * (1 + 1e-6)
    assert ((distance >= low) & (distance <= high)).all()
    # Rows within the quantile are clamped to it: their length moves only where r_t has a gradient.
    (gradient,) = torch.autograd.grad(distance[real.norm(dim=1) < expected * 0.9].sum(), real)
    if convention == "original":
        assert gradient.abs().max() < 1e-9  # eps of the division
    else:
        assert gradient.abs().max() > 0.1


def test_fitted_centres_and_radius_serve_maps_and_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(6, 5, 3, 4, generator=generator)
    centres = features.fitted.PositionalCentres(weighting="batch").fit(
        [normal[:4], normal[4:]], progress=False
    )
    radius = features.fitted.RadiusQuantile(0.75, centres)
    network = judge(5).eval()
    glass = features.create(
        "glass", discriminator=network, mode="hypersphere", centre=centres, sees="rows", seed=0
    )
    number = {"index": [0, 1], "epoch": 0}
    out = glass(normal[:2], **number)
    torch.testing.assert_close(out.extras["radius"], radius.update(normal[:2]))
    distance = (
        out.features - centres.lookup(normal[:2]).transpose(1, 2).unflatten(2, (3, 4))
    ).norm(dim=1)
    low = out.extras["radius"]
    assert ((distance >= low * (1 - 1e-5)) & (distance <= 2 * low * (1 + 1e-5))).all()
    given = glass(normal[:2], radius=radius.update(normal), **number)
    torch.testing.assert_close(given.extras["radius"], radius.radius[0])
    flat = normal[:2].flatten(2).transpose(1, 2)
    rowwise = glass(flat.flatten(0, 1), **number).features
    assert torch.equal(rowwise, out.features.flatten(2).transpose(1, 2).flatten(0, 1))
    glass(flat.flatten(0, 1))  # without an index rows are one group
    assert glass(normal[:0]).extras["radius"] == 0
    assert glass.state_dict().keys() >= {"centre.centres"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["manifold", "hypersphere"])
def test_gradcheck_with_the_steps_held(mode: str) -> None:
    # A linear judge steps along the same direction wherever it is, so that differences see no more
    # than autograd does: steps are constants of the method.
    network = nn.Linear(4, 1).double()
    synth = features.AscentSynthesizer(
        discriminator=network, mode=mode, centre=torch.zeros(4).double(), radius=1.5, steps=4,
        every=2, spread=1.2, convention="anomalib", seed=0,
    )  # fmt: skip
    real = rows(3, 4, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: synth(f, **NUMBER).features, (real,))


def test_statistics_are_tracked_22_times_as_published_or_not_at_all() -> None:
    for bn, steps in (("track", 22), ("freeze", 2)):
        network = judge(16)
        norm = network[1]
        real, local = rows(32, 16), rows(32, 16) + 1
        before = copy.deepcopy(norm.state_dict())
        glass = features.create(
            "glass", discriminator=network, bn=bn, relative_radius=0.85, seed=0
        )  # fmt: skip
        fake = glass(real, **NUMBER).features
        if bn == "freeze":
            for name, value in norm.state_dict().items():
                assert torch.equal(value, before[name])
            assert norm.track_running_stats
        network(torch.cat((real, fake)))  # the loss's own pass
        network(local)
        assert norm.num_batches_tracked == steps


def test_frozen_statistics_change_no_fake() -> None:
    real = rows(32, 16)
    found = [
        features.create(
            "glass", discriminator=judge(16), bn=bn, relative_radius=0.85, seed=0
        )(real, **NUMBER).features
        for bn in ("track", "freeze")
    ]  # fmt: skip
    assert torch.equal(*found)


def test_no_gradient_is_left_behind_and_none_is_needed() -> None:
    network = judge(16)
    real = rows(8, 16).requires_grad_()
    glass = features.create("glass", discriminator=network, relative_radius=0.85, seed=0)
    glass(real, **NUMBER)
    assert real.grad is None
    assert all(value.grad is None for value in network.parameters())
    expected = glass(real, **NUMBER)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            out = glass(real.detach().clone(), **NUMBER)
        assert torch.equal(out.features, expected.features) and not out.features.requires_grad


def test_the_discriminator_is_nobodys_submodule() -> None:
    network = judge(16)
    glass = features.create("glass", discriminator=network, relative_radius=0.85, seed=0)
    assert not list(glass.parameters()) and not list(glass.children())
    copied = pickle.loads(pickle.dumps(glass))
    real = rows(8, 16)
    assert torch.equal(copied(real, **NUMBER).features, glass(real, **NUMBER).features)
    detector = nn.ModuleDict({"judge": network, "glass": glass})
    twin = copy.deepcopy(detector)
    assert twin["glass"]._discriminator[0] is twin["judge"]
    other = judge(16)
    with torch.no_grad():
        other[0].weight.neg_()
    given = glass(real, discriminator=other, **NUMBER).features
    assert not torch.equal(given, glass(real, **NUMBER).features)


def test_autocast_does_not_reach_the_loop() -> None:
    network = judge(16)
    real = rows(32, 16)
    seen: list[torch.dtype] = []
    network[3].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    glass = features.create("glass", discriminator=network, relative_radius=0.85, seed=0)
    expected = glass(real.bfloat16(), **NUMBER).features
    with torch.autocast("cpu", torch.bfloat16):
        found = glass(real.bfloat16(), **NUMBER).features
    assert set(seen) == {torch.float32}
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected)
    wide = glass(real.bfloat16().float(), **NUMBER).features
    assert torch.equal(found, wide.bfloat16())  # rounded once


def test_maps_go_to_a_convolutional_discriminator() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.last = nn.Conv2d(8, 1, 3, padding=1)

        def forward(self, value: Tensor) -> Tensor:
            return self.last(self.body(value))

    torch.manual_seed(0)
    maps = torch.randn(2, 6, 5, 4)
    glass = features.create("glass", relative_radius=0.85, seed=0)
    out = glass(maps, discriminator=Head(), index=[0, 1], epoch=0)
    assert out.features.shape == maps.shape and out.mask.shape == (2, 1, 5, 4)
    with pytest.raises(ValueError, match="sees='rows'"):
        glass(maps, discriminator=lambda value: value.flatten(1).sum().reshape(1))


def test_where_confines_steps_too() -> None:
    real = rows(8, 16)
    where = torch.arange(8) < 3
    glass = features.create("glass", discriminator=judge(16), relative_radius=0.85, seed=0)
    out = glass(real, where=where, **NUMBER)
    assert torch.equal(out.features[3:], real[3:]) and out.label.tolist() == [1] * 3 + [0] * 5
    assert not torch.equal(out.features[:3], real[:3])


class Nested(nn.Module):
    """A discriminator that flattens first and calls its layers in two groups."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = judge(channels)
        self.body, self.tail = nn.Sequential(*inner[:3]), inner[3]

    def forward(self, value: Tensor) -> Tensor:
        return self.tail(self.body(value.reshape(-1, value.shape[-1])))


@pytest.mark.slow
@pytest.mark.parametrize("make", [judge, Nested, lambda c: judge(c).eval()])
@pytest.mark.parametrize("mode", ["manifold", "hypersphere"])
def test_the_remembered_layer_gives_equal_results(make: Callable, mode: str) -> None:
    real = rows(64, 48, torch.float64).requires_grad_()
    found = []
    for cached in (False, True):
        network = make(48).double()
        layer = next(part for part in network.modules() if isinstance(part, nn.Linear))
        glass = features.create(
            "glass", discriminator=network, mode=mode, centre=torch.zeros(48).double(),
            relative_radius=0.85 if mode == "manifold" else None, cache_first_linear=cached, seed=0,
        )  # fmt: skip
        out = glass(real, **NUMBER)
        (gradient,) = torch.autograd.grad(out.features.square().sum(), real)
        norm = next(part for part in network.modules() if isinstance(part, nn.BatchNorm1d))
        found.append((out.features, gradient, norm.running_mean, norm.running_var))
        assert "forward" not in layer.__dict__
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_remembered_layer_computes_less() -> None:
    counts = []
    for cached, make in ((False, judge), (True, Nested), (True, judge)):
        original = nn.functional.linear
        total = [0]

        def counting(value: Tensor, *rest: Any, _total=total, _of=original) -> Tensor:
            _total[0] += len(value)
            return _of(value, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.functional, "linear", counting)
            features.create(
                "glass", discriminator=make(16), relative_radius=0.85, cache_first_linear=cached
            )(rows(32, 16))
        counts.append(total[0])
    # The first layer's rows and the last one's.
    assert counts == [20 * 64 + 20 * 64, 32 + 20 * 32 + 20 * 64, 32 + 20 * 32 + 20 * 32]


def test_a_first_layer_that_cannot_be_remembered_is_refused() -> None:
    def call(network: Any) -> None:
        features.create(
            "glass", discriminator=network, relative_radius=0.85, cache_first_linear=True
        )(rows(8, 16))

    with pytest.raises(ValueError, match="features as they are"):
        call(nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 1)))
    with pytest.raises(ValueError, match="plain weight"):
        call(nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(16, 1))))
    with pytest.raises(ValueError, match="linear layer or a convolution"):
        call(nn.BatchNorm1d(16))
    with pytest.raises(TypeError, match="pass the module itself"):
        call(lambda value: value.sum(1))
    with pytest.raises(ValueError, match="not compiled"):
        call(torch.compile(judge(16), backend="eager"))

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(16, 1)

        def forward(self, value: Tensor) -> Tensor:
            return value.sum(1)

    with pytest.raises(ValueError, match="forward without it"):
        call(Idle())
    network = judge(16)
    network.append(nn.Flatten(0))
    network.insert(0, nn.Tanh())
    with pytest.raises(ValueError, match="features as they are"):
        call(network)
    assert "forward" not in network[1].__dict__  # put back after an error, too


def test_probabilities_are_told_once() -> None:
    network = nn.Sequential(judge(16), nn.Sigmoid())
    glass = features.create("glass", discriminator=network, relative_radius=0.85, seed=0)
    glass(rows(2, 16))  # too few to tell
    with pytest.warns(UserWarning, match="expected logits"):
        glass(rows(16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glass(rows(8, 16))
        features.create("glass", discriminator=judge(16), relative_radius=0.85)(rows(8, 16))


def test_saturated_logits_still_give_steps() -> None:
    class Certain(nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            return value.sum(1) - 500.0

    out = features.create("drocc", discriminator=Certain(), seed=0)(rows(8, 16), **NUMBER)
    assert out.features.isfinite().all() and (out.extras["ascent_loss"].diff()[:9] > 0).all()


@pytest.mark.filterwarnings("ignore:discriminator")
def test_zero_rows_are_defined() -> None:
    zeros = torch.zeros(8, 16, requires_grad=True)
    flat = nn.Sequential(nn.Linear(16, 1))
    nn.init.zeros_(flat[0].weight)  # no gradient either
    for mode in ("manifold", "hypersphere"):
        synth = features.AscentSynthesizer(
            discriminator=flat, sigma=0.0, radius=0.5, mode=mode, centre=torch.zeros(16), seed=0
        )
        out = synth(zeros, **NUMBER)
        torch.testing.assert_close(out.features.norm(dim=1), torch.full((8,), 0.5))
        out.features.sum().backward()
        assert zeros.grad is not None and zeros.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:glass")
def test_bad_input_is_refused() -> None:
    real = rows(8, 16)
    with pytest.raises(TypeError, match="callable that returns logits"):
        features.create("glass")(real)
    with pytest.raises(ValueError, match="gradient to the features"):
        features.create("glass", relative_radius=0.85)(
            real, discriminator=lambda value: value.detach().sum(1)
        )
    with pytest.raises(ValueError, match="both"):
        features.create("glass", radius=0.5, relative_radius=0.85)
    with pytest.raises(ValueError, match="mode='manifold'"):
        features.AscentSynthesizer()
    with pytest.raises(ValueError, match="expected one in mode='hypersphere'"):
        features.create("glass", mode="hypersphere", discriminator=judge(16))(real)
    with pytest.raises(ValueError, match="centre: expected"):
        features.create(
            "glass", mode="hypersphere", discriminator=judge(16), centre=torch.zeros(5)
        )(real)
    with pytest.raises(ValueError, match="largest torch.float16"):
        features.create("drocc", discriminator=judge(16), radius=4e4)(real.half())
    with pytest.raises(TypeError, match="bn='freeze'"):
        features.create("drocc", discriminator=lambda value: value.sum(1), bn="freeze")(real)
    with pytest.raises(ValueError, match="every: expected"):
        features.create("drocc", every=0)
    with pytest.raises(ValueError, match="spread"):
        features.create("drocc", gamma=0.5)
    with pytest.raises(ValueError, match="one number"):
        features.create("drocc", discriminator=judge(16))(real, radius=torch.ones(8))
    with pytest.raises(TypeError, match="takes no discriminators="):
        features.create("glass")(real, discriminators=judge(16))
