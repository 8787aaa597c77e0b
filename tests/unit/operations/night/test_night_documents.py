"""Documents and page, made shard by shard."""

from __future__ import annotations

import pytest

from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import read_table
from crrg.operations.night import documents as night_documents
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, dicom_bytes, png_bytes, run_test_night


@pytest.fixture(autouse=True)
def _decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)


def test_page_and_documents_do_not_depend_on_the_shards(tmp_path):
    inbox = Storage(str(tmp_path / "inbox"))
    for number in range(5):
        inbox.put(f"{number}.png", png_bytes(number))
    inbox.put("a/ap.dcm", dicom_bytes(100, study="5", instance="51", view="AP"))
    inbox.put("z/pa.dcm", dicom_bytes(101, study="5", instance="52", view="PA"))
    shown = []
    for size in (1, 3, 50):
        root = Storage(str(tmp_path / f"root-{size}"))
        run_test_night(inbox, root, StandInDrafter(), num_workers=0, shard_size=size)
        (manifest,) = read_manifests(root, DATE)
        index = root.get_json(manifest.index_key)
        assert all(root.sha256(key) == digest for key, digest in index.items())
        assert sum(key.endswith("report.json") for key in index) == 6
        shown.append({key.split("/", 3)[3]: digest for key, digest in index.items()})
    assert shown[0] == shown[1] == shown[2]


def test_at_most_one_shard_is_in_memory(tmp_path, monkeypatch):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    for number in range(9):
        inbox.put(f"{number}.png", png_bytes(number))
    seen = []
    documents = night_documents.study_documents

    def counted(reports, *rest):
        seen.append(len(reports))
        return documents(reports, *rest)

    monkeypatch.setattr(night_documents, "study_documents", counted)
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, shard_size=3)
    assert seen == [3, 3, 3, 0]


def test_tables_come_in_pairs(tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    inbox.put("1.png", png_bytes(1))
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    (manifest,) = read_manifests(root, DATE)
    tables = [file for file in manifest.files if file.kind in ("reports", "regions")]
    assert [file.kind for file in tables] == ["reports", "regions"]
    assert read_table(root, tables[1]).num_rows == 29
