"""The gallery's cards: what the registry says of a method and what the method does to images."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import anoaug
from anoaug import gallery, methods
from anoaug.gallery.cards import GAIN, parameters, summary

pillow = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def given() -> torch.Tensor:
    return anoaug.TextureBank.procedural(2, 48, seed=5).data


@pytest.fixture(scope="module")
def banks() -> dict[str, anoaug.Bank]:
    textures = anoaug.TextureBank.procedural(3, 48, seed=6)
    return {"textures": textures, "donors": anoaug.DonorBank.from_tensors(textures.data)}


def cards(names, given, banks, **options) -> list[gallery.Card]:
    return list(gallery.method_cards(names, given, ["a", "b"], banks, **options))


def array(picture: gallery.Picture) -> np.ndarray:
    with pillow.open(io.BytesIO(picture.data)) as image:
        return np.asarray(image).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.list_methods())
def test_a_card_tells_what_describe_tells(name: str, given, banks) -> None:
    (card,) = cards([name], given, {}) if methods.get(name).needs else cards([name], given, banks)
    known = anoaug.describe(name)
    assert (card.name, card.group, card.paper) == (name, known["family"], known["paper"])
    assert card.summary.endswith(".") and "\n" not in card.summary
    assert card.tags["defects"] == tuple(known["defects"])
    assert {one.name: one.default for one in card.parameters} == {
        keyword: repr(value) for keyword, value in known["defaults"].items()
    }
    lists = dict(card.lists)
    assert lists.get("deviations", ()) == tuple(known["deviations"])
    assert bool(card.rows) == (not known["needs"])
    assert ("needs" in card.note) == bool(known["needs"])


def test_pictures_are_what_the_method_made(banks) -> None:
    ramp = torch.arange(48, dtype=torch.uint8).expand(3, 48, 48) * 4  # JPEG keeps it well
    images = torch.stack([ramp, ramp.transpose(1, 2) + 20])
    (card,) = cards(["cutout"], images, banks, seed=4)
    batch = anoaug.create("cutout", p=1.0, seed=4)(images, index=range(2), epoch=0)
    assert [row.label for row in card.rows] == ["a", "b"]
    for at, row in enumerate(card.rows):
        normal, anomalous, mask, difference = row.pictures
        changed = (batch.image[at].int() - images[at].int()).abs() * GAIN
        wanted = (images[at], batch.image[at], changed.clamp(max=255))
        for shown, one in zip((normal, anomalous, difference), wanted, strict=True):
            assert np.abs(array(shown) - one[0].numpy()).mean() < 2, shown.kind
        assert np.array_equal(array(mask), batch.mask[at, 0].numpy() * 255)
        assert [one.kind for one in row.pictures] == ["normal", "anomalous", "mask", "difference"]
        assert row.told.startswith("cutout, ") and row.told.endswith(" %")


def test_images_that_stay_normal_are_drawn_again(given, banks) -> None:
    made = {
        seed: anoaug.create("draem", p=1.0, seed=seed, textures=banks["textures"])
        for seed in range(60)
    }
    empty = next(
        seed for seed, synth in made.items() if not synth(given, index=[0, 1], epoch=0).label.all()
    )
    (card,) = cards(["draem"], given, banks, seed=empty)
    assert [row.told.split(",")[0] for row in card.rows] == ["draem", "draem"]


def test_what_can_never_be_anomalous_is_shown_as_it_is(banks) -> None:
    black = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    donors = {"donors": anoaug.DonorBank.from_tensors(black)}
    (card,) = gallery.method_cards(["fpi"], black, ["black"], donors)
    (row,) = card.rows
    assert row.told == "no anomaly in 12 draws"
    assert [array(picture).max() for picture in row.pictures] == [0, 0, 0, 0]


def test_each_view_of_a_method_with_several_is_seen(given, banks) -> None:
    (card,) = cards(["riad"], given, banks)
    batch = anoaug.create("riad", p=1.0, seed=0)(given, index=range(2), epoch=0)
    masks = [array(row.pictures[2]) // 255 for row in card.rows]
    rows = batch.extras["source_row"].tolist()
    for number, (mask, view) in enumerate(zip(masks, (0, 1), strict=True)):
        at = [k for k, row in enumerate(rows) if row == number][view]
        assert np.array_equal(mask, batch.mask[at, 0].numpy())


def test_donors_are_of_the_images_category(given) -> None:
    red, green = (torch.zeros(1, 3, 48, 48, dtype=torch.uint8) for _ in range(2))
    red[:, 0], green[:, 1] = 200, 200
    bank = anoaug.DonorBank.from_tensors(torch.cat([red, green]), categories=["r", "g"])
    images = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
    (card,) = gallery.method_cards(
        ["fpi"], images, ["a", "b"], {"donors": bank}, categories=["r", "g"]
    )
    means = [array(row.pictures[1]).mean((0, 1)).argmax() for row in card.rows]
    assert means == [0, 1]


def test_a_refusal_names_the_method(given, banks, monkeypatch) -> None:
    def refusing(*_, **__):
        raise ValueError("expected more")

    monkeypatch.setattr(anoaug.Synthesizer, "forward", refusing)
    with pytest.raises(ValueError, match="^cutout: expected more$"):
        cards(["cutout"], given, banks)


def test_images_of_a_surface_that_a_method_does_not_suit_are_left_out(given, banks) -> None:
    shown = [("texture",), ("object", "regular texture")]
    thread, chip, cutout = cards(["thread", "chip", "cutout"], given, banks, surfaces=shown)
    assert [row.label for row in thread.rows] == [row.label for row in chip.rows] == ["b"]
    assert [row.label for row in cutout.rows] == ["a", "b"]
    (alone,) = cards(["cutout"], given, banks, surfaces=[(), ("object",)])
    assert alone.rows == cutout.rows[1:]
    (none,) = cards(["thread"], given, banks, surfaces=[("texture",), ()])
    assert none.note == "Not drawn: it suits regular texture, which no image shows."
    with pytest.raises(ValueError, match="surfaces: expected those of each of 2 images, got 1"):
        cards(["thread"], given, banks, surfaces=shown[:1])
    with pytest.raises(ValueError, match="surfaces: .*'wood'"):
        cards(["thread"], given, banks, surfaces=[("wood",), ()])


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b", "c"]])
def test_labels_have_to_fit(given, banks, labels: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"got {len(labels)} names and 2 images"):
        list(gallery.method_cards(["cutout"], given, labels, banks))


def test_controls_are_told_where_there_are_any(given, banks, monkeypatch) -> None:
    known = methods.describe("cutout")
    told = {**known, "controls": {"size": "share of the image"}}
    monkeypatch.setattr(methods, "describe", lambda _: told)
    (card,) = cards(["cutout"], given, banks)
    assert card.lists[0] == ("controls", ("``size``: share of the image",))


def test_docstrings_are_read() -> None:
    def build() -> None:
        """First line
        goes on.

        Args:
            one: Means this
                and that: so.
            two: Second.

        Returns:
            three: Nothing.
        """

    assert summary(build) == "First line goes on."
    found = parameters(build, {"one": 1, "two": (2, "x"), "four": None})
    assert [(p.name, p.default, p.text) for p in found] == [
        ("one", "1", "Means this and that: so."),
        ("two", "(2, 'x')", "Second."),
        ("four", "None", ""),
    ]
