"""Replay, and what calls bring: params, real defects, foreground, slots, categories."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from anoaug import DonorBank, Layer, OneOf, Params, Synthesizer, sources
from anoaug.blends import Hard
from anoaug.masks import Foreground, Given, Rectangle
from anoaug.sources import Constant, Donor
from tests.oneof.samples import (
    COUNT,
    DONORS,
    IMAGES,
    SPOT,
    WEIGHTS,
    alone,
    make,
    numbered,
    same,
)


class TestParams:
    def test_replay(self) -> None:
        synth = make(clean="output")
        out = synth(IMAGES)
        synth(IMAGES)
        assert same(synth(IMAGES, params=out.params), out)

    def test_by_another_with_the_same_members(self) -> None:
        out = make()(IMAGES, **numbered())
        other = make({"draem": 0, "cutpaste": 0, "cutpaste_scar": 1}, p=0.0, seed=9)
        assert same(other(IMAGES, params=out.params), out)
        assert same(other.eval()(IMAGES, params=out.params), out)

    @pytest.mark.parametrize(
        "rows", [[3, 0, 0], slice(2, 9, 3), torch.arange(COUNT) % 3 == 1], ids=str
    )
    def test_of_some_rows(self, rows: Any) -> None:
        synth = make()
        out = synth(IMAGES)
        again = synth(IMAGES[rows], params=out.params.take(rows))
        assert torch.equal(again.image, out.image[rows])
        assert torch.equal(again.kind, out.kind[rows])

    def test_of_eval_mode_change_nothing(self) -> None:
        synth = make().eval()
        out = synth(IMAGES)
        assert same(synth.train()(IMAGES, params=out.params), out)

    def test_stored(self) -> None:
        synth = make(p=1.0)
        out = synth(IMAGES)
        stored = io.BytesIO()
        torch.save(out.params, stored)
        stored.seek(0)
        params = torch.load(stored, weights_only=True)
        assert isinstance(params, Params) and same(synth(IMAGES, params=params), out)

    def test_to_keeps_the_choice_on_the_host(self) -> None:
        params = make()(IMAGES).params.to("meta")
        assert params.table.is_meta and params.choice.device.type == "cpu"  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "members",
        [{"cutpaste": 1, "draem": 1, "cutpaste_scar": 1}, {"draem": 1, "cutpaste": 1}],
        ids=["another order", "fewer"],
    )
    def test_of_others_are_refused(self, members: dict[str, float]) -> None:
        params = make()(IMAGES).params
        with pytest.raises(ValueError, match="params: .*recipe"):
            make(members)(IMAGES, params=params)

    def test_of_and_for_a_synthesizer_are_refused(self) -> None:
        ours, theirs = make({"draem": 1}), alone("draem")
        for synth, other in ((ours, theirs), (theirs, ours)):
            with pytest.raises(ValueError, match="params: expected those of a synthesizer with"):
                synth(IMAGES, params=other(IMAGES).params)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda p: p._replace(choice=None), "got none"),
            (lambda p: p._replace(choice=p.choice + 1), "choice below 3, got 1 to 3"),
            (lambda p: p._replace(choice=p.choice[1:]), r"params.choice: .*\[12\]"),
            (lambda p: p._replace(choice=p.choice.to("meta")), "params.choice: expected a CPU"),
            (lambda p: p.take(slice(3)), "12 rows"),
            (lambda p: p._replace(banks=("x",)), "bank"),
        ],
        ids=["no choice", "another member", "fewer", "elsewhere", "few rows", "banks"],
    )
    def test_changed_ones_are_refused(self, change: Any, words: str) -> None:
        synth = make()
        params = synth(IMAGES, **numbered()).params
        assert len(params.choice.unique()) == 3  # type: ignore[union-attr]
        with pytest.raises(ValueError, match=words):
            synth(IMAGES, params=change(params))


class TestGiven:
    def test_real_defects_are_united_once(self) -> None:
        synth = make(p=0.5)
        label = (torch.arange(COUNT) % 2).tolist()
        out = synth(IMAGES, mask=SPOT, label=label, **numbered())
        plain = make(p=0.5)(IMAGES, **numbered())
        assert torch.equal(out.image, plain.image)
        assert torch.equal(out.mask, torch.maximum(plain.mask, SPOT.float()))
        assert out.label.all()
        given = synth.kinds.index("given")
        assert torch.equal(out.kind, torch.where(plain.label > 0, plain.kind, given))

    def test_labels_alone_in_eval_mode(self) -> None:
        label = torch.arange(COUNT) % 2
        out = make().eval()(IMAGES, label=label)
        assert torch.equal(out.label, label) and torch.equal(out.kind, label * 4)

    def test_foreground_confines_every_member(self) -> None:
        out = make(p=1.0)(IMAGES, foreground=SPOT[:, 0], **numbered())
        assert out.label.sum() > 6 and not (out.mask > 0)[~SPOT].any()
        for k, name in enumerate(WEIGHTS):
            rows = out.params.choice == k
            own = alone(name, p=1.0)(IMAGES, foreground=SPOT, **numbered())
            assert torch.equal(out.mask[rows], own.mask[rows])

    def spots(self) -> OneOf:
        layer = Layer(Given("spot") & Foreground(), Constant(1.0))
        return make([(Synthesizer(layer, name="spot"), 1), ("cutpaste", 1)], p=1.0)

    def test_slots_reach_the_members_that_need_them(self) -> None:
        synth = self.spots()
        inside = torch.ones_like(SPOT)
        inside[:6, :, :15] = False
        out = synth(IMAGES, slots={"spot": SPOT}, foreground=inside, **numbered())
        rows = out.params.choice == 0
        assert synth.slots == ("spot", "foreground") and 0 < rows.sum() < COUNT
        assert torch.equal(out.mask[rows] > 0, (SPOT & inside)[rows])
        assert same(synth(IMAGES, slots={"spot": SPOT}, foreground=inside, params=out.params), out)

    @pytest.mark.parametrize("rows", [1, COUNT])
    def test_a_missing_slot_is_refused_whoever_is_drawn(self, rows: int) -> None:
        synth = self.spots()
        with pytest.raises(ValueError, match="spot: this recipe needs it"):
            synth(IMAGES[:rows], foreground=SPOT[:rows])
        synth.weights = (0, 1)
        assert synth(IMAGES[:rows]).label.all()

    def test_a_replay_needs_what_its_rows_need(self) -> None:
        synth = self.spots()
        call: dict[str, Any] = {"slots": {"spot": SPOT}, "foreground": SPOT}
        out = synth(IMAGES, **call, **numbered())
        with pytest.raises(ValueError, match="needs it"):
            synth(IMAGES, params=out.params)
        others = out.params.choice == 1
        again = synth(IMAGES[others], params=out.params.take(others), foreground=SPOT[others])
        assert torch.equal(again.image, out.image[others])

    def test_pictures_reach_the_members_that_paint_them(self) -> None:
        member = Synthesizer(Layer(Rectangle(), sources.Given("what")), name="what", p=1.0, seed=0)
        synth = make([(member, 1), ("cutpaste", 1)], p=1.0)
        call: dict[str, Any] = {"slots": {"what": IMAGES.flip(0)}, **numbered()}
        out, own = synth(IMAGES, **call), member(IMAGES, **call)
        rows = out.params.choice == 0
        assert 0 < rows.sum() < COUNT and torch.equal(out.image[rows], own.image[rows])
        with pytest.raises(ValueError, match="what: this recipe needs it"):
            synth(IMAGES)

    def test_computed_sources_too(self) -> None:
        augmentation = pytest.importorskip("kornia.augmentation")
        flip = Layer(Rectangle(), sources.Kornia(augmentation.RandomHorizontalFlip(p=0.5)))
        member = Synthesizer(flip, name="flip", p=1.0, seed=0)
        synth = make([(member, 1), ("cutpaste", 1), (member, 1)], p=1.0)
        out, own = synth(IMAGES, **numbered()), member(IMAGES, **numbered())
        rows = out.params.choice != 1
        assert synth.computed and 0 < rows.sum() < COUNT
        assert torch.equal(out.image[rows], own.image[rows])
        assert same(synth(IMAGES, params=out.params), out)

    def test_unknown_and_misfitting_slots_are_refused(self) -> None:
        for mode in (True, False):
            with pytest.raises(ValueError, match="expected only .*got .'spto'"):
                self.spots().train(mode)(IMAGES, slots={"spot": SPOT, "spto": SPOT})
        with pytest.raises(ValueError, match="spot: expected shape"):
            self.spots()(IMAGES, slots={"spot": SPOT[..., :9]}, foreground=SPOT)

    def test_nothing_is_needed_in_eval_mode(self) -> None:
        assert torch.equal(self.spots().eval()(IMAGES).image, IMAGES)

    @pytest.mark.parametrize("how", ["names", "numbers", "one"])
    def test_categories_of_all_members(self, how: str) -> None:
        """Members whose banks lack a category take donors from all."""
        nuts = DonorBank.from_tensors(torch.full((2, 3, 8, 8), 250, dtype=torch.uint8), None,
                                      ["axe", "nut"])  # fmt: skip
        nuts.data[0] = 0  # axe: black
        one = Synthesizer(Layer(Rectangle(), Donor(nuts), Hard()), name="one", seed=0, p=1.0)
        two = Synthesizer(Layer(Rectangle(), Donor(DONORS), Hard()), name="two", seed=0, p=1.0)
        synth = make([(one, 1), (two, 1), ("cutpaste", 0)], p=1.0)
        assert synth.categories == ("axe", "nut", "pin")
        wanted = {"one": "nut", "names": ["nut", "axe", "pin"] * 4, "numbers": [1, 0, 2] * 4}[how]
        names = ["nut"] * COUNT if how == "one" else ["nut", "axe", "pin"] * 4
        out = synth(IMAGES, category=wanted, **numbered())
        for n, name in enumerate(names):
            k = int(out.params.choice[n])  # type: ignore[index]
            member = (one, two)[k]
            known = name if name in member.categories else None
            own = member(IMAGES[n : n + 1], index=[n], epoch=3, category=known)
            assert torch.equal(out.image[n], own.image[0])
        with pytest.raises(ValueError, match="category: 'nit' is in no bank; did you mean nut"):
            synth(IMAGES, category="nit")
