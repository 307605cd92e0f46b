"""The suite of methods: parts clocked, launches counted, figures written, peers at work."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

for _name in ("cv2", "PIL", "skimage", "jsonschema", "tqdm"):
    pytest.importorskip(_name)

import anoaug  # noqa: E402
from benchmarks import cases, data, methods, run  # noqa: E402
from benchmarks.peers import methods_numpy  # noqa: E402

IMAGE = data.generated(1, 128, 4)[0]
OTHERS = data.generated(3, 128, 5)


def made(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return methods_numpy.PEERS[name](OTHERS, seed)(IMAGE)


def test_every_registered_method_is_a_case() -> None:
    assert [case.method for case in cases.select("methods")] == anoaug.list_methods()
    assert set(cases.ORIGINALS) | set(cases.PEERS) <= set(anoaug.list_methods())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(methods_numpy.PEERS) - {"riad"}))
def test_a_peer_changes_what_its_mask_says_and_nothing_else(name: str) -> None:
    changed = 0
    for seed in range(8):
        image, mask = made(name, seed)
        assert image.shape == IMAGE.shape and mask.shape == IMAGE.shape[:2]
        scale = 255.0 if image.dtype != np.uint8 else 1.0
        difference = np.abs(image * scale - IMAGE).max(-1)
        # Rounding of floats; with NSA the solve changes the patch's rectangle by what no label has.
        outside = difference[mask == 0]
        assert name == "nsa" or outside.max(initial=0) < 1e-3
        changed += int((difference[mask > 0] > 1).sum())
    assert changed > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memseg", "realnet", "glass_las", "destseg", "dsr_image"])
def test_perlin_masks_cover_about_a_twentieth(name: str) -> None:
    shares = [float(made(name, seed)[1].astype(bool).mean()) for seed in range(40)]
    assert 0.02 < np.mean(shares) < 0.1


@pytest.mark.slow
def test_nsa_s_labels_are_soft_and_as_large_as_published() -> None:
    labels = [made("nsa", seed)[1] for seed in range(30)]
    assert all(label.min() >= 0 and label.max() <= 1 for label in labels)
    assert any(((label > 0.01) & (label < 0.99)).any() for label in labels)
    assert 0.03 < np.mean([(label > 0).mean() for label in labels]) < 0.2


def test_riad_hides_every_pixel_once() -> None:
    images, masks = made("riad")
    assert (masks.sum(0) == 1).all()
    assert (images[masks == 1] == 0).all()
    assert np.array_equal(images[masks == 0], np.broadcast_to(IMAGE, images.shape)[masks == 0])


def test_cdo_draws_none_a_fifth_of_the_time() -> None:
    empty = [not made("cdo", seed)[1].any() for seed in range(200)]
    assert 0.1 < np.mean(empty) < 0.3


def test_kernels_and_copies_are_told_apart() -> None:
    cpu, cuda = "DeviceType.CPU", "DeviceType.CUDA"
    events = [
        ("Memcpy HtoD (Pinned -> Device)", cuda), ("_render_kernel", cuda), ("aten::copy_", cpu),
        ("Memset (Device)", cuda), ("sgemm", cuda),
    ]  # fmt: skip
    assert methods.counted(events) == {"kernels": 2, "copies": 1}


def suite_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *names: str) -> dict:
    chosen = tuple(case for case in cases.select("methods") if case.method in names)
    monkeypatch.setattr(cases, "CASES", chosen)
    monkeypatch.setattr(data, "data_root", lambda: None)
    (path,) = run.main([
        "--suite", "methods", "--size", "64", "--batch", "2", "--seconds", "0", "--out",
        str(tmp_path), "--providers", "anoaug", "numpy",
    ])  # fmt: skip
    return json.loads(path.read_text())


@pytest.mark.slow
def test_parts_are_clocked_within_the_call(monkeypatch, tmp_path: Path, capsys) -> None:
    entry = suite_of(monkeypatch, tmp_path, "nsa", "reb", "cutout")
    lines = {(line["case"], line["provider"]): line for line in entry["timings"]}
    nsa, reb, cutout = (lines[name, "anoaug"]["parameters"] for name in ("nsa", "reb", "cutout"))
    assert 0 < nsa["finish_s"] < lines["nsa", "anoaug"]["median"] and nsa["prepare_s"] == 0
    assert 0 < reb["prepare_s"] < lines["reb", "anoaug"]["median"] and reb["finish_s"] == 0
    assert cutout["prepare_s"] == cutout["finish_s"] == 0
    assert lines["nsa", "numpy"]["ratio"] == 1 and lines["nsa", "anoaug"]["ratio"] is not None
    assert nsa["original_ms_at_256"] == 17.95 and "times_the_original" not in nsa
    heads = capsys.readouterr().out.splitlines()[2].split()
    assert heads[-3:] == ["prepare-ms", "finish-ms", "ratio"]


def record_of(names: list[str], size: int = 256) -> dict:
    lines = [
        {"case": name, "provider": provider, "device": "cpu", "cpu_median": 32 / rate,
         "parameters": {"size": size, "batch": 32, "original_ms_at_256": 20.0}}
        for name in names for provider, rate in (("anoaug", 50.04), ("anoaug-compiled", 500.0))
    ]  # fmt: skip
    return {
        "timings": lines, "machine": {"cpu": "c"}, "threads": 1, "created": "now",
        "commit": {"rev": "r"},
    }  # fmt: skip


def test_figures_are_those_of_the_record(tmp_path: Path) -> None:
    path = methods.write_figures(record_of(anoaug.list_methods()), tmp_path / "f.json")
    known = json.loads(path.read_text())
    assert known["methods"]["nsa"] == {"anoaug": 50.0, "anoaug-compiled": 500.0, "original": 50.0}
    assert known["about"]["machine"] == "c" and known["about"]["rev"] == "r"


@pytest.mark.parametrize("entry", [record_of(["nsa"]), record_of(anoaug.list_methods(), 64)])
def test_figures_of_some_methods_are_none(entry: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a line of every method"):
        methods.write_figures(entry, tmp_path / "f.json")
    assert list(tmp_path.iterdir()) == []


def test_figures_are_of_this_suite_alone() -> None:
    with pytest.raises(SystemExit):
        run.arguments(["--suite", "draem", "--figures"])


def test_a_clock_keeps_what_a_callable_is() -> None:
    spent: list[float] = []
    clocked = methods.Clocked(anoaug.finish.Difference(), spent)
    assert clocked.by_backend
    weight = torch.zeros(1, 1, 8, 8)
    assert clocked(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8), weight).shape == weight.shape
    assert len(spent) == 1


def test_no_provider_but_those_of_the_case(monkeypatch) -> None:
    (case, *_) = cases.select("methods")
    options = argparse.Namespace(device="cpu", providers=["opencv"], seconds=0.0)
    inputs = data.Inputs(data.generated(2, 32, 0), data.generated(2, 32, 1), "generated")
    assert methods.run_case(case, options, 32, 2, inputs) == []
