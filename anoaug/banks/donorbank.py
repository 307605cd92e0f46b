"""Normal images by index and category, from folders that hold nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import imagefolder
from .bank import Bank


class DonorBank(Bank):
    """Normal images by index and category, to take patches from.

    :meth:`from_folder` takes the category from the folders. These layouts are known:

    * MVTec: of ``<category>/train/good/*`` only these files are taken, never test images or masks.
      The given folder may be the category itself; the category is then the folder's name;
    * ImageFolder: ``<category>/*``, deeper folders included;
    * flat: images directly in the folder, no categories.

    Images beside category folders are refused, and so are folders named ``test``, ``ground_truth``,
    ``bad``, ``defect`` and the like outside the MVTec layout: donors must be normal.
    """

    @classmethod
    def _layout(cls, folder: Path, names: Sequence[str]) -> dict[str, str]:
        imagefolder.normal_only(folder)
        return imagefolder.normal_by_folder(folder, names)
