"""The examples of loaders run, each on a few images in MVTec's layout."""

from __future__ import annotations

import contextlib
import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import anoaug
from tests.ranks import as_launched, free_port, on_ranks

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "loaders"
COUNT = 12
NEEDS = {
    "with_dali": "nvidia.dali", "with_kornia": "kornia", "with_lightning": "lightning",
    "with_nodes": "torchdata", "with_torchvision": "torchvision", "with_webdataset": "webdataset",
}  # fmt: skip
# How many of the samples are anomalous at least and at most, of those an example sees.
SEEN = {
    "with_dataloader": (1, 2 * COUNT), "with_collate": (1, 2 * COUNT), "with_stream": (8, COUNT),
    "with_nodes": (COUNT, COUNT), "with_dali": (1, 2 * COUNT), "with_kornia": (1, COUNT),
    "with_torchvision": (1, COUNT), "with_lightning": (1, COUNT), "with_webdataset": (1, 2 * COUNT),
}  # fmt: skip

OTHERS = {
    "with_anomalib", "with_compile", "with_ddp", "with_fsdp", "with_lightning_cli", "with_ray"
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("bolt")
    (root / "train" / "good").mkdir(parents=True)
    pictures = anoaug.TextureBank.procedural(COUNT, 64, seed=3).data.permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pictures):
        pillow.fromarray(picture).save(root / "train" / "good" / f"{number}.png")
    return root


def loaded(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # workers look their classes up there
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*SEEN, *OTHERS}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEEN)
def test_an_example_runs(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path))
    low, high = SEEN[name]
    assert low <= loaded(name).main(folder) <= high


def launched(rank: int, ranks: int, port: int, name: str, folder: str, out: str) -> None:
    """The script as torchrun starts it; what it prints goes to a file."""
    as_launched(rank, ranks, port, ANOAUG_CACHE=out)
    sys.argv = [f"{name}.py", folder]
    with open(Path(out) / f"{ranks}-{rank}.txt", "w") as said, contextlib.redirect_stdout(said):
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with_ddp", "with_fsdp"])
def test_two_ranks_see_what_one_sees(name: str, folder: Path, tmp_path: Path) -> None:
    for ranks in (1, 2):
        on_ranks(launched, ranks, ranks, free_port(), name, str(folder), str(tmp_path))
    one, two = ((tmp_path / f"{ranks}-0.txt").read_text() for ranks in (1, 2))
    assert one == two and 0 < int(one.split()[0]) < COUNT


@pytest.mark.slow
def test_a_compiled_step_is_one_graph(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path))
    # A second one where the epoch, a plain number, changes; then none.
    assert loaded("with_compile").main(folder, epochs=4, backend="aot_eager") <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_line_of_lightning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lightning", "jsonargparse"):
        pytest.importorskip(name)
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path))
    config = str(FOLDER / "lightning.yaml")
    example = loaded("with_lightning_cli")
    assert example.main(["fit", "--config", config, "--data.folder", str(folder)]) <= COUNT
