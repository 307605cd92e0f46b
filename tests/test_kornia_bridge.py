"""Kornia's augmentations on anoaug's streams: as sources and on normal images."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import anoaug
from anoaug import blends, kornia_bridge, masks, sources
from anoaug.kornia_bridge import Augmentation
from tests.drawing import EVERYWHERE, painted, pixels, some

K: Any = pytest.importorskip("kornia.augmentation")

SIZE = (40, 52)
IMAGES = pixels(5, 3, *SIZE)
MASK = masks.Perlin(threshold=0.0)
KEYS = [3, 2**63 + 11, 5, 2**64 - 1, 0]

MODULES: dict[str, Callable[[], nn.Module]] = {
    "jitter": lambda: K.ColorJitter(0.3, 0.3, 0.3, 0.1, p=1.0),
    "affine": lambda: K.RandomAffine(40.0, (0.1, 0.1), (0.8, 1.2), 10.0, p=1.0),
    "blur": lambda: K.RandomGaussianBlur((3, 5), (0.1, 2.0), p=1.0),
    "elastic": lambda: K.RandomElasticTransform(p=1.0),
    "sometimes": lambda: K.RandomInvert(p=0.5),
    "nothing": lambda: K.RandomInvert(p=0.0),
    "sequence": lambda: K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.ImageSequential(K.RandomMotionBlur((3, 7), 35.0, 0.5, p=0.7), nn.Identity()),
        K.RandomGaussianNoise(0.0, 0.1, p=0.7),
    ),
    "some of": lambda: K.ImageSequential(
        K.RandomPosterize(3, p=1.0),
        K.RandomChannelShuffle(p=1.0),
        K.RandomSolarize(p=1.0),
        random_apply=(1, 2),
    ),
}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Refuse to let the global generators be advanced."""

    def states() -> list[Any]:
        legacy = np.random.get_state()
        assert isinstance(legacy, tuple)
        return [torch.get_rng_state().tolist(), legacy[1].tolist(), legacy[2], random.getstate()]

    before = states()
    yield
    assert states() == before


def synthesizer(name: str, of: Any = "own", **more: Any) -> anoaug.Synthesizer:
    layer = anoaug.Layer(MASK, sources.Kornia(MODULES[name](), of), blends.Opacity())
    return anoaug.Synthesizer(layer, **{"p": 0.8, "seed": 1, **more})


def of_dtype(dtype: torch.dtype, channels: int = 3) -> Tensor:
    values = pixels(5, channels, *SIZE)
    if dtype.is_floating_point:
        return (values / 255).to(dtype)
    return (values.int() * 257).to(dtype) if dtype == torch.uint16 else values


# ---- as a source ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", MODULES)
def test_a_sample_does_not_depend_on_its_batch(name: str, dtype: torch.dtype) -> None:
    images, synth = of_dtype(dtype), synthesizer(name)
    torch.manual_seed(7)
    with undisturbed():
        whole = synth(images, index=range(5), epoch=2)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.manual_seed(8)  # which must not matter
    shuffled = synth(images[order], index=order, epoch=2)
    assert torch.equal(shuffled.image, whole.image[order])
    assert torch.equal(shuffled.mask, whole.mask[order])
    for n in range(5):
        alone = synth(images[n : n + 1], index=[n], epoch=2)
        assert torch.equal(alone.image[0], whole.image[n])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_replay_is_exact(name: str) -> None:
    first = synthesizer(name)(IMAGES, index=range(5), epoch=0)
    with undisturbed():
        again = synthesizer(name)(IMAGES, params=first.params)
    assert torch.equal(first.image, again.image) and torch.equal(first.mask, again.mask)
    some_rows = [4, 1]
    part = synthesizer(name)(IMAGES[some_rows], params=first.params.take(some_rows))
    assert torch.equal(part.image, first.image[some_rows])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_augmented_image_shows_inside_the_mask(dtype: torch.dtype, channels: int) -> None:
    images = of_dtype(dtype, channels)
    synth = painted(sources.Kornia(K.RandomInvert(p=1.0)), MASK)
    out = synth(images, index=range(5), epoch=0)
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    inside, before = out.mask.bool(), images.float()
    assert out.image.dtype == dtype and out.label.tolist() == [1] * 5
    assert 0.2 < inside.float().mean() < 0.8
    # Float images go through float32, bfloat16 ones back.
    inverted = (peak - before).to(dtype).float()
    assert torch.equal(out.image.float(), torch.where(inside, inverted, before))


