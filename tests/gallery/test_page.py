"""The gallery's page: well-formed, escaped, filterable, and the same for the same cards."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from anoaug import gallery
from anoaug.gallery import Card, Parameter, Picture, Row

NASTY = """<script>alert("&'x'")</script>"""


def picture(kind: str, data: bytes = b"x") -> Picture:
    return Picture(kind, f"{kind} of {NASTY}", "image/png", data, (8, 16))


def card(name: str = "one", group: str = "external", **fields: object) -> Card:
    given: dict[str, object] = {
        "summary": "Says ``this`` and :class:`anoaug.That`.",
        "paper": "A, B: Title (arXiv 2108.07610), doi 10.1109/CVPR.2019.00982",
        "tags": {"surfaces": ("texture",), "defects": ("scratch",), "mask": ("defect",)},
    }
    return Card(name, group, **{**given, **fields})  # type: ignore[arg-type]


def tree(text: str) -> ElementTree.Element:
    """The document; what is not well-formed as XML raises. Scripts and styles hold text alone."""
    text = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    text = text.removeprefix("<!DOCTYPE html>\n").replace(' content="width', " content='width")
    text = text.replace('initial-scale=1"/>', "initial-scale=1'/>")
    return ElementTree.fromstring(text)


def test_a_page_is_well_formed_and_has_every_card_in_its_group() -> None:
    cards = [card("a"), card("b", "inpainting"), card("c")]
    root = tree(gallery.page(cards, title="t", facts=["seed 1"]))
    sections = root.findall(".//section")
    assert [[c.get("id") for c in s.iter("article")] for s in sections] == [["a", "c"], ["b"]]
    assert [s.findtext("h2").strip() for s in sections] == ["external", "inpainting"]
    assert [li.text for li in root.findall("./body/header/ul/li")] == ["seed 1"]


def test_nothing_is_loaded_from_elsewhere() -> None:
    rows = (Row("r", "told", (picture("normal"), picture("mask", b"m"))),)
    text = gallery.page([card(rows=rows)], title="t")
    assert re.findall(r"(?:src=|url\(|@import|<link)\s*[\"']?(?!data:)[a-z/]+", text) == []


def test_what_cards_say_is_escaped_everywhere() -> None:
    nasty = card(
        NASTY, NASTY, summary=NASTY, paper=NASTY, tags={"surfaces": (NASTY,), NASTY: (NASTY,)},
        facts=((NASTY, NASTY),), lists=((NASTY, (NASTY,)),), note=NASTY,
        parameters=(Parameter(NASTY, NASTY, NASTY),), rows=(Row(NASTY, NASTY, (picture(NASTY),)),),
    )  # fmt: skip
    text = gallery.page([nasty], title=NASTY, facts=[NASTY])
    assert text.count("<script>") == 1  # the page's own
    (found,) = tree(text).iter("article")
    assert found.get("id") == NASTY and found.get("data-surface") == f"|{NASTY}|"


def test_code_and_identifiers_are_set_as_such() -> None:
    root = tree(gallery.page([card()], title="t"))
    assert [code.text for code in root.iter("code")] == ["this", "anoaug.That"]
    links = [a.get("href") for a in root.iter("a")]
    assert links == ["#one", "https://arxiv.org/abs/2108.07610",
                     "https://doi.org/10.1109/CVPR.2019.00982"]  # fmt: skip


def test_choices_are_what_the_cards_have() -> None:
    cards = [card("a"), card("b", "inpainting", tags={"defects": ("hole", "scratch")})]
    root = tree(gallery.page(cards, title="t"))
    choices = {s.get("name"): [o.get("value") for o in s] for s in root.iter("select")}
    assert choices["family"] == ["", "external", "inpainting"]
    assert choices["defect"] == ["", "hole", "scratch"]
    assert choices["surface"] == ["", "texture"]
    (_, second) = root.iter("article")
    assert second.get("data-defect") == "|hole|scratch|"


def test_a_picture_shown_twice_is_carried_once() -> None:
    row = Row("r", "told", (picture("normal", b"same" * 9), picture("mask", b"other")))
    text = gallery.page([card("a", rows=(row,)), card("b", rows=(row, row))], title="t")
    assert len(re.findall(r"url\(data:image/png;base64,", text)) == 2
    assert len(list(tree(text).iter("img"))) == 0
    shown = [p for p in tree(text).iter("span") if p.get("role") == "img"]
    assert [p.get("class") for p in shown] == ["picture s0", "picture s1"] * 3


def test_names_are_unlike_one_another() -> None:
    with pytest.raises(ValueError, match="each name once, got a twice"):
        gallery.page([card("a"), card("b"), card("a")], title="t")


def test_a_page_without_cards_is_one() -> None:
    assert list(tree(gallery.page([], title="t")).iter("article")) == []


def test_a_page_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.html"
    path.write_text("old")
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gallery.write(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert gallery.write(path, "né\n") == path
    assert path.read_bytes() == "né\n".encode()


@pytest.mark.parametrize("name", ["g.png", "g", "none/g.html", "folder.html"])
def test_paths_that_cannot_be_written_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match="expected a (name|folder|file)"):
        gallery.write(tmp_path / name, "")
    assert [one.name for one in tmp_path.iterdir()] == ["folder.html"]
