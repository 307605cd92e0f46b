"""A OneOf as a module: state, copies, modes, loaders, torch.compile."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from anoaug import AnomalyCollate, AnomalyLoader, IndexedDataset, Layer, OneOf, Params, Synthesizer
from anoaug.masks import Given
from anoaug.sources import Constant
from tests.loaders.samples import Records, by_number, make_images, pairs
from tests.oneof.samples import (
    COUNT,
    IMAGES,
    bits,
    make,
    numbered,
    same,
    white,
)


class TestModule:
    def test_state_dict_continues_the_stream(self) -> None:
        synth = make(seed=5)
        synth.set_epoch(2)
        synth(IMAGES)
        stored = io.BytesIO()
        torch.save(synth.state_dict(), stored)
        assert len(stored.getvalue()) < 2000
        stored.seek(0)
        twin = make(seed=6)
        twin.load_state_dict(torch.load(stored, weights_only=True))
        assert (twin.seed, twin.epoch) == (5, 2) and same(twin(IMAGES), synth(IMAGES))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "copied",
        [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))],
        ids=["deepcopy", "pickle"],
    )
    def test_copies_count_on_their_own(self, copied: Any) -> None:
        synth = make()
        synth(IMAGES)
        twin = copied(synth)
        twin.p = twin.p  # its own members take it
        first, second = synth(IMAGES), synth(IMAGES)
        assert same(twin(IMAGES), first) and same(twin(IMAGES), second)

    def test_a_copy_has_its_own_p_and_weights(self) -> None:
        synth = make()
        expected = make()(IMAGES)
        twin = copy.deepcopy(synth)
        twin.p, twin.weights = 0.0, (0, 0, 1)
        assert same(synth(IMAGES), expected)

    def test_the_epoch_is_like_a_synthesizers(self) -> None:
        synth = make()
        with pytest.raises(ValueError, match="expected an epoch"):
            synth(IMAGES, index=range(COUNT))
        synth.set_epoch(3)
        assert synth.epoch == 3
        assert same(synth(IMAGES, index=range(COUNT)), make()(IMAGES, **numbered()))

    def test_eval_is_the_identity(self) -> None:
        synth = make(clean="output").eval()
        out = synth(IMAGES)
        assert torch.equal(out.image, IMAGES) and torch.equal(out.clean, IMAGES)  # type: ignore[arg-type]
        assert not out.mask.any() and not out.label.any() and not out.kind.any()
        assert same(synth.train()(IMAGES), make(clean="output")(IMAGES))

    def test_active_always(self) -> None:
        assert same(make(active="always").eval()(IMAGES), make()(IMAGES))

    def test_is_a_synthesizer_without_weights_to_train(self) -> None:
        synth = make()
        assert isinstance(synth, Synthesizer) and list(synth.children()) == []
        assert list(synth.parameters()) == [] == list(synth.buffers())
        assert synth.share_memory() is synth and synth._numbering.state.is_shared()
        table = synth.sample(IMAGES, **numbered())
        assert torch.equal(bits(table), bits(make()(IMAGES, **numbered()).params.table))
        assert re.fullmatch(r"OneOf\(.*p=0.7, seed=0, \{draem: 0.5, .*\}\)", repr(synth))

    def test_the_content_is_looked_at_once_or_always(self) -> None:
        bad = torch.full((2, 3, 40, 36), 7.0)
        with pytest.raises(ValueError, match="divide by 255"):
            make()(bad)
        synth = make(validate=True)
        synth(IMAGES / 255)
        with pytest.raises(ValueError, match="divide by 255"):
            synth(bad)

    def test_what_it_has_not(self) -> None:
        synth = make()
        with pytest.raises(ValueError, match="capture: .*launches depend"):
            synth.capture(IMAGES)
        with pytest.raises(ValueError, match="laws: .*members"):
            synth.laws(3)

    def test_normal_transform_of_all_rows(self) -> None:
        synth = make(normal_transform=lambda x: x.flip(3), p=0.5)
        out = synth(IMAGES, **numbered())
        assert torch.equal(out.clean, IMAGES.flip(3))  # type: ignore[arg-type]
        assert same(out, make(p=0.5)(IMAGES.flip(3), **numbered()))
        assert same(synth(out.clean, params=out.params), out)

    def test_as_a_normal_transform(self) -> None:
        synth = white(normal_transform=make(p=1.0, seed=4), p=0.0)
        out = synth(IMAGES, **numbered())
        assert torch.equal(out.image, make(p=1.0, seed=4)(IMAGES, **numbered()).image)

    def test_global_generators_are_left_alone(self) -> None:
        before = torch.get_rng_state()
        make()(IMAGES)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_modes(self, context: Any) -> None:
        with context():
            out = make(mean=[0.4], std=[0.2])(IMAGES, **numbered())
        assert same(out, make(mean=[0.4], std=[0.2])(IMAGES, **numbered()))


class TestLoaders:
    def synth(self) -> OneOf:
        return make({"draem": 1, "cutpaste": 1}, p=1.0)

    def test_loader_of_tuples(self) -> None:
        data = IndexedDataset(pairs())
        small = AnomalyLoader(DataLoader(data, batch_size=3, shuffle=True), self.synth())
        large = AnomalyLoader(DataLoader(data, batch_size=10), self.synth())
        for _ in range(2):
            assert torch.equal(by_number(small), by_number(large))

    def test_loader_of_mappings(self) -> None:
        layer = Layer(Given("spot"), Constant(1.0))
        synth = make([(Synthesizer(layer, name="spot"), 1), ("cutpaste", 1)], p=1.0)
        spot = torch.zeros(1, 32, 32)
        spot[:, 4:9, 4:9] = 1

        class WithSpot(Records):
            def __getitem__(self, index: int) -> dict[str, Any]:
                return {**super().__getitem__(index), "spot": spot}

        out = next(iter(AnomalyLoader(DataLoader(IndexedDataset(WithSpot()), 10), synth)))
        rows = out["kind"] == synth.kinds.index("spot")
        assert 0 < rows.sum() < 10 and (out["mask"][rows] == spot).all()
        assert isinstance(out["anomaly_params"], Params)
        truth = synth(
            make_images(), index=range(10), epoch=0, slots={"spot": spot.expand(10, 1, 32, 32)}
        )
        assert torch.equal(out["image"], truth.image)

    def test_state_of_a_loader(self) -> None:
        loader = AnomalyLoader(DataLoader(pairs(), batch_size=5), self.synth())
        for _ in loader:
            pass
        state = loader.state_dict()
        twin = AnomalyLoader(DataLoader(pairs(), batch_size=5), self.synth())
        twin.load_state_dict(state)
        assert torch.equal(by_number(twin), by_number(loader))

    @pytest.mark.slow
    def test_two_workers(self) -> None:
        data = IndexedDataset(pairs())
        collate = AnomalyCollate(self.synth())
        loader = DataLoader(
            data, batch_size=3, num_workers=2, persistent_workers=True, collate_fn=collate
        )
        truth = AnomalyLoader(DataLoader(data, batch_size=10), self.synth())
        for epoch in range(2):
            collate.set_epoch(epoch)
            assert torch.equal(by_number(loader), by_number(truth))

    def test_a_contact_sheet(self) -> None:
        pytest.importorskip("PIL.Image")
        from anoaug import viz

        sheet = viz.preview(make(p=1.0, mean=[0.5], std=[0.5]), IMAGES, rows=COUNT)
        assert sheet.height > sheet.width


class TestCompile:
    @pytest.fixture
    def counter(self) -> Iterator[Any]:
        testing = pytest.importorskip("torch._dynamo.testing", exc_type=ImportError)
        torch._dynamo.reset()
        yield testing.CompileCounterWithBackend("aot_eager")
        torch._dynamo.reset()

    @pytest.mark.slow
    def test_leaves_the_call_out_and_settles(self, counter: Any) -> None:
        synth, eager = make(), make()

        def step(synth: OneOf, images: Tensor) -> Tensor:
            out = synth(images + 1)
            return out.image.float().mean() + out.mask.sum()

        compiled = torch.compile(step, backend=counter)
        for call in range(6):
            batch = IMAGES[: 3 + call]
            assert compiled(synth, batch) == step(eager, batch)
            if call == 1:
                settled = counter.frame_count
        assert 2 <= counter.frame_count == settled

    @pytest.mark.slow
    def test_the_module_itself(self, counter: Any) -> None:
        compiled, eager = torch.compile(make(), backend=counter), make()
        out = compiled(IMAGES)
        assert same(out, eager(IMAGES)) and same(compiled(IMAGES, params=out.params), out)

    def test_fullgraph_is_refused(self, counter: Any) -> None:
        with pytest.raises(Exception, match="disable"):
            torch.compile(make(), backend=counter, fullgraph=True)(IMAGES)
