"""AnomalyTransform: a synthesizer among torchvision's transforms v2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

import anoaug

from .samples import make_images, make_synth

v2: Any = pytest.importorskip("torchvision.transforms.v2")
tv_tensors: Any = pytest.importorskip("torchvision.tv_tensors")
door: Any = anoaug.loaders.torchvision


def transform(**options: Any) -> Any:
    return door.AnomalyTransform(make_synth(), **options)


@pytest.fixture
def image() -> Tensor:
    return make_images(1)[0]


def blank() -> Any:
    return tv_tensors.Mask(torch.zeros(32, 32, dtype=torch.uint8))


def test_a_bare_image_gets_its_mask_beside_it(image: Tensor) -> None:
    made, mask = transform()(tv_tensors.Image(image))
    assert isinstance(made, tv_tensors.Image) and isinstance(mask, tv_tensors.Mask)
    changed = (made != image).any(0, keepdim=True)
    assert changed.any() and not (changed & (mask == 0)).any()
    assert mask.shape == (1, 32, 32)


def test_a_tuple_keeps_its_order_and_gets_the_label(image: Tensor) -> None:
    made, mask, label, name = transform(label=2)(tv_tensors.Image(image), blank(), 0, "screw")
    assert mask.shape == (32, 32) and mask.dtype == torch.uint8 and mask.any()
    assert label == 1 and isinstance(label, int) and name == "screw"
    made, mask, label = transform(label=1)((image, torch.tensor(0)))
    assert isinstance(mask, tv_tensors.Mask) and label.item() == 1


def test_a_dict_gets_mask_and_label(image: Tensor) -> None:
    out = transform()({"image": image, "name": "screw"})
    assert list(out) == ["image", "name", "mask", "label"]
    assert out["label"].item() == 1 and type(out["image"]) is Tensor
    nested = transform()({"a": {"image": tv_tensors.Image(image)}, "mask": blank(), "label": 0})
    assert nested["mask"].any() and nested["label"] == 1


def test_real_defects_are_united(image: Tensor) -> None:
    real = blank()
    real[3, 4] = 1
    out = door.AnomalyTransform(make_synth(), p=0.0)(tv_tensors.Image(image), real)
    assert torch.equal(out[0], image) and torch.equal(out[1], real)


def test_batches_with_anomalies_of_their_own() -> None:
    images = make_images(6)
    made, masks, labels = transform(label=1)(images, torch.zeros(6, dtype=torch.int64))
    assert labels.tolist() == [1] * 6
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 6
    assert torch.equal(made, make_synth()(images).image)


def test_inside_compose(image: Tensor) -> None:
    chain = v2.Compose(
        [
            v2.RandomHorizontalFlip(p=1.0),
            transform(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )
    out = chain({"image": tv_tensors.Image(image), "mask": blank(), "label": torch.tensor(0)})
    assert out["image"].dtype == torch.float32 and out["image"].min() < 0
    expected = (image.flip(2).float() / 255 - 0.5) / 0.5
    changed = (torch.as_tensor(out["image"]) - expected).abs().amax(0) > 1e-6
    assert out["label"].item() == 1 and not (changed & (out["mask"] == 0)).any()


@pytest.mark.parametrize("mode", ["P", "1", "CMYK"])
def test_pil_images_whose_numbers_are_no_brightness_are_refused(mode: str) -> None:
    pillow = pytest.importorskip("PIL.Image")
    with pytest.raises(TypeError, match=f"image: expected a PIL image of mode .* got {mode}"):
        door.AnomalyTransform("cutpaste")(pillow.new(mode, (16, 16)))


def test_pil_images(image: Tensor) -> None:
    pillow = pytest.importorskip("PIL.Image")
    given = pillow.fromarray(image.permute(1, 2, 0).numpy())
    made, mask = transform()(given)
    assert made.size == given.size and mask.any()
    assert (np.asarray(made) != np.asarray(given)).any()


class Pictures(Dataset[Any]):
    def __init__(self, change: Any) -> None:
        self.images, self.change = make_images(6), change

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.change({"image": self.images[index], "index": index})


def masks_of(change: Any, **options: Any) -> Tensor:
    return torch.cat([batch["mask"] for batch in DataLoader(Pictures(change), **options)])


@pytest.mark.slow
def test_in_a_dataset_the_index_decides() -> None:
    change = transform()
    change.set_epoch(2)
    expected = make_synth()(make_images(6), index=range(6), epoch=2).mask
    assert torch.equal(masks_of(change, batch_size=2), expected)
    assert torch.equal(masks_of(change, batch_size=3, num_workers=2), expected)


@pytest.mark.slow
def test_in_workers_without_an_index_anomalies_differ() -> None:
    change = transform(index=None)
    loader = DataLoader(Pictures(change), batch_size=1, num_workers=2)
    epochs = [torch.cat([batch["mask"] for batch in loader]) for _ in range(2)]
    seen = {tuple(mask.flatten().tolist()) for mask in torch.cat(epochs)}
    assert len(seen) == 12


def test_in_collate() -> None:
    change = transform(label=1)
    pairs = [(image, 0) for image in make_images(4)]
    loader = DataLoader(pairs, batch_size=4, collate_fn=lambda rows: change(*default_collate(rows)))
    _, masks, labels = next(iter(loader))
    assert masks.flatten(1).any(1).all() and labels.tolist() == [1] * 4


def test_eval_mode_hands_through(image: Tensor) -> None:
    made, mask = transform().eval()(tv_tensors.Image(image))
    assert torch.equal(made, image) and not mask.any()


def test_bad_input_is_refused(image: Tensor) -> None:
    with pytest.raises(TypeError, match="expected a tv_tensors.Image, a PIL image or a tensor"):
        transform()({"name": "screw"})
    with pytest.raises(ValueError, match="label: expected one at 'target'"):
        transform(label="target")({"image": image})
    with pytest.raises(ValueError, match="mask: expected .* like the image"):
        transform()(tv_tensors.Image(image), tv_tensors.Mask(torch.zeros(8, 8)))
    with pytest.raises(ValueError, match="wrap it: tv_tensors.Mask"):
        transform()({"image": tv_tensors.Image(image), "mask": torch.zeros(32, 32)})
    with pytest.raises(ValueError, match="mixed labels"):
        transform(label=1)(make_images(2), torch.full((2, 3), 0.5))
    with pytest.raises(ValueError, match="synthesise before Normalize"):
        transform()(image.float() / 64 - 2)
    with pytest.raises(ValueError, match="views"):
        door.AnomalyTransform(make_synth(views=True))
