"""Who is drawn for a sample; that a row is its own member's; what is launched; on CUDA too."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import anoaug
from anoaug import TextureBank
from anoaug.oneof import several
from tests.oneof.samples import (
    COUNT,
    DTYPES,
    IMAGES,
    SPOT,
    WEIGHTS,
    alone,
    bits,
    chosen,
    make,
    numbered,
    pictures,
    same,
    white,
)


class TestChoice:
    @pytest.mark.slow
    @given(weights=st.lists(st.floats(0, 10), min_size=1, max_size=4), seed=st.integers(0, 2**63))
    @settings(max_examples=25, deadline=None)
    def test_goes_by_the_weights(self, weights: list[float], seed: int) -> None:
        """Counts of 4000 samples within five standard deviations of a binomial, or near none."""
        weights = [*weights, 1.0]
        names = [f"m{k}" for k in range(len(weights))]
        synth = make([(white(n), w) for n, w in zip(names, weights, strict=True)], seed=seed)
        drawn = chosen(synth, range(4000))
        for name, weight in zip(names, weights, strict=True):
            share = weight / sum(weights)
            spread = 8 + 5 * math.sqrt(4000 * share * (1 - share))
            assert abs(drawn.count(name) - 4000 * share) <= spread

    @pytest.mark.slow
    @given(
        weights=st.lists(st.floats(0.01, 5), min_size=3, max_size=3), new=st.floats(0, 5),
        which=st.integers(0, 2),
    )  # fmt: skip
    @settings(max_examples=25, deadline=None)
    def test_a_weight_moves_samples_to_or_from_its_member_alone(
        self, weights: list[float], new: float, which: int
    ) -> None:
        synth = make(list(zip(WEIGHTS, weights, strict=True)))
        before, grows = chosen(synth, range(500)), new >= weights[which]
        synth.weights = [new if k == which else w for k, w in enumerate(weights)]
        after = chosen(synth, range(500))
        moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert all(pair[grows] == synth.names[which] for pair in moved)

    def test_a_new_member_takes_and_moves_nothing_else(self) -> None:
        few = chosen(make({"cutpaste": 1, "cutpaste_scar": 1}), range(500))
        more = chosen(make({"draem": 1, "cutpaste_scar": 1, "cutpaste": 1}), range(500))
        assert all(a == b or b == "draem" for a, b in zip(few, more, strict=True))
        assert 100 < more.count("draem") < 230

    def test_is_another_in_each_epoch_and_the_same_for_each_p(self) -> None:
        first, second = (chosen(make(), range(1000), epoch=e) for e in (0, 1))
        agree = sum(a == b for a, b in zip(first, second, strict=True))
        assert 300 < agree < 460  # 0.38 of 1000 by chance
        assert chosen(make(p=0.0), range(1000)) == first
        assert chosen(make(seed=1), range(1000)) != first

    @pytest.mark.slow
    def test_p_is_that_of_the_whole(self) -> None:
        """Also for ready members, whose own is 1 and 0."""
        synth = make([(white("a", p=1.0), 1), (white("b", p=0.0), 1)], p=0.3)
        out = synth(pictures(batch=2000), index=range(2000), epoch=0)
        assert abs(int(out.label.sum()) - 600) < 5 * math.sqrt(2000 * 0.21)
        assert set(out.kind.tolist()) == {0, 1, 2}

    def test_weight_zero_is_never_drawn(self) -> None:
        synth = make({**WEIGHTS, "draem": 0.0})
        assert "draem" not in chosen(synth, range(3000))


class TestRows:
    @pytest.mark.slow
    @given(order=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT + 3))
    @settings(max_examples=20, deadline=None)
    def test_a_sample_is_the_same_in_any_batch(self, order: list[int]) -> None:
        whole = make()(IMAGES, **numbered())
        out = make()(IMAGES[order], index=order, epoch=3)
        for a, b in zip(out[:4], whole[:4], strict=True):
            assert torch.equal(a, b[order])  # type: ignore[arg-type, index]
        assert torch.equal(bits(out.params.table), bits(whole.params.table[order]))

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("last", [False, True], ids=["planar", "channels_last"])
    def test_are_what_the_member_makes_alone(
        self, dtype: torch.dtype, last: bool, poisoned: None
    ) -> None:
        images = pictures(dtype)
        if last:
            images = images.contiguous(memory_format=torch.channels_last)
        options: dict[str, Any] = {"clean": "output", "label": "soft", "min_area": 3}
        synth = make(**options)
        out = synth(images, **numbered())
        assert len(out.params.choice.unique()) == 3  # type: ignore[union-attr]
        assert out.image.stride() == images.stride()
        for k, name in enumerate(synth.names):
            member = alone(name, **options)
            own = member(images, **numbered())
            rows = out.params.choice == k
            for field in ("image", "mask", "label", "clean"):
                assert torch.equal(getattr(out, field)[rows], getattr(own, field)[rows]), field
            kinds = [synth.kinds[n] for n in out.kind[rows]]
            assert kinds == [member.kinds[n] for n in own.kind[rows]]
            width = own.params.table.shape[1]
            assert torch.equal(bits(out.params.table[rows, :width]), bits(own.params.table[rows]))

    def test_one_member_is_the_method(self) -> None:
        out, own = make({"draem": 2.0})(IMAGES, **numbered()), alone("draem")(IMAGES, **numbered())
        assert same(out, own)
        counted = make({"draem": 2.0})(IMAGES), alone("draem")(IMAGES)
        assert same(*counted)

    @pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
    def test_normalised_output(self, memory_format: str, poisoned: None) -> None:
        options: dict[str, Any] = {
            "mean": [0.4], "std": [0.2], "dtype": torch.float16, "memory_format": memory_format
        }  # fmt: skip
        out = make(**options)(IMAGES, **numbered())
        memory = getattr(torch, memory_format + "_format" * (memory_format == "contiguous"))
        assert out.image.dtype == torch.float16 and out.image.is_contiguous(memory_format=memory)
        for k, name in enumerate(WEIGHTS):
            rows = out.params.choice == k
            own = alone(name, **options)(IMAGES, **numbered())
            assert torch.equal(out.image[rows], own.image[rows])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_strided_batch(self, channels: int) -> None:
        wide = pictures(channels=channels).repeat(1, 1, 1, 2)[..., ::2]
        out = make({"cutpaste": 1, "cutpaste_scar": 1})(wide, **numbered())
        truth = make({"cutpaste": 1, "cutpaste_scar": 1})(wide.contiguous(), **numbered())
        assert same(out, truth)

    def test_a_weight_changes_no_pixel_of_those_that_stay(self) -> None:
        synth = make(p=1.0)
        before = synth(IMAGES, **numbered())
        synth.weights = {"draem": 0.0, "cutpaste": 0.3, "cutpaste_scar": 0.2}
        after = synth(IMAGES, **numbered())
        stay = before.params.choice == after.params.choice
        assert 0 < stay.sum() < COUNT and not (after.params.choice == 0).any()
        assert torch.equal(before.image[stay], after.image[stay])
        assert torch.equal(before.params.choice[~stay], torch.zeros(int((~stay).sum())))  # type: ignore[index]

    def test_portions_of_the_cpu_do_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = make()(IMAGES, **numbered())
        monkeypatch.setattr(several, "_PORTION", 1)
        assert same(make()(IMAGES, **numbered()), whole)

    @pytest.mark.slow
    @pytest.mark.triton_interpreter
    def test_backends_agree(self) -> None:
        outs = [make(backend=name)(IMAGES[:6], **numbered(6)) for name in ("torch", "triton")]
        assert same(*outs)

    def test_inputs_are_not_modified(self) -> None:
        images, mask = IMAGES.clone(), SPOT.clone()
        make(p=1.0)(images, foreground=mask, mask=mask)
        assert torch.equal(images, IMAGES) and torch.equal(mask, SPOT)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each render from now on."""
    rows: list[int] = []
    render = anoaug.ops.render

    def counted(image: Tensor, *arguments: Any) -> Any:
        rows.append(len(image))
        return render(image, *arguments)

    monkeypatch.setattr(anoaug.ops, "render", counted)
    return rows


