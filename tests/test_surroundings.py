"""What a training script may bring along: default dtypes and devices, threads, odd tensors."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator

import pytest
import torch

import anoaug
from anoaug import Layer, Synthesizer, blends, doctor, masks, methods, ops, sources
from anoaug.methods import pei
from anoaug.photometric import ColorJitter

IMAGES = torch.randint(
    0, 256, (4, 3, 40, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
CALL = {"index": range(4), "epoch": 0}


@pytest.fixture(scope="module")
def bank() -> anoaug.TextureBank:
    return anoaug.TextureBank.procedural(4, 32)


@pytest.fixture
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@contextlib.contextmanager
def others(dtype: torch.dtype | None) -> Iterator[None]:
    """Another default dtype, or for None another default device."""
    try:
        if dtype is None:
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def equal(a: anoaug.AnomalyBatch, b: anoaug.AnomalyBatch) -> bool:
    """Values and dtypes: ``torch.equal`` looks at the former alone."""
    pairs = list(zip(a[:4], b[:4], strict=True))
    return all(torch.equal(x, y) and x.dtype == y.dtype for x, y in pairs)


@pytest.fixture(params=["auto", "torch", "compiled", "one of"])
def synth(request: pytest.FixtureRequest, bank: anoaug.TextureBank) -> Synthesizer:
    options = {"p": 1.0, "seed": 0}
    if request.param == "one of":
        return anoaug.OneOf({"draem": 1, "cutpaste": 1}, textures=bank, **options)
    if request.param == "compiled":
        pytest.importorskip("numba")
    return anoaug.create("draem", textures=bank, backend=request.param, **options)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_the_default_dtype_changes_nothing(synth: Synthesizer, dtype: torch.dtype) -> None:
    expected = synth(IMAGES, **CALL)
    torch.set_default_dtype(dtype)
    try:
        out = synth(IMAGES, **CALL)
    finally:
        torch.set_default_dtype(torch.float32)
    assert equal(out, expected) and out.params.table.dtype == torch.float32


@pytest.mark.parametrize("backend", ["auto", "torch", "compiled", "one of"])
def test_the_default_device_changes_nothing(request: pytest.FixtureRequest, backend: str) -> None:
    if backend == "compiled":
        pytest.importorskip("numba")

    def made() -> anoaug.AnomalyBatch:
        if backend == "one of":
            names = {"cutpaste": 1, "cutpaste_scar": 1}
            return anoaug.OneOf(names, p=1.0, seed=0)(IMAGES, **CALL)
        synth = anoaug.create("cutpaste_union", p=1.0, seed=0, backend=backend)
        return synth(IMAGES, **CALL)

    expected = made()
    request.getfixturevalue("default_device")
    assert equal(made(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", anoaug.list_methods())
def test_no_default_changes_a_method(
    name: str, dtype: torch.dtype | None, bank: anoaug.TextureBank
) -> None:
    """What it computes before the render too; a dtype of None is another default device."""
    images = torch.nn.functional.interpolate(IMAGES, scale_factor=2)
    donors = anoaug.DonorBank.from_tensors(images.flip(0))
    given = {"textures": bank, "donors": donors}
    needed = {need: given[need] for need in methods.get(name).needs}

    def made() -> anoaug.AnomalyBatch:
        return anoaug.create(name, p=1.0, seed=0, **needed)(images, **CALL)

    expected = made()
    pei._boxes.cache_clear()
    with others(dtype):
        out = made()
    assert equal(out, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("part", ["simplex of few pixels", "kornia"])
def test_no_default_changes_a_source(part: str, dtype: torch.dtype | None) -> None:
    if part == "kornia":
        kornia = pytest.importorskip("kornia.augmentation")
        module = kornia.ImageSequential(
            kornia.RandomChannelDropout(p=1.0), kornia.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0)
        )
        layer = Layer(masks.Rectangle(), sources.Kornia(module))
    else:
        layer = Layer(masks.Rectangle(height=(4, 6), width=(4, 6)), sources.Simplex())

    def made() -> anoaug.AnomalyBatch:
        return Synthesizer(layer, p=1.0, seed=0)(IMAGES, **CALL)

    expected = made()
    with others(dtype):
        out = made()
    assert equal(out, expected)


@pytest.mark.slow
def test_the_self_test_passes_on_another_default_device() -> None:
    with others(None):
        results = list(doctor.self_test())
    assert results and [one for one in results if not one["passed"]] == []


@pytest.mark.parametrize("dtype", [None, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("rule", ["otsu", "choice"])
def test_no_default_changes_what_is_prepared(rule: str, dtype: torch.dtype | None) -> None:
    images = torch.zeros(20, 3, 40, 36, dtype=torch.uint8) + 30
    images[..., 10:30, 8:28] = 200

    def made() -> list[torch.Tensor]:
        if rule == "otsu":
            return [anoaug.prepare.Foreground("otsu")(images)]
        chosen = anoaug.prepare.auto(images, count=7)
        return [chosen.foreground(images), chosen.images]

    expected = made()
    with others(dtype):
        out = made()
    for one, other in zip(expected, out, strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype


def test_threads_are_given_back_in_the_thread_that_asked() -> None:
    torch.set_num_threads(2)
    synth, inside = anoaug.create("cutpaste", p=1.0, seed=0), []
    ready, done = threading.Event(), threading.Event()

    def work() -> None:
        torch.get_num_threads()  # torch gives a thread its number when it first asks
        torch.set_num_threads(2)
        ready.set()
        synth(IMAGES)
        inside.append(torch.get_num_threads())
        done.set()

    threading.Thread(target=work).start()
    assert ready.wait(30)
    synth(IMAGES)
    assert done.wait(30)
    assert torch.get_num_threads() == 2 and inside == [2]


def test_saved_params_are_loaded_as_torch_loads_by_default(synth: Synthesizer) -> None:
    out, stored = synth(IMAGES, **CALL), io.BytesIO()
    torch.save(out.params, stored)
    stored.seek(0)
    assert equal(synth(IMAGES, params=torch.load(stored, weights_only=True)), out)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
def test_one_row_of_params_serves_every_image(backend: str, bank: anoaug.TextureBank) -> None:
    if backend == "triton" and (ops.triton_trouble() or not ops.interpreting()):
        pytest.skip("needs Triton's interpreter")
    synth = anoaug.create("draem", textures=bank, p=1.0, seed=0, backend=backend)
    params = synth(IMAGES, **CALL).params
    params = params._replace(table=params.take(slice(0, 1)).table.expand(4, -1))
    out = synth(IMAGES, params=params)
    assert (out.mask == out.mask[:1]).all() and out.label.sum() > 0


def test_params_of_images_of_another_size_are_refused(synth: Synthesizer) -> None:
    params = synth(IMAGES, **CALL).params
    with pytest.raises(ValueError, match=r"\(32, 36\).*got \(40, 36\)"):
        synth(IMAGES[:, :, :32], params=params)


def test_a_converted_table_is_refused(synth: Synthesizer) -> None:
    params = synth(IMAGES, **CALL).params
    with pytest.raises(ValueError, match="float32 table.*do not convert"):
        synth(IMAGES, params=params._replace(table=params.table.double()))


def test_a_recipe_with_given_tensors_needs_none_in_eval_mode() -> None:
    layer = Layer(masks.Foreground() & masks.Given("spot"), sources.Constant(1.0))
    out = Synthesizer(layer, seed=0).eval()(IMAGES)
    assert torch.equal(out.image, IMAGES) and out.mask.sum() == 0


@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
def test_nan_in_a_given_tensor_is_outside(backend: str) -> None:
    if backend == "triton" and (ops.triton_trouble() or not ops.interpreting()):
        pytest.skip("needs Triton's interpreter")
    spot = torch.full((4, 1, 40, 36), float("nan"))
    spot[:, :, 5, 6] = 1.0
    mask = masks.Given("spot") | (masks.Given("spot") & masks.Rectangle())
    layer = Layer(mask, sources.Constant(1.0), blends.Feather(0.1))
    out = Synthesizer(layer, seed=0, p=1.0, backend=backend)(IMAGES, slots={"spot": spot})
    assert out.mask.flatten(1).sum(1).tolist() == [1.0] * 4 and out.mask[:, 0, 5, 6].all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [5, 6, 7])
def test_every_channel_has_its_own_noise_in_the_kernel(channels: int) -> None:
    if ops.triton_trouble() or not ops.interpreting():
        pytest.skip("needs Triton's interpreter")
    images = IMAGES[:, :1].expand(-1, channels, -1, -1).contiguous()
    layers = [Layer(masks.Rectangle(), sources.Noise())]
    options = {"seed": 0, "p": 1.0, "clean": "output", "label_rule": "changed"}
    ours = Synthesizer(*layers, backend="triton", **options)(images)
    truth = Synthesizer(*layers, backend="torch", **options)(images)
    assert equal(ours, truth) and torch.equal(ours.clean, truth.clean)


def test_a_batch_donor_may_be_recoloured() -> None:
    source = sources.BatchDonor(photometric=ColorJitter(0.1, 0.1, 0.1, 0.1))
    out = Synthesizer(Layer(masks.Rectangle(), source), p=1.0, seed=0)(IMAGES)
    assert out.label.all()


def test_a_colour_may_be_given_by_channel() -> None:
    layer = Layer(masks.Everywhere(), sources.Constant((0.8, 0.2, 0.0)))
    out = Synthesizer(layer, p=1.0, seed=0)(IMAGES)
    assert (out.image == torch.tensor([204, 51, 0], dtype=torch.uint8).view(3, 1, 1)).all()


def test_pasting_the_image_onto_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="mask with a box"):
        Layer(masks.Perlin(), sources.Own())


def test_and_between_masks_is_refused() -> None:
    with pytest.raises(TypeError, match="expected & | ~"):
        masks.Perlin() and masks.Foreground()


@pytest.mark.parametrize("change", ["dtype", "planes"])
def test_what_a_normal_transform_may_do(change: str) -> None:
    def half(images: torch.Tensor) -> torch.Tensor:
        return images.float() / 510

    synth = Synthesizer(
        Layer(masks.Rectangle(), sources.Constant(1.0)), p=1.0, seed=0, normal_transform=half
    )
    if change == "dtype":
        assert synth(IMAGES).image.max() == 1.0
    else:
        with pytest.raises(ValueError, match="foreground: expected none together"):
            synth(IMAGES, foreground=torch.ones(4, 1, 40, 36))
