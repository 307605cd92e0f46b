"""anomalib's seams: what its generators promise, kept by ours; swapping them in its models."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anoaug
from anoaug.loaders import BatchContract
from anoaug.loaders import anomalib as door
from anoaug.loaders.lightning import write_anomalies

from .samples import make_images, make_synth


@pytest.fixture
def images() -> Tensor:
    return make_images(16).float() / 255


# ---- the generators' contract --------------------------------------------------------------------


def test_a_field_has_the_size_that_was_asked_for() -> None:
    field = door.generate_perlin_noise(63, 100, device="cpu")
    assert field.shape == (63, 100) and field.dtype == torch.float32
    assert -1 <= field.min() < -0.1 and 0.1 < field.max() <= 1


def test_a_field_obeys_manual_seed() -> None:
    torch.manual_seed(42)
    first, second = (door.generate_perlin_noise(32, 32, (4, 4), "cpu") for _ in range(2))
    torch.manual_seed(42)
    assert torch.equal(door.generate_perlin_noise(32, 32, (4, 4), "cpu"), first)
    assert not torch.equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("dual", [False, True])
def test_images_and_masks_of_one_and_of_a_batch(images: Tensor, dual: bool) -> None:
    generator = door.PerlinAnomalyGenerator(probability=1.0, dual_mask=dual, size=32)
    image, mask = generator(images[0])
    assert image.shape == images[0].shape and mask.shape == (1, 32, 32)
    made, masks = generator(images)
    assert made.shape == images.shape and masks.shape == (16, 1, 32, 32)
    assert masks.dtype == torch.float32 and set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(torch.where(masks == 0, made, 0), torch.where(masks == 0, images, 0))


@pytest.mark.slow
def test_probability(images: Tensor) -> None:
    image, mask = door.PerlinAnomalyGenerator(probability=0.0, size=32)(images)
    assert torch.equal(image, images) and not mask.any()
    half = door.PerlinAnomalyGenerator(probability=0.5, seed=0, size=32)
    shares = [half(images)[1].flatten(1).any(1).float().mean() for _ in range(20)]
    assert 0.4 < torch.stack(shares).mean() < 0.6


@pytest.mark.slow
def test_no_mask_is_empty(images: Tensor) -> None:
    generator = door.PerlinAnomalyGenerator(probability=1.0, seed=0, size=32)
    counts = torch.cat([generator(images)[1].flatten(1).sum(1) for _ in range(20)])
    assert len(counts) == 320 and (counts > 0).all()
    area = counts.mean() / 32**2
    assert 0.03 < area < 0.09


@pytest.mark.slow
def test_two_masks_cover_more_than_one(images: Tensor) -> None:
    one, two = (
        door.PerlinAnomalyGenerator(probability=1.0, dual_mask=dual, seed=0, size=32)
        for dual in (False, True)
    )
    areas = [sum(float(g(images)[1].mean()) for _ in range(8)) for g in (one, two)]
    assert areas[1] > 1.2 * areas[0]


def test_generators_work_in_eval_mode_as_anomalib_s_do(images: Tensor) -> None:
    _, mask = door.PerlinAnomalyGenerator(probability=1.0, size=32).eval()(images)
    assert mask.flatten(1).any(1).all()


def test_textures_of_a_folder(images: Tensor, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    generator = door.PerlinAnomalyGenerator(tmp_path, 1.0, 1.0, size=8)
    made, masks = generator(images)
    inside = masks.expand(-1, 3, -1, -1) > 0
    assert not torch.equal(made[inside], images[inside])


@pytest.mark.parametrize("mode", ["normal", "scar", "union"])
def test_cutpaste(images: Tensor, mode: str) -> None:
    generator = door.CutPasteGenerator(1.0, mode, seed=0)
    made, masks = generator(images)
    changed = (made != images).any(1, keepdim=True)
    assert masks.flatten(1).any(1).all() and not (changed & (masks == 0)).any()
    assert generator.generate(images[0]).shape == images[0].shape
    with pytest.raises(ValueError, match="mode: expected one of"):
        door.CutPasteGenerator(mode="invalid")


def test_dsr_masks(images: Tensor) -> None:
    mask = door.DsrAnomalyGenerator(1.0, seed=0).augment_batch(images)
    assert mask.shape == (16, 1, 32, 32) and mask.flatten(1).any(1).all()
    assert not door.DsrAnomalyGenerator(0.0).augment_batch(images).any()


@pytest.mark.parametrize("with_raw", [False, True])
def test_supersimplenet(with_raw: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 6, 16, 16, generator=generator, requires_grad=True)
    raw = torch.randn(4, 6, 16, 16, generator=generator) if with_raw else None
    real, label = torch.zeros(4, 1, 16, 16), torch.zeros(4)
    real[1, 0, :2] = 1
    label[1] = 1
    made = door.SuperSimpleNetGenerator(0.0, 0.5, 0.2, seed=0)
    first, adapted, masks, labels = made(
        input_features=raw, adapted_features=features, masks=real, labels=label
    )
    assert adapted.shape == (8, 6, 16, 16) and masks.shape == (8, 1, 16, 16)
    assert masks.dtype == real.dtype and labels.dtype == label.dtype
    twice = torch.cat([features, features])
    noisy = (adapted != twice).any(1, keepdim=True)
    assert torch.equal(masks > 0, noisy | (torch.cat([real, real]) > 0))
    assert torch.equal(labels > 0, masks.flatten(1).any(1))
    if raw is None:
        assert first is None
    else:
        moved = first - torch.cat([raw, raw])
        torch.testing.assert_close(moved, adapted - twice, atol=1e-5, rtol=0)
    adapted.sum().backward()
    assert torch.equal(features.grad, torch.full_like(features, 2.0))


def test_the_older_signature_of_supersimplenet() -> None:
    made = door.SuperSimpleNetGenerator(triple=True, seed=0)
    out = made(torch.randn(2, 4, 8, 8), torch.zeros(2, 1, 8, 8), torch.zeros(2))
    assert [tuple(part.shape) for part in out] == [(4, 4, 8, 8), (4, 1, 8, 8), (4,)]
    with pytest.raises(TypeError, match="triple=False"):
        made(input_features=None, adapted_features=None, masks=None, labels=None)
    with pytest.raises(ValueError, match="noise_mean"):
        door.SuperSimpleNetGenerator(noise_mean=0.1)


# ---- anomalib itself -----------------------------------------------------------------------------


def test_a_model_without_generators_is_refused_with_the_mend() -> None:
    with pytest.raises(TypeError, match="AnomalyCallback"):
        door.accelerate(nn.Linear(2, 2))


@pytest.mark.filterwarnings("ignore")
def test_a_version_that_was_not_tried_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.swapping.metadata, "version", lambda _: "9.9.0")
    with pytest.warns(UserWarning, match="tried with anomalib 2.7, got 9.9.0"):
        door.swapping._warn_of_version()


@pytest.fixture
def models() -> Any:
    return pytest.importorskip("anomalib.models.image")


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    pillow = pytest.importorskip("PIL.Image")
    bank = anoaug.TextureBank.procedural(4, 32)
    for number, picture in enumerate(bank.data.permute(0, 2, 3, 1).numpy()):
        (tmp_path / "dtd" / "some").mkdir(parents=True, exist_ok=True)
        pillow.fromarray(picture).save(tmp_path / "dtd" / "some" / f"{number}.jpg")
    return tmp_path / "dtd"


def test_draem_s_generator_is_swapped_with_its_settings(models: Any, textures: Path) -> None:
    model = models.Draem(dtd_dir=textures, beta=(0.3, 0.6))
    said = door.accelerate(model, seed=0)
    assert said == {"augmenter": "anomalib.PerlinAnomalyGenerator -> anoaug.PerlinAnomalyGenerator"}
    assert model.augmenter.blend_factor == (0.3, 0.6) and model.augmenter.probability == 0.5
    assert len(model.augmenter.synth.layers[0].source.bank) == 4
    with pytest.raises(TypeError, match="no generator to swap"):
        door.accelerate(model)


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_are_anomalib_s_both_ways(models: Any, textures: Path) -> None:
    theirs, ours = models.Draem(dtd_dir=textures), models.Draem(dtd_dir=textures)
    door.accelerate(ours, seed=0)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    checkpoint: dict[str, Any] = {"state_dict": {}}
    ours.on_save_checkpoint(checkpoint)
    assert set(checkpoint["anoaug"]) == {
        "augmenter.synth._extra_state", "augmenter.fallback._extra_state",
    }  # fmt: skip


def test_dsr_and_supersimplenet(models: Any) -> None:
    holder = nn.Module()
    perlin: Any = pytest.importorskip("anomalib.data.utils.generators.perlin")
    masks: Any = pytest.importorskip("anomalib.models.image.dsr.anomaly_generator")
    noise: Any = pytest.importorskip("anomalib.models.image.supersimplenet.anomaly_generator")
    holder.perlin_generator = perlin.PerlinAnomalyGenerator(dual_mask=True, probability=1.0)
    holder.quantized_anomaly_generator = masks.DsrAnomalyGenerator(0.7)
    holder.model = nn.Module()
    holder.model.anomaly_generator = noise.AnomalyGenerator(0, 0.02, 0.6)
    said = door.accelerate(holder)
    assert sorted(said) == [
        "model.anomaly_generator", "perlin_generator", "quantized_anomaly_generator",
    ]  # fmt: skip
    assert (
        holder.perlin_generator.dual_mask and holder.quantized_anomaly_generator.p_anomalous == 0.7
    )
    swapped = holder.model.anomaly_generator
    assert (swapped.noise_std, swapped.threshold, swapped.triple) == (0.02, 0.6, False)


@pytest.fixture
def glass(models: Any, textures: Path) -> Any:
    return models.Glass(
        input_shape=(64, 64), anomaly_source_path=str(textures), backbone="resnet18",
        pretrain_embed_dim=32, target_embed_dim=32, discriminator_hidden=16, pre_trained=False,
        svd=1, step=5,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_glass_gets_its_generator_and_its_ascent_step(glass: Any) -> None:
    said = door.accelerate(glass, seed=0)
    assert said == {
        "model.augmentor": "anomalib.PerlinAnomalyGenerator -> anoaug.PerlinAnomalyGenerator",
        "model._gradient_ascent_step": (
            "anomalib.GlassModel._gradient_ascent_step -> anoaug.GlassAscentStep"
        ),
    }
    step = glass.model._gradient_ascent_step
    assert (step.svd, step.detach, step.every, step.step_size) == (1, False, 5, 0.001)
    with pytest.raises(TypeError, match="no generator to swap"):
        door.accelerate(glass)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("svd", [0, 1])
def test_glass_s_step_is_anomalib_s(glass: Any, svd: int) -> None:
    glass.model.svd = svd
    generator = torch.Generator().manual_seed(0)
    real, noise, centre = (torch.randn(16, 8, generator=generator) for _ in range(3))
    judge = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    results = []
    for take in (glass.model._gradient_ascent_step, door.GlassAscentStep(svd)):
        start = real.clone().requires_grad_()
        radius = torch.quantile((start - centre).norm(dim=1), 0.75)[None]
        fakes = start + 0.3 * noise
        for at in range(10):
            loss = nn.functional.softplus(-judge(fakes)).mean()
            fakes = take(fakes, loss, centre, start, radius, at)
        (gradient,) = torch.autograd.grad(fakes.square().sum(), start)
        results.append((fakes.detach(), gradient))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_glass_trains_two_steps(glass: Any) -> None:
    door.accelerate(glass, seed=0)
    model = glass.model.train()
    positions = model.calculate_features(*[torch.rand(1, 3, 64, 64)] * 2)[0].shape[0]
    model.center = torch.zeros(positions, 32)
    optimiser = torch.optim.AdamW(model.discriminator.parameters(), 1e-3)
    before = [value.clone() for value in model.discriminator.parameters()]
    for _ in range(2):
        loss = model(torch.rand(2, 3, 64, 64))[-1]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss)
    moved = zip(before, model.discriminator.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in moved)


def test_dinomaly_s_bottleneck_takes_over_the_layers(models: Any) -> None:
    layers: Any = pytest.importorskip("anomalib.models.image.dinomaly.components.layers")
    theirs = layers.DinomalyMLP(8, 32, 8, drop=0.2, apply_input_dropout=True)
    ours = door.DinomalyBottleneck.of(theirs, seed=0)
    assert ours.fc1 is theirs.fc1 and ours.p == 0.2 and len(ours.handle.perturbs) == 3
    tokens = torch.randn(2, 5, 8)
    assert torch.equal(ours.eval()(tokens), theirs.eval()(tokens))
    door.DinomalyBottleneck(8, 32, 8, drop=0.2, apply_input_dropout=True).load_state_dict(
        theirs.state_dict()
    )
    inner = layers.DinomalyMLP(8, 32, drop=0.1)
    assert len(door.DinomalyBottleneck.of(inner).handle.perturbs) == 2


def test_outputs_are_like_anomalib_s_own(models: Any, images: Tensor) -> None:
    perlin: Any = pytest.importorskip("anomalib.data.utils.generators.perlin")
    theirs, ours = (
        kind(probability=1.0, dual_mask=True)
        for kind in (perlin.PerlinAnomalyGenerator, door.PerlinAnomalyGenerator)
    )
    for given in (images[:4], images[0]):
        for one, other in zip(theirs(given), ours(given), strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
    noise: Any = pytest.importorskip("anomalib.models.image.supersimplenet.anomaly_generator")
    # Theirs fails on grids below 32.
    settings = {"noise_mean": 0, "noise_std": 0.015, "threshold": 0.2}
    given = (torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.zeros(2, 1, 32, 32),
             torch.zeros(2))  # fmt: skip
    made = (
        noise.AnomalyGenerator(**settings)(*given),
        door.SuperSimpleNetGenerator(**settings)(*given),
    )
    for one, other in zip(*made, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype


def test_the_callback_writes_anomalib_s_batches(models: Any, images: Tensor) -> None:
    data: Any = pytest.importorskip("anomalib.data")
    batch = data.ImageBatch(image=images[:4].clone())
    write_anomalies(batch, make_synth(), BatchContract(), 0)
    assert batch.gt_mask.shape[0] == 4 and batch.gt_mask.flatten(1).any(1).all()
    assert batch.gt_label.tolist() == [True] * 4
    assert not torch.equal(torch.as_tensor(batch.image), images[:4])


def test_a_synthetic_validation_set(images: Tensor, tmp_path: Path) -> None:
    pandas: Any = pytest.importorskip("pandas")
    pillow = pytest.importorskip("PIL.Image")
    for name in ("normal", "images", "masks"):
        (tmp_path / name).mkdir()
    rows = []
    for number, image in enumerate(make_images(6)):
        path = tmp_path / "normal" / f"{number}.png"
        pillow.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        rows.append({"image_path": str(path), "label": "normal", "label_index": 0,
                     "mask_path": "", "split": "train"})  # fmt: skip
    frame = pandas.DataFrame(rows)
    folders = (tmp_path / "images", tmp_path / "masks")
    made = door.make_synthetic_dataset(frame, *folders, 0.5, seed=1)
    assert made.label_index.tolist() == [0, 0, 0, 1, 1, 1]
    for row in made[made.label_index == 1].itertuples():
        mask = torch.frombuffer(bytearray(pillow.open(row.mask_path).tobytes()), dtype=torch.uint8)
        assert set(mask.unique().tolist()) == {0, 255}
    again = door.make_synthetic_dataset(frame, *folders, 0.5, seed=1)
    assert again.equals(made)
    with pytest.raises(ValueError, match="normal images alone"):
        door.make_synthetic_dataset(made, *folders)
    with pytest.raises(NotADirectoryError, match="make it first"):
        door.make_synthetic_dataset(frame, tmp_path / "none", tmp_path / "masks")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_supersimplenet_trains_two_steps(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net: Any = pytest.importorskip("anomalib.models.image.supersimplenet.torch_model")
    losses: Any = pytest.importorskip("anomalib.models.image.supersimplenet.loss")
    extractor = functools.partial(net.TimmFeatureExtractor, pre_trained=False)
    monkeypatch.setattr(net, "TimmFeatureExtractor", extractor)  # weights would be downloaded
    model = net.SupersimplenetModel(backbone="resnet18")
    door.accelerate(model, seed=0)
    model.train()
    optimiser = torch.optim.AdamW(model.adaptor.parameters(), 1e-3)
    weights = model.adaptor.projection.weight.clone()
    for _ in range(2):
        made = model(torch.rand(2, 3, 64, 64), labels=torch.zeros(2, dtype=torch.bool))
        loss = losses.SSNLoss()(
            pred_map=made[0], pred_score=made[1], target_mask=made[2], target_label=made[3]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss) and not torch.equal(model.adaptor.projection.weight, weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_draem_trains_two_steps(models: Any, textures: Path) -> None:
    data: Any = pytest.importorskip("anomalib.data")
    model = models.Draem(dtd_dir=textures)
    door.accelerate(model, seed=0)
    optimiser = torch.optim.Adam(model.model.parameters(), 1e-4)
    model.log = lambda *_, **__: None
    for _ in range(2):
        batch = data.ImageBatch(image=torch.rand(1, 3, 64, 64))
        loss = model.training_step(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_runs(
    models: Any, textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.examples.test_loaders import loaded

    pillow = pytest.importorskip("PIL.Image")
    good = tmp_path / "product" / "train" / "good"
    good.mkdir(parents=True)
    for number, image in enumerate(make_images(2)):
        pillow.fromarray(image.permute(1, 2, 0).numpy()).save(good / f"{number}.png")
    monkeypatch.chdir(tmp_path)  # anomalib writes its results there
    assert "augmenter" in loaded("with_anomalib").main(tmp_path / "product", textures, steps=1)
