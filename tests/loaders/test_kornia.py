"""RandomAnomaly: a synthesizer inside kornia's pipelines."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug

from .samples import make_images, make_synth

K: Any = pytest.importorskip("kornia.augmentation")
kornia_door: Any = anoaug.loaders.kornia


@pytest.fixture
def images() -> Tensor:
    return make_images(8).float() / 255


def nothing(images: Tensor) -> Tensor:
    return torch.zeros(len(images), 1, *images.shape[2:])


def test_image_mask_and_label_agree(images: Tensor) -> None:
    augment = K.AugmentationSequential(
        kornia_door.RandomAnomaly(make_synth(p=0.5)), data_keys=["input", "mask"]
    )
    image, mask = augment(images, nothing(images))
    label = augment[0].label
    changed = (image != images).any(1, keepdim=True)
    assert 0 < int(label.sum()) < 8
    assert torch.equal(label > 0, mask.flatten(1).any(1))
    assert not (changed & (mask == 0)).any() and (changed.float().sum() > 0.5 * mask.sum())


def test_it_gives_what_the_synthesizer_gives(images: Tensor) -> None:
    out = make_synth(p=0.5)(images)
    augment = kornia_door.RandomAnomaly(make_synth(p=0.5))
    assert torch.equal(augment(images), out.image)
    assert torch.equal(augment._params["batch_prob"] > 0, out.label > 0)


def test_real_defects_and_classes_stay(images: Tensor) -> None:
    augment = K.AugmentationSequential(
        kornia_door.RandomAnomaly(make_synth(p=0.0)), data_keys=["input", "mask", "class"]
    )
    real, known = nothing(images), torch.arange(8.0)
    real[3, 0, 5:9, 5:9] = 1
    image, mask, label = augment(images, real, known)
    assert torch.equal(image, images) and torch.equal(mask, real) and torch.equal(label, known)


def test_the_mask_follows_a_flip_before_it(images: Tensor) -> None:
    augment = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=1.0),
        kornia_door.RandomAnomaly(make_synth()),
        K.Normalize(0.5, 0.5),
        data_keys=["input", "mask"],
    )
    image, mask = augment(images, nothing(images))
    changed = (image != (images.flip(3) - 0.5) / 0.5).any(1, keepdim=True)
    assert mask.any() and not (changed & (mask == 0)).any()


@pytest.mark.parametrize("method", ["cutpaste", "nsa", "one of"])
def test_params_replay_to_the_bit(images: Tensor, method: str) -> None:
    donors = anoaug.DonorBank.from_tensors(make_images(4))
    synth = {
        "cutpaste": lambda: anoaug.create("cutpaste", seed=0),
        "nsa": lambda: anoaug.create("nsa", donors=donors, seed=0),
        "one of": lambda: anoaug.OneOf({"cutpaste": 1, "cutpaste_scar": 1}, seed=0),
    }[method]()
    augment = K.AugmentationSequential(
        kornia_door.RandomAnomaly(synth), data_keys=["input", "mask"]
    )
    first = augment(images, nothing(images))
    held = augment._params
    augment(images, nothing(images))
    again = augment(images, nothing(images), params=held)
    assert first[1].any()
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_dicts_and_single_images(images: Tensor) -> None:
    augment = kornia_door.RandomAnomaly(make_synth(), keepdim=True)
    chain = K.AugmentationSequential(augment, data_keys=None)
    out = chain({"image": images, "mask": nothing(images)})
    assert out["mask"].any() and not torch.equal(out["image"], images)
    alone = K.AugmentationSequential(augment, data_keys=["input", "mask"], keepdim=True)
    image, mask = alone(images[0], nothing(images)[0])
    assert image.shape == images[0].shape and mask.shape == (1, 32, 32) and mask.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_clean_pixels_with_them(images: Tensor, dtype: torch.dtype) -> None:
    mine = torch.rand(images.shape, dtype=torch.float64).to(dtype)
    augment = K.AugmentationSequential(
        kornia_door.RandomAnomaly(make_synth()), data_keys=["input", "mask"]
    )
    image, mask = augment(mine, nothing(images))
    assert image.dtype == dtype
    assert torch.equal(torch.where(mask == 0, image, 0), torch.where(mask == 0, mine, 0))
    assert not torch.equal(image, mine)


def test_eval_mode_hands_everything_through(images: Tensor) -> None:
    augment = K.AugmentationSequential(
        kornia_door.RandomAnomaly(make_synth()), data_keys=["input", "mask", "class"]
    ).eval()
    image, mask, _ = augment(images, nothing(images), torch.zeros(8))
    assert torch.equal(image, images) and not mask.any() and not augment[0].label.any()


def test_p_and_a_method_by_name(images: Tensor) -> None:
    synth = make_synth(p=1.0)
    augment = kornia_door.RandomAnomaly(synth, p=0.0)
    assert torch.equal(augment(images), images) and synth.p == 1.0
    named = kornia_door.RandomAnomaly("cutpaste", p=1.0, seed=0, area=(0.2, 0.3))
    assert not torch.equal(named(images), images)


CONTROLS: dict[str, dict[str, Any]] = {
    "a law's": {"size": (0.02, 0.1), "location": (0.0, 0.0, 0.5, 1.0)},
    "of pixels": {"size": 0.1, "location": (0.5, 0.5), "strength": 0.2, "unit": "difference"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cutpaste", "draem", "one of"])
@pytest.mark.parametrize("what", CONTROLS)
def test_a_control_is_obeyed_and_replayed(images: Tensor, method: str, what: str) -> None:
    def synth() -> anoaug.Synthesizer:
        asked: dict[str, Any] = {"p": 1.0, "seed": 0, "control": CONTROLS[what]}
        if method == "one of":
            return anoaug.OneOf({"cutpaste": 1, "draem": 1}, textures=make_images(4), **asked)
        textures = {"textures": make_images(4)} if method == "draem" else {}
        return anoaug.create(method, **textures, **asked)

    augment = K.AugmentationSequential(
        kornia_door.RandomAnomaly(synth()), data_keys=["input", "mask"]
    )
    first = augment(images, nothing(images))
    truth = synth()(images)
    assert truth.mask.any()
    assert torch.equal(first[0], truth.image) and torch.equal(first[1], truth.mask)
    held = augment._params
    augment(images, nothing(images))
    again = augment(images, nothing(images), params=held)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_a_control_beside_a_method_s_name(images: Tensor) -> None:
    augment = kornia_door.RandomAnomaly(
        "cutpaste", p=1.0, seed=0, control=anoaug.Control(size=0.04)
    )
    plain = anoaug.create("cutpaste", p=1.0, seed=0, control={"size": 0.04})(images)
    assert torch.equal(augment(images), plain.image)
    share = plain.mask.flatten(1).mean(1)
    assert ((share - 0.04).abs() < 0.01).all()


def test_no_global_generator_is_moved(images: Tensor) -> None:
    augment = kornia_door.RandomAnomaly(make_synth())
    before = torch.get_rng_state()
    augment(images)
    assert torch.equal(torch.get_rng_state(), before)


def test_copies_go_on_alike(images: Tensor) -> None:
    augment = kornia_door.RandomAnomaly(make_synth())
    augment(images)
    twins = copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))
    expected = augment(images)
    assert all(torch.equal(twin(images), expected) for twin in twins)


def test_bad_input_is_refused(images: Tensor) -> None:
    with pytest.raises(TypeError, match="expected a Synthesizer or a method's name"):
        kornia_door.RandomAnomaly(42)
    with pytest.raises(TypeError, match="give the keywords to it"):
        kornia_door.RandomAnomaly(make_synth(), area=0.1)
    with pytest.raises(ValueError, match="views"):
        kornia_door.RandomAnomaly(make_synth(views=True))
    with pytest.raises(TypeError, match="method's name with control"):
        kornia_door.RandomAnomaly(make_synth(), control={"size": 0.1})
    with pytest.raises(ValueError, match="size"):
        kornia_door.RandomAnomaly("cutpaste", control={"size": torch.rand(8)})
    with pytest.raises(ValueError, match="normalise behind it"):
        kornia_door.RandomAnomaly(make_synth(mean=[0.5], std=[0.5]))
    with pytest.raises(ValueError, match="synthesise before Normalize"):
        kornia_door.RandomAnomaly(make_synth())(images * 4 - 2)
    augment = kornia_door.RandomAnomaly(make_synth())
    params = augment.forward_parameters(images.shape)
    with pytest.raises(ValueError, match="expected the image before its mask"):
        augment.transform_masks(nothing(images), params, augment.flags)
