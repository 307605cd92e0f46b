"""What every feature-space method promises, asked of each registered one."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.utils.checkpoint
from torch import Tensor

from anoaug import features
from anoaug.features import FeatureBatch, methods

NAMES = features.list_methods()
B, C, H, W = 3, 8, 4, 6


@dataclasses.dataclass(frozen=True)
class Case:
    """How a method is asked. A new method adds a line to ``CASES`` where it is unlike the rest.

    Attributes:
        make: Makes it, instead of ``features.create``: fits it, gives it a discriminator.
        needs: Keywords that ``features.create`` cannot do without.
        coupled: Why a sample's result depends on the others of its batch; empty: it does not.
        flat: Whether rows (N, C) do for it; otherwise maps and tokens alone.
        size: Whether tokens need ``size=``.
        gradient: Whether gradients reach the features.
        inner: Whether it takes gradients itself, which Dynamo traces only if it is told to.
    """

    make: Callable[..., Any] | None = None
    needs: dict[str, Any] = dataclasses.field(default_factory=dict)
    coupled: str = ""
    flat: bool = True
    size: bool = False
    gradient: bool = True
    inner: bool = False


class Judge(torch.nn.Sequential):
    """A discriminator of rows (N, C), in the dtype they come in."""

    def __init__(self) -> None:
        super().__init__(
            torch.nn.Linear(C, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Linear(16, 1, bias=False),
        )
        generator = torch.Generator().manual_seed(1)
        for value in self.parameters():
            torch.nn.init.normal_(value, 0.0, 0.3, generator=generator)


def ascending(name: str) -> Case:
    def make(**keywords: Any) -> Any:
        return features.create(
            name,
            discriminator=Judge(),
            sees="rows",
            relative_radius=0.85,
            steps=4,
            every=2,
            **keywords,
        )

    return Case(make, coupled="the discriminator's batch statistics", inner=True)


def centred(name: str) -> Case:
    def make(**keywords: Any) -> Any:
        layout = keywords.pop("layout", None)
        normal = torch.randn(4, C, H, W, generator=torch.Generator().manual_seed(2))
        fitted = features.create(name, **keywords).fit([normal], progress=False)
        fitted.layout = layout
        return fitted

    return Case(make, coupled="the mean over the batch")


def queued(name: str, **law: Any) -> Case:
    """A method whose queue is full of rows that are no sample's."""

    def make(**keywords: Any) -> Any:
        perturb = features.create(name, length=40, **law, **keywords)
        rows = torch.randn(40, C, generator=torch.Generator().manual_seed(2))
        perturb.update(rows, layout="rows")
        return perturb

    return Case(make, gradient=False)


def coded(**keywords: Any) -> Any:
    """DSR with a codebook of its channels, an anomaly in every image."""
    codes = torch.randn(64, C, generator=torch.Generator().manual_seed(3))
    return features.create("dsr", codebook=codes, p=1.0, **keywords)


MIXED = "it is mixed with another of its batch"

CASES: dict[str, Case] = {
    "dsr": Case(coded, size=True, gradient=False),
    "manifold_mixup": Case(coupled=MIXED, flat=False),
    "mixstyle": Case(needs={"p": 1.0}, coupled=MIXED),
    "cras": centred("cras"),
    "drocc": ascending("drocc"),
    "glass": ascending("glass"),
    "pbas": centred("pbas"),
    "npos": queued("npos", k=5, boundary=10, candidates=20),
    "vos": queued("vos"),
    "supersimplenet": Case(needs={"no_anomaly": "none"}, flat=False, size=True),
}

