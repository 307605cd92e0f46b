"""Overlays, contact sheets and PNG files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anoaug
from anoaug import viz

TINT = torch.tensor(viz.TINT, dtype=torch.float32)


def blob(height: int = 9, width: int = 11) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., 2:7, 3:9] = 1.0
    return mask


def plain(colour: tuple[int, int, int], height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width)


def box(sheet, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a colour that must fill its box."""
    hit = (np.asarray(sheet) == np.array(colour)).all(-1)
    rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert hit[top:bottom, left:right].all()
    return int(left), int(top), int(right), int(bottom)


# ---- pixels --------------------------------------------------------------------------------------


def test_pixels_round_floats_as_the_library_does():
    values = torch.tensor([0.0, 0.5 / 255, 0.49 / 255, 254.5 / 255, 1.0]).expand(1, 3, 2, 5)
    assert viz.pixels(values)[0, 0, 0].tolist() == [0, 1, 0, 255, 255]


def test_pixels_show_the_high_byte_of_16_bits():
    values = torch.tensor([0, 255, 256, 65535], dtype=torch.uint16).expand(1, 3, 2, 4)
    assert viz.pixels(values)[0, 0, 0].tolist() == [0, 0, 1, 255]


def test_pixels_repeat_grey(images: torch.Tensor):
    assert torch.equal(viz.pixels(images[:, :1]), images[:, :1].repeat(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (torch.zeros(1, 2, 8, 8), "1 or 3 channels"),
        (torch.full((1, 3, 8, 8), 2.0), "divide by 255"),
        (torch.zeros(3, 8, 8), "rank 4"),
    ],
)
def test_pixels_refuse(value: torch.Tensor, hint: str):
    with pytest.raises(ValueError, match=hint):
        viz.pixels(value)


# ---- overlay -------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), outline=st.booleans())
@settings(max_examples=20, deadline=None)
def test_overlay_changes_nothing_outside_the_mask(seed: int, outline: bool):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, 7, 5), dtype=torch.uint8, generator=generator)
    masks = torch.rand(2, 1, 7, 5, generator=generator) > 0.6
    before = images.clone()
    shown = viz.overlay(images, masks, outline=outline)
    outside = ~masks.expand_as(images)
    assert torch.equal(shown[outside], images[outside])
    assert torch.equal(images, before)


def test_overlay_mixes_the_tint_by_its_strength():
    images = torch.full((1, 3, 9, 11), 100, dtype=torch.uint8)
    shown = viz.overlay(images, blob(), strength=0.25)
    expected = (100 + 0.25 * (TINT - 100) + 0.5).to(torch.uint8)
    assert torch.equal(shown[0, :, 4, 5], expected)


def test_overlay_weighs_soft_masks():
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    shown = viz.overlay(images, torch.full((1, 1, 4, 4), 0.5), strength=1.0, outline=False)
    assert torch.equal(shown[0, :, 1, 1], (0.5 * TINT + 0.5).to(torch.uint8))


def test_overlay_outlines_the_inner_edge_alone():
    images = torch.zeros(1, 3, 9, 11, dtype=torch.uint8)
    full = (viz.overlay(images, blob()) == TINT.to(torch.uint8)[:, None, None]).all(1)[0]
    expected = blob()[0, 0] > 0
    expected[3:6, 4:8] = False
    assert torch.equal(full, expected)


def test_overlay_draws_no_edge_along_the_border_of_the_picture():
    images = torch.zeros(1, 3, 6, 6, dtype=torch.uint8)
    shown = viz.overlay(images, torch.ones(1, 1, 6, 6), strength=0.5)
    assert (shown == shown[:, :, :1, :1]).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16])
def test_overlay_takes_masks_of_any_kind(dtype: torch.dtype, images: torch.Tensor):
    masks = (images[:, :1] > 128).to(dtype)
    expected = viz.overlay(images, (images[:, :1] > 128).float())
    assert torch.equal(viz.overlay(images, masks), expected)


def test_overlay_of_nothing_is_nothing():
    shown = viz.overlay(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, 1, 4, 4))
    assert shown.shape == (0, 3, 4, 4)


def test_overlay_refuses_masks_of_another_size(images: torch.Tensor):
    with pytest.raises(ValueError, match=r"masks: expected shape \[4, 1, 63, 50\]"):
        viz.overlay(images, torch.zeros(4, 1, 50, 63))


def test_overlay_refuses_a_strength_beyond_one(images: torch.Tensor):
    with pytest.raises(ValueError, match="strength: expected a number in"):
        viz.overlay(images, images[:, :1], strength=1.5)


# ---- contact sheet -------------------------------------------------------------------------------


def test_sheet_shows_every_pixel_of_a_panel():
    panel = torch.randint(0, 256, (3, 170, 161), dtype=torch.uint8)
    panel[:, 0, 0] = torch.tensor([1, 2, 3], dtype=torch.uint8)
    sheet = np.asarray(viz.contact_sheet([[panel]], [[""]]))
    top, left = np.argwhere((sheet == (1, 2, 3)).all(-1))[0]
    assert np.array_equal(sheet[top : top + 170, left : left + 161], panel.permute(1, 2, 0))


