"""anomalib: DRAEM with generators that work on the device, and any model by a callback.

python examples/loaders/with_anomalib.py FOLDER TEXTURES
"""

from __future__ import annotations

import sys
from pathlib import Path

from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Draem

import anoaug
from anoaug.loaders import anomalib as swap
from anoaug.loaders.lightning import AnomalyCallback


def main(folder: Path, textures: Path, steps: int = -1) -> dict[str, str]:
    """Train; returns what was swapped."""
    data = Folder(
        name="product", root=folder, normal_dir="train/good", train_batch_size=4,
        eval_batch_size=4, test_split_mode="synthetic", val_split_mode="same_as_test",
        num_workers=0,
    )  # fmt: skip
    model = Draem(dtd_dir=textures)
    swapped = swap.accelerate(model, seed=0)
    for place, what in swapped.items():
        print(f"{place}: {what}")
    # A model without a generator of its own gets its anomalies by a callback, before Normalize.
    callback = AnomalyCallback(anoaug.create("cutpaste", p=0.0, seed=0))
    engine = Engine(
        max_epochs=1, max_steps=steps, callbacks=[callback], logger=False, accelerator="auto"
    )
    engine.fit(model, datamodule=data)
    return swapped


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
