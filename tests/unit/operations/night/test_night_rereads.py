from __future__ import annotations

import pytest

from crrg.config.references import BundleRef, NightPlan, NightSummary, PromotionResult
from crrg.config.running import DemoConfig
from crrg.ledger.ledger import read_ledger
from crrg.ledger.manifest import read_manifests
from crrg.operations.demo_run import night_form
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import plan_night, release_night, run_night
from crrg.operations.summaries import night_markdown
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config, png_bytes

pytestmark = pytest.mark.usefixtures("decode_here")

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
NEWER = BundleRef(bundle_id="c" * 32, prefix="models/bundles/newer", model_version="8")
STUDY = PSEUDONYMS.study("2.25.8.5")


@pytest.fixture
def inbox(inbox: Storage) -> Storage:
    inbox.put("1.png", png_bytes(1))
    inbox.put("five/ap.dcm", dicom_bytes(100, study="5", instance="51", view="AP"))
    inbox.put("five/pa.dcm", dicom_bytes(101, study="5", instance="52", view="PA"))
    inbox.put("five/lateral.dcm", dicom_bytes(102, study="5", instance="53", view="LATERAL"))
    return inbox


def night(
    inbox: Storage, root: Storage, date: str, bundle: BundleRef = BUNDLE, **changes: object
) -> tuple[NightSummary, int]:
    drafter = StandInDrafter()
    drafter.bundle_id = bundle.bundle_id
    config = night_config(inbox, date=date, num_workers=0, **changes)
    return run_night(config, root, bundle, PSEUDONYMS, lambda: drafter), drafter.num_drafted


def planned(inbox: Storage, root: Storage, **changes: object) -> NightPlan:
    plan = plan_night(night_config(inbox, date=SECOND, num_workers=0, **changes), root, NEWER, PSEUDONYMS)
    release_night(plan, root)
    return plan


def assert_whole(root: Storage) -> None:
    for manifest in read_manifests(root):
        index = root.get_json(manifest.index_key)
        assert root.sha256(manifest.index_key) == manifest.index_sha256
        assert all(root.sha256(key) == digest for key, digest in index.items())
        assert all(root.sha256(file.key) == file.sha256 for file in manifest.files)


def test_new_champion_alone_reads_nothing_again(inbox, root):
    night(inbox, root, FIRST)
    assert night(inbox, root, SECOND, NEWER)[0].status == "nothing_new"


def test_night_asked_for_by_date_is_read_again_once(inbox, root):
    night(inbox, root, FIRST)
    summary, num_drafted = night(inbox, root, SECOND, NEWER, reread_date=FIRST)
    assert (summary.num_inputs, summary.num_accepted, summary.num_quarantined, num_drafted) == (4, 3, 1, 3)
    old, new = read_manifests(root)
    assert {(each.date, each.run_id) for each in new.superseded} == {(FIRST, old.run_id)}
    assert len(new.superseded) == 3
    assert {row.bundle_id for row in read_ledger(root).find_drafts_of(STUDY)} == {"b" * 32, "c" * 32}
    assert_whole(root)
    assert night(inbox, root, THIRD, NEWER, reread_date=FIRST)[0].status == "nothing_new"
    assert night(inbox, root, THIRD, NEWER, reread_date=SECOND)[0].status == "nothing_new"


def test_only_the_named_study_is_read_again(inbox, root):
    night(inbox, root, FIRST)
    summary, num_drafted = night(inbox, root, SECOND, NEWER, reread_studies=(STUDY,))
    assert (summary.num_inputs, num_drafted) == (3, 2)
    names = {PSEUDONYMS.instance("2.25.9.51"), PSEUDONYMS.instance("2.25.9.52")}
    assert {each.instance_id for each in read_manifests(root)[1].superseded} == names


@pytest.mark.parametrize(("version", "expected"), [(7, 0), (8, 3), (9, 3)])
def test_drafts_of_lower_versions_are_read_again(inbox, root, version, expected):
    night(inbox, root, FIRST)
    inbox.put("2.png", png_bytes(2))
    night(inbox, root, SECOND, NEWER)
    _, num_drafted = night(inbox, root, THIRD, NEWER, reread_older_than_bundle=version)
    assert num_drafted == expected


def test_a_demo_that_is_run_again_scores_drafts_of_the_bundle_that_it_names(inbox, root):
    night(inbox, root, FIRST)
    form = night_form(DemoConfig(), inbox.root, PromotionResult(promoted=True, version=NEWER.model_version))
    asked = {"reread_older_than_bundle": form.reread_older_than_bundle}
    assert [night(inbox, root, SECOND, NEWER, **asked)[1] for _ in range(2)] == [3, 0]


def test_new_and_asked_objects_share_a_night_and_its_limit(inbox, root):
    night(inbox, root, FIRST)
    inbox.put("2.png", png_bytes(2))
    summary, num_drafted = night(inbox, root, SECOND, NEWER, reread_date=FIRST, limit=2)
    assert (summary.num_inputs, num_drafted) == (2, 2)
    assert len(read_manifests(root)[1].superseded) == 1
    summary, _ = night(inbox, root, THIRD, NEWER, reread_date=FIRST)
    assert summary.num_inputs == 3


