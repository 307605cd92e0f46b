"""The loader suite: contestants that do the same work, epochs that are whole, a valid record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

for _name in ("cv2", "PIL", "jsonschema", "tqdm"):
    pytest.importorskip(_name)

from benchmarks import cases, data, loader, record, run  # noqa: E402

(CASE,) = cases.select("loader")
SIZE, BATCH = 32, 2
PROVIDERS = tuple(p for p in CASE.providers if "dali" not in p or loader.dali_feeds.there())


@pytest.fixture
def contest(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(data, "data_root", lambda: None)
    monkeypatch.setattr(loader, "_LEAST_IMAGES", 1)
    with loader.files(SIZE, BATCH) as found:
        yield loader.Contest(CASE, found, SIZE, BATCH, torch.device("cpu"))


def test_a_file_is_decoded_to_rgb_of_the_size(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = data.generated(1, SIZE, seed=0)[0]
    image.fromarray(pixels).save(tmp_path / "0.png")
    assert np.array_equal(loader.decode(tmp_path / "0.png", SIZE), pixels)
    assert loader.decode(tmp_path / "0.png", 16).shape == (16, 16, 3)


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_epoch_gives_every_image_once(provider: str, contest: loader.Contest) -> None:
    batches = list(contest.loader(provider))
    assert len(batches) * BATCH == len(contest.paths)
    for batch in batches:
        if isinstance(batch, dict):
            batch = batch["image"], batch["mask"]
        image, mask = batch[:2]
        assert image.shape == (BATCH, 3, SIZE, SIZE) and image.dtype == torch.float32
        assert mask.shape == (BATCH, 1, SIZE, SIZE)
        assert float(image.min()) >= 0.0 and float(image.max()) <= 1.0


@pytest.mark.slow
def test_workers_draw_numbers_of_their_own(contest: loader.Contest) -> None:
    contest.pipeline.p = 1.0
    dataset = loader.Synthesising([contest.paths[0]] * 4, SIZE, contest.pipeline)
    batches = list(loader.loading(dataset, 2, 2, torch.device("cpu")))
    assert not torch.equal(batches[0][0], batches[1][0])


def test_a_short_epoch_is_repeated(
    contest: loader.Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_LEAST_IMAGES", 2 * len(contest.paths) + 1)
    work, batches = contest.epochs("anoaug-resident")
    assert batches == 3 * len(contest.paths) // BATCH
    seen: list[int] = []
    take = contest.resident.take
    monkeypatch.setattr(contest.resident, "take", lambda *rows: seen.append(1) or take(*rows))
    work()
    assert len(seen) == batches


def test_each_part_does_its_work(contest: loader.Contest) -> None:
    parts = contest.parts()
    wanted = {part for name in PROVIDERS for part in loader._of(name) if part is not None}
    assert set(parts) == wanted
    for work in parts.values():
        work()


def test_more_images_in_a_batch_than_files_are_refused(contest: loader.Contest) -> None:
    found = loader.Files(contest.paths[0].parent, data.inputs(SIZE, 1), "generated")
    with pytest.raises(ValueError, match="--batch: expected at most 8 images"):
        loader.Contest(CASE, found, SIZE, 9, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.skipif(not loader.dali_feeds.there(), reason="needs DALI")
def test_epochs_of_dali_differ(contest: loader.Contest) -> None:
    for kind in loader.dali_feeds.KINDS:
        feed = loader.dali_feeds.feed(
            kind, contest.paths, SIZE, 3, contest.planar, torch.device("cpu")
        )
        # Eight files make two whole batches of three.
        first, second = (torch.cat([batch["image"] for batch in feed]) for _ in range(2))
        assert len(first) == 6 and not torch.equal(first, second), kind
    with pytest.raises(ValueError, match="kind: expected one of iterator"):
        loader.dali_feeds.feed("proxy", [], SIZE, 3, None, torch.device("cpu"))


@pytest.mark.slow
def test_without_dali_its_lines_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "data_root", lambda: None)
    monkeypatch.setattr(loader, "_LEAST_IMAGES", 1)
    monkeypatch.setattr(loader.dali_feeds, "there", lambda: False)
    options = ["--suite", "loader", "--size", "32", "--batch", "2", "--seconds", "0.001"]
    names = ["--providers", "anoaug-resident", "anoaug-dali"]
    (path,) = run.main([*options, *names, "--out", str(tmp_path)])
    lines = [line["provider"] for line in json.loads(path.read_text())["timings"]]
    assert lines == ["anoaug-resident"]
    assert "pip install 'anoaug[dali]'" in capsys.readouterr().out


def test_an_unknown_provider_is_refused(contest: loader.Contest) -> None:
    with pytest.raises(ValueError, match="provider"):
        contest.loader("ffcv")


@pytest.mark.slow
def test_a_small_run_leaves_a_valid_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "data_root", lambda: None)
    monkeypatch.setattr(loader, "_LEAST_IMAGES", 1)
    options = ["--suite", "loader", "--size", str(SIZE), "--batch", str(BATCH)]
    (path,) = run.main([*options, "--seconds", "0.01", "--out", str(tmp_path)])
    found = json.loads(path.read_text())
    record.validate(found)
    lines = {line["provider"]: line for line in found["timings"]}
    assert tuple(lines) == PROVIDERS
    assert all(line["baseline"] == "numpy-workers-2" for line in lines.values())
    assert lines["numpy-workers-2"]["ratio"] == 1.0
    assert lines["numpy"]["cpu_median"] > 0.0 and lines["numpy-workers-2"]["cpu_median"] is None
    parts = {name: line["parameters"] for name, line in lines.items()}
    assert parts["anoaug-resident"]["decode_s"] == 0.0 < parts["numpy"]["decode_s"]
    assert parts["anoaug-resident"]["synthesis_s"] == parts["anoaug-loader"]["synthesis_s"]
    assert parts["anoaug-resident"]["decode_once_s"] > 0.0
    assert found["inputs"] == "files of generated colours and grain"
    assert "decode-ms  synthesis-ms  copy-ms" in capsys.readouterr().out
