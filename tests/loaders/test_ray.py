"""Ray Data, on a cluster of this machine: the same bytes whatever the number of actors."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug import generate
from anoaug.loaders import ray as door

from .samples import make_images, make_synth

COUNT = 8


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    root = str(Path(__file__).parents[2])
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}},
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("normals")
    for number, image in enumerate(make_images(4)):
        pillow.fromarray(image.permute(1, 2, 0).numpy()).save(root / f"{number}.png")
    return root


def content(folder: Path) -> dict[str, bytes]:
    """Every file, the manifest's lines without their order."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found["manifest.jsonl"] = b"\n".join(sorted(found["manifest.jsonl"].splitlines()))
    return found


@pytest.mark.slow
def test_a_data_set_is_the_same_whatever_made_it(ray: Any, folder: Path, tmp_path: Path) -> None:
    methods = ("cutpaste", "draem")
    alone = generate.generate(folder, tmp_path / "alone", 6, methods, seed=3, progress=False)
    for actors in (1, 2):
        out = tmp_path / f"actors{actors}"
        made = door.generate(
            folder, out, 6, methods, seed=3, actors=actors, batch_size=2, progress=False
        )
        assert made.counts == alone.counts
        assert content(out) == content(tmp_path / "alone")


def rows(images: torch.Tensor) -> list[dict[str, Any]]:
    return [{"image": image.permute(1, 2, 0).numpy(), "index": k} for k, image in enumerate(images)]


@pytest.mark.slow
def test_rows_are_those_of_the_synthesizer(ray: Any) -> None:
    images = make_images(COUNT)
    made = ray.data.from_items(rows(images)).map_batches(
        door.Synthesize, fn_constructor_kwargs={"synth": make_synth(), "epoch": 2},
        compute=ray.data.ActorPoolStrategy(size=2), batch_size=3,
    )  # fmt: skip
    found = sorted(made.take_all(), key=lambda row: row["index"])
    expected = make_synth()(images, index=range(COUNT), epoch=2)
    for row, image, mask in zip(found, expected.image, expected.mask, strict=True):
        assert np.array_equal(row["image"], image.permute(1, 2, 0).numpy())
        assert np.array_equal(row["mask"] > 0, mask[0].numpy() > 0)
        assert row["label"] == 1 and row["kind"] == "anomaly"


@pytest.mark.slow
def test_shards_of_webdataset(ray: Any, tmp_path: Path) -> None:
    made = ray.data.from_items(rows(make_images(COUNT))).map_batches(
        door.Synthesize, fn_constructor_kwargs={"synth": "cutpaste", "seed": 1, "shards": True},
        compute=ray.data.ActorPoolStrategy(size=1), batch_size=4,
    )  # fmt: skip
    made.write_webdataset(str(tmp_path / "shards"), encoder=None)
    seen = {}
    for shard in (tmp_path / "shards").glob("*.tar"):
        with tarfile.open(shard) as archive:
            seen |= {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    assert len(seen) == 3 * COUNT
    pillow = pytest.importorskip("PIL.Image")
    expected = anoaug.create("cutpaste", p=1.0, seed=1)(
        make_images(COUNT), index=range(COUNT), epoch=0
    )
    image = np.asarray(pillow.open(io.BytesIO(seen["000000003.png"])))
    assert np.array_equal(image, expected.image[3].permute(1, 2, 0).numpy())
    mask = np.asarray(pillow.open(io.BytesIO(seen["000000003.mask.png"])))
    assert np.array_equal(mask > 0, expected.mask[3, 0].numpy() > 0)
    assert json.loads(seen["000000003.json"]) == {"index": 3, "label": 1, "kind": "cutpaste"}


def test_a_batch_alone_grey_and_coloured() -> None:
    change = door.Synthesize(make_synth())
    grey = make_images(2)[:, 0].numpy()
    out = change({"image": grey, "index": np.arange(2), "name": np.array(["a", "b"])})
    assert out["image"].shape == grey.shape and (out["mask"] > 0).any()
    assert list(out["name"]) == ["a", "b"]


def test_bad_input_is_refused() -> None:
    change = door.Synthesize(make_synth())
    with pytest.raises(ValueError, match="index: expected a column"):
        change({"image": np.zeros((2, 8, 8, 3), np.uint8)})
    good = {"image": np.zeros((2, 20, 24, 3), np.uint8), "index": np.arange(2)}
    with pytest.raises(ValueError, match="category: expected a column 'product'"):
        door.Synthesize("cutpaste", category="product")(good)
    with pytest.raises(TypeError, match="index: expected whole numbers, got float64"):
        door.Synthesize("cutpaste")({**good, "index": np.array([0.5, 1.5])})
    with pytest.raises(ValueError, match=r"looks like \(B, C, H, W\)"):
        door.Synthesize("cutpaste")({**good, "image": np.zeros((2, 3, 20, 24), np.uint8)})
    with pytest.raises(ValueError, match="expected uint8"):
        change({"image": np.zeros((2, 8, 8, 3)), "index": np.arange(2)})
    with pytest.raises(TypeError, match="expected a Synthesizer or a method's name"):
        door.Synthesize(3)
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match="actors: expected a whole number"):
        door.generate("nowhere", "out", actors=0)


@pytest.mark.slow
def test_the_example_runs(ray: Any, folder: Path, tmp_path: Path) -> None:
    from tests.examples.test_loaders import loaded

    assert loaded("with_ray").main(folder, tmp_path / "out", n=4, actors=1) == 4