def test_labels_are_those_of_the_mask() -> None:
    out = synthesizer("jitter", p=0.5)(IMAGES, index=range(5), epoch=0)
    assert 0 < out.label.sum() < 5
    assert torch.equal(out.label, out.mask.flatten(1).any(1).long())
    normal = out.label == 0
    assert torch.equal(out.image[normal], IMAGES[normal])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_an_augmentation_that_does_nothing_is_exact(dtype: torch.dtype) -> None:
    images = of_dtype(dtype)
    out = painted(sources.Kornia(MODULES["nothing"]()), EVERYWHERE)(images)
    assert torch.equal(out.image.float(), images.float())


@pytest.mark.slow
def test_its_probability_is_obeyed() -> None:
    images = torch.full((400, 1, 8, 8), 200, dtype=torch.uint8)
    out = painted(sources.Kornia(K.RandomInvert(p=0.3)), EVERYWHERE)(images)
    assert set(out.image.unique().tolist()) == {55, 200}
    assert abs((out.image[:, 0, 0, 0] == 55).float().mean() - 0.3) < 0.08


def test_the_probability_of_a_batch_is_one_of_samples() -> None:
    module = K.RandomInvert(p=1.0)
    module.p_batch = 0.5
    images = torch.full((200, 1, 8, 8), 200, dtype=torch.uint8)
    out = painted(sources.Kornia(module), EVERYWHERE)(images)
    assert abs((out.image[:, 0, 0, 0] == 55).float().mean() - 0.5) < 0.12


def test_kornia_does_with_the_parameters_what_it_does_by_itself() -> None:
    """One sample: kornia seeded with the key gives the very same image."""
    module = MODULES["affine"]()
    synth = painted(sources.Kornia(module), EVERYWHERE)
    out = synth(IMAGES[:1], index=[9], epoch=0)
    columns = anoaug.recipe.recipe(synth.laws(3)).describe(out.params.table.numpy())
    key = columns["layer0.source.kornia.key0"].view(np.uint32)
    torch.manual_seed(int(key[0]))
    expected = module(IMAGES[:1].float() / 255)
    assert torch.equal(out.image, (expected * 255 + 0.5).floor().byte())
    assert not torch.equal(out.image, IMAGES[:1])


def test_another_epoch_or_index_is_another_draw() -> None:
    synth = synthesizer("jitter", p=1.0)
    first = synth(IMAGES, index=range(5), epoch=0).image
    for number in ({"index": range(5), "epoch": 1}, {"index": range(5, 10), "epoch": 0}):
        assert not torch.equal(first, synth(IMAGES, **number).image)


def test_a_texture_is_augmented() -> None:
    bank = anoaug.TextureBank.from_tensors(pixels(3, 3, 20, 22, seed=5))
    module = K.RandomInvert(p=1.0)
    plain = painted(sources.Kornia(MODULES["nothing"](), bank), EVERYWHERE)
    ours = painted(sources.Kornia(module, of=bank), EVERYWHERE)
    before, after = (synth(IMAGES, index=range(5), epoch=0).image for synth in (plain, ours))
    assert torch.equal(after, 255 - before)
    assert (before != IMAGES).float().mean() > 0.9


def test_another_source_is_augmented() -> None:
    donors = anoaug.DonorBank.from_tensors(pixels(1, 3, *SIZE, seed=6))
    of = sources.Donor(donors, place="same")
    out = painted(sources.Kornia(K.RandomInvert(p=1.0), of), EVERYWHERE)(IMAGES)
    assert torch.equal(out.image, (255 - donors.data).expand(5, -1, -1, -1))


def test_one_augmentation_after_another() -> None:
    inner = sources.Kornia(K.RandomInvert(p=1.0))
    synth = painted(sources.Kornia(K.RandomInvert(p=1.0), of=inner), EVERYWHERE)
    assert len(synth._binding.digests) == 2
    assert torch.equal(synth(IMAGES).image, IMAGES)
    inner = sources.Kornia(MODULES["affine"](), of=sources.Kornia(MODULES["jitter"]()))
    synth = painted(inner, MASK)
    whole = synth(IMAGES, index=range(5), epoch=0)
    assert torch.equal(synth(IMAGES[2:3], index=[2], epoch=0).image[0], whole.image[2])


