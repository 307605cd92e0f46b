"""The op table: schemas and fakes hold, compiled equals eager, the right backend is chosen."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, Synthesizer, TextureBank, ops, recipe
from anoaug.blends import Feather, Opacity
from anoaug.masks import Given, Perlin, Rectangle
from anoaug.sources import Donor, Own, Texture

generator = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (4, 3, 40, 36), dtype=torch.uint8, generator=generator)
BANK = TextureBank.from_tensors(IMAGES)
DONORS = DonorBank.from_tensors(IMAGES, categories=["a", "b"] * 2)
LAST = torch.channels_last

MAKERS: dict[str, Callable[..., Synthesizer]] = {
    "draem": lambda **k: anoaug.create("draem", textures=BANK, **{"seed": 0, **k}),
    "cutpaste_union": lambda **k: anoaug.create("cutpaste_union", **{"seed": 0, **k}),
    "views": lambda **k: anoaug.create("cutpaste_union", views=True, **{"seed": 0, **k}),
    "donors": lambda **k: Synthesizer(
        Layer(Perlin(), Donor(DONORS), Feather()), Layer(Rectangle(), Own()), **{"seed": 0, **k}
    ),
    "no bytes": lambda **k: Synthesizer(
        Layer(Perlin() & Rectangle(rotation=(-9, 9)), Donor(DONORS), Feather()),
        Layer(Rectangle(), Texture(BANK, None, (-9, 9)), Opacity()),
        **{"seed": 0, **k},
    ),
}

# ---- what an op is called with -------------------------------------------------------------------


def sample_arguments(name: str) -> tuple[Any, ...]:
    synth = MAKERS[name](p=1.0)
    banks, histograms = synth._binding.tensors(IMAGES.device, 3)
    index, state = torch.tensor([3, 1, 2**40, 0]), torch.tensor([7, 2])
    category, numbers = torch.tensor([0, -1, 0, 0]), synth._binding.numbers
    laws = synth.laws(3)
    return (index, state, category, banks, histograms, numbers, laws, 40, 36, False)


def render_arguments(name: str = "draem", **changes: Any) -> tuple[Any, ...]:
    arguments = sample_arguments(name)
    known = {
        "image": IMAGES,
        "table": ops.sample(*arguments),
        "slots": [],
        "banks": arguments[3],
        "norm": None,
        "layout": recipe.layout_of(arguments[6]),
        "foreground": -1,
        "changed": False,
        "soft": False,
        "clean": False,
        "dtype": torch.uint8,
        "channels_last": False,
        "backend": "auto",
    }
    assert not changes.keys() - known.keys()
    return tuple({**known, **changes}.values())


NORM = torch.tensor([[1 / 50.0] * 3, [-2.0] * 3])
RENDERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reference": {"backend": "torch"},
    "normalised": {"norm": NORM, "dtype": torch.float16, "clean": True},
    "channels last": {"image": IMAGES.contiguous(memory_format=LAST), "channels_last": True},
    "channels last, clean": {"channels_last": True, "clean": True, "changed": True},
    "confined": {"slots": [torch.ones(4, 1, 40, 36)], "foreground": 0, "soft": True},
}


@pytest.fixture
def opcheck() -> Any:
    """``torch.library.opcheck``, where this torch's compiler knows the Triton beside it."""
    pytest.importorskip("torch.testing._internal.optests", exc_type=ImportError)
    return torch.library.opcheck


class TestContract:
    """``opcheck``: schema, autograd registration, fake tensors, AOT with dynamic shapes."""

    @pytest.mark.parametrize("name", MAKERS)
    def test_sample(self, name: str, opcheck: Any) -> None:
        """Without the comparison of values, in which bytes that read as NaN equal nothing."""
        static = ("test_schema", "test_autograd_registration", "test_faketensor")
        opcheck(ops.sample, sample_arguments(name), test_utils=static)

    @pytest.mark.slow
    def test_sample_with_values(self, opcheck: Any) -> None:
        arguments = sample_arguments("no bytes")
        assert not ops.sample(*arguments).isnan().any()
        opcheck(ops.sample, arguments)

    @pytest.mark.slow
    @pytest.mark.parametrize("case", RENDERS)
    def test_render(self, case: str, opcheck: Any) -> None:
        opcheck(ops.render, render_arguments(**RENDERS[case]))

    @pytest.mark.parametrize("backend", ["auto", "torch"])
    def test_field(self, backend: str, opcheck: Any) -> None:
        arguments = sample_arguments("draem")
        layout = recipe.layout_of(arguments[6])
        opcheck(ops.field, (ops.sample(*arguments), [], layout, 40, 36, backend))


