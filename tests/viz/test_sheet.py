"""Contact sheets: where panels, captions and headings stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anoaug import viz


def plain(colour: tuple[int, int, int], height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width)


def box(sheet, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a colour that must fill its box."""
    hit = (np.asarray(sheet) == np.array(colour)).all(-1)
    rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert hit[top:bottom, left:right].all()
    return int(left), int(top), int(right), int(bottom)


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
