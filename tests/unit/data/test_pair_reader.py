from __future__ import annotations

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crrg.checked_json import checked_json
from crrg.data.dataset import parts
from crrg.data.dataset.pairs import read_manifest, read_pairs, write_dataset
from crrg.data.dataset.reader import EpochOrder, PairReader
from crrg.domain.study import Split
from crrg.errors import DigestMismatch
from crrg.storage import Storage
from tests.support.made_pairs import make_film, make_pair


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Five train rows in row groups of 2 and parts of 4, one text-only test row."""
    monkeypatch.setattr(parts, "ROW_GROUP_ROWS", 2)
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    storage = Storage(str(tmp_path / "root"))
    pairs = [make_pair(i, film=make_film(seed=i)) for i in range(5)] + [make_pair(9, Split.TEST)]
    return storage, write_dataset(storage, "demo", pairs, {"image_size": 64})


def test_any_row_comes_as_the_scan_gives_it(dataset):
    storage, ref = dataset
    reader = PairReader(storage, ref, Split.TRAIN, cached_groups=1)
    assert (len(reader), reader.group_sizes) == (5, [2, 2, 1])
    scanned = list(read_pairs(storage, ref, Split.TRAIN))
    for index in (4, 0, 3, 1, 2, 0):
        assert reader[index].instance_id == f"instance{index}"
        assert np.array_equal(reader[index].film.pixels, scanned[index].film.pixels)
        assert reader[index].regions == scanned[index].regions
    assert PairReader(storage, ref, Split.TEST)[0].film is None
    assert len(PairReader(storage, ref, Split.VALIDATION)) == 0
    with pytest.raises(IndexError):
        reader[5]
    with pytest.raises(IndexError):
        reader[-1]


def test_a_row_group_is_fetched_once_while_it_is_at_hand(dataset, monkeypatch):
    storage, ref = dataset
    fetched = []
    get_range = Storage.get_range
    monkeypatch.setattr(Storage, "get_range", lambda *args: fetched.append(args[2]) or get_range(*args))
    reader = PairReader(storage, ref, Split.TRAIN, cached_groups=2)
    for index in (0, 1, 0, 2, 3, 0):
        reader[index]
    # the footer of the one part, then its two row groups
    assert len(fetched) == 3
    reader[4]
    reader[2]
    # another part's footer and group push out the group that was used longest ago, which is fetched again
    assert len(fetched) == 6


def test_damaged_bytes_are_told_by_the_row_group_that_holds_them(dataset):
    storage, ref = dataset
    entry = read_manifest(storage, ref)["files"][0]
    data = bytearray(storage.get(entry["key"]))
    data[entry["row_groups"][1]["start"] + 5] ^= 1
    storage.put(entry["key"], bytes(data))
    reader = PairReader(storage, ref, Split.TRAIN)
    assert reader[1].instance_id == "instance1"
    with pytest.raises(DigestMismatch):
        reader[2]


def test_a_version_from_before_the_index_is_read_part_by_part(dataset):
    storage, ref = dataset
    manifest = storage.get_json(ref.manifest_key)
    for entry in manifest["files"]:
        del entry["row_groups"], entry["footer"]
    storage.put(ref.manifest_key, checked_json(manifest))
    reader = PairReader(storage, ref, Split.TRAIN)
    assert reader.group_sizes == [4, 1]
    assert [reader[index].instance_id for index in (4, 0, 3)] == ["instance4", "instance0", "instance3"]
    storage.put(manifest["files"][0]["key"], b"something else")
    with pytest.raises(DigestMismatch):
        reader.group(0)


def test_whole_row_groups_come_to_several_threads(dataset):
    storage, ref = dataset
    reader = PairReader(storage, ref, Split.TRAIN)
    with ThreadPoolExecutor(4) as pool:
        groups = list(pool.map(reader.group, [0, 1, 2] * 10))
    assert [[pair.instance_id for pair in group] for group in groups[:3]] == [
        ["instance0", "instance1"],
        ["instance2", "instance3"],
        ["instance4"],
    ]
    assert all(len(group) == size for group, size in zip(groups, reader.group_sizes * 10, strict=True))


def test_a_reader_can_be_sent_to_another_process(dataset):
    storage, ref = dataset
    reader = PairReader(storage, ref, Split.TRAIN)
    first = reader[0]
    # copying goes the way of sending: through __getstate__ and __setstate__
    sent = copy.copy(reader)
    assert "_tables" not in reader.__getstate__()
    assert sent[0].instance_id == first.instance_id


def test_an_order_of_one_window_is_a_permutation_that_seed_and_epoch_decide():
    orders = {(seed, epoch): EpochOrder([3, 3], seed, epoch).rows().tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert all(sorted(order) == [0, 1, 2, 3, 4, 5] for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) > 1
    assert EpochOrder([3, 3], 0, 1).rows().tolist() == orders[0, 1]
    assert list(EpochOrder([], 0)) == []


def test_neighbours_in_time_lie_in_few_row_groups():
    order = EpochOrder([10] * 20, seed=5, window_groups=4).rows()
    for start in range(0, 200, 40):
        assert len({row // 10 for row in order[start : start + 40].tolist()}) == 4


def test_the_reader_needs_no_torch():
    heavy = "('torch', 'polars', 'pydicom', 'mlflow')"
    code = f"import sys, crrg.data.dataset.reader; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