class TestLaunches:
    def test_one_for_each_recipe_over_its_rows(self, launches: list[int]) -> None:
        out = make({"draem": 1, "cutpaste": 1})(IMAGES, **numbered())
        counts = torch.bincount(out.params.choice)  # type: ignore[arg-type]
        assert sorted(launches) == sorted(counts.tolist()) and sum(launches) == COUNT

    def test_members_without_rows_have_none(self, launches: list[int]) -> None:
        make({"draem": 1, "cutpaste": 1e-9})(IMAGES, **numbered())
        assert launches == [COUNT]

    def test_settings_of_one_method_share_one(self, launches: list[int]) -> None:
        faint = alone("draem", opacity=(0.2, 0.3), name="faint")
        synth = make([("draem", 1), (faint, 1)], p=1.0)
        out = synth(IMAGES, **numbered())
        assert launches == [COUNT] and synth.kinds == ("normal", "draem", "faint", "given")
        for k, name in enumerate(("draem", "faint")):
            rows = (out.params.choice == k) & (out.label > 0)
            assert rows.any() and (out.kind[rows] == synth.kinds.index(name)).all()

    @pytest.mark.parametrize(
        "other",
        [{"label_rule": "changed"}, {"textures": TextureBank.from_tensors(pictures(batch=5) + 1)}],
        ids=["label_rule", "bank"],
    )
    def test_others_do_not(self, other: dict[str, Any], launches: list[int]) -> None:
        make([("draem", 1), (alone("draem", **other), 1)])(IMAGES, **numbered())
        assert len(launches) == 2

    def test_sharpened_and_plain_textures_do_not(self, launches: list[int]) -> None:
        """They read other tensors by the same layout."""
        plain = anoaug.photometric.RandomOps(ops=("solarize",), count=1)
        synth = make([(alone("draem", ops=plain, name="plain"), 1), ("draem", 1)], p=1.0)
        out = synth(IMAGES, **numbered())
        own = alone("draem", p=1.0)(IMAGES, **numbered())
        rows = out.params.choice == 1
        assert len(launches) > 1 and torch.equal(out.image[rows], own.image[rows])

    @pytest.mark.slow
    @pytest.mark.parametrize("last", [False, True], ids=["planar", "channels_last"])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
    def test_reads_nothing_from_the_device(self, dtype: torch.dtype, last: bool) -> None:
        """A call on ``meta``, where no tensor has values, would fail where it does."""
        images, spot = pictures(dtype), SPOT.to("meta")
        if last:
            images = images.contiguous(memory_format=torch.channels_last)
        synth, here = make(clean="output"), make(clean="output")(images, **numbered())
        call: dict[str, Any] = {"foreground": spot, "mask": spot, "label": [0, 1] * 6}
        out = synth(images.to("meta"), **call, **numbered())
        again = synth(images.to("meta"), params=out.params, **call)
        for a, b, c in zip(out[:5], again[:5], here[:5], strict=True):
            assert (a.shape, a.dtype, a.stride()) == (c.shape, c.dtype, c.stride())  # type: ignore[union-attr]
            assert a.is_meta and b.is_meta  # type: ignore[union-attr]
        assert synth.eval()(images.to("meta")).image.is_meta

    @pytest.mark.parametrize("mode", ["train", "eval"])
    def test_an_empty_batch(self, mode: str) -> None:
        synth = make(mean=[0.5], std=[0.5]).train(mode == "train")
        out = synth(IMAGES[:0])
        assert out.image.shape == (0, 3, 40, 36) and out.image.dtype == torch.float32
        assert out.mask.shape == (0, 1, 40, 36) and len(out.params.table) == 0
        assert same(synth(IMAGES[:0], params=out.params), out)

    def test_a_single_image(self) -> None:
        whole = make()(IMAGES, **numbered())
        for n in range(4):
            out = make()(IMAGES[n : n + 1], index=[n], epoch=3)
            assert torch.equal(out.image[0], whole.image[n])


@pytest.mark.gpu
class TestCuda:
    @pytest.mark.parametrize("last", [False, True], ids=["planar", "channels_last"])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_equals_the_cpu(self, dtype: torch.dtype, last: bool) -> None:
        images = pictures(dtype)
        if last:
            images = images.contiguous(memory_format=torch.channels_last)
        there = make(clean="output")(images.cuda(), **numbered())
        here = make(clean="output")(images, **numbered())
        for a, b in zip(there[:5], here[:5], strict=True):
            assert (a.cpu().double() == b.double()).all() and a.stride() == b.stride()  # type: ignore[union-attr]

    def test_does_not_synchronise(self) -> None:
        images, spot = IMAGES.cuda(), SPOT.cuda()
        synth = make(p=1.0)
        for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
            synth.weights = weights  # compiles and fills caches
            synth(images, foreground=spot)
        torch.cuda.set_sync_debug_mode("error")
        try:
            out = synth(images, foreground=spot, mask=spot, label=[0, 1] * 6)
            synth(images, params=out.params, foreground=spot)
            synth.eval()(images)
        finally:
            torch.cuda.set_sync_debug_mode("default")
