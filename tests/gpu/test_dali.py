"""DALI on a GPU: its wrapper, its operator and its dynamic mode give what the synthesizer gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug.loaders import dali
from anoaug.loaders.dali.gather import gather_samples

pytestmark = pytest.mark.gpu

nvidia: Any = pytest.importorskip("nvidia.dali")
fn: Any = pytest.importorskip("nvidia.dali.fn")
plugin: Any = pytest.importorskip("nvidia.dali.plugin.pytorch")

COUNT, BATCH, SIZE = 10, 4, (48, 52)


def make_synth(**options: Any) -> anoaug.Synthesizer:
    return anoaug.create("cutpaste", p=0.8, seed=3, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG and JPEG, flat."""
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("normals")
    pictures = anoaug.TextureBank.procedural(COUNT, 64, seed=0).data.permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pictures):
        ending = "png" if number % 2 else "jpg"
        pillow.fromarray(picture).save(root / f"{number}.{ending}")
    return root


def assert_epoch(batches: list[dict[str, Any]], epoch: int, **options: Any) -> None:
    """What came out on the GPU is what the CPU makes of the same pixels."""

    def joined(name: str) -> Tensor:
        return torch.cat([batch[name].cpu() for batch in batches])

    numbers = joined("index").reshape(-1).to(torch.int64)
    assert sorted(numbers.tolist()) == list(range(COUNT))
    truth = make_synth(**options)(joined("clean"), index=numbers, epoch=epoch)
    assert truth.label.any()
    assert torch.equal(joined("image"), truth.image)
    assert torch.equal(joined("mask"), truth.mask)
    assert torch.equal(joined("label").reshape(-1), truth.label)


def test_the_wrapper(folder: Path) -> None:
    synth = make_synth(memory_format="contiguous")
    loader = dali.mvtec_batches(folder, synth, SIZE, BATCH, "gpu", seed=1)
    for epoch in range(2):
        batches = []
        for batch in loader:
            assert batch["image"].is_cuda and batch["image"].is_contiguous()
            torch.cuda._sleep(10_000_000)  # a busy consumer must not see the next batch early
            batch["label"] = (batch["kind"] > 0).to(torch.int64)
            batches.append(batch)
        assert_epoch(batches, epoch)


def inside(folder: Path, synth: Any, **options: Any) -> Any:
    files = sorted(path.name for path in folder.iterdir())

    @nvidia.pipeline_def
    def pipeline() -> Any:
        encoded, index = fn.readers.file(
            file_root=str(folder), files=files, labels=list(range(len(files))),
            pad_last_batch=True, name="Reader",
        )  # fmt: skip
        clean = fn.resize(fn.decoders.image(encoded, device="mixed"), size=list(SIZE))
        made = dali.synthesize(clean, index.gpu(), synth, device="gpu", **options)
        return (*made, index, fn.transpose(clean, perm=[2, 0, 1]))

    made = pipeline(batch_size=BATCH, num_threads=2, device_id=0, seed=3, exec_dynamic=True)
    made.build()
    return plugin.DALIGenericIterator(
        [made], ["image", "mask", "label", "index", "clean"], reader_name="Reader",
        last_batch_policy=plugin.LastBatchPolicy.PARTIAL, auto_reset=True,
    )  # fmt: skip


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32], ids=str)
def test_gathering_equals_the_reference_and_waits_for_nothing(
    dtype: torch.dtype, interleaved: bool
) -> None:
    shape = (225, 301, 3) if interleaved else (3, 225, 301)
    # Apart in memory, at addresses that nothing aligns.
    store = torch.randint(0, 256, (5, 3 * 225 * 301 + 9), device="cuda").to(dtype)
    samples = [store[n, n + 1 : n + 1 + 3 * 225 * 301].view(shape) for n in range(5)]
    truth = gather_samples(samples, interleaved, "torch")
    gather_samples(samples, interleaved, "triton")  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = gather_samples(samples, interleaved, "triton")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.is_contiguous() and torch.equal(made, truth)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_inside_a_pipeline(folder: Path, backend: str) -> None:
    iterator = inside(folder, make_synth(backend=backend), epoch_size=12)
    for epoch in range(2):
        batches = [out[0] for out in iterator]
        assert all(batch["image"].is_cuda for batch in batches)
        assert_epoch(batches, epoch)


def test_an_error_inside_surfaces(folder: Path) -> None:
    synth = anoaug.create("cutpaste", foreground=lambda *_: 1 / 0, seed=0)
    with pytest.raises(Exception, match="division by zero"):
        next(inside(folder, synth))


def test_dynamic_mode(folder: Path) -> None:
    dynamic = pytest.importorskip("nvidia.dali.experimental.dynamic")
    files = sorted(path.name for path in folder.iterdir())
    reader = dynamic.readers.File(
        file_root=str(folder), files=files, labels=list(range(COUNT)), max_batch_size=COUNT
    )
    change = dali.DynamicMap(make_synth())
    change.set_epoch(0)
    batches = []
    for encoded, index in reader.next_epoch(batch_size=5):
        image = dynamic.decoders.image(encoded, device="gpu")
        batch = change({"image": dynamic.resize(image, size=list(SIZE)), "index": index})
        assert batch["image"].is_cuda
        batches.append({**batch, "label": (batch["kind"] > 0).to(torch.int64)})
    assert_epoch(batches, 0)
