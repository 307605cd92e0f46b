"""Small datasets and a synthesizer for the tests of loaders."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from anoaug import AnomalyBatch, Layer, Synthesizer, blends, masks, sources

SIZE = 32
COUNT = 10


def make_synth(**options):
    layer = Layer(masks.Rectangle(area=(0.05, 0.3)), sources.Own(), blends.Hard())
    return Synthesizer(layer, **{"p": 1.0, "seed": 3} | options)


def make_images(count=COUNT):
    shape = (count, 3, SIZE, SIZE)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def pairs(count=COUNT):
    """A dataset of (image, number)."""
    return TensorDataset(make_images(count), torch.arange(count))


class Records(Dataset):
    """A dataset of mappings; sample ``broken`` raises."""

    def __init__(self, count=COUNT, broken=None):
        self.images, self.broken = make_images(count), broken
        self.classes = ["good"]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if index == self.broken:
            raise OSError(f"sample {index} is broken")
        return {"image": self.images[index], "name": f"{index}.png"}


class Stream(IterableDataset):
    """A dataset without a length."""

    def __iter__(self):
        return iter(make_images(6))


def by_number(loader):
    """Anomalous images and masks of an epoch by sample number."""
    found = {}
    for batch, numbers in loader:
        for image, mask, number in zip(batch.image, batch.mask, numbers, strict=True):
            found[int(number)] = torch.cat([image.float(), mask])
    return torch.stack([found[number] for number in sorted(found)])


def masks_of(loader):
    return torch.cat([(out if isinstance(out, AnomalyBatch) else out[0]).mask for out in loader])
