"""``anoaug preview``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anoaug
from anoaug import methods, viz
from anoaug.cli import pictures, preview

pillow = pytest.importorskip("PIL.Image")

SIZE = 64


def pixels_of(path: Path) -> np.ndarray:
    with pillow.open(path) as image:
        return np.asarray(image)


def tensor_of(path: Path) -> torch.Tensor:
    return torch.from_numpy(pixels_of(path).copy()).permute(2, 0, 1)


def place(sheet: np.ndarray, panel: torch.Tensor) -> tuple[int, int] | None:
    """Top and left of a panel in a sheet, enlarged as the sheet enlarges it."""
    scale = -(-160 // panel.shape[2])
    wanted = panel.permute(1, 2, 0).numpy().repeat(scale, 0).repeat(scale, 1)
    line = wanted[0].tobytes()
    for top in range(sheet.shape[0] - len(wanted) + 1):
        row, at = sheet[top].tobytes(), -1
        while (at := row.find(line, at + 1)) >= 0:
            left = at // 3
            if np.array_equal(sheet[top : top + len(wanted), left:][:, : len(wanted[0])], wanted):
                return top, left
    return None


@pytest.mark.slow
def test_preview_shows_clean_anomalous_and_mask(run, folder: Path, tmp_path: Path):
    argv = ("preview", folder / "a.png", "-m", "cutpaste", "--size", SIZE, "--seed", 3)
    assert run(*argv, "-o", "p.png").code == 0
    clean = tensor_of(folder / "a.png")
    synth = anoaug.create("cutpaste", p=1.0, seed=3)
    batch = synth(clean[None], index=[0], epoch=0)
    tinted = viz.overlay(batch.image, batch.mask)[0]

    sheet = pixels_of(tmp_path / "p.png")
    places = [place(sheet, panel) for panel in (clean, batch.image[0], tinted)]
    assert None not in places
    (top, first), (_, second), (_, third) = places
    assert [at[0] for at in places] == [top] * 3
    assert first < second < third

    # And what these panels say, read from the picture alone.
    side = SIZE * -(-160 // SIZE)
    one, two, three = (
        sheet[top : top + side, left : left + side].astype(int) for left in (first, second, third)
    )
    changed, marked = (one != two).any(-1), (two != three).any(-1)
    assert changed.any() and not (changed & ~marked).any()
    assert (three - two)[marked].mean(0)[0] > (three - two)[marked].mean(0)[1]  # it turns red


def test_preview_reads_a_folder_and_draws_several_methods(run, folder: Path, tmp_path: Path):
    result = run("preview", folder, "-m", "draem,cutpaste_scar", "--size", SIZE, "-n", 2)
    assert result.code == 0
    assert result.out.startswith("preview.png: 2 images, draem, cutpaste_scar; ")
    assert result.err == ""
    sheet = pixels_of(tmp_path / "preview.png")
    found = [name for name in "abc" if place(sheet, tensor_of(folder / f"{name}.png"))]
    assert found == ["a", "c"]  # spread over the folder


@pytest.mark.slow
def test_preview_is_a_function_of_its_arguments(run, folder: Path, tmp_path: Path):
    argv = ("preview", folder, "-m", "cutpaste", "--size", 32)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(*argv, "--seed", seed, "--out", f"{name}.png")
    first, again, other = (pixels_of(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_preview_takes_textures_from_a_folder(run, folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
    textures = tmp_path / "green"
    textures.mkdir()
    pillow.new("RGB", (32, 32), (0, 255, 0)).save(textures / "green.png")
    argv = ("-m", "destseg", "--size", 32, "--textures", textures, "-o", "p.png")
    assert run("preview", folder, *argv).code == 0
    made = []
    monkeypatch.setattr(viz, "comparison", lambda *args, **facts: made.append(facts) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("preview", folder, *argv)
    assert made[0]["subtitle"].endswith("textures: green")


def test_preview_of_mvtec_takes_normal_images_alone(run, folder: Path, tmp_path: Path):
    for part in ("train/good", "test/scratch"):
        (tmp_path / "screw" / part).mkdir(parents=True)
    (folder / "a.png").rename(tmp_path / "screw/train/good/a.png")
    (folder / "b.png").rename(tmp_path / "screw/test/scratch/b.png")
    result = run("preview", tmp_path / "screw", "-m", "cutpaste", "--size", SIZE)
    assert result.out.startswith("preview.png: 1 images")
    assert place(
        pixels_of(tmp_path / "preview.png"), tensor_of(tmp_path / "screw/train/good/a.png")
    )


def test_an_unreadable_image_in_a_folder_is_named_and_replaced(run, folder: Path):
    (folder / "a.png").write_bytes(b"no picture")
    result = run("preview", folder, "-m", "cutpaste", "--size", 32, "-n", 2)
    assert result.code == 0
    assert result.out.startswith("preview.png: 2 images")
    assert len(result.err.splitlines()) == 1
    assert str(folder / "a.png") in result.err and "0x" not in result.err


@pytest.mark.slow
def test_demo_draws_and_tells_the_throughput(run, tmp_path: Path, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr(preview, "BATCH", 2)
    result = run("preview", "--demo", "--size", 64, "--out", "demo.png")
    assert result.code == 0
    picture, line = result.out.splitlines()
    assert picture.startswith("demo.png: 4 images, draem, cutpaste; ")
    assert re.fullmatch(
        r"throughput: draem [\d,]+ images/s, cutpaste [\d,]+ images/s \(.*256 x 256 uint8, "
        r"batch 2, every image anomalous, median over 0 s\)",
        line,
    )
    sheet = pixels_of(tmp_path / "demo.png")
    assert all(place(sheet, image) for image in preview.demo_images(64))


@pytest.mark.slow
def test_the_demo_is_anomalous_throughout():
    pytest.importorskip("skimage")
    images = preview.demo_images(256)
    bank = anoaug.TextureBank.procedural()
    synth = anoaug.create("draem", textures=bank, p=1.0, seed=preview.DEMO_SEED)
    batch = synth(images, index=range(4), epoch=0)
    share = batch.mask.mean((1, 2, 3))
    changed = ((batch.image.float() - images).abs() * batch.mask).sum((1, 2, 3)) / 3
    assert batch.label.tolist() == [1, 1, 1, 1]
    assert bool(((share > 0.02) & (share < 0.15)).all()), share
    assert bool((changed / batch.mask.sum((1, 2, 3)) > 15).all()), "too faint to see"


def test_throughput_leaves_the_threads_as_they_were(images: torch.Tensor):
    synth = anoaug.create("cutpaste", p=1.0, seed=0)
    torch.set_num_threads(2)  # the suite's fixture sets it back
    assert preview.throughput(synth, images, 0.0) > 0
    assert torch.get_num_threads() == 2


@given(count=st.integers(1, 50), wanted=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_spread_names_each_once_and_begins_evenly(count: int, wanted: int):
    order = list(pictures.spread(count, wanted))
    assert sorted(order) == list(range(count))
    first = order[: min(count, wanted)]
    gaps = np.diff([-1, *first, count])
    assert first == sorted(first)
    assert gaps[1:-1].max(initial=0) - gaps[1:-1].min(initial=count) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("part", "warned"), [("test", 1), ("ground_truth", 1), ("good", 0)])
def test_preview_of_tests_or_masks_is_warned_of(
    run, folder: Path, tmp_path: Path, part: str, warned: int
):
    folder.rename(tmp_path / part)
    result = run("preview", part, "-m", "cutpaste", "-n", 1, "--size", 16)
    assert result.code == 0
    assert result.err.count("anoaug: warning: ") == warned
    assert result.err.count("not known to be normal; give train/good") == warned


@pytest.mark.parametrize("name", ["nsa", "fpi", "pii"])
def test_donors_are_the_images_themselves(run, folder: Path, tmp_path, monkeypatch, name: str):
    shown = []
    real = viz.comparison
    monkeypatch.setattr(
        viz, "comparison", lambda *parts, **facts: shown.append((parts, facts)) or real(*parts)
    )
    result = run("preview", folder, "-m", name, "--size", SIZE, "-n", 2)
    assert (result.code, result.err) == (0, "")
    ((_, images, ((synth, batch),)), facts) = shown[0]
    assert facts["subtitle"].endswith("donors: the images themselves")
    (layer, *_) = synth.layers
    donors = getattr(layer.source, "source", layer.source).bank
    assert donors.names == ("a.png", "b.png", "c.png")
    assert torch.equal(
        donors.data, torch.stack([tensor_of(folder / f"{name}.png") for name in "abc"])
    )
    assert not torch.equal(batch.image, images)


def test_a_single_image_has_no_donors(run, folder: Path):
    result = run("preview", folder / "a.png", "-m", "fpi", "--size", SIZE)
    assert result.code == 0
    assert "fpi takes patches from other images, and here is one image alone" in result.err


@pytest.mark.slow
def test_the_demo_borrows_from_its_own_images(run, tmp_path: Path, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr(preview, "BATCH", 2)
    result = run("preview", "--demo", "--size", 64, "-m", "nsa", "--out", "demo.png")
    assert result.code == 0 and "throughput: nsa " in result.out


def test_a_need_that_preview_cannot_meet_is_named(run, folder: Path, monkeypatch):
    needy = methods.Method(
        "needy", methods.get("cutpaste").build, "external", "", "", (), (), (), ("bank",)
    )
    monkeypatch.setitem(methods._REGISTRY.methods, "needy", needy)
    result = run("preview", folder, "-m", "needy")
    assert result.code == 2
    assert "needy needs bank" in result.err


def test_preview_sets_keywords_of_the_methods(run, folder: Path):
    argv = ("preview", folder / "a.png", "-m", "cutpaste,cdo", "--size", SIZE, "--seed", 3)
    more = ("--set", "control={'size': 0.1}", "--set", "cdo.count=1", "--set", "jitter=0")
    assert run(*argv, *more, "-o", "p.png").code == 0
    synth = anoaug.create("cutpaste", p=1.0, seed=3, control={"size": 0.1}, jitter=0)
    out = synth(tensor_of(folder / "a.png")[None], index=[0], epoch=0)
    assert place(pixels_of(Path("p.png")), out.image[0]) is not None


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("aera=0.1", "'aera' is no keyword of cutpaste; did you mean area"),
        ("p=0.5", "p is an option here, --p"),
        ("draem.opacity=1", "--set: expected one of"),
        ("area", "expected KEY=VALUE"),
        ("control={'count': 2}", "count does not apply to this synthesizer"),
    ],
)
def test_preview_refuses_what_cannot_be_set(run, folder: Path, setting: str, told: str):
    result = run("preview", folder / "a.png", "-m", "cutpaste", "--set", setting)
    assert result.code == 2 and told in result.err