# The papers' numbers, as ``describe(name)["defaults"]`` has to show them.
PUBLISHED: dict[str, dict[str, Any]] = {
    "dsr": {
        "codebook": None, "skip": 0.05, "strength": (0.2, 1.0), "p": 0.5, "log2_cells": (0, 5),
        "threshold": 0.5, "rotation": (-90.0, 90.0), "image": (256, 256), "quantise": False,
    },
    "manifold_mixup": {"alpha": 2.0, "per": "batch", "anomalous": False},
    "mixstyle": {"p": 0.5, "alpha": 0.1, "mix": "random", "eps": 1e-6},
    "noisy_bottleneck": {"p": 0.2},
    "npos": {
        "categories": 1, "length": 1000, "k": 300, "boundary": 200, "points": 3,
        "candidates": 600, "sigma": 0.1, "keep": 2, "count": None,
    },
    "vos": {
        "categories": 1, "length": 1000, "per": "category", "draws": 10_000, "select": 1,
        "count": None, "ridge": 1e-4, "every": 1,
    },
    "aminet": {"share": (0.0, 1.0), "scale": 20.0, "token": None},
    "annulus": {"sigma": None, "radius": None, "ratio": None, "rel_width": None},
    "cras": {"sigma": 0.015, "k": 0.3, "categories": 1, "centres": None, "share": True},
    "drocc": {
        "discriminator": None, "sigma": 1.0, "steps": 50, "step_size": 0.001, "every": 10,
        "radius": None, "relative_radius": None, "gamma": 2.0, "bn": "track", "sees": "features",
        "cache_first_linear": False,
    },
    "glass": {
        "discriminator": None, "sigma": 0.015, "steps": 20, "step_size": 0.001, "every": 5,
        "mode": "manifold", "radius": None, "relative_radius": None, "spread": 2.0,
        "quantile": 0.75, "centre": None, "bn": "track", "mining": True, "sees": "features",
        "cache_first_linear": False, "convention": "original",
    },
    "generalad": {
        "mode": "random", "sigma": None, "radius": None, "ratio": None, "most": None,
    },
    "geodesic": {"angle": None, "length": None, "curvature": None},
    "pbas": {"k": 0.25, "centres": None, "share": True, "on_zero": "direction"},
    "supersimplenet": {
        "sigma": None, "radius": None, "threshold": 0.2, "log2_cells": (0, 5), "pattern": None,
        "perlin": True, "no_anomaly": "empty", "p_no_anomaly": 0.5, "overlap": False, "bad": True,
        "rescue": False, "rounding": "nearest",
    },
    "simplenet": {
        "sigma": None, "radius": None, "ratio": None, "mixture": 1, "growth": 1.1,
        "rounding": "nearest",
    },
    "uniad": {
        "scale": None, "ratio": None, "p": 1.0, "per": "batch", "direction": "gaussian",
    },
}  # fmt: skip


def case(name: str) -> Case:
    return CASES.get(name, Case())


def made(name: str, /, **keywords: Any) -> Any:
    """A method, ready to be called on features of C channels on a grid of H x W."""
    make = case(name).make
    keywords = {"seed": 0, **case(name).needs, **keywords}
    return features.create(name, **keywords) if make is None else make(**keywords)


def clean(out: FeatureBatch) -> Tensor:
    """What every row of the features was."""
    rows = out.extras.get("source_row")
    return out.clean if rows is None else out.clean[rows]


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(0))


NUMBER: dict[str, Any] = {"index": torch.tensor([4, 9, 2]), "epoch": 1}

every = pytest.mark.parametrize("name", NAMES)


def test_every_file_registers_a_method() -> None:
    files = {module.name for module in pkgutil.iter_modules(methods.__path__)}
    assert files == {methods.get(n).build.__module__.rsplit(".", 1)[1] for n in NAMES}


@every
def test_published_defaults(name: str) -> None:
    assert features.describe(name)["defaults"] == PUBLISHED[name]


@every
def test_a_description_says_what_it_is(name: str) -> None:
    told = features.describe(name)
    assert told["name"] == name and told["paper"] and told["matches"] and told["labels"]
    assert name in features.list_methods(told["family"])


@every
def test_something_is_perturbed_and_the_input_stays(name: str, maps: Tensor) -> None:
    before = maps.clone()
    out = made(name)(maps, **NUMBER)
    times = len(out.features) // B
    assert torch.equal(maps, before)
    assert not torch.equal(out.features, maps.repeat(times, 1, 1, 1))
    assert torch.equal(clean(out), maps.repeat(times, 1, 1, 1))
    assert out.features.isfinite().all()