def faked(mode: FakeTensorMode, value: Any) -> Any:
    if isinstance(value, Tensor):
        return mode.from_tensor(value)
    return [faked(mode, each) for each in value] if isinstance(value, list) else value


def facts(value: Tensor) -> tuple[Any, ...]:
    # The stride of an axis of length 1 is of no consequence.
    strides = [s for s, n in zip(value.stride(), value.shape, strict=True) if n > 1]
    return value.shape, value.dtype, strides, value.device


class TestFakes:
    """A fake tensor run knows shape, dtype, memory order and device without computing."""

    @pytest.mark.parametrize("name", MAKERS)
    def test_sample(self, name: str) -> None:
        arguments = sample_arguments(name)
        with FakeTensorMode() as mode:
            fake = ops.sample(*[faked(mode, each) for each in arguments])
        assert facts(fake) == facts(ops.sample(*arguments))

    @pytest.mark.slow
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("case", RENDERS)
    def test_render(self, case: str, channels: int) -> None:
        synth = MAKERS["cutpaste_union"]()
        image = IMAGES[:, :1].repeat(1, channels, 1, 1)
        params = synth(image).params
        changes = {"image": image, **RENDERS[case], "table": params.table, "layout": params.layout}
        if "norm" in changes:
            changes["norm"] = NORM[:, :1].repeat(1, channels)
        if case == "channels last":
            changes["image"] = image.contiguous(memory_format=LAST)
        arguments = render_arguments(**changes)
        with FakeTensorMode() as mode:
            fakes = ops.render(*[faked(mode, each) for each in arguments])
        assert [facts(f) for f in fakes] == [facts(r) for r in ops.render(*arguments)]

    def test_field(self) -> None:
        arguments = sample_arguments("draem")
        table, layout = ops.sample(*arguments), recipe.layout_of(arguments[6])
        with FakeTensorMode() as mode:
            fake = ops.field(mode.from_tensor(table), [], layout, 40, 36, "auto")
        assert facts(fake) == facts(ops.field(table, [], layout, 40, 36, "auto"))


# ---- compiled ------------------------------------------------------------------------------------


@pytest.fixture
def counter() -> Iterator[Any]:
    """A backend that counts graphs; compiled code and its count do not outlive the test."""
    # An ImportError: this torch's compiler does not know the Triton beside it.
    testing = pytest.importorskip("torch._dynamo.testing", exc_type=ImportError)
    torch._dynamo.reset()
    yield testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


def same(first: AnomalyBatch, second: AnomalyBatch) -> bool:
    pairs = list(zip(first[:5], second[:5], strict=True))
    pairs.append((first.params.table.view(torch.int32), second.params.table.view(torch.int32)))
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)  # type: ignore[arg-type]


def numbered(style: str, synth: Synthesizer, call: int) -> dict[str, Any]:
    """Arguments of the ``call``-th call: no two alike."""
    index = torch.arange(4) + 10 * call
    if style == "counter":
        return {}
    if style == "set_epoch":
        synth.set_epoch(3 + call)
        return {"index": index}
    return {"index": index, "epoch": 3 + call}


