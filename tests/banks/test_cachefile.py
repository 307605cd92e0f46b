"""Cache files: whole or absent, checked, shared, never written through a map."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from anoaug.banks import cachefile

Bytes = npt.NDArray[np.uint8]


def rows(count: int = 5) -> list[Bytes]:
    generator = np.random.default_rng(3)
    return list(generator.integers(0, 256, (count, 3, 4, 7), dtype=np.uint8))


def written(path: Path) -> cachefile.Rows:
    return cachefile.once(path, rows())


def test_rows_come_back_with_their_note(tmp_path: Path) -> None:
    with cachefile.Writer(tmp_path) as writer:
        for row in rows():
            writer.append(row, cachefile.row_digest(row))
        writer.finish(tmp_path / "a.rows", {"names": ["é", "\udcff"]})
    found = cachefile.read(tmp_path / "a.rows")
    assert found is not None
    assert np.array_equal(found.data.numpy(), np.stack(rows()))
    assert found.note == {"names": ["é", "\udcff"]}
    assert found.digests == tuple(cachefile.row_digest(row) for row in rows())


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    written(tmp_path / "a.rows")
    again = cachefile.once(tmp_path / "a.rows", iter(()))
    assert np.array_equal(again.data.numpy(), np.stack(rows()))


def test_an_absent_file_is_none_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    assert cachefile.read(tmp_path / "a.rows") is None
    assert not recwarn.list


SIZE = 5 * 3 * 4 * 7


@pytest.mark.parametrize(
    "place", [0, SIZE - 1, SIZE + 3, -1], ids=["first", "last", "footer", "magic"]
)
def test_a_flipped_bit_is_named_and_mended(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.rows"
    written(path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"a\.rows is damaged"):
        mended = written(path)
    assert np.array_equal(mended.data.numpy(), np.stack(rows()))


@pytest.mark.parametrize("kept", [0, 1, 20, SIZE, -1])
def test_a_shortened_file_is_named_and_mended(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.rows"
    written(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.warns(UserWarning, match=r"a\.rows is damaged"):
        mended = written(path)
    assert np.array_equal(mended.data.numpy(), np.stack(rows()))


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> object:
        yield rows()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cachefile.once(tmp_path / "a.rows", interrupted())
    assert list(tmp_path.iterdir()) == []


def test_writers_at_the_same_time_leave_one_good_file(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    found: list[cachefile.Rows] = []

    def slowly() -> object:
        barrier.wait()
        for row in rows():
            time.sleep(0.002)
            yield row

    def work() -> None:
        found.append(cachefile.once(tmp_path / "a.rows", slowly()))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [path.name for path in tmp_path.iterdir()] == ["a.rows"]
    assert all(np.array_equal(one.data.numpy(), np.stack(rows())) for one in found)


def test_a_write_to_the_map_never_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.rows"
    found = written(path)
    before = path.read_bytes()
    found.data.zero_()
    assert path.read_bytes() == before
    again = cachefile.read(path)
    assert again is not None and bool(again.data.any())


def test_the_map_is_an_ordinary_tensor(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with torch.inference_mode():
        found = written(tmp_path / "a.rows")
    assert not found.data.is_inference()
    assert found.data.is_contiguous()
    assert not recwarn.list


def test_rows_of_two_shapes_are_refused(tmp_path: Path) -> None:
    pair = [np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8)]
    with pytest.raises(ValueError, match=r"expected rows of shape \(1, 2\), got \(2, 1\)"):
        cachefile.once(tmp_path / "a.rows", pair)


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        cachefile.once(tmp_path / "a.rows", [])


def test_an_unwritable_folder_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="ANOAUG_CACHE.*cache=False"):
        written(tmp_path / "file" / "a.rows")


def test_old_leftovers_are_swept_and_young_ones_kept(tmp_path: Path) -> None:
    old, young = tmp_path / ".1-a.tmp", tmp_path / ".2-b.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    days_ago = time.time() - 3 * 24 * 3600
    os.utime(old, (days_ago, days_ago))
    written(tmp_path / "a.rows")
    assert (old.exists(), young.exists()) == (False, True)


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOAUG_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cachefile.directory() == Path("/one")
    monkeypatch.delenv("ANOAUG_CACHE")
    assert cachefile.directory() == Path("/two/anoaug")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cachefile.directory() == Path.home() / ".cache" / "anoaug"


def test_results_come_in_order_and_few_wait() -> None:
    asked: list[int] = []

    def numbers() -> object:
        for number in range(100):
            asked.append(number)
            yield number

    results = cachefile.ordered(lambda number: number * number, numbers(), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(asked) <= 3 + 4 * 2
    assert list(results) == [number * number for number in range(3, 100)]


def test_an_error_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(cachefile.ordered(lambda number: 1 // number, [1, 0], 2))
