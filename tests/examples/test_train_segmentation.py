"""The example trains."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train_segmentation.py"


@pytest.mark.slow
def test_the_loss_goes_down():
    pytest.importorskip("skimage")
    spec = importlib.util.spec_from_file_location("train_segmentation", SCRIPT)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    losses = example.main(["--demo", "--steps", "12"])
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