def test_an_exported_call_is_the_two_ops() -> None:
    """With index and epoch given; a counter would be state of the program."""

    class Call(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.synth = MAKERS["draem"](p=1.0)

        def forward(self, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            out = self.synth(images, index=index, epoch=1)
            return out.image, out.mask

    call = Call()
    call(IMAGES, torch.arange(4))  # the first call reads the banks
    program = torch.export.export(call, (IMAGES, torch.arange(4)))
    ours = [node.target for node in program.graph.nodes if "anoaug" in str(node.target)]
    assert ours == [ops.sample, ops.render]
    for index in (torch.arange(4), torch.tensor([7, 0, 2**40, 3])):
        for mine, eager in zip(program.module()(IMAGES, index), call(IMAGES, index), strict=True):
            assert torch.equal(mine, eager)


class TestCompile:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "style"),
        [
            ("draem", "counter"),
            ("draem", "set_epoch"),
            ("draem", "epoch"),
            ("cutpaste_union", "epoch"),
            ("views", "counter"),
        ],
    )
    def test_equals_eager_and_settles(self, name: str, style: str, counter: Any) -> None:
        """Epochs, indices and the counter are data: they make no new graphs."""
        keywords: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.2] * 3, "clean": "output"}
        synth, eager = (MAKERS[name](**keywords) for _ in range(2))
        synth(IMAGES), eager(IMAGES)  # the first call reads the banks
        compiled = torch.compile(synth, fullgraph=True, backend=counter)
        for call in range(6):
            out = compiled(IMAGES, **numbered(style, synth, call))
            assert same(out, eager(IMAGES, **numbered(style, eager, call)))
            if call == 1:
                settled = counter.frame_count
        assert counter.frame_count == settled <= 2

    @pytest.mark.slow
    @pytest.mark.parametrize("name", MAKERS)
    def test_on_the_very_first_call(self, name: str, counter: Any) -> None:
        bank = TextureBank.from_tensors(IMAGES.clone())
        synth, eager = MAKERS[name](), MAKERS[name]()
        if name == "draem":
            synth = anoaug.create("draem", textures=bank, seed=0)
        compiled = torch.compile(synth, fullgraph=True, backend=counter)
        assert same(compiled(IMAGES), eager(IMAGES))
        assert same(compiled(IMAGES), eager(IMAGES))
        assert counter.frame_count == 1

    @pytest.mark.slow
    def test_another_seed_makes_no_graph(self, counter: Any) -> None:
        synth, eager = MAKERS["cutpaste_union"](), MAKERS["cutpaste_union"](seed=-5)
        synth(IMAGES)
        compiled = torch.compile(synth, fullgraph=True, backend=counter)
        compiled(IMAGES)
        synth.load_state_dict(eager.state_dict())
        assert same(compiled(IMAGES), eager(IMAGES)) and counter.frame_count == 1

    @pytest.mark.slow
    def test_other_batch_sizes_make_one_graph(self, counter: Any) -> None:
        synth, eager = MAKERS["draem"](), MAKERS["draem"]()
        synth(IMAGES), eager(IMAGES)
        compiled = torch.compile(synth, fullgraph=True, backend=counter)
        for batch in (IMAGES, IMAGES[:3], IMAGES[:2], IMAGES.repeat(2, 1, 1, 1)):
            assert same(compiled(batch), eager(batch))
        assert counter.frame_count <= 2

    @pytest.mark.slow
    def test_other_image_sizes_make_few_graphs(self, counter: Any) -> None:
        """Otherwise the ninth size would hit the compiler's limit, and ``fullgraph`` raises."""
        synth, eager = MAKERS["cutpaste_union"](), MAKERS["cutpaste_union"]()
        synth(IMAGES), eager(IMAGES)
        compiled = torch.compile(synth, fullgraph=True, backend=counter)
        for cut in range(6):
            batch = IMAGES[:, :, cut:, 2 * cut :].contiguous()
            assert same(compiled(batch), eager(batch))
        assert counter.frame_count <= 3

    @pytest.mark.slow
    def test_everything_a_call_may_bring(self, counter: Any) -> None:
        layers = (Layer(Given("spot"), Texture(BANK), Opacity()), Layer(Rectangle(), Donor(DONORS)))
        synth, eager = (Synthesizer(*layers, p=0.5, seed=0, label="soft") for _ in range(2))
        synth(IMAGES, slots={"spot": IMAGES[:, :1]}), eager(IMAGES, slots={"spot": IMAGES[:, :1]})
        compiled = torch.compile(synth, fullgraph=True, backend=counter)
        inside = torch.zeros(4, 1, 40, 36, dtype=torch.bool)
        inside[..., 10:30] = True
        brought: dict[str, Any] = {
            "slots": {"spot": (IMAGES[:, :1] > 99)},
            "foreground": inside.float(),
            "mask": inside & (IMAGES[:, :1] > 250),
            "label": torch.tensor([0, 0, 1, 0]),
            "category": torch.tensor([0, 1, 1, 0]),
        }
        out, expected = compiled(IMAGES, **brought), eager(IMAGES, **brought)
        assert same(out, expected)
        del brought["category"]
        again = compiled(IMAGES, params=out.params, **brought)
        assert same(again, expected)

    @pytest.mark.slow
    def test_eval_is_the_identity(self, counter: Any) -> None:
        synth = MAKERS["cutpaste_union"]().eval()
        out = torch.compile(synth, fullgraph=True, backend=counter)(IMAGES)
        assert torch.equal(out.image, IMAGES) and not out.mask.any()

    @pytest.mark.slow
    def test_reads_no_content(self, counter: Any) -> None:
        """Looking at the values would break the graph, also with ``validate``."""
        synth = MAKERS["cutpaste_union"](validate=True, p=0.0)
        image = torch.full((4, 3, 40, 36), 7.0)
        out = torch.compile(synth, fullgraph=True, backend=counter)(image)
        assert torch.equal(out.image, image)

    def test_refusals_survive(self, counter: Any) -> None:
        compiled = torch.compile(MAKERS["cutpaste_union"](), backend=counter)
        with pytest.raises(Exception, match=r"images\[None\]"):
            compiled(IMAGES[0])

    @pytest.mark.slow
    def test_inductor(self, counter: Any) -> None:
        """Between code that Inductor does fuse."""
        synth, eager = MAKERS["draem"](), MAKERS["draem"]()

        def step(synth: Synthesizer, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            out = synth(image.float() / 255)
            return out.image * 0.5 + 0.25, out.mask.mean((1, 2, 3)), out.boxes()

        step(synth, IMAGES), step(eager, IMAGES)
        compiled = torch.compile(step, fullgraph=True, backend="inductor")
        for _ in range(3):
            for ours, theirs in zip(compiled(synth, IMAGES), step(eager, IMAGES), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# ---- which backend -------------------------------------------------------------------------------

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.fixture
def fresh() -> Iterator[None]:
    """What is said once or found out once is forgotten before and after."""
    for cached in (ops._say_once, ops.triton_trouble):
        cached.cache_clear()
    yield
    for cached in (ops._say_once, ops.triton_trouble):
        cached.cache_clear()


@pytest.fixture
def no_triton(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "triton" else found(n, *a)
    )


@pytest.fixture
def old_triton(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.3.1+git1"))


@pytest.fixture
def new_triton(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.10.0"))


class TestBackend:
    def test_auto_is_the_driver_on_the_cpu_and_triton_on_cuda(self, new_triton: None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ops.resolve_backend("auto", CPU) == "cpu"
            assert ops.resolve_backend("auto", CUDA) == "triton"

    def test_torch_is_the_reference_everywhere(self) -> None:
        assert {ops.resolve_backend("torch", d) for d in (CPU, CUDA, MPS)} == {"torch"}

    def test_triton_by_name(self, new_triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ops, "interpreting", lambda: False)
        assert ops.resolve_backend("triton", CUDA) == "triton"
        monkeypatch.setattr(ops, "interpreting", lambda: True)
        assert ops.resolve_backend("triton", CPU) == "triton"

    def test_triton_by_name_without_an_interpreter(
        self, new_triton: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ops, "interpreting", lambda: False)
        with pytest.raises(RuntimeError, match=r"on cpu.*'cuda'.*TRITON_INTERPRET=1.*'auto'"):
            MAKERS["cutpaste_union"](backend="triton")(IMAGES)

    def test_triton_by_name_where_it_is_missing(self, no_triton: None) -> None:
        with pytest.raises(RuntimeError, match=r"not installed.*anoaug\[triton\].*'auto'"):
            MAKERS["cutpaste_union"](backend="triton")(IMAGES)

    def test_triton_by_name_where_it_is_too_old(self, old_triton: None) -> None:
        with pytest.raises(RuntimeError, match=r"3\.3\.1.*older than 3\.4.*anoaug\[triton\]"):
            ops.resolve_backend("triton", CUDA)

    @pytest.mark.parametrize("trouble", ["no_triton", "old_triton"])
    def test_auto_without_triton_says_so_once(
        self, trouble: str, request: pytest.FixtureRequest
    ) -> None:
        request.getfixturevalue(trouble)
        with pytest.warns(UserWarning, match=r"Triton.*torch reference runs on cuda") as caught:
            assert [ops.resolve_backend("auto", CUDA) for _ in range(3)] == ["torch"] * 3
        assert len(caught) == 1

    @pytest.mark.parametrize("kind", ["mps", "xpu"])
    def test_other_accelerators_run_the_reference_and_say_so_once(
        self, kind: str, fresh: None
    ) -> None:
        with pytest.warns(UserWarning, match=f"torch reference runs on {kind}") as caught:
            for _ in range(3):
                assert ops.resolve_backend("auto", torch.device(kind)) == "torch"
        assert len(caught) == 1

    def test_the_cpu_needs_no_triton_and_says_nothing(self, no_triton: None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert MAKERS["cutpaste_union"](p=1.0)(IMAGES).label.all()

    def test_the_environment_sets_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANOAUG_BACKEND", "torch")
        assert MAKERS["cutpaste_union"]().backend == "torch"
        assert MAKERS["cutpaste_union"](backend="auto").backend == "auto"
        monkeypatch.delenv("ANOAUG_BACKEND")
        assert MAKERS["cutpaste_union"]().backend == "auto"


def test_only_foreign_layouts_are_copied() -> None:
    """The kernels read planar and interleaved images in place."""
    last = IMAGES.contiguous(memory_format=LAST)
    assert ops.natively_laid_out(IMAGES) is IMAGES and ops.natively_laid_out(last) is last
    turned = IMAGES.transpose(2, 3)
    copy = ops.natively_laid_out(turned)
    assert copy.is_contiguous() and torch.equal(copy, turned)
