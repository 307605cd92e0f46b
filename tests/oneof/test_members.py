"""What a OneOf is made of: names, keywords, weights, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from anoaug import Layer, OneOf, Synthesizer
from anoaug.masks import Rectangle
from anoaug.sources import BatchDonor
from anoaug.sources.seamless import Poisson, PoissonInterpolation
from tests.oneof.samples import (
    IMAGES,
    WEIGHTS,
    make,
    pictures,
    white,
)


class TestMembers:
    def test_keywords_go_to_those_that_know_them(self) -> None:
        synth = make(opacity=1.0, width=(3, 4), jitter=0.0, name="mix")
        draem, cutpaste, scar = synth.members
        assert draem.layers[0].blend.opacity == (1.0, 1.0)  # type: ignore[attr-defined]
        assert scar.layers[0].mask.width == (3, 4)  # type: ignore[attr-defined]
        assert all(m.layers[0].source.photometric is None for m in (cutpaste, scar))  # type: ignore[attr-defined]
        assert synth.name == "mix" and synth.names == tuple(WEIGHTS)

    def test_a_folder_or_tensor_is_read_once(self) -> None:
        synth = make({"draem": 1, "destseg": 1}, textures=pictures(batch=2))
        first, second = (member._binding.banks[0] for member in synth.members)
        assert first is second

    def test_ready_members_are_copied(self) -> None:
        ready = white("a", p=0.25, seed=5)
        synth = make({ready: 1, white("b"): 2})
        synth(IMAGES)
        assert ready.p == 0.25 and ready.training and synth.members[0] is not ready
        assert synth.weights == (1, 2) and synth.names == ("a", "b")

    def test_names_and_kinds(self) -> None:
        synth = make([("draem", 1), ("cutpaste_union", 1), ("draem", 1), (white(), 0)])
        assert synth.names == ("draem", "cutpaste_union", "draem#1", "white")
        kinds = ("normal", "draem", "cutpaste", "cutpaste_scar", "white", "given")
        assert synth.kinds == kinds

    def test_weights_and_p_at_run_time(self) -> None:
        synth = make()
        synth.weights = (0, 0, 1)
        synth.p = 1.0
        out = synth(IMAGES)
        assert set(out.kind.tolist()) == {3} and synth.weights == (0.0, 0.0, 1.0)
        synth.weights = {"cutpaste_scar": 0, "draem": 0, "cutpaste": 7}
        assert set(synth(IMAGES).kind.tolist()) == {2}
        synth.p = 0.0
        assert torch.equal(synth(IMAGES).image, IMAGES)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ((1, 2), r"expected 3 numbers with a positive sum, got \[1, 2\]"),
            ((0, 0, 0), "positive sum"),
            ((1, -1, 1), "numbers >= 0"),
            ((1, math.nan, 1), "numbers >= 0"),
            ((1, math.inf, 1), "numbers >= 0"),
            ((1e308, 1e308, 0), "finite sum"),
            (("1", 1, 1), "numbers >= 0"),
            ({"draem": 1}, "none for .*'cutpaste', 'cutpaste_scar'"),
            ({**WEIGHTS, "dream": 1}, "did you mean draem"),
        ],
        ids=str,
    )
    def test_refused_weights(self, value: Any, words: str) -> None:
        synth = make()
        with pytest.raises(ValueError, match=f"weights: .*{words}"):
            synth.weights = value
        assert synth.weights == (0.5, 0.3, 0.2)
        if isinstance(value, tuple) and len(value) == 3:
            with pytest.raises(ValueError, match=f"weights: .*{words}"):
                make(dict(zip(WEIGHTS, value, strict=True)))

    @pytest.mark.parametrize(
        ("members", "keywords", "error", "words"),
        [
            ({}, {}, ValueError, "at least one"),
            (["draem"], {}, TypeError, r"pairs \(member, weight\)"),
            ({3: 1}, {}, TypeError, "got int"),
            ("draem", {}, TypeError, r"pairs \(member, weight\), got 'draem'"),
            ({"dream": 1}, {}, ValueError, "did you mean draem"),
            (WEIGHTS, {"opactiy": 1}, TypeError, "none of draem, .*did you mean opacity"),
            (WEIGHTS, {"category": 1}, TypeError, "at the call"),
            (WEIGHTS, {"weights": (1, 2)}, TypeError, "beside the members"),
            ([(white(), 1)], {"mean": [0.5]}, TypeError, "give them to the synthesizers"),
            (WEIGHTS, {"p": 2}, ValueError, "p: expected"),
            (WEIGHTS, {"views": True}, ValueError, "draem with views"),
            ({"cutpaste_union": 1, white(views=True): 1}, {}, ValueError, "white with views"),
            ([(white(normal_transform=abs), 1)], {}, ValueError, "give normal_transform="),
            (WEIGHTS, {"name": "normal"}, ValueError, "name: expected another"),
        ],
    )
    def test_refused_members(
        self, members: Any, keywords: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            make(members, **keywords)

    @pytest.mark.parametrize("members", [None, 5])
    def test_what_is_no_collection_is_refused(self, members: Any) -> None:
        got = type(members).__name__
        with pytest.raises(TypeError, match=f"members: expected a mapping or pairs .*'{got}'"):
            OneOf(members)

    def test_weights_that_are_no_sequence_are_refused(self) -> None:
        with pytest.raises(TypeError, match=r"weights: expected a sequence of 3 numbers, got 5"):
            make().weights = 5

    @pytest.mark.parametrize(
        "source", [BatchDonor(), Poisson(BatchDonor()), PoissonInterpolation(BatchDonor())], ids=str
    )
    def test_a_member_with_donors_from_the_batch_is_refused(self, source: Any) -> None:
        member = Synthesizer(Layer(Rectangle(), source), name="batch")
        with pytest.raises(ValueError, match="batch with donors from the batch.*donors="):
            make([("cutpaste", 1), (member, 1)])

    def test_a_oneof_is_refused(self) -> None:
        with pytest.raises(TypeError, match="give its members themselves"):
            make([(make(), 1)])

    @pytest.mark.parametrize(
        "setting",
        [
            {"mean": [0.5], "std": [0.5]},
            {"dtype": torch.float16},
            {"label": "soft"},
            {"clean": None},
            {"memory_format": "channels_last"},
        ],
        ids=str,
    )
    def test_members_of_another_output_are_refused(self, setting: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(setting))}: expected the same.*white"):
            make([("cutpaste", 1), (white(**setting), 1)])
