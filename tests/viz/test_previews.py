"""Sheets of what synthesizers do: captions, comparisons, previews."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import anoaug
from anoaug import viz
from anoaug.viz import previews

# ---- comparison ----------------------------------------------------------------------------------


def test_captions_tell_the_opacity_the_texture_and_the_area(images: torch.Tensor):
    bank = anoaug.TextureBank.procedural(1, 32)
    synth = anoaug.create("draem", textures=bank, p=1.0, opacity=0.25, seed=0)
    batch = synth(images, index=range(4), epoch=0)
    at = int(batch.label.argmax())
    method, mask = viz.captions_of(synth, batch, at)
    assert method == f"draem\nopacity 0.25, {bank.names[0]}"
    assert mask == f"mask\n{100 * float(batch.mask[at].mean()):.1f} % of the image"


def test_captions_tell_the_size_and_angle_of_a_scar(images: torch.Tensor):
    synth = anoaug.create("cutpaste_scar", width=8, length=24, rotation=30.0, p=1.0, seed=0)
    batch = synth(images, index=range(4), epoch=0)
    assert viz.captions_of(synth, batch, 0)[0] == "cutpaste_scar\n8 x 24 pixels, 30°"


def test_captions_tell_the_layer_that_was_drawn(images: torch.Tensor):
    synth = anoaug.create(
        "cutpaste_union", p=1.0, seed=0, weights=(0, 1), width=8, length=24, rotation=0.0
    )
    batch = synth(images, index=range(4), epoch=0)
    assert viz.captions_of(synth, batch, 0)[0] == "cutpaste_union\n8 x 24 pixels"


def test_captions_of_a_normal_sample(images: torch.Tensor):
    synth = anoaug.create("cutpaste", p=0.0, seed=0)
    batch = synth(images, index=range(4), epoch=0)
    assert viz.captions_of(synth, batch, 2) == ("cutpaste\nnormal", "mask\nempty")


@pytest.mark.parametrize(("methods", "columns", "rows"), [(1, 6, 2), (2, 5, 3), (3, 5, 6)])
def test_comparison_fills_its_rows(
    methods: int, columns: int, rows: int, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    synth = anoaug.create("cutpaste", p=1.0, seed=0)
    drawn = [(synth, synth(images[:3], index=range(3), epoch=0))] * methods
    laid = []
    monkeypatch.setattr(previews, "contact_sheet", lambda rows, *_, **__: laid.extend(rows))
    viz.comparison("abc", images[:3], drawn)
    assert (max(len(row) for row in laid), len(laid)) == (columns, rows)
    assert sum(len(row) for row in laid) == 3 * (2 * methods + (methods + 1) // 2)


# ---- preview -------------------------------------------------------------------------------------


@pytest.fixture
def laid(monkeypatch: pytest.MonkeyPatch):
    """Panels and captions of the sheets that are drawn."""
    rows, captions = [], []
    drawn = viz.contact_sheet

    def noted(panels, texts, **options):
        rows.extend(panels)
        captions.extend(texts)
        return drawn(panels, texts, **options)

    monkeypatch.setattr(previews, "contact_sheet", noted)
    return rows, captions


def composed(**options) -> anoaug.Synthesizer:
    box = anoaug.masks.Rectangle(area=(0.05, 0.3))
    layers = [
        anoaug.Layer(box, anoaug.sources.Constant(0.5), anoaug.blends.Hard(), kind="plate"),
        anoaug.Layer(
            anoaug.masks.Perlin() & ~box, anoaug.sources.Noise(), anoaug.blends.Feather(3.0),
            kind="dust",
        ),
    ]  # fmt: skip
    return anoaug.Synthesizer(*layers, **{"seed": 0, "p": 1.0, "choose": "one"} | options)


def test_preview_shows_clean_anomalous_mask_kind_and_area(images: torch.Tensor, laid):
    synth = composed()
    batch = synth(images, index=range(4), epoch=0)
    viz.preview(synth, images)
    rows, captions = laid
    tinted = viz.overlay(batch.image, batch.mask)
    for at, (clean, anomalous, mask) in enumerate(rows):
        assert torch.equal(clean, images[at]) and torch.equal(anomalous, batch.image[at])
        assert torch.equal(mask, tinted[at])
    kinds = [synth.kinds[kind] for kind in batch.kind.tolist()]
    assert len({*kinds}) == 2, "the seed should draw both layers"
    assert [texts[1].split("\n")[0] for texts in captions] == kinds
    areas = [f"mask\n{100 * float((mask > 0).float().mean()):.1f} %" for mask in batch.mask]
    assert all(texts[2].startswith(area) for texts, area in zip(captions, areas, strict=True))


def test_preview_takes_nothing_of_the_training_s_randomness(images: torch.Tensor):
    synth, twin = composed(), composed()
    first = np.asarray(viz.preview(synth, images))
    assert np.array_equal(np.asarray(viz.preview(synth, images)), first)
    assert torch.equal(synth(images).image, twin(images).image)


def test_preview_of_normalised_output_shows_the_image(images: torch.Tensor, laid):
    plain, normalised = composed(), composed(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.1])
    normalised.clean = "output"
    viz.preview(plain, images, rows=1)
    viz.preview(normalised, images, rows=1)
    (first, second), _ = laid
    for one, other in zip(first, second, strict=True):
        assert int((one.int() - other.int()).abs().max()) <= 1


@pytest.mark.parametrize("clean", ["input", None])
def test_preview_of_views_shows_them_image_by_image(images: torch.Tensor, laid, clean):
    viz.preview(composed(views=True, choose="all", clean=clean), images, rows=6)
    rows, captions = laid
    assert [texts[0].split("\n")[0] for texts in captions] == list("000111")
    assert [texts[1].split("\n")[0] for texts in captions[:3]] == ["normal", "plate", "dust"]
    assert torch.equal(rows[4][0], images[1])


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (4, [0, 1, 2])])
def test_preview_shows_any_number_of_channels(channels: int, shown: list[int], laid):
    images = torch.randint(0, 256, (2, channels, 24, 24), dtype=torch.uint8)
    viz.preview(composed(), images)
    assert torch.equal(laid[0][1][0], images[1, shown])


def test_preview_hands_on_what_the_call_needs(images: torch.Tensor, laid):
    half = torch.zeros(4, 1, *images.shape[2:])
    half[..., :20] = 1
    given = anoaug.Layer(
        anoaug.masks.Given("where"), anoaug.sources.Constant(0.0), anoaug.blends.Hard()
    )
    viz.preview(anoaug.Synthesizer(given, p=1.0, seed=0), images, slots={"where": half})
    assert not laid[0][0][1][:, :, :20].any() and torch.equal(
        laid[0][0][1][:, :, 20:], images[0, :, :, 20:]
    )


def test_preview_of_normal_samples_says_so(images: torch.Tensor, laid):
    viz.preview(composed(p=0.0), images, rows=1)
    assert laid[1] == [["0\nclean", "normal\nunchanged", "mask\nempty"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", anoaug.list_methods())
def test_preview_of_every_method_is_written_whole(tmp_path, images: torch.Tensor, name: str):
    pillow = pytest.importorskip("PIL.Image")
    bank = anoaug.TextureBank.procedural(2, 32)
    needed = {"textures": bank} if "textures" in anoaug.describe(name)["defaults"] else {}
    if "donors" in anoaug.describe(name)["needs"]:
        needed["donors"] = anoaug.DonorBank.from_tensors(images.flip(0))
    synth = anoaug.create(name, **needed, seed=0)
    sheet = viz.preview(synth, images, tmp_path / "a.png")
    with pillow.open(tmp_path / "a.png") as written:
        assert np.array_equal(np.asarray(written), np.asarray(sheet))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_preview_refuses_before_it_works(tmp_path, images: torch.Tensor):
    with pytest.raises(TypeError, match="synth: expected an anoaug.Synthesizer, got str"):
        viz.preview("draem", images)
    with pytest.raises(ValueError, match=r"ends in \.png"):
        viz.preview(composed(), images, tmp_path / "a.jpg")
    for few, rows in ((images[:0], 8), (images, 0)):
        with pytest.raises(ValueError, match="rows, images: expected 1 or more"):
            viz.preview(composed(), few, rows=rows)