@pytest.mark.slow
def test_copies_and_views_draw_on_their_own() -> None:
    layer = anoaug.Layer(MASK, sources.Kornia(MODULES["jitter"]()), count=(1, 3))
    counted = anoaug.Synthesizer(layer, p=1.0, seed=0)
    whole = counted(IMAGES, index=range(5), epoch=0)
    alone = counted(IMAGES[3:4], index=[3], epoch=0)
    assert torch.equal(alone.image[0], whole.image[3])
    views = anoaug.Synthesizer(layer, seed=0, views=True)(IMAGES, index=range(5), epoch=0)
    assert torch.equal(views.image[:5], IMAGES) and views.mask[5:].flatten(1).any(1).all()


def test_the_same_on_every_backend() -> None:
    ours, truth = (
        synthesizer("affine", backend=backend)(IMAGES, index=range(5), epoch=0)
        for backend in ("auto", "torch")
    )
    assert torch.equal(ours.image, truth.image)


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_synthesizer_travels(travel: Callable[[Any], Any]) -> None:
    synth = synthesizer("sequence")
    first = synth(IMAGES, index=range(5), epoch=0)
    again = travel(synth)(IMAGES, params=first.params)
    assert torch.equal(first.image, again.image)


def test_a_replay_with_other_settings_is_refused() -> None:
    first = painted(sources.Kornia(K.RandomPosterize(3, p=1.0)), MASK)(IMAGES)
    other = painted(sources.Kornia(K.RandomPosterize((3, 5), p=1.0)), MASK)
    with pytest.raises(ValueError, match="same banks and augmentations"):
        other(IMAGES, params=first.params)


def test_the_module_is_left_alone() -> None:
    module = MODULES["jitter"]()
    synth = painted(sources.Kornia(module), MASK)
    first = synth(IMAGES, index=range(5), epoch=0)
    assert module._params == {}
    module.p = 0.0
    assert torch.equal(synth(IMAGES, index=range(5), epoch=0).image, first.image)
    assert not dict(synth.named_modules()).keys() - {""}


# ---- the parameters, joined ----------------------------------------------------------------------

EACH: dict[str, Any] = {
    "RandomCrop": lambda: K.RandomCrop(SIZE, padding=4, p=1.0),
    "RandomResizedCrop": lambda: K.RandomResizedCrop(SIZE, p=1.0),
    "CenterCrop": lambda: K.CenterCrop(SIZE),
    "Resize": lambda: K.Resize(SIZE),
    "PadTo": lambda: K.PadTo(SIZE),
    "RandomMotionBlur": lambda: K.RandomMotionBlur((3, 9), 35.0, 0.5, p=1.0),
    "ColorJitter": lambda: K.ColorJitter(0.3, 0.3, 0.3, 0.1, p=0.8),
    "ColorJiggle": lambda: K.ColorJiggle(0.3, 0.3, 0.3, 0.1, p=0.8),
    "RandomAffine": MODULES["affine"],
    "RandomRotation": lambda: K.RandomRotation(30.0, p=0.8),
    "RandomRotation90": lambda: K.RandomRotation90((2, 2), p=0.8),
    "RandomShear": lambda: K.RandomShear(20.0, p=0.8),
    "RandomTranslate": lambda: K.RandomTranslate((-0.2, 0.2), (-0.1, 0.1), p=0.8),
    "RandomGaussianBlur": MODULES["blur"],
    "RandomFisheye": lambda: K.RandomFisheye(*torch.tensor([[-0.3, 0.3], [-0.3, 0.3], [0.9, 1.0]])),
    "RandomRain": lambda: K.RandomRain(
        p=1.0, drop_height=(5, 10), drop_width=(-3, 3), number_of_drops=(5, 8)
    ),
    "Normalize": lambda: K.Normalize(torch.tensor([0.1] * 3), torch.tensor([1.2] * 3)),
    "Denormalize": lambda: K.Denormalize(torch.tensor([0.1] * 3), torch.tensor([0.8] * 3)),
    "LongestMaxSize": lambda: K.LongestMaxSize(SIZE[1]),
    "SmallestMaxSize": lambda: K.SmallestMaxSize(SIZE[0]),
    "RandomDissolving": None,  # needs the weights of a diffusion model
}


