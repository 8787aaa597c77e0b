from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crrg.data.dataset import parts
from crrg.data.dataset.pairs import write_dataset
from crrg.data.dataset.reader import EpochOrder, PairReader
from crrg.domain.study import Split
from crrg.storage import Storage
from tests.support.made_pairs import make_film, make_pair

GROUPS = st.lists(st.integers(1, 40), max_size=30)


@settings(deadline=None)
@given(GROUPS, st.integers(0, 2**32), st.integers(0, 50), st.integers(1, 9))
def test_every_row_comes_exactly_once(sizes, seed, epoch, window):
    rows = EpochOrder(sizes, seed, epoch, window_groups=window).rows()
    assert sorted(rows.tolist()) == list(range(sum(sizes)))


@settings(deadline=None)
@given(GROUPS, st.integers(0, 2**32), st.integers(0, 50), st.integers(0, 1300))
def test_an_order_resumed_at_any_row_goes_on_as_if_nothing_had_happened(sizes, seed, epoch, start):
    whole = EpochOrder(sizes, seed, epoch)
    resumed = EpochOrder(sizes, seed, epoch, start)
    assert list(resumed) == list(whole)[start:]
    assert len(resumed) == len(list(resumed))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=3, max_size=30), st.integers(0, 2**32))
def test_epochs_and_seeds_differ(sizes, seed):
    first = EpochOrder(sizes, seed, 0).rows()
    assert not np.array_equal(first, EpochOrder(sizes, seed, 1).rows())
    assert not np.array_equal(first, EpochOrder(sizes, seed + 1, 0).rows())


def name_of(rows: list) -> list[str]:
    return [pair.instance_id for pair in rows]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_order_is_the_same_for_any_number_of_spawned_workers(tmp_path, monkeypatch, num_workers):
    from torch.utils.data import DataLoader

    monkeypatch.setattr(parts, "ROW_GROUP_ROWS", 4)
    storage = Storage(str(tmp_path / "root"))
    ref = write_dataset(storage, "x", [make_pair(i, film=make_film(seed=i)) for i in range(22)], {"image_size": 64})
    reader = PairReader(storage, ref, Split.TRAIN, cached_groups=2)
    order = EpochOrder(reader.group_sizes, seed=3, epoch=1, start=5, window_groups=2)
    loader = DataLoader(
        reader,
        batch_size=4,
        sampler=order,
        num_workers=num_workers,
        collate_fn=name_of,
        multiprocessing_context="spawn" if num_workers else None,
    )
    names = [name for batch in loader for name in batch]
    assert names == [f"instance{row}" for row in EpochOrder(reader.group_sizes, 3, 1, window_groups=2).rows()[5:]]
