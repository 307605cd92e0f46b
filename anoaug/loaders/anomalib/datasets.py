"""Synthetic validation sets with anomalib's signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ... import checks, methods
from ...synthesizer import Synthesizer
from .images import Folder


@torch.no_grad()
def make_synthetic_dataset(
    source_samples: Any,
    image_dir: Folder,
    mask_dir: Folder,
    anomalous_ratio: float = 0.5,
    *,
    synth: Synthesizer | None = None,
    seed: int = 0,
) -> Any:
    """Anomalib's ``make_synthetic_dataset``, by any synthesizer and without a folder it must find.

    Args:
        source_samples: A data frame of normal images, with ``image_path``, ``label``,
            ``label_index``, ``mask_path`` and ``split``.
        image_dir: Folder for images with anomalies, which exists.
        mask_dir: Folder for their masks, likewise.
        anomalous_ratio: Share of the images that get an anomaly; the others stay as they are.
        synth: The synthesizer; CutPaste if None. An image whose draw leaves no anomaly is drawn
            again.
        seed: Of which images get one.

    Returns:
        A data frame of all images, those with anomalies last, with the columns of the given one.

    Raises:
        ValueError: Images that are not normal, or that no draw of many changes.
        NotADirectoryError: A folder that does not exist.
    """
    pandas = checks.require("pandas", "anomalib")
    pillow = checks.require("PIL.Image", "images")
    numpy = checks.require("numpy", "images")
    checks.probability("anomalous_ratio", anomalous_ratio)
    if (source_samples.label_index == 1).any():
        raise ValueError("source_samples: expected normal images alone, got some that are not")
    for folder in (image_dir, mask_dir):
        if not Path(folder).is_dir():
            raise NotADirectoryError(f"{folder} is not a folder; make it first")
    synth = synth or methods.create("cutpaste", p=1.0, seed=seed, active="always")
    columns = ["image_path", "label", "label_index", "mask_path", "split"]
    rows = source_samples.filter(columns).reset_index(drop=True)
    count = int(anomalous_ratio * len(rows))
    order = numpy.random.default_rng(seed).permutation(len(rows))[:count]
    made = []
    for number, at in enumerate(sorted(order.tolist())):
        picture = pillow.open(rows.image_path[at]).convert("RGB")
        image = torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)[None]
        for epoch in range(100):
            out = synth(image, index=[at], epoch=epoch)
            if int(out.label[0]):
                break
        else:
            raise ValueError(f"synth: expected an anomaly on {rows.image_path[at]} in 100 draws")
        name = f"{number:0{max(len(str(max(count - 1, 0))), 3)}d}.png"
        files = Path(image_dir) / name, Path(mask_dir) / name
        shown = out.image[0].permute(1, 2, 0).contiguous().numpy()
        marked = ((out.mask[0, 0] > 0).to(torch.uint8) * 255).numpy()
        for path, pixels in zip(files, (shown, marked), strict=True):
            half = path.with_suffix(".part")
            pillow.fromarray(pixels).save(half, format="PNG")
            half.replace(path)
        made.append(
            {
                "image_path": str(files[0]), "label": "abnormal", "label_index": 1,
                "mask_path": str(files[1]), "split": "val",
            }
        )  # fmt: skip
    kept = rows.drop(order)
    return pandas.concat([kept, pandas.DataFrame(made, columns=columns)], ignore_index=True)