def every_augmentation() -> list[str]:
    """Names of kornia's 2D augmentations that change each image by itself."""
    bases = (K.IntensityAugmentationBase2D, K.GeometricAugmentationBase2D, K.AugmentationBase2D)
    classes = [(name, getattr(K, name)) for name in dir(K)]
    names = [
        name
        for name, cls in classes
        if inspect.isclass(cls) and issubclass(cls, bases) and "Base" not in name
    ]
    return [name for name in [*names, "RandomJigsaw"] if EACH.get(name, name) is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", every_augmentation())
def test_each_of_kornia_s_gives_a_sample_the_same_in_any_batch(name: str) -> None:
    module = EACH[name]() if name in EACH else getattr(K, name)(p=0.8)
    images = of_dtype(torch.float32)
    run = Augmentation(module)
    whole = run(images, KEYS)
    order = [2, 4, 0, 1, 3]
    assert torch.equal(run(images[order], [KEYS[n] for n in order]), whole[order])
    for n, key in enumerate(KEYS):
        assert torch.equal(run(images[n : n + 1], [key])[0], whole[n])
    assert not whole.isnan().any() and whole.min() >= 0 and whole.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["AutoAugment", "RandAugment", "TrivialAugment"])
def test_automatic_policies_choose_for_each_sample(policy: str) -> None:
    auto = pytest.importorskip("kornia.augmentation.auto")
    module = auto.RandAugment(n=2, m=10) if policy == "RandAugment" else getattr(auto, policy)()
    images = of_dtype(torch.float32)
    run = Augmentation(module)
    whole = run(images, KEYS)
    for n, key in enumerate(KEYS):
        assert torch.equal(run(images[n : n + 1], [key])[0], whole[n])


def calls_of(module: nn.Module, keys: list[int]) -> list[int]:
    """How many samples share each call."""
    run, sizes = Augmentation(module), []
    run._module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    run(torch.rand(len(keys), 3, *SIZE), keys)
    return sizes


def test_samples_share_one_call() -> None:
    assert calls_of(MODULES["affine"](), list(range(30))) == [30]
    assert calls_of(MODULES["sequence"](), list(range(30)))[0] > 5
    assert calls_of(K.ColorJitter(0.3, 0.3, order=(1, 0)), list(range(30))) == [30]


def test_samples_with_another_order_of_colours_do_not() -> None:
    sizes = calls_of(K.ColorJitter(0.3, 0.3, 0.3, 0.1), list(range(60)))
    assert sum(sizes) == 60 and 12 < len(sizes) <= 24


@pytest.mark.slow
@some
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
def test_a_key_is_all_that_a_sample_depends_on(keys: list[int]) -> None:
    run = Augmentation(K.RandomAffine(40.0, p=0.7))
    images = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    with undisturbed():
        together = run(images.expand(len(keys), -1, -1, -1), keys)
    for key, image in zip(keys, together, strict=True):
        assert torch.equal(run(images, [key])[0], image)


def test_an_empty_batch_stays_empty() -> None:
    assert Augmentation(MODULES["jitter"]())(IMAGES[:0], []).shape == IMAGES[:0].shape
    out = synthesizer("jitter")(IMAGES[:0], index=[], epoch=0)
    assert out.image.shape == IMAGES[:0].shape


# ---- on normal images ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jitter", "affine", "sequence"])
def test_normal_images_are_augmented_on_a_stream_of_their_own(name: str) -> None:
    patch = masks.Rectangle()
    synth = painted(sources.Constant(0.5), patch, normal_transform=MODULES[name]())
    with undisturbed():
        whole = synth(IMAGES, index=range(5), epoch=0)
    assert (whole.clean != IMAGES).float().mean() > 0.3
    outside = ~whole.mask.bool().expand_as(IMAGES)
    assert torch.equal(whole.image[outside], whole.clean[outside])
    for n in range(5):
        alone = synth(IMAGES[n : n + 1], index=[n], epoch=0)
        assert torch.equal(alone.clean[0], whole.clean[n])
        assert torch.equal(alone.image[0], whole.image[n])
    # The anomaly is drawn from its own streams: it does not know of the transform.
    plain = painted(sources.Constant(0.5), patch)(IMAGES, index=range(5), epoch=0)
    assert torch.equal(plain.mask, whole.mask)
    assert not torch.equal(synth(IMAGES, index=range(5), epoch=1).clean, whole.clean)


def test_a_replay_takes_the_clean_image() -> None:
    synth = synthesizer("jitter", normal_transform=MODULES["affine"]())
    first = synth(IMAGES, index=range(5), epoch=0)
    again = synth(first.clean, params=first.params)
    assert torch.equal(first.image, again.image)