def test_forth_and_back_between_bundles_within_one_date_overwrites_nothing(inbox, root):
    night(inbox, root, FIRST)
    night(inbox, root, FIRST, NEWER, reread_date=FIRST)
    night(inbox, root, FIRST, BUNDLE, reread_date=FIRST)
    night(inbox, root, FIRST, NEWER, reread_date=FIRST)
    manifests = read_manifests(root)
    assert [each.bundle.bundle_id[0] for each in manifests if each.bundle] == ["b", "c", "b", "c"]
    assert len({each.run_id for each in manifests}) == 4
    assert_whole(root)


def test_asked_reading_that_was_cut_off_is_taken_up_again(inbox, root):
    night(inbox, root, FIRST)
    first = planned(inbox, root, reread_date=FIRST)
    assert (first.num_new, first.num_done) == (4, 0)
    assert planned(inbox, root, reread_date=FIRST).run_id == first.run_id
    assert planned(inbox, root).status == "nothing_new"


def test_film_that_is_gone_keeps_its_older_draft(inbox, root):
    night(inbox, root, FIRST)
    inbox.delete("five/pa.dcm")
    summary, num_drafted = night(inbox, root, SECOND, NEWER, reread_studies=(STUDY,))
    assert (summary.num_inputs, num_drafted) == (2, 1)
    new = read_manifests(root)[1]
    assert len(new.superseded) == 2
    (key,) = [key for key in root.get_json(new.index_key) if key.endswith("report.json")]
    document = root.get_json(key)
    assert len(document["films"]) == 2
    assert "mixed_bundles" in document["flags"]


@pytest.mark.parametrize(
    "asked", [{"reread_older_than_bundle": 8}, {"reread_studies": (STUDY,)}, {"reread_date": SECOND}],
    ids=["by bundle", "by study", "by the date it came again"],
)  # fmt: skip
def test_film_that_came_again_under_another_header_is_read_again_like_its_draft(inbox, root, asked):
    night(inbox, root, FIRST)
    header = {"InstitutionName": "elsewhere"}
    inbox.put("five/pa.dcm", dicom_bytes(101, study="5", instance="52", view="PA", **header))
    assert night(inbox, root, SECOND)[0].reasons == {"DUPLICATE.RESENT": 1}
    summary, _ = night(inbox, root, THIRD, NEWER, **asked)
    assert "DUPLICATE.RESENT" not in summary.reasons
    name = PSEUDONYMS.instance("2.25.9.52")
    assert name in {each.instance_id for each in read_manifests(root)[-1].superseded}
    draft = read_ledger(root).find_draft(name)
    assert draft is not None
    assert draft.bundle_id == NEWER.bundle_id
    assert night(inbox, root, "2026-11-23", NEWER, **asked)[0].status == "nothing_new"
    assert_whole(root)


def test_reading_again_of_a_film_that_came_again_is_taken_up_where_it_was_cut_off(inbox, root):
    night(inbox, root, FIRST)
    inbox.put("five/pa.dcm", dicom_bytes(101, study="5", instance="52", view="PA", InstitutionName="elsewhere"))
    night(inbox, root, FIRST)
    first = planned(inbox, root, reread_studies=(STUDY,))
    assert first.num_new == 3
    assert planned(inbox, root, reread_studies=(STUDY,)).run_id == first.run_id


def test_digest_counts_the_newest_draft_only(inbox, root, tmp_path):
    night(inbox, root, FIRST)
    before = committed_digest(root)
    night(inbox, root, SECOND, NEWER, reread_date=FIRST)
    assert committed_digest(root) != before
    assert committed_digest(root, FIRST) == before


def test_what_no_night_has_read_is_said_and_the_rest_is_read_again(inbox, root, caplog):
    night(inbox, root, FIRST)
    summary, num_drafted = night(inbox, root, SECOND, NEWER, reread_studies=(STUDY, "nonsense"))
    assert (summary.status, num_drafted) == ("committed", 2)
    (said,) = summary.not_found
    assert said.startswith("1 of 2 ids belong to no study that a night has read; ")
    assert said in caplog.text
    summary, _ = night(inbox, root, THIRD, NEWER, reread_date="2020-01-01")
    assert summary.status == "nothing_new"
    (said,) = summary.not_found
    assert said.startswith("no night of 2020-01-01 was committed; ")
    assert f"Not read again: {said}." in night_markdown(summary)
    assert night(inbox, root, THIRD, NEWER, reread_date=FIRST)[0].not_found == ()


def test_a_study_that_was_only_refused_is_no_unknown_one(inbox, root):
    inbox.put("six/lateral.dcm", dicom_bytes(103, study="6", instance="63", view="LATERAL"))
    night(inbox, root, FIRST)
    assert night(inbox, root, SECOND, NEWER, reread_studies=(PSEUDONYMS.study("2.25.8.6"),))[0].not_found == ()
