"""Which sample a row is: a function of (seed, epoch, index); the counter; what copies both."""

from __future__ import annotations

import copy
import io
import pickle
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, Synthesizer, TextureBank
from anoaug.blends import Opacity
from anoaug.masks import Perlin, Rectangle
from anoaug.photometric import RandomOps
from anoaug.sources import Constant, Donor, Noise, Own, Texture

COUNT = 12


def dataset(dtype: torch.dtype = torch.uint8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(COUNT, 3, 40, 36, generator=generator) * 255).to(dtype)


DATA = dataset()
TEXTURES = TextureBank.from_tensors(DATA[:4])
DONORS = DonorBank.from_tensors(DATA[4:], categories=["a", "b"] * 4)


def make(seed: int | None = 0, **keywords: Any) -> Synthesizer:
    """All sources that promise purity, in one recipe."""
    return Synthesizer(
        Layer(Perlin((0, 3), 0.3), Texture(TEXTURES, RandomOps.draem()), Opacity()),
        Layer(Rectangle(rotation=(-45, 45)), Own()),
        Layer(Rectangle(), Donor(DONORS), count=(0, 1)),
        Layer(Perlin(), Noise()),
        seed=seed,
        **{"p": 0.7, "clean": None, **keywords},
    )


def same(first: AnomalyBatch, second: AnomalyBatch) -> bool:
    pairs = zip(first[:4], second[:4], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)  # type: ignore[arg-type]


def row(out: AnomalyBatch, k: int) -> tuple[Any, ...]:
    # As integers: colour tables read as floats are NaN here and there, and NaN equals nothing.
    bits = out.params.table[k].view(torch.int32)
    return (out.image[k], out.mask[k], out.label[k], out.kind[k], bits)


WHOLE = make()(DATA, index=range(COUNT), epoch=3)


class TestPurity:
    @pytest.mark.slow
    @given(order=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT + 3))
    @settings(max_examples=25, deadline=None)
    def test_a_sample_is_the_same_in_any_batch(self, order: list[int]) -> None:
        """Any size, order and repetition."""
        out = make()(DATA[order], index=order, epoch=3)
        for k, sample in enumerate(order):
            assert all(
                torch.equal(a, b) for a, b in zip(row(out, k), row(WHOLE, sample), strict=True)
            )

    @pytest.mark.parametrize(
        "container",
        [list, tuple, np.array, torch.tensor, lambda x: torch.tensor(x, dtype=torch.int32)],
        ids=["list", "tuple", "numpy", "int64", "int32"],
    )
    def test_the_index_may_come_in_any_container(
        self, container: Callable[[Sequence[int]], Any]
    ) -> None:
        out = make()(DATA, index=container(list(range(COUNT))), epoch=3)
        assert same(out, WHOLE)

    def test_parameters_and_masks_do_not_depend_on_the_dtype(self) -> None:
        for image in (DATA.to(torch.uint16) * 257, DATA / 255, (DATA / 255).half()):
            out = make()(image, index=range(COUNT), epoch=3)
            assert torch.equal(out.mask, WHOLE.mask) and torch.equal(out.kind, WHOLE.kind)

    def test_nor_do_masks_on_the_channels(self) -> None:
        one, three = (
            anoaug.create("cutpaste", seed=0)(image, index=range(COUNT), epoch=0)
            for image in (DATA[:, :1], DATA)
        )
        assert torch.equal(one.mask, three.mask)

    def test_any_index_up_to_the_last(self) -> None:
        """A dataset may number 2**47 samples, more than a float or an int32 holds."""
        last = 2**47 - 1
        index = [0, 2**32, last - 2**32, last]
        out = make(p=1.0)(DATA[:1].expand(4, -1, -1, -1), index=index, epoch=2**32 - 1)
        tables = {tuple(line) for line in out.params.table.view(torch.int32).tolist()}
        assert len(tables) == 4

    @pytest.mark.parametrize("other", [{"epoch": 4}, {"seed": 1}], ids=str)
    def test_another_epoch_or_seed_is_another_draw(self, other: dict[str, int]) -> None:
        call = {"seed": 0, "epoch": 3, **other}
        out = make(call["seed"])(DATA, index=range(COUNT), epoch=call["epoch"])
        moved = (out.mask != WHOLE.mask).flatten(1).any(1)
        assert moved.sum() > COUNT // 2

    def test_set_epoch_is_the_argument(self) -> None:
        synth = make()
        synth.set_epoch(3)
        assert synth.epoch == 3
        assert same(synth(DATA, index=range(COUNT)), WHOLE)
        # An argument goes before and leaves no trace.
        assert not same(synth(DATA, index=range(COUNT), epoch=4), WHOLE)
        assert same(synth(DATA, index=range(COUNT)), WHOLE)

    def test_seeds_are_64_bits(self) -> None:
        """Seeds that differ by 2**64 are one, those that differ in the top bit are two."""
        first, again, other = (
            make(seed)(DATA, index=range(COUNT), epoch=0) for seed in (-1, 2**64 - 1, 2**63 - 1)
        )
        assert same(first, again) and not same(first, other)
        assert make(2**64 - 1).seed == -1


