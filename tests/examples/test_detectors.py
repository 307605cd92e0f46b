"""The feature-space detectors train, and on real images find real defects."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("train_*.py") if "detectors" in path.read_text())


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Import an example as a script finds it, with its folder first on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def imported(name: str) -> ModuleType:
        for known in (name, "detectors"):
            monkeypatch.delitem(sys.modules, known, raising=False)
        return importlib.import_module(name)

    return imported


def test_examples_are_short() -> None:
    assert {"train_glass", "train_simplenet", "train_supersimplenet", "train_uniad"} <= set(NAMES)
    for name in NAMES:
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 150


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:textures=None")
def test_a_demo_runs_and_its_loss_falls(name: str, load, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    picture = tmp_path / "maps.png"
    found = load(name).main(["--demo", "--steps", "12", "--picture", str(picture)])
    assert found["loss_last"] < 0.9 * found["loss_first"]
    assert 0 <= found["ap"] <= 1 and picture.stat().st_size > 1000


def test_without_data_or_demo_it_says_what_it_wants(load, capsys) -> None:
    with pytest.raises(SystemExit):
        load("train_simplenet").main(["somewhere"])
    assert "expected a folder and --weights, or --demo" in capsys.readouterr().err


def test_a_defect_without_a_mask_is_refused(load, tmp_path: Path) -> None:
    """It would count as normal in the figures."""
    detectors = load("detectors")
    for part in ("train/good", "test/good", "test/scratch"):
        (tmp_path / part).mkdir(parents=True)
        detectors.Image.new("RGB", (8, 8)).save(tmp_path / part / "000.png")
    with pytest.raises(FileNotFoundError, match="000_mask.png"):
        detectors.from_folder(tmp_path, 8)
    found = tmp_path / "ground_truth" / "scratch"
    found.mkdir(parents=True)
    detectors.Image.new("L", (8, 8), 255).save(found / "000_mask.png")
    assert detectors.from_folder(tmp_path, 8).masks.flatten(1).all(1).tolist() == [False, True]


@pytest.mark.slow
def test_backbones_have_two_levels(load, data_dir: Path) -> None:
    detectors = load("detectors")
    weights = data_dir / "backbones"
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    shallow = detectors.Extractor(detectors.SqueezeNet(weights / "squeezenet1_1_imagenet.npz"))
    assert shallow(image).shape == (1, 768, 7, 7)
    trunk = detectors.ResNetTrunk(weights / "resnet50_v2_stem_stage123_imagenet.npz")
    assert detectors.Extractor(trunk)(image).shape == (1, 1536, 8, 8)


@pytest.fixture(scope="module")
def some(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fourth normal image to train on, every other one to test on."""
    whole, root = (data_dir / "bsd_pitting").resolve(), tmp_path_factory.mktemp("some")
    for part, step in (("train/good", 4), ("test/good", 2), ("test/pitting", 2)):
        (root / part).mkdir(parents=True)
        for path in sorted((whole / part).iterdir())[::step]:
            (root / part / path.name).symlink_to(path)
    (root / "ground_truth").symlink_to(whole / "ground_truth")
    return root


# Size and steps that show it; reconstruction on a coarse grid needs the full size and all images.
ENOUGH = {
    "train_glass": ("128", "15"),
    "train_supersimplenet": ("128", "100"),
    "train_uniad": ("256", "50"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:textures=None")
def test_real_defects_are_found_after_training(name: str, load, data_dir: Path, some: Path) -> None:
    arguments = [str(data_dir / "bsd_pitting" if name == "train_uniad" else some), "--weights"]
    arguments += [str(data_dir / "backbones" / "squeezenet1_1_imagenet.npz")]
    size, steps = ENOUGH.get(name, ("128", "30"))
    found = load(name).main([*arguments, "--size", size, "--steps", steps])
    assert found["auroc"] > max(0.9, found["auroc_before"] + 0.02)