def test_sheet_enlarges_small_panels_by_whole_pixels():
    panel = plain((9, 8, 7), 40, 50).clone()
    panel[:, :, :25] = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]
    sheet = viz.contact_sheet([[panel]], [[""]])
    left, top, right, bottom = box(sheet, (1, 2, 3))
    assert (right - left, bottom - top) == (25 * 4, 40 * 4)
    assert box(sheet, (9, 8, 7)) == (right, top, right + 100, bottom)


def test_sheet_sets_groups_apart():
    colours = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    panels = [plain(colour) for colour in colours]
    sheet = viz.contact_sheet([panels], [["", "", ""]], groups=(1, 2))
    first, second, third = (box(sheet, colour) for colour in colours)
    assert first[1] == second[1] == third[1]
    assert second[0] - first[2] > third[0] - second[2] > 0


def test_sheet_leaves_a_gap_for_none():
    sheet = viz.contact_sheet(
        [[plain((1, 2, 3)), plain((4, 5, 6))], [None, plain((7, 8, 9))]], [["", ""], ["no", ""]]
    )
    left, _, right, _ = box(sheet, (1, 2, 3))
    top, bottom = box(sheet, (7, 8, 9))[1::2]
    assert (np.asarray(sheet)[top:bottom, left:right] == 255).all()
    assert box(sheet, (7, 8, 9))[0] == box(sheet, (4, 5, 6))[0]


def test_sheet_sets_the_caption_below_its_panel():
    panels = [plain((1, 2, 3)), plain((4, 5, 6))]
    sheet = viz.contact_sheet([panels], [["", "scratch\nwide"]])
    pixels = np.asarray(sheet)
    for colour, written in (((1, 2, 3), False), ((4, 5, 6), True)):
        left, _, right, bottom = box(sheet, colour)
        below = pixels[bottom + 2 :, left:right]  # below the hairline
        assert bool((below < 128).any()) is written


def test_sheet_sets_the_title_above_the_panels():
    panel = plain((1, 2, 3), 200, 200)
    bare = viz.contact_sheet([[panel]], [[""]])
    titled = viz.contact_sheet([[panel]], [[""]], title="anoaug")
    top = box(titled, (1, 2, 3))[1]
    assert top > box(bare, (1, 2, 3))[1]
    assert (np.asarray(titled)[: top - 2] < 128).any()


def test_a_long_caption_stays_below_its_panel():
    font = pytest.importorskip("PIL.ImageFont").load_default(size=13)
    name = "a/very/long/name/of/a/file/that/no/panel/can/hold.png"
    short = viz.fitted(name, font, 120)
    assert font.getlength(short) <= 120
    assert short.startswith("a/very") and short.endswith(".png") and "..." in short
    assert viz.fitted("brick", font, 120) == "brick"


@pytest.mark.parametrize(
    ("rows", "captions", "groups", "hint"),
    [
        ([], [], None, "at least one panel"),
        ([[None]], [[""]], None, "panels of one size, got none"),
        ([[plain((1, 2, 3))]], [["", ""]], None, "one text per panel"),
        ([[plain((1, 2, 3)), plain((1, 2, 3), 9)]], [["", ""]], None, "one size"),
        ([[plain((1, 2, 3))]], [[""]], (2,), "sum of 1"),
    ],
)
def test_sheet_refuses(rows, captions, groups, hint: str):
    with pytest.raises(ValueError, match=hint):
        viz.contact_sheet(rows, captions, groups=groups)


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
    monkeypatch.setattr(viz, "contact_sheet", lambda rows, *_, **__: laid.extend(rows))
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

    monkeypatch.setattr(viz, "contact_sheet", noted)
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


# ---- files ---------------------------------------------------------------------------------------


def test_png_gives_the_pixels_back(tmp_path, images: torch.Tensor):
    pillow = pytest.importorskip("PIL.Image")
    path = viz.save_png(images[0], tmp_path / "a.png")
    with pillow.open(path) as image:
        assert np.array_equal(np.asarray(image), images[0].permute(1, 2, 0))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_an_interrupt_keeps_the_old_file(tmp_path, images: torch.Tensor, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    path = viz.save_png(images[0], tmp_path / "a.png")
    old = path.read_bytes()

    def interrupted(self, stream, **_):
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pillow.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        viz.save_png(images[1], path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "hint"), [("a.jpg", "ends in .png"), ("no/a.png", "folder that exists"), ("f.png", "")]
)
def test_png_refuses_a_path_it_cannot_write(tmp_path, name: str, hint: str, images: torch.Tensor):
    (tmp_path / "f.png").mkdir()
    with pytest.raises(ValueError, match=hint or "got the folder"):
        viz.save_png(images[0], tmp_path / name)
