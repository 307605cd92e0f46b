"""Data sets: what is written, what the manifest says of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anoaug
from anoaug.banks import imagefolder
from anoaug.generate import Written, replay, worker
from anoaug.methods.inputs import as_donors
from tests.generate.making import entries, make

pillow = pytest.importorskip("PIL.Image")


# ---- what is written -----------------------------------------------------------------------------


def test_the_layout_is_mvtecs(folder: Path, tmp_path: Path, tree):
    out = tmp_path / "out"
    written = make(folder, out, 4, normals=True, format="bmp")
    image, mask = "normal/test/{}/{:03d}.bmp", "normal/ground_truth/{}/{:03d}_mask.png"
    wanted = {
        "manifest.jsonl",
        *(f"normal/train/good/{k:03d}.bmp" for k in range(5)),
        *(
            name.format(method, k)
            for name in (image, mask)
            for method in ("cutpaste", "cutpaste_scar")
            for k in range(2)
        ),
    }
    assert set(tree(out)) == wanted
    counts = {"cutpaste": 2, "cutpaste_scar": 2, "good": 5}
    assert written == Written(out / "manifest.jsonl", counts, 5, 0)


def test_it_loads_back_as_a_data_set_of_normal_images(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    make(folder, out, normals=True)
    names = imagefolder.find(out)
    labels = imagefolder.normal_by_folder(out, names)
    assert labels == {f"normal/train/good/{k:03d}.png": "normal" for k in range(5)}
    bank = anoaug.DonorBank.from_folder(out, size=(40, 48), cache=False, progress=False)
    clean = anoaug.DonorBank.from_folder(folder, size=(40, 48), cache=False, progress=False)
    assert bool((bank.data == clean.data).all())


def test_masks_are_binary_and_changes_lie_within(folder: Path, tmp_path: Path, textures, pixels):
    out = tmp_path / "out"
    make(folder, out, 9, ("draem", "cutpaste", "cutpaste_scar"), textures=textures)
    for entry in entries(out):
        mask, image = pixels(out / entry["mask"]), pixels(out / entry["image"])
        changed = (image != pixels(folder / entry["source"])).any(-1)
        assert set(np.unique(mask)) == {0, 255}
        assert changed.any() and not (changed & (mask == 0)).any()
        assert entry["area"] == pytest.approx((mask > 0).mean(), abs=1e-6)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert entry["box"] == box


def test_methods_and_sources_are_used_evenly(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    make(folder, out, 20)
    used = Counter((entry["method"], entry["source"]) for entry in entries(out))
    assert set(used.values()) == {2}
    assert len(used) == 2 * 5


def test_empty_masks_are_drawn_again(folder: Path, tmp_path: Path, textures, pixels):
    out = tmp_path / "out"
    make(folder, out, 20, "draem", textures=textures, keywords={"threshold": 0.75})
    found = entries(out)
    assert max(entry["epoch"] for entry in found) > 0
    assert all(pixels(out / entry["mask"]).any() for entry in found)
    assert [entry["number"] for entry in found] == list(range(20))


def test_an_image_on_which_nothing_shows_is_passed_over(folder: Path, tmp_path: Path):
    for name in "abc":
        pillow.new("RGB", (48, 40)).save(folder / f"{name}.png")
    out = tmp_path / "out"
    make(folder, out, 5, "cutpaste", keywords={"jitter": 0})
    used = [(entry["source"], entry["epoch"]) for entry in entries(out)]
    assert {source for source, _ in used} == {"d.png", "e.png"}
    assert {epoch for _, epoch in used} <= {0, 20, 40, 60}


def test_where_nothing_ever_shows_is_an_error(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(worker, "_DRAWS", 3)
    with pytest.raises(ValueError, match="cutpaste: 3 draws left no anomaly, the last on"):
        make(folder, tmp_path / "out", keywords={"cutpaste.min_area": 10**6})


def test_mixed_sizes_and_kinds_stay_what_they_are(tmp_path: Path, save, pixels):
    turned = pillow.Exif()
    turned[0x0112] = 6
    save("mixed/grey.png", (30, 50), "L")
    save("mixed/palette.png", (64, 40), "P")
    save("mixed/print.jpg", (33, 41), "CMYK")
    save("mixed/turned.jpg", (20, 60), exif=turned)
    deep = np.arange(40 * 44, dtype=np.uint16).reshape(40, 44) * 37
    pillow.fromarray(deep).save(tmp_path / "mixed/deep.png")
    out = tmp_path / "out"
    make(tmp_path / "mixed", out, 5, "cutpaste", normals=True)
    shapes = {}
    for entry in entries(out):
        assert [*pixels(out / entry["image"]).shape[:2]] == entry["size"]
        shapes[entry["source"]] = pixels(out / entry["image"]).shape
    assert shapes == {
        "deep.png": (40, 44),
        "grey.png": (30, 50),
        "palette.png": (64, 40, 3),
        "print.jpg": (33, 41, 3),
        "turned.jpg": (60, 20, 3),
    }
    (good,) = (e for e in entries(out) if e["source"] == "deep.png" and e["method"] is None)
    assert np.array_equal(pixels(out / good["image"]), deep >> 8)


def test_a_size_is_every_images(tmp_path: Path, save, pixels):
    save("mixed/a.png", (30, 50))
    save("mixed/b.png", (64, 40), "L")
    make(tmp_path / "mixed", tmp_path / "out", 2, "cutpaste", size=(24, 36))
    shapes = {pixels(tmp_path / "out" / e["image"]).shape for e in entries(tmp_path / "out")}
    assert shapes == {(24, 36, 3), (24, 36)}


def test_categories_are_kept_and_get_equal_shares(tmp_path: Path, save):
    for name in ("nut/train/good/0.png", "nut/test/bent/0.png", "bolt/train/good/0.png"):
        save(f"parts/{name}")
    make(tmp_path / "parts", tmp_path / "out", 8)
    shares = Counter((e["category"], e["method"]) for e in entries(tmp_path / "out"))
    assert shares == {(c, m): 2 for c in ("nut", "bolt") for m in ("cutpaste", "cutpaste_scar")}
    assert {e["source"].split("/")[1] for e in entries(tmp_path / "out")} == {"train"}


def test_anomalies_stay_on_the_foreground(folder: Path, tmp_path: Path, pixels):
    (tmp_path / "objects").mkdir()
    inside = np.zeros((40, 48), np.uint8)
    inside[10:30, 12:36] = 1
    for name in "abc":
        pillow.fromarray(inside).save(tmp_path / f"objects/{name}.png")
    for name in "de":
        pillow.fromarray(inside * 255).save(tmp_path / f"objects/{name}_mask.bmp")
    make(folder, tmp_path / "out", 10, foreground=tmp_path / "objects")
    for entry in entries(tmp_path / "out"):
        assert not pixels(tmp_path / "out" / entry["mask"])[inside == 0].any()
        again = replay(tmp_path / "out", entry["number"], folder, foreground=tmp_path / "objects")
        assert np.array_equal(again.mask[0, 0] > 0, pixels(tmp_path / "out" / entry["mask"]) > 0)


# ---- the manifest --------------------------------------------------------------------------------


def test_the_manifest_says_what_was_drawn(folder: Path, tmp_path: Path, textures):
    make(folder, tmp_path / "out", 4, ("draem", "cutpaste"), textures=textures, seed=-3,
         keywords={"draem.opacity": (0.25, 0.5)})  # fmt: skip
    first, second, *_ = entries(tmp_path / "out")
    told = first["parameters"]
    assert 0.25 <= told["layer0.blend.opacity.opacity"] <= 0.5
    assert told["layer0.source.texture.image"] in ("brick.png", "sand.png")
    assert told["layer0.source.texture.h"] == 256
    assert second["parameters"]["layer0.source.own.row"] == -1
    assert (first["seed"], first["index"], first["spec"]) == (-3, 0, anoaug.recipe.SPEC_VERSION)
    top = (tmp_path / "out/manifest.jsonl").read_text().splitlines()[0]
    header = json.loads(top)
    assert header["anoaug"] == anoaug.__version__
    assert header["methods"]["cutpaste"]["defaults"]["area"] == [0.02, 0.15]
    assert header["methods"]["draem"]["keywords"] == {"opacity": [0.25, 0.5]}
    assert header["settings"]["n"] == 4 and header["settings"]["seed"] == -3
    assert header["banks"]["textures"]["folder"] == "textures"
    assert str(tmp_path) not in top


@pytest.mark.slow
def test_a_replay_gives_the_same_pixels(folder: Path, tmp_path: Path, textures, pixels):
    out = tmp_path / "out"
    make(folder, out, 6, ("draem", "cutpaste", "cutpaste_union"), textures=textures, size=32)
    for entry in entries(out):
        batch = replay(out, entry["number"], folder, textures=textures)
        image = batch.image[0].permute(1, 2, 0).numpy()
        assert np.array_equal(image, pixels(out / entry["image"]))
        assert np.array_equal(batch.mask[0, 0] * 255, pixels(out / entry["mask"]))
        assert worker.encoded(batch.image[0], "png") == (out / entry["image"]).read_bytes()


def test_a_controlled_data_set_replays(folder: Path, tmp_path: Path, textures, pixels):
    out, control = tmp_path / "out", {"size": [0.05, 0.1], "location": [0.5, 0.5]}
    make(folder, out, 4, ("draem", "cutpaste"), textures=textures, size=64,
         keywords={"control": control})  # fmt: skip
    for entry in entries(out):
        mask = pixels(out / entry["mask"])
        assert ("within" in entry) == (entry["method"] == "draem")
        assert 0.045 <= (mask > 0).mean() <= 0.11
        batch = replay(out, entry["number"], folder, textures=textures)
        assert np.array_equal(batch.mask[0, 0] * 255, mask)


def test_a_replay_from_other_folders_is_refused(folder: Path, tmp_path: Path, textures):
    make(folder, tmp_path / "out", 1, "draem", textures=textures)
    with pytest.raises(ValueError, match="same banks"):
        replay(tmp_path / "out", 0, folder, textures=folder)
    with pytest.raises(ValueError, match="an anomalous image of the manifest, got 1"):
        replay(tmp_path / "out", 1, folder, textures=textures)
    for path in folder.iterdir():
        pillow.new("RGB", (48, 40)).save(path)
    with pytest.raises(ValueError, match="not the image that the data set was begun with"):
        replay(tmp_path / "out", 0, folder, textures=textures)


def test_a_replay_wants_the_foreground_of_the_image(folder: Path, tmp_path: Path):
    inside = np.zeros((40, 48), np.uint8)
    for name, column in (("left", 0), ("right", 24)):
        (tmp_path / name).mkdir()
        inside[:], inside[:, column : column + 24] = 0, 255
        for path in folder.iterdir():
            pillow.fromarray(inside).save(tmp_path / name / path.name)
    make(folder, tmp_path / "within", 1, "cutpaste", foreground=tmp_path / "left")
    make(folder, tmp_path / "anywhere", 1, "cutpaste")
    (line,) = entries(tmp_path / "within")
    left = tmp_path / "left" / line["source"]
    assert line["foreground_sha256"] == hashlib.sha256(left.read_bytes()).hexdigest()
    for out, given, told in (
        ("within", None, "expected the foreground that the image was made with, got none"),
        ("within", tmp_path / "right", "the foreground that the image was made with, got another"),
        ("anywhere", tmp_path / "left", "expected no foreground that the image was made with"),
    ):
        with pytest.raises(ValueError, match=told):
            replay(tmp_path / out, 0, folder, foreground=given)
    replay(tmp_path / "within", 0, folder, foreground=tmp_path / "left")


def test_a_manifest_of_another_format_is_refused(folder: Path, tmp_path: Path):
    make(folder, tmp_path / "out", 1, "cutpaste")
    path = tmp_path / "out/manifest.jsonl"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1', 1))
    with pytest.raises(ValueError, match="expected a manifest of format 2, got 1; use the anoaug"):
        replay(tmp_path / "out", 0, folder)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"methods": "dream"}, "did you mean draem"),
        ({"methods": ()}, "methods: expected at least one"),
        ({"methods": ("cutpaste", "cutpaste")}, "methods: expected each once"),
        ({"n": 1}, "n: expected at least one image per method, 2, got 1"),
        ({"jobs": 0}, "jobs: expected at least 1"),
        ({"size": 0}, "size: expected a positive integer"),
        ({"size": 64.0}, "size: expected an integer or a pair (height, width), got 64.0"),
        ({"size": (8, 8, 8)}, "size: expected an integer or a pair (height, width), got (8, 8, 8)"),
        ({"resize": "fit"}, "resize: expected one of"),
        ({"format": "jpg"}, "format: expected one of"),
        ({"keywords": {"aera": 1}}, "aera: no keyword of cutpaste, cutpaste_scar; did you mean"),
        ({"keywords": {"draem.opacity": 1}}, "'draem' is not used"),
        ({"keywords": {"cutpaste.width": 3}}, "cutpaste.width: no keyword of cutpaste"),
        ({"keywords": {"p": 0.5}}, "p: cannot be set here"),
        ({"keywords": {"area": (0.2, 0.1)}}, "area"),
        ({"keywords": {"control": {"count": 2}}}, "count does not apply to this synthesizer"),
        ({"foreground": "textures"}, "found none for 5 of them, such as a.png"),
        ({"textures": "nowhere", "methods": "draem"}, "does not exist"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, textures, monkeypatch, change: dict[str, Any], told: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as refusal:
        make(folder, tmp_path / "out", **change)
    assert told in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_no_place_for_it_is_refused(folder: Path, tmp_path: Path, tree):
    before = tree(folder)
    with pytest.raises(ValueError, match="out: expected a folder outside of"):
        make(folder, folder / "out")
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out: expected a new or empty folder"):
        make(folder, tmp_path / "busy")
    with pytest.raises(ValueError, match="out: expected a folder, got the file"):
        make(folder, tmp_path / "busy/notes.txt")
    with pytest.raises(OSError, match="^cannot write '.*': Not a directory"):
        make(folder, tmp_path / "busy/notes.txt/out")
    assert tree(folder) == before


def test_defects_and_masks_are_no_normal_images(tmp_path: Path, save):
    save("nut/test/bent/0.png")
    with pytest.raises(ValueError, match="expected a folder of normal images"):
        make(tmp_path / "nut/test", tmp_path / "out")


def test_an_image_that_changes_meanwhile_stops_the_run(folder: Path, tmp_path: Path, monkeypatch):
    real = worker.lines

    def late(*arguments: Any):
        pillow.new("RGB", (48, 40)).save(folder / "a.png")
        return real(*arguments)

    monkeypatch.setattr(worker, "lines", late)
    with pytest.raises(ValueError, match="a.png' is not the image that the data set was begun"):
        make(folder, tmp_path / "out", 10)


def test_what_cannot_be_written_down_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(TypeError, match="ops: expected plain data"):
        make(
            folder,
            tmp_path / "out",
            1,
            "draem",
            keywords={"ops": anoaug.photometric.RandomOps.draem()},
        )
    for name in ("n", "seed", "jobs"):
        with pytest.raises(TypeError, match=f"{name}: expected an integer, got 2.5"):
            make(folder, tmp_path / "out", **{name: 2.5})


def borrowed(*, donors: Any, p: float = 0.5, **common: Any) -> anoaug.Synthesizer:
    """A patch of another image."""
    mask = anoaug.masks.Rectangle(area=0.2)
    source = anoaug.sources.Donor(as_donors(donors))
    return anoaug.Synthesizer(anoaug.Layer(mask, source), p=p, **common)


def test_donors_are_the_normal_images_of_the_category(tmp_path: Path, pixels, monkeypatch):
    for name, level in (("dark", 0), ("light", 200)):
        (tmp_path / "parts" / name).mkdir(parents=True)
        for k in range(3):
            image = pillow.new("RGB", (32, 24), (level + k,) * 3)
            image.save(tmp_path / f"parts/{name}/{k}.png")
    method = anoaug.methods.Method(
        "borrowed", borrowed, "external", "", "", (), (), (), ("donors",)
    )
    monkeypatch.setitem(anoaug.methods._REGISTRY.methods, "borrowed", method)
    make(tmp_path / "parts", tmp_path / "out", 12, "borrowed")
    for entry in entries(tmp_path / "out"):
        assert entry["parameters"]["layer0.source.donor.image"].startswith(entry["category"])
        inside = pixels(tmp_path / "out" / entry["mask"]) > 0
        patch = pixels(tmp_path / "out" / entry["image"])[inside]
        assert patch.min() == patch.max()
        assert (patch.min() >= 200) == (entry["category"] == "light")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["texture", "metal_nut"])
def test_donors_of_one_size_want_images_of_one_size(
    folder: Path, tmp_path: Path, save, preset: str
):
    save("normal/f.png", (48, 48))
    save("normal/g.png", mode="L")
    chosen = {"keywords": {"preset": preset}}
    with pytest.raises(ValueError, match=r"for nsa, .* of \(40, 48\) pixels, of \(48, 48\) and"):
        make(folder, tmp_path / "out", 1, "nsa", **chosen)
    assert not (tmp_path / "out").exists()
    assert make(folder, tmp_path / "any", 7, "fpi").counts == {"fpi": 7}
    if preset == "texture":  # on noise there is no object
        assert make(folder, tmp_path / "out", 7, "nsa", size=48, **chosen).counts == {"nsa": 7}


@pytest.mark.parametrize("method", ["chip", "pei", "reb"])
def test_a_method_that_finds_its_foreground_needs_no_masks(tmp_path: Path, pixels, method: str):
    (tmp_path / "objects").mkdir()
    noise = np.random.default_rng(0).integers(0, 40, (2, 64, 64, 3), dtype=np.uint8)
    noise[:, 12:52, 12:52] += 190
    for k in range(2):
        pillow.fromarray(noise[k]).save(tmp_path / f"objects/{k}.png")
    make(tmp_path / "objects", tmp_path / "out", 2, method)
    for entry in entries(tmp_path / "out"):
        assert entry["foreground_sha256"] is None
        again = replay(tmp_path / "out", entry["number"], tmp_path / "objects")
        assert np.array_equal(
            again.image[0].permute(1, 2, 0), pixels(tmp_path / "out" / entry["image"])
        )


def test_what_a_method_needs_is_asked_for(folder: Path, tmp_path: Path, monkeypatch):
    needy = anoaug.methods.Method(
        "needy", anoaug.methods.get("cutpaste").build, "external", "", "", (), (), (), ("network",)
    )
    monkeypatch.setitem(anoaug.methods._REGISTRY.methods, "needy", needy)
    with pytest.raises(ValueError, match="methods: needy needs network"):
        make(folder, tmp_path / "out", 1, "needy")