def test_another_seed_augments_otherwise() -> None:
    first, second, again = (
        painted(sources.Own(), masks.Rectangle(), seed=seed, normal_transform=MODULES["jitter"]())(
            IMAGES, index=range(5), epoch=0
        ).clean
        for seed in (0, 1, 0)
    )
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_eval_leaves_normal_images_alone() -> None:
    synth = synthesizer("jitter", normal_transform=MODULES["affine"]()).eval()
    assert torch.equal(synth(IMAGES).image, IMAGES)


@pytest.mark.slow
def test_compiling_breaks_the_graph_and_keeps_the_result() -> None:
    pytest.importorskip("torch._dynamo", exc_type=ImportError)
    torch._dynamo.reset()
    synth, eager = (synthesizer("jitter", normal_transform=MODULES["affine"]()) for _ in range(2))
    ours = torch.compile(synth, backend="eager")(IMAGES, index=range(5), epoch=0)
    assert torch.equal(ours.image, eager(IMAGES, index=range(5), epoch=0).image)
    torch._dynamo.reset()


# ---- the door ------------------------------------------------------------------------------------


class DrawsLate(nn.Module):
    """Takes params, and draws all the same."""

    def forward_parameters(self, size: torch.Size) -> dict[str, Tensor]:
        return {"batch_prob": torch.ones(size[0])}

    def forward(self, values: Tensor, params: Any = None) -> Tensor:
        return values + torch.rand(1)


class TakesNone(DrawsLate):
    def forward(self, values: Tensor) -> Tensor:  # type: ignore[override]
        return values


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Identity(), "expected an augmentation of kornia.augmentation, got Identity"),
        (lambda: "jitter", "expected an augmentation of kornia.augmentation, got str"),
        (lambda: TakesNone(), "takes params=, got TakesNone"),
        (lambda: K.RandomMixUpV2(), "RandomMixUpV2: it mixes the samples"),
        (lambda: K.AugmentationSequential(K.RandomMosaic()), "RandomMosaic: it mixes the samples"),
        (
            lambda: K.PatchSequential(K.ColorJitter(), patchwise_apply=False),
            "PatchSequential: its parameters number",
        ),
        (lambda: K.VideoSequential(K.ColorJitter()), "VideoSequential: it expects videos"),
        (lambda: K.RandomRotation3D(15.0), "RandomRotation3D: it expects volumes"),
    ],
)
def test_what_is_no_augmentation_of_each_image_is_refused(build: Any, message: str) -> None:
    for make in (Augmentation, sources.Kornia):
        with pytest.raises(TypeError, match=message):
            make(build())


def test_an_augmentation_that_draws_late_is_refused_by_name() -> None:
    with undisturbed(), pytest.raises(TypeError, match="DrawsLate.*while it is applied"):
        Augmentation(DrawsLate())(IMAGES, KEYS)


@pytest.mark.parametrize(
    "module",
    [K.RandomHue((0.1, 0.1), p=1.0), K.RandomRGBShift(p=1.0), K.RandomJPEG(p=1.0)],
    ids=lambda module: type(module).__name__,
)
def test_images_that_kornia_refuses_are_told_with_the_augmentation(module: nn.Module) -> None:
    synth = painted(sources.Kornia(module), MASK)
    name = type(module).__name__
    with pytest.raises(ValueError, match=rf"^module: .*1 channels, got {name}\(.*refuses \["):
        synth(of_dtype(torch.uint8, 1), index=range(5), epoch=0)


@pytest.mark.parametrize(
    "module", [K.RandomCrop((8, 8), p=1.0), K.ImageSequential(K.CenterCrop((8, 8)))]
)
def test_an_augmentation_that_resizes_is_refused(module: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"expected images of .* got .*leave out what crops"):
        Augmentation(module)(IMAGES, KEYS)


@pytest.mark.parametrize("of", ["texture", None, IMAGES])
def test_what_it_is_applied_to_is_checked(of: Any) -> None:
    with pytest.raises(TypeError, match="of: expected 'own', a TextureBank or a source"):
        sources.Kornia(MODULES["jitter"](), of)


def test_without_kornia_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(kornia_bridge.checks.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'anoaug\[kornia\]'"):
        Augmentation(MODULES["jitter"]())


def test_an_older_kornia_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("kornia"), "__version__", "0.8.2")
    with pytest.raises(ImportError, match=r"kornia 0.8.2 draws .* pip install -U"):
        Augmentation(MODULES["jitter"]())
