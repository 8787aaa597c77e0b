"""A night counts of how many studies something was refused, since the films of one bad study fail no night."""

from __future__ import annotations

import pytest

from crrg.config.references import NightSummary
from crrg.data.dataset.quarantine import QUARANTINE_SCHEMA
from crrg.errors import TooManyRefused
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import read_tables
from crrg.operations.night.nightly import check_ended_well, exit_code, run_night
from crrg.operations.night.summary import summarize
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config

pytestmark = pytest.mark.usefixtures("decode_here")

SHARE = 0.3


def put(inbox: Storage, key: str, number: int, study: str, *, is_cut: bool = False) -> None:
    data = dicom_bytes(number, study=study, instance=str(number))
    inbox.put(f"{key}.dcm", data[: -len(data) // 4] if is_cut else data)


def night(inbox: Storage, root: Storage) -> NightSummary:
    return run_night(
        night_config(inbox, num_workers=0, max_failure_rate=SHARE), root, BUNDLE, PSEUDONYMS, StandInDrafter
    )


def test_four_cut_films_of_one_study_fail_no_night(inbox, root):
    put(inbox, "good", 1, "1")
    for number in range(2, 6):
        put(inbox, f"cut{number}", number, "2", is_cut=True)
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies, summary.exceeds_failure_rate) == (4, 1, True)
    check_ended_well(summary)
    assert exit_code(summary) == 3


def test_cut_films_of_three_studies_do_and_what_has_no_study_counts_each(inbox, root):
    put(inbox, "good", 1, "1")
    put(inbox, "cut2", 2, "2", is_cut=True)
    for number in (3, 4):
        inbox.put(f"nothing{number}.dcm", bytes([number]) * 300)
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies) == (3, 3)
    with pytest.raises(TooManyRefused):
        check_ended_well(summary)


def test_what_is_out_of_scope_counts_for_no_study(inbox, root):
    put(inbox, "good", 1, "1")
    inbox.put("same.dcm", inbox.get("good.dcm"))
    summary = night(inbox, root)
    assert (summary.num_quarantined, summary.num_failed_studies) == (1, 0)


def test_of_a_night_that_did_not_count_them_each_input_counts(inbox, root):
    put(inbox, "good", 1, "1")
    for number in range(2, 6):
        put(inbox, f"cut{number}", number, "2", is_cut=True)
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
