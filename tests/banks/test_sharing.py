"""Banks beside others: in modules, in pickles, in worker processes; shared, never copied."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from anoaug.banks import Bank, DonorBank, TextureBank


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("ANOAUG_CACHE", str(place))
    return place


def pixels(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, 8, 10), dtype=torch.uint8, generator=generator)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    root = tmp_path / "images"
    for index, one in enumerate(pixels(200)):
        place = root / f"{index % 2}" / f"{index:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(one.permute(1, 2, 0).numpy()).save(place)
    return root


def mapped(folder: Path, **keywords: Any) -> TextureBank:
    return TextureBank.from_folder(folder, size=(8, 10), progress=False, **keywords)


class Holder(torch.nn.Module):
    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.bank = bank
        self.weight = torch.nn.Parameter(torch.zeros(1))


class TestInModules:
    def test_a_bank_is_in_no_state_dict_and_no_parameter(self) -> None:
        holder = Holder(Bank.from_tensors(pixels()))
        assert list(holder.state_dict()) == ["weight"]
        assert [name for name, _ in holder.named_parameters()] == ["weight"]
        assert list(holder.buffers()) == []

    def test_half_leaves_it_alone(self) -> None:
        assert Holder(Bank.from_tensors(pixels())).half().bank.data.dtype == torch.uint8

    def test_a_deep_copy_shares_it(self) -> None:
        holder = Holder(TextureBank.from_tensors(pixels()))
        assert copy.deepcopy(holder).bank is holder.bank
        assert copy.copy(holder.bank) is holder.bank


class Rows(Dataset[tuple[int, bool]]):
    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def __len__(self) -> int:
        return len(self.bank)

    def __getitem__(self, index: int) -> tuple[int, bool]:
        return int(self.bank.data[index].sum()), self.bank.data.is_shared()


class TestSharing:
    @pytest.mark.slow
    def test_a_mapped_bank_pickles_as_its_path(self, folder: Path) -> None:
        bank = mapped(folder)
        text = pickle.dumps(bank)
        assert len(text) < bank.data.numel() / 3
        again = pickle.loads(text)
        assert isinstance(again, TextureBank)
        assert torch.equal(again.data, bank.data)
        assert (again.names, again.digest()) == (bank.names, bank.digest())
        assert torch.equal(again.smooth, bank.smooth)

    def test_a_bank_in_memory_pickles_whole(self) -> None:
        bank = DonorBank.from_tensors(pixels(), ["x", "y", "z"], ["a", "b", "a"])
        again = pickle.loads(pickle.dumps(bank))
        assert torch.equal(again.data, bank.data)
        assert (again.names, again.categories) == (bank.names, bank.categories)
        assert again.members("a").tolist() == [0, 2]
        assert again.digest() == bank.digest()

    def test_what_was_blurred_in_memory_is_sent_along(self) -> None:
        bank = TextureBank.from_tensors(pixels())
        assert pickle.loads(pickle.dumps(bank))._smooth is None
        blurred = bank.smooth
        assert torch.equal(pickle.loads(pickle.dumps(bank))._smooth, blurred)

    def test_a_pickle_without_its_cache_file_says_so(self, folder: Path, cache: Path) -> None:
        text = pickle.dumps(mapped(folder))
        for path in cache.glob("*.rows"):
            path.unlink()
        with pytest.raises(ValueError, match=r"cache file .* missing here; make the bank again"):
            pickle.loads(text)

    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["mapped", "memory"])
    @pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
    def test_workers_see_the_pixels(self, folder: Path, where: str, start: str) -> None:
        bank = mapped(folder, cache=where == "mapped")
        # A spawned one imports all anew.
        workers = 1 if start == "spawn" else 2
        loader = DataLoader(
            Rows(bank), batch_size=None, num_workers=workers, multiprocessing_context=start
        )
        results = list(loader)
        assert [total for total, _ in results] == [int(row.sum()) for row in bank.data]
        if (where, start) == ("memory", "spawn"):
            assert all(shared for _, shared in results)

    def test_repr_is_short_and_says_what_it_is(self, folder: Path) -> None:
        assert repr(mapped(folder)) == "TextureBank(200 images, 3 x 8 x 10, cpu, 2 categories)"