@every
def test_masks_and_labels_are_of_the_features(name: str, maps: Tensor) -> None:
    out = made(name)(maps, **NUMBER)
    rows = len(out.features)
    assert out.features.shape[1:] == maps.shape[1:] and rows in (B, 2 * B)
    assert out.mask.shape == (rows, 1, H, W) and out.mask.dtype == torch.float32
    assert out.mask.unique().tolist() in ([0.0], [1.0], [0.0, 1.0])
    assert out.label.dtype == torch.int64
    if not (out.label > 1).any():
        assert torch.equal(out.label, out.mask.flatten(1).any(1).long())


@every
def test_positions_outside_the_mask_keep_their_bits(name: str, maps: Tensor) -> None:
    if methods.get(name).family == "appearance":
        return
    out = made(name)(maps, **NUMBER)
    outside = (out.mask == 0).expand_as(out.features)
    assert torch.equal(out.features[outside], clean(out)[outside])


@pytest.mark.slow
@every
def test_a_call_can_be_repeated(name: str, maps: Tensor) -> None:
    first, second = made(name), made(name)
    second(maps)  # moves its counter, which an index does not ask
    expected = first(maps, **NUMBER)
    found = second(maps, **NUMBER)
    for one, other in zip(expected[:4], found[:4], strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@every
def test_calls_without_an_index_follow_the_seed(name: str, maps: Tensor) -> None:
    one, other = made(name), made(name)
    assert torch.equal(one(maps).features, other(maps).features)
    state = one.state_dict()
    expected = one(maps).features
    other.load_state_dict(state)
    assert torch.equal(other(maps).features, expected)
    assert torch.equal(pickle.loads(pickle.dumps(other))(maps).features, one(maps).features)


@every
def test_a_sample_gets_the_same_in_any_batch(name: str, maps: Tensor) -> None:
    if case(name).coupled:
        return
    perturb = made(name)
    whole = perturb(maps, **NUMBER)
    order = [2, 0]
    part = perturb(maps[order], index=NUMBER["index"][order], epoch=1)
    times = len(whole.features) // B
    rows = [r + B * t for t in range(times) for r in order]
    assert torch.equal(part.features, whole.features[rows])
    assert torch.equal(part.mask, whole.mask[rows])


@pytest.mark.slow
@every
def test_maps_tokens_and_rows_get_the_same(name: str, maps: Tensor) -> None:
    perturb = made(name)
    whole = perturb(maps, **NUMBER)
    expected = whole.features.flatten(2).transpose(1, 2)
    tokens = maps.flatten(2).transpose(1, 2)
    size = {"size": (H, W)} if case(name).size else {}
    found = perturb(tokens, **NUMBER, **size)
    assert torch.equal(found.features, expected)
    assert torch.equal(found.mask, whole.mask.flatten(1))
    nhwc = made(name, layout="nhwc")(maps.permute(0, 2, 3, 1), **NUMBER)
    assert torch.equal(nhwc.features.flatten(1, 2), expected)
    last = perturb(maps.contiguous(memory_format=torch.channels_last), **NUMBER).features
    assert torch.equal(last, whole.features)
    assert last.is_contiguous(memory_format=torch.channels_last)
    if case(name).flat:
        rows = perturb(tokens.flatten(0, 1), **NUMBER, **size)
        assert torch.equal(rows.features, expected.flatten(0, 1))


@every
def test_prefix_tokens_stay(name: str, maps: Tensor) -> None:
    tokens = torch.cat((torch.ones(B, 2, C), maps.flatten(2).transpose(1, 2)), 1)
    size = {"size": (H, W)} if case(name).size else {}
    out = made(name, prefix=2)(tokens, **NUMBER, **size)
    times = len(out.features) // B
    assert torch.equal(out.features[:, :2], torch.ones(B * times, 2, C))
    expected = made(name)(maps, **NUMBER).features.flatten(2).transpose(1, 2)
    assert torch.equal(out.features[:, 2:], expected)


@pytest.mark.slow
@every
def test_eval_mode_hands_features_through(name: str, maps: Tensor) -> None:
    out = made(name).eval()(maps, **NUMBER)
    assert torch.equal(out.features, maps) and not out.mask.any() and not out.label.any()
    always = made(name, active="always").eval()(maps, **NUMBER)
    assert torch.equal(always.features, made(name)(maps, **NUMBER).features)


# Keywords and what a call passes beside features, where these make extras that others lack.
MORE: list[tuple[str, dict[str, Any], bool]] = [
    *((name, {}, False) for name in NAMES),
    ("simplenet", {"mixture": 3}, False),
    ("supersimplenet", {}, True),
    ("dsr", {"quantise": True}, False),
    ("glass", {"mining": False}, False),
]


@pytest.mark.parametrize(("name", "keywords", "raw"), MORE)
def test_eval_mode_has_the_extras_of_training(
    name: str, keywords: dict[str, Any], raw: bool, maps: Tensor
) -> None:
    perturb = made(name, **keywords)
    beside = {"raw": maps.flip(0)} if raw else {}
    there = perturb(maps, **NUMBER, **beside)
    idle = perturb.eval()(maps, **NUMBER, **beside)
    assert set(idle.extras) == set(there.extras)
    times = len(there.features) // B
    for key, value in idle.extras.items():
        expected = there.extras[key]
        assert value.dtype == expected.dtype and value.isfinite().all(), key
        if times == 1:
            assert value.shape == expected.shape, key
        else:
            assert value.shape == (B, *expected.shape[1:]), key
    assert torch.equal(clean(idle), maps)
    if raw:
        assert torch.equal(idle.extras["raw"], beside["raw"])


def test_eval_mode_says_that_nothing_was_done(maps: Tensor) -> None:
    def idle(name: str, **keywords: Any) -> dict[str, Tensor]:
        return made(name, **keywords).eval()(maps, **NUMBER).extras

    rows = torch.arange(B)
    assert torch.equal(idle("supersimplenet")["source_row"], rows)
    assert torch.equal(idle("manifold_mixup")["partner"], rows)
    assert idle("mixstyle")["weight"].tolist() == [1.0] * B
    assert not idle("manifold_mixup")["soft"].any() and not idle("aminet")["hidden"].any()
    assert (idle("cras")["scale"] == 1).all() and not idle("vos")["distance"].any()
    found = idle("dsr", quantise=True)
    assert (found["code"] == -1).all() and not found["ground_truth"].any()
    assert torch.equal(found["quantised"], maps.flatten(2).transpose(1, 2))


@pytest.mark.slow
@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_are_rounded_once(name: str, dtype: torch.dtype, maps: Tensor) -> None:
    narrow = maps.to(dtype)
    perturb = made(name)
    out = perturb(narrow, **NUMBER)
    assert out.features.dtype == dtype and out.clean.dtype == dtype
    if dtype != torch.float64:
        wide = perturb(narrow.float(), **NUMBER)
        assert torch.equal(out.features, wide.features.to(dtype))
        with torch.autocast("cpu", torch.bfloat16):
            cast = perturb(narrow, **NUMBER)
        assert torch.equal(cast.features, out.features)


@every
def test_an_empty_batch_stays_empty(name: str) -> None:
    out = made(name)(torch.zeros(0, C, H, W))
    assert out.features.shape == (0, C, H, W)
    assert out.mask.shape == (0, 1, H, W) and out.label.shape == (0,)


@every
def test_zeros_give_no_nan(name: str) -> None:
    zeros = torch.zeros(B, C, H, W, requires_grad=True)
    out = made(name)(zeros, **NUMBER)
    assert out.features.isfinite().all()
    if out.features.requires_grad:
        out.features.square().sum().backward()
        assert zeros.grad is not None and zeros.grad.isfinite().all()


@every
def test_gradients_reach_the_features(name: str, maps: Tensor) -> None:
    maps.requires_grad_()
    out = made(name)(maps, **NUMBER)
    assert out.features.requires_grad == case(name).gradient
    if case(name).gradient:
        out.features.sum().backward()
        assert maps.grad is not None and maps.grad.isfinite().all() and maps.grad.any()


@pytest.mark.slow
@every
def test_gradients_under_checkpointing_are_those_without(name: str, maps: Tensor) -> None:
    if case(name).inner or not case(name).gradient:
        return
    perturb = made(name)

    def loss(x: Tensor) -> Tensor:
        return perturb(x, **NUMBER).features.square().sum()

    maps.requires_grad_()
    (expected,) = torch.autograd.grad(loss(maps), maps)
    again = torch.utils.checkpoint.checkpoint(loss, maps, use_reentrant=False)
    (found,) = torch.autograd.grad(again, maps)
    assert torch.equal(found, expected)


@pytest.mark.slow
@every
def test_no_global_generator_is_moved(name: str, maps: Tensor) -> None:
    perturb = made(name)
    before = torch.get_rng_state()
    perturb(maps, **NUMBER)
    perturb(maps)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@every
def test_real_defects_are_united(name: str, maps: Tensor) -> None:
    real = torch.zeros(B, 1, H, W)
    real[1, 0, 2, 3] = 1
    perturb = made(name)
    bare = perturb(maps, **NUMBER)
    out = perturb(maps, mask=real, **NUMBER)
    assert (out.mask.view(-1, B, 1, H, W)[:, 1, 0, 2, 3] == 1).all()
    rest = real.repeat(len(out.mask) // B, 1, 1, 1) == 0
    assert (out.mask[rest] <= bare.mask[rest]).all()
    told = perturb(maps, label=torch.tensor([1, 0, 0]), **NUMBER)
    assert told.label.view(-1, B)[:, 0].bool().all()


@every
def test_where_confines(name: str, maps: Tensor) -> None:
    if methods.get(name).family == "appearance":
        return
    where = torch.zeros(B, 1, H, W, dtype=torch.bool)
    where[:, :, :2] = True
    out = made(name)(maps, where=where, **NUMBER)
    assert torch.equal(out.features[:, :, 2:], clean(out)[:, :, 2:])
    assert not out.mask[:, :, 2:].any()


def traced(name: str) -> Any:
    """In which Dynamo follows the method, its gradients within too."""
    if not case(name).inner:
        return contextlib.nullcontext()
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        pytest.skip("this torch does not trace torch.autograd.grad")
    return torch._dynamo.config.patch(trace_autograd_ops=True)


@pytest.mark.slow
@every
@pytest.mark.filterwarnings("ignore:.*is_compiling.*")
def test_fullgraph_compile_gives_the_same(name: str, maps: Tensor) -> None:
    perturb = made(name)
    expected = perturb(maps, **NUMBER)
    torch.compiler.reset()
    with traced(name):
        found = torch.compile(perturb, fullgraph=True, backend="aot_eager")(maps, **NUMBER)
    torch.testing.assert_close(found.features, expected.features)
    assert torch.equal(found.mask, expected.mask) and torch.equal(found.label, expected.label)


@pytest.mark.slow
@every
@pytest.mark.filterwarnings("ignore:.*is_compiling.*")
def test_one_compilation_with_dynamic_shapes_serves_other_sizes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and numbers are symbols; factors of 7 channels would show a change of their order."""
    monkeypatch.setitem(globals(), "C", 7)
    torch.compiler.reset()
    perturb = made(name)
    with traced(name):
        compiled = torch.compile(perturb, dynamic=True, fullgraph=True, backend="aot_eager")
        for rows, height in ((3, 4), (5, 6)):
            generator = torch.Generator().manual_seed(rows)
            maps = torch.randn(rows, C, height, W, generator=generator)
            number = {"index": torch.arange(rows) + 7, "epoch": 1}
            expected, found = perturb(maps, **number), compiled(maps, **number)
            torch.testing.assert_close(found.features, expected.features)
            assert torch.equal(found.mask, expected.mask)
            assert torch.equal(found.label, expected.label)


@every
def test_an_unknown_keyword_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="is not a keyword of it"):
        features.create(name, sigmma=0.1)
