"""The two zones: the root holds our own ids, masked text and counts; what identifies lies in the other zone alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.config.data import IngestConfig
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.canaries import marked_archive, marked_table
from tests.support.delivered_night import DeliverableNight
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, run_test_night
from tests.support.zones import KEYS, what_does_not_belong


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    files = marked_archive()
    storage = Storage(str(tmp_path / "archive"))
    for key, data in {**files, "table.csv": marked_table(files)}.items():
        storage.put(key, data)
    return storage


def test_a_root_after_ingest_and_night_holds_what_the_contract_lists(archive: Storage, tmp_path: Path) -> None:
    root = Storage(str(tmp_path / "root"))
    ingest(IngestConfig(source=(archive.root,), dataset="marked", num_workers=1), root, PSEUDONYMS)
    run_test_night(archive, root, StandInDrafter(), num_workers=0)
    written = {path.relative_to(root.root).parts[0] for path in Path(root.root).rglob("*") if path.is_file()}
    assert written == {"audit", "datasets", "quarantine", "ledger", "results", "spool"}
    assert what_does_not_belong(Path(root.root)) == []
    # when a film was written to its archive is the date of an examination: not even in hexadecimal
    moments = {round(each.modified_s * 1e6) for each in archive.list_objects()}
    forms = {form.encode() for moment in moments for form in (f"{moment:x}", f"{moment}", f"{moment // 10**6}")}
    texts = b"".join(path.read_bytes() for path in Path(root.root).rglob("*") if path.is_file())
    assert [form for form in forms if form in texts] == []


def test_a_delivery_adds_nothing_but_its_audit(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="delivery needs the extra dicom")
    from crrg.operations.delivery.deliver import deliver

    night = DeliverableNight(tmp_path)
    before = {each.key for each in night.root.list_objects()}
    deliver(night.form(), night.root, night.settings)
    added = {each.key for each in night.root.list_objects()} - before
    assert {key.split("/")[0] for key in added} == {"audit"}
    assert what_does_not_belong(Path(night.root.root)) == []
    assert not any(allowed.fullmatch(key) for key in night.delivered() for allowed in KEYS)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("results/date=2026-11-20/run=0123456789abcdef/documents/Smith/report.txt", b""),
        ("results/date=2026-11-20/_manifest-1.json", b'{"files": [{"key": "inbox/Smith.dcm"}]}'),
        ("results/date=2026-11-20/_manifest-1.json", b'{"etag": "1d768-660fa81fc5ea5"}'),
        ("results/date=2026-11-20/_manifest-1.json", b'{"Smith": 1}'),
        ("notes.txt", b""),
    ],
)
def test_the_walk_refuses_what_is_not_ours(tmp_path: Path, key: str, data: bytes) -> None:
    Storage(str(tmp_path)).put(key, data)
    assert len(what_does_not_belong(tmp_path)) == 1


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"study_date": ["20191230"]}),
        pa.table({"run_id": ["Smith"]}),
        pa.table({"date": pa.array([0], pa.timestamp("s"))}),
    ],
    ids=["column", "value", "time"],
)
def test_the_walk_reads_tables(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "ledger/date=2026-11-20/0123456789abcdef.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    assert len(what_does_not_belong(tmp_path)) == 1