class TestSurroundings:
    """What is around a call changes no bit of it."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "context",
        [
            torch.no_grad,
            torch.inference_mode,
            lambda: torch.autocast("cpu", torch.bfloat16),
            lambda: torch.set_grad_enabled(True),
        ],
        ids=["no_grad", "inference_mode", "autocast", "grad"],
    )
    @pytest.mark.parametrize("backend", ["auto", "torch"])
    def test_modes(self, context: Callable[[], Any], backend: str) -> None:
        synth = make(backend=backend, mean=[0.4], std=[0.2])
        expected = synth(DATA, index=range(COUNT), epoch=3)
        with context():
            out = synth(DATA, index=range(COUNT), epoch=3)
        assert same(out, expected) and out.image.dtype == torch.float32
        assert not out.image.requires_grad

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["call", "deepcopy", "create"])
    def test_what_was_made_in_inference_mode_works_outside(self, mode: str) -> None:
        synth = make()
        with torch.inference_mode():
            if mode == "call":
                synth(DATA)
            else:
                synth = copy.deepcopy(synth) if mode == "deepcopy" else make()
        synth.set_epoch(3)
        assert same(synth(DATA, index=range(COUNT)), WHOLE)
        assert synth(DATA).image.shape == DATA.shape

    def test_other_threads(self) -> None:
        synth, outs = make(), {}

        def work(number: int) -> None:
            outs[number] = synth(DATA, index=range(COUNT), epoch=3)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outs) == 3 and all(same(out, WHOLE) for out in outs.values())

    def test_global_generators_are_neither_read_nor_advanced(self) -> None:
        outs = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
            outs.append(make()(DATA, index=range(COUNT), epoch=3))
            make()(DATA)
            assert torch.equal(torch.get_rng_state(), before[0])
            assert np.array_equal(np.random.get_state()[1], before[1])
            assert random.getstate() == before[2]
        assert same(*outs)

    def test_without_a_seed_manual_seed_is_obeyed_once(self) -> None:
        torch.manual_seed(17)
        state = torch.get_rng_state()
        synth = make(seed=None)
        assert torch.equal(torch.get_rng_state(), state)
        expected = make(seed=17)(DATA)
        torch.manual_seed(18)
        assert synth.seed == 17 and same(synth(DATA), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "move",
        [
            lambda s: s.to("cpu"),
            lambda s: s.to(torch.float16),
            lambda s: s.half(),
            lambda s: s.double(),
            lambda s: s.bfloat16(),
            lambda s: s.to(memory_format=torch.channels_last),
            lambda s: s.requires_grad_(False),
        ],
        ids=["to", "to half", "half", "double", "bfloat16", "channels_last", "requires_grad_"],
    )
    def test_moving_the_module_leaves_sampling_alone(
        self, move: Callable[[Synthesizer], Synthesizer]
    ) -> None:
        synth = make(seed=2**53 + 1)
        synth(DATA)
        expected = copy.deepcopy(synth)
        moved = move(synth)
        assert moved is synth and moved.seed == 2**53 + 1
        assert same(moved(DATA), expected(DATA))

    def test_there_is_nothing_to_train(self) -> None:
        assert list(make().parameters()) == [] and list(make().buffers()) == []


class TestCounter:
    def test_advances_by_the_batch(self) -> None:
        """Ten samples in one call are five twice."""
        synth, twin = make(), make()
        whole = synth(DATA[:10])
        halves = [twin(DATA[:5]), twin(DATA[5:10])]
        assert torch.equal(whole.mask, torch.cat([h.mask for h in halves]))
        assert not torch.equal(synth(DATA[:10]).mask, whole.mask)

    def test_meets_no_dataset_index(self) -> None:
        counted, indexed = make()(DATA), make()(DATA, index=range(COUNT), epoch=0)
        first, second = (out.params.table.view(torch.int32) for out in (counted, indexed))
        assert not (first[:, None] == second[None]).all(2).any()

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["index", "eval", "replay", "empty"])
    def test_stands_still_where_nothing_is_drawn_from_it(self, how: str) -> None:
        synth, twin = make(), make()
        params = twin(DATA).params
        synth(DATA)
        if how == "index":
            synth(DATA, index=range(COUNT), epoch=0)
        elif how == "eval":
            synth.eval()(DATA)
            synth.train()
        elif how == "replay":
            synth(DATA, params=params)
        else:
            synth(DATA[:0])
        assert same(synth(DATA), twin(DATA))


class TestCopies:
    def test_state_dict_continues_the_stream(self) -> None:
        synth = make(seed=5)
        synth.set_epoch(2)
        synth(DATA)
        stored = io.BytesIO()
        torch.save(synth.state_dict(), stored)
        stored.seek(0)
        twin = make(seed=6)
        twin.load_state_dict(torch.load(stored, weights_only=True))
        assert (twin.seed, twin.epoch) == (5, 2)
        assert same(twin(DATA), synth(DATA))

    def test_state_dict_knows_that_an_epoch_was_set(self) -> None:
        synth = make()
        synth.set_epoch(3)
        twin = make()
        twin.load_state_dict(synth.state_dict())
        assert same(twin(DATA, index=range(COUNT)), WHOLE)

    def test_state_dict_is_small_and_holds_no_bank(self) -> None:
        stored = io.BytesIO()
        torch.save(make().state_dict(), stored)
        assert len(stored.getvalue()) < 2000

    @pytest.mark.slow
    def test_inside_a_larger_model(self) -> None:
        model = torch.nn.Sequential(make(), make(seed=3))
        model[1](DATA)
        twin = torch.nn.Sequential(make(), make())
        twin.load_state_dict(model.state_dict())
        assert same(twin[1](DATA), model[1](DATA)) and same(twin[0](DATA), model[0](DATA))

    @pytest.mark.slow
    def test_deepcopy_counts_on_its_own(self) -> None:
        synth = make()
        synth(DATA)
        twin = copy.deepcopy(synth)
        first, second = synth(DATA), synth(DATA)
        assert same(twin(DATA), first) and same(twin(DATA), second)

    def test_deepcopy_keeps_its_mode_epoch_and_p_to_itself(self) -> None:
        synth = make()
        twin = copy.deepcopy(synth).eval()
        twin.set_epoch(7)
        twin.p = 0.0
        assert (synth.training, synth.epoch, synth.p) == (True, 0, 0.7)

    def test_deepcopy_keeps_its_normal_transforms_mode_to_itself(self) -> None:
        synth = make(normal_transform=make(seed=1), clean="input")
        call: dict[str, Any] = {"index": range(COUNT), "epoch": 0}
        expected = synth(DATA, **call)
        copy.deepcopy(synth).eval()
        assert same(synth(DATA, **call), expected)

    def test_deepcopy_shares_the_banks(self) -> None:
        twin = copy.deepcopy(make())
        assert twin.layers[0].source.bank is TEXTURES  # type: ignore[attr-defined]

    def test_pickle_continues_the_stream(self) -> None:
        synth = make()
        synth(DATA)
        twin = pickle.loads(pickle.dumps(synth))
        assert same(twin(DATA), synth(DATA))

    def test_pickle_leaves_caches_behind(self) -> None:
        """A fresh one and one that worked weigh the same."""
        fresh, used = make(mean=[0.5], std=[0.5]), make(mean=[0.5], std=[0.5])
        used(DATA)
        assert abs(len(pickle.dumps(used)) - len(pickle.dumps(fresh))) < 200

    def test_share_memory_shares_seed_and_epoch(self) -> None:
        synth = make()
        assert synth.share_memory() is synth
        assert synth._numbering.state.is_shared()


class TestRanks:
    @staticmethod
    def place(patch: pytest.MonkeyPatch, rank: int, world: int) -> None:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_rank", lambda *_: rank)
        patch.setattr(torch.distributed, "get_world_size", lambda *_: world)

    def rows(self, patch: pytest.MonkeyPatch, synth: Synthesizer, rank: int, world: int) -> set:
        """Five of each rank: no multiple of any world."""
        self.place(patch, rank, world)
        out = synth(DATA[:5])
        return {tuple(line) for line in out.params.table.view(torch.int32).tolist()}

    def test_together_they_number_what_one_would(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place(monkeypatch, 0, 1)
        whole = make()(DATA).params.table.view(torch.int32)
        alone = {tuple(line) for line in whole.tolist()}
        parts = []
        for rank in range(3):
            synth = make()
            self.place(monkeypatch, rank, 3)
            out = synth(DATA[:4])
            parts += [tuple(line) for line in out.params.table.view(torch.int32).tolist()]
        assert len(set(parts)) == 12 and set(parts) == alone

    @pytest.mark.slow
    @pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (4, 1), (1, 4)])
    def test_a_resumed_run_of_another_size_repeats_nothing(
        self, before: int, after: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: set = set()
        for rank in range(before):
            synth = make()
            seen |= self.rows(monkeypatch, synth, rank, before)
        state = synth.state_dict()
        again = []
        for rank in range(after):
            twin = make()
            twin.load_state_dict(state)
            again.append(self.rows(monkeypatch, twin, rank, after))
        new = set().union(*again)
        assert len(new) == after * 5 and not new & seen


def test_outputs_are_on_the_images_device() -> None:
    out = make(clean="output", views=False)(DATA)
    assert out.clean is not None
    tensors = (out.image, out.mask, out.label, out.kind, out.clean, out.params.table)
    assert {t.device for t in tensors} == {DATA.device}


def test_parts_keep_their_numbers_when_others_come_and_go() -> None:
    """Streams go by a part's name, so that an ablation changes only what it removes."""
    mask, call = Perlin((1, 3), 0.1), {"index": range(COUNT), "epoch": 0}
    alone = Synthesizer(Layer(mask, Constant((0, 1))), p=1.0, seed=0)(DATA, **call)
    layers = (Layer(Rectangle(), Own()), Layer(mask, Constant((0, 1))))
    both = Synthesizer(*layers, p=1.0, seed=0)(DATA, **call)
    inside = (alone.mask > 0).expand_as(DATA)
    assert torch.equal(both.image[inside], alone.image[inside])
