from __future__ import annotations

import pytest

from crrg.config.data import IngestConfig
from crrg.data.dataset.reader import EpochOrder, PairReader
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Split
from crrg.errors import Conflict, StorageError
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.keys import KEY

pytestmark = pytest.mark.e2e


def test_an_object_is_read_only_in_the_version_that_was_listed(s3_store) -> None:
    store = Storage(s3_store.new_root())
    store.put("film", b"first")
    (listed,) = store.list_objects()
    assert store.get_unchanged(listed) == b"first"
    store.put("film", b"other")
    with pytest.raises(Conflict):
        store.get_unchanged(listed)
    store.delete("film")
    with pytest.raises(StorageError) as raised:
        store.get_unchanged(listed)
    assert not isinstance(raised.value, Conflict)
    assert not raised.value.retryable


def test_a_bucket_is_ingested_and_read_at_random(s3_store) -> None:
    root, source = Storage(s3_store.new_root()), s3_store.new_root()
    write_cohort(Storage(source), 12, 3, 64)
    form = IngestConfig(source=source, dataset="x", image_size=64, train_share=1.0, validation_share=0.0)
    summary = ingest(form, root, Pseudonyms(KEY.encode()))
    assert (summary.num_inputs, summary.num_accepted) == (12, 12)
    reader = PairReader(root, summary.dataset, Split.TRAIN)
    names = [reader[row].instance_id for row in EpochOrder(reader.group_sizes, seed=0)]
    assert len(set(names)) == 12
    write_cohort(Storage(source), 14, 3, 64)
    assert ingest(form, root, Pseudonyms(KEY.encode())).num_accepted == 14
