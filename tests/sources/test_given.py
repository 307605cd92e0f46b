"""Pictures handed in at call time: every backend reads them alike, and the door refuses others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import anoaug
from anoaug import blends, masks, sources
from tests.drawing import DEVICE, EVERYWHERE, needs_triton, painted, pixels

SCAR = masks.Rectangle(height=(8, 20), width=(9, 19), rotation=(-90, 90))
DTYPES = [torch.uint8, torch.uint16, torch.float32, torch.bfloat16]


def of_dtype(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype.is_floating_point:
        return (values / 255).to(dtype)
    return (values.int() * 257).to(dtype) if dtype == torch.uint16 else values


def numbers(values: torch.Tensor) -> torch.Tensor:
    """As floats: torch compares no uint16."""
    return values.float()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_picture_shows_inside_the_mask(dtype: torch.dtype, channels: int) -> None:
    image = of_dtype(pixels(4, channels, 33, 50), dtype)
    other = of_dtype(pixels(4, channels, 33, 50, seed=1), dtype)
    out = painted(sources.Given(), SCAR)(image, slots={"what": other})
    assert out.image.dtype == dtype and out.label.tolist() == [1] * 4
    inside = out.mask.bool()
    assert 0 < inside.float().mean() < 1
    assert torch.equal(numbers(out.image), torch.where(inside, numbers(other), numbers(image)))


def blended(backend: str, image: torch.Tensor, other: torch.Tensor, **more: Any) -> Any:
    """Two layers of pictures beside one of a bank, so that the numbers have to be right."""
    bank = anoaug.TextureBank.from_tensors(pixels(3, image.shape[1], 20, 21, seed=9))
    synth = anoaug.Synthesizer(
        anoaug.Layer(masks.Perlin(threshold=0.0), sources.Given("first"), blends.Opacity()),
        anoaug.Layer(SCAR, sources.Texture(bank), blends.Opacity()),
        anoaug.Layer(SCAR, sources.Given("second"), blends.Opacity(mix="add"), count=(1, 2)),
        p=0.8,
        seed=3,
        backend=backend,
        **more,
    )
    slots = {"second": other.flip(0), "first": other}
    return synth(image, index=range(len(image)), epoch=0, slots=slots)


def expect_equal(first: anoaug.AnomalyBatch, second: anoaug.AnomalyBatch) -> None:
    for name in ("image", "mask", "label", "kind"):
        ours, truth = (numbers(getattr(batch, name)) for batch in (first, second))
        assert torch.equal(ours, truth), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_cpu_driver_equals_the_reference(dtype: torch.dtype) -> None:
    image, other = (of_dtype(pixels(5, 3, 33, 50, seed=s), dtype) for s in (0, 1))
    truth = blended("torch", image, other)
    assert 0.2 < (numbers(truth.image) != numbers(image)).float().mean() < 0.9
    expect_equal(blended("auto", image, other), truth)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize(
    ("dtype", "channels"), [*zip(DTYPES[:3], (1, 3, 6), strict=True), (DTYPES[0], 3)], ids=str
)
def test_the_kernel_equals_the_reference(dtype: torch.dtype, channels: int) -> None:
    image, other = (of_dtype(pixels(3, channels, 33, 50, seed=s), dtype).to(DEVICE) for s in (0, 1))
    expect_equal(blended("triton", image, other), blended("torch", image, other))


def test_views_show_the_pictures_again() -> None:
    image, other = pixels(2, 3, 33, 50), pixels(2, 3, 33, 50, seed=1)
    synth = painted(sources.Given(), EVERYWHERE, views=True)
    out = synth(image, slots={"what": other})
    assert torch.equal(out.image, torch.cat([image, other]))


def test_a_picture_may_lie_in_memory_as_it_likes() -> None:
    image, other = pixels(2, 3, 33, 50), pixels(2, 3, 33, 50, seed=1)
    synth = painted(sources.Given(), EVERYWHERE)
    interleaved = other.contiguous(memory_format=torch.channels_last)
    assert torch.equal(synth(image, slots={"what": interleaved}).image, other)
    one = other[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(synth(image, slots={"what": one}).image, one)


def test_a_replay_gives_the_same_with_the_same_picture() -> None:
    image, other = pixels(4, 3, 33, 50), pixels(4, 3, 33, 50, seed=1)
    synth = painted(sources.Given(), SCAR)
    first = synth(image, slots={"what": other})
    again = synth(image, slots={"what": other}, params=first.params)
    assert torch.equal(first.image, again.image)


def test_one_name_is_one_picture() -> None:
    layers = [anoaug.Layer(SCAR, sources.Given("a")) for _ in range(2)]
    synth = anoaug.Synthesizer(*layers, p=1.0, seed=0)
    assert synth.slots == ("a",)
    other = pixels(2, 3, 33, 50, seed=1)
    out = synth(torch.zeros_like(other), slots={"a": other})
    assert torch.equal(out.image, torch.where(out.mask.bool(), other, 0))


def test_eval_needs_no_picture() -> None:
    image = pixels(2, 3, 33, 50)
    out = painted(sources.Given(), EVERYWHERE).eval()(image)
    assert torch.equal(out.image, image) and not out.mask.any()


def test_a_normal_sample_shows_nothing_of_it() -> None:
    image = pixels(2, 3, 33, 50)
    synth = painted(sources.Given(), EVERYWHERE)
    synth.p = 0.0
    out = synth(image, slots={"what": 255 - image})
    assert torch.equal(out.image, image)


IMAGE = pixels(2, 3, 33, 50)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, ValueError, r"what: this recipe needs it.*slots=.*B, C, H, W"),
        (IMAGE.numpy(), TypeError, "what: expected a tensor"),
        (IMAGE[:, :1], ValueError, r"what: expected shape \[2, 3, 33, 50\].*expand"),
        (IMAGE[..., :-1], ValueError, "what: expected shape"),
        (IMAGE[0], ValueError, "what: expected shape"),
        (IMAGE / 255, TypeError, "what: expected torch.uint8 like the images, got torch.float32"),
        (IMAGE.to("meta"), ValueError, "what: expected device cpu"),
    ],
)
def test_what_is_no_picture_is_refused(given: Any, error: type[Exception], message: str) -> None:
    synth = painted(sources.Given(), EVERYWHERE)
    with pytest.raises(error, match=message):
        synth(IMAGE, slots=None if given is None else {"what": given})


def test_a_picture_that_nobody_asked_for_is_refused() -> None:
    synth = painted(sources.Given("a"), EVERYWHERE)
    with pytest.raises(ValueError, match=r"expected only \['a'\], got \['b'\]"):
        synth(IMAGE, slots={"a": IMAGE, "b": IMAGE})


def test_a_mask_and_a_picture_need_two_names() -> None:
    with pytest.raises(ValueError, match=r"\['x'\] for both; rename one"):
        painted(sources.Given("x"), masks.Given("x"))


@pytest.fixture
def counter() -> Iterator[Any]:
    testing = pytest.importorskip("torch._dynamo.testing", exc_type=ImportError)
    torch._dynamo.reset()
    yield testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("views", [False, True])
def test_a_call_compiles_to_one_graph(counter: Any, views: bool) -> None:
    """Other pictures are data and make no new graph."""
    first, eager = (painted(sources.Given(), SCAR, views=views) for _ in range(2))
    compiled = torch.compile(first, fullgraph=True, backend=counter)
    for call in range(3):
        slots = {"what": pixels(2, 3, 33, 50, seed=call)}
        ours, truth = (
            synth(IMAGE, index=torch.arange(2) + call, epoch=0, slots=slots)
            for synth in (compiled, eager)
        )
        assert torch.equal(ours.image, truth.image) and torch.equal(ours.mask, truth.mask)
    assert counter.frame_count == 1


@pytest.mark.gpu
def test_a_captured_picture_is_a_static_buffer() -> None:
    image = IMAGE.to("cuda")
    synth = painted(sources.Given(), SCAR)
    captured = synth.capture(image, slots={"what": image})
    other = pixels(2, 3, 33, 50, seed=7).to("cuda")
    ours = captured(image, index=range(2), epoch=5, slots={"what": other})
    truth = synth(image, index=range(2), epoch=5, slots={"what": other})
    assert torch.equal(ours.image, truth.image) and torch.equal(ours.mask, truth.mask)
