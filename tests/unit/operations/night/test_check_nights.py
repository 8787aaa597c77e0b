"""Nights counted again from what they committed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.config.references import BundleRef
from crrg.ledger.manifest import Manifest, manifest_key, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights, recount_markdown
from crrg.operations.night.nightly import run_night
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    png_bytes,
    run_test_night,
)


@pytest.fixture
def inbox(tmp_path, monkeypatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    storage = Storage(str(tmp_path / "inbox"))
    fill_inbox(storage, 4)
    return storage


@pytest.fixture
def root(tmp_path, inbox) -> Storage:
    storage = Storage(str(tmp_path / "root"))
    run_test_night(inbox, storage, StandInDrafter(), num_workers=0)
    return storage


def test_nights_add_up(inbox, root):
    inbox.put("late.png", png_bytes(50))
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, date="2026-11-21")
    inbox.put("later.png", png_bytes(51))
    recount = check_nights(root, "", inbox.root, PSEUDONYMS)
    assert recount.is_good
    assert [(each.num_inputs, each.num_accepted, each.num_quarantined) for each in recount.nights] == [
        (10, 6, 4),
        (1, 1, 0),
    ]
    assert recount.inbox == {"accept": 7, "pending": 1, "quarantine": 4}
    assert "adds up" in recount_markdown(recount)
    assert len(check_nights(root, DATE).nights) == 1


def test_no_night_is_no_problem(tmp_path):
    recount = check_nights(Storage(str(tmp_path / "empty")))
    assert recount.is_good
    assert recount_markdown(recount) == "No night yet."
    of_a_day = check_nights(Storage(str(tmp_path / "empty")), DATE)
    assert recount_markdown(of_a_day) == f"No night of {DATE} was committed."


def forge(root: Storage, **changes: object) -> None:
    (manifest,) = read_manifests(root, DATE)
    value = {**manifest.model_dump(mode="json"), **changes}
    root.put_json(manifest_key(DATE, manifest.fencing), Manifest.model_validate(value).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_pending": 1}, "inputs are not"),
        ({"num_accepted": 5, "num_pending": 1}, "manifest other counts"),
        ({"reasons": {"PARSE.TRUNCATED": 4}}, "reasons"),
        ({"digest": "0" * 64}, "digest"),
        ({"index_sha256": "0" * 64}, "index"),
    ],
)
def test_forged_manifest_is_found(root, changes, said):
    forge(root, **changes)
    (night,) = check_nights(root).nights
    assert said in "; ".join(night.problems)


def test_damaged_picture_document_and_table_are_found(root):
    (manifest,) = read_manifests(root, DATE)
    picture, document = (
        next(key for key in root.get_json(manifest.index_key) if key.endswith(suffix)) for suffix in (".png", ".txt")
    )
    root.put(picture, b"another")
    root.delete(document)
    (night,) = check_nights(root).nights
    assert night.problems == ("2 documents or pictures are not the recorded ones",)
    table = next(file for file in manifest.files if file.kind == "reports")
    root.put(table.key, root.get(table.key)[:-9])
    (night,) = check_nights(root).nights
    assert "a table of reports is not the recorded one" in night.problems


def test_lost_ledger_row_is_found_even_where_its_file_is_recorded_anew(root):
    (manifest,) = read_manifests(root, DATE)
    ledger = next(file for file in manifest.files if file.kind == "ledger")
    rows = pq.read_table(root.url(ledger.key)).slice(1)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    data = sink.getvalue().to_pybytes()
    root.put(ledger.key, data)
    changed = ledger.model_copy(
        update={"num_rows": rows.num_rows, "size": len(data), "sha256": root.sha256(ledger.key)}
    )
    files = [changed if file == ledger else file for file in manifest.files]
    forge(root, files=[file.model_dump(mode="json") for file in files])
    (night,) = check_nights(root).nights
    assert any("manifest other counts" in problem for problem in night.problems)


def test_input_that_was_read_twice_is_found(inbox, root):
    forge(root, sequence=1)
    first = read_manifests(root, DATE)[0]
    # under a run id of its own: a second commit of the same run would take the place of the first
    second = first.model_copy(update={"fencing": 2, "run_id": "0123456789abcdef"})
    root.put_json(manifest_key(DATE, 2), second.model_dump(mode="json"))
    recount = check_nights(root)
    assert not recount.is_good
    assert "8 inputs were read twice" in recount_markdown(recount)


NEWER = BundleRef(bundle_id="c" * 32, prefix="models/bundles/newer", model_version="8")


def reread(inbox: Storage, root: Storage, date: str, bundle: BundleRef, asked: str) -> int:
    drafter = StandInDrafter()
    drafter.bundle_id = bundle.bundle_id
    config = night_config(inbox, date=date, num_workers=0, reread_date=asked)
    return run_night(config, root, bundle, PSEUDONYMS, lambda: drafter).num_inputs


def test_a_second_reading_after_the_champion_was_rolled_back_is_no_problem(inbox, root):
    assert reread(inbox, root, "2026-11-21", NEWER, DATE) > 0
    # of an earlier date than the readings before it: commits count, not dates
    assert reread(inbox, root, "2026-11-19", BUNDLE, "2026-11-21") > 0
    assert check_nights(root).problems == ()
    assert reread(inbox, root, DATE, NEWER, "2026-11-19") > 0
    assert reread(inbox, root, DATE, BUNDLE, DATE) > 0
    assert check_nights(root).problems == ()
    for date in ("2026-11-19", DATE, "2026-11-21"):
        assert check_nights(root, date).problems == ()


def test_an_input_that_was_read_twice_is_found_beside_a_rollback(inbox, root):
    reread(inbox, root, "2026-11-21", NEWER, DATE)
    reread(inbox, root, "2026-11-22", BUNDLE, "2026-11-21")
    last = read_manifests(root)[-1]
    again = {"fencing": 99, "run_id": "0123456789abcdef", "sequence": last.sequence + 1}
    root.put_json(manifest_key("2026-11-22", 99), last.model_copy(update=again).model_dump(mode="json"))
    assert len(check_nights(root).problems) == 1
    assert len(check_nights(root, "2026-11-22").problems) == 1
    assert check_nights(root, DATE).problems == ()
