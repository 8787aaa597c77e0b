"""A night counts of how many studies something was refused, since the films of one bad study fail no night."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crrg.config.references import NightSummary
from crrg.data.dataset.quarantine import QUARANTINE_SCHEMA
from crrg.data.privacy.forgotten import REASON
from crrg.errors import DicomError, TooManyRefused
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import read_tables
from crrg.operations.night import reading
from crrg.operations.night.nightly import check_ended_well, exit_code, run_night
from crrg.operations.night.summary import summarize
from crrg.operations.privacy.forget import forget
from crrg.operations.summaries import night_markdown
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config
from tests.support.forgetting import SETTINGS

pytestmark = pytest.mark.usefixtures("decode_here")

SHARE = 0.3


def put(inbox: Storage, key: str, number: int, study: str, *, is_cut: bool = False, patient: str = "P1") -> None:
    data = dicom_bytes(number, study=study, instance=str(number), patient=patient)
    inbox.put(f"{key}.dcm", data[: -len(data) // 4] if is_cut else data)


def put_good_and_cut_study(inbox: Storage) -> None:
    """Put a film, and four cut ones of another study."""
    put(inbox, "good", 1, "1")
    for number in range(2, 6):
        put(inbox, f"cut{number}", number, "2", is_cut=True)


def night(inbox: Storage, root: Storage, **changes: object) -> NightSummary:
    config = night_config(inbox, **{"num_workers": 0, "max_failure_rate": SHARE, **changes})
    return run_night(config, root, BUNDLE, PSEUDONYMS, StandInDrafter)


def test_four_cut_films_of_one_study_fail_no_night(inbox, root):
    put_good_and_cut_study(inbox)
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies, summary.exceeds_failure_rate) == (4, 1, True)
    check_ended_well(summary)
    assert exit_code(summary) == 3
    page = night_markdown(summary)
    assert f"inputs in scope were refused, more than max_failure_rate ({100 * SHARE:.1f} %): exit code 3" in page
    assert "`crrg outcomes --inbox INBOX` names the others" in page
    assert "exit code" not in night_markdown(night(inbox, root))


def test_cut_films_of_three_studies_do_and_what_has_no_study_counts_each(inbox, root):
    put(inbox, "good", 1, "1")
    put(inbox, "cut2", 2, "2", is_cut=True)
    for number in (3, 4):
        inbox.put(f"nothing{number}.dcm", bytes([number]) * 300)
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies) == (3, 3)
    with pytest.raises(TooManyRefused):
        check_ended_well(summary)


def test_films_without_a_patient_count_by_their_study(inbox, root):
    put(inbox, "good", 1, "1")
    for number in range(2, 6):
        put(inbox, f"nobody{number}", number, "2", patient="")
    summary = night(inbox, root)
    assert (summary.reasons, summary.num_failed_studies) == ({"IDENTITY.MISSING": 4}, 1)


def test_films_on_which_their_decoder_dies_count_by_their_study(inbox, root, monkeypatch):
    for number in range(2, 6):
        put(inbox, f"crash{number}", number, "2")
    crash = DicomError("the decoding process crashed on this file", code="DECODE.CRASH")
    monkeypatch.setattr(reading, "decode_many", lambda items, *_, **__: (crash for _ in items))
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies) == (4, 1)


def test_refused_films_that_lie_there_anew_count_by_their_study(inbox, root):
    put_good_and_cut_study(inbox)
    night(inbox, root)
    for number in range(2, 6):
        path = Path(inbox.root, f"cut{number}.dcm")
        os.utime(path, (path.stat().st_mtime + 5,) * 2)
    summary = night(inbox, root, date="2026-11-21")
    assert (summary.num_quarantined, summary.num_failed_studies) == (4, 1)


def test_films_of_forgotten_patients_count_as_one_and_are_not_told_apart(inbox, root, monkeypatch):
    put(inbox, "good", 1, "1", patient="P9")
    put(inbox, "first", 7, "7")
    night(inbox, root)
    forget([PSEUDONYMS.patient("P1")], root, SETTINGS, remove=True)
    for number in range(2, 6):
        put(inbox, f"later{number}", number, str(number))
    summary = night(inbox, root, date="2026-11-21")
    assert set(summary.reasons) == {REASON}
    assert summary.num_quarantined >= 4
    assert summary.num_failed_studies == 1


def test_what_is_out_of_scope_counts_for_no_study(inbox, root):
    put(inbox, "good", 1, "1")
    inbox.put("same.dcm", inbox.get("good.dcm"))
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies) == (1, 0)


def test_of_a_night_that_did_not_count_them_each_input_counts(inbox, root):
    put_good_and_cut_study(inbox)
    night(inbox, root)
    (manifest,) = read_manifests(root)
    earlier = manifest.model_copy(update={"num_failed_studies": None})
    assert summarize(manifest, SHARE, root).num_failed_studies == 1
    assert summarize(earlier, SHARE, root).num_failed_studies == 4


def test_the_study_that_a_refused_file_names_stands_in_no_table(inbox, root):
    put(inbox, "good", 1, "1")
    put(inbox, "cut", 2, "2", is_cut=True)
    night(inbox, root)
    (manifest,) = read_manifests(root)
    (row,) = read_tables(root, manifest.files, "quarantine", QUARANTINE_SCHEMA).to_pylist()
    assert (row["study_id"], row["instance_id"]) == ("", "")
