"""The collection's layouts and their oddities, one test each; films are drawn, identifiers and reports invented."""

from __future__ import annotations

import errno
import hashlib
import zipfile
from pathlib import Path

import pytest

from crrg.config.data import IngestConfig
from crrg.data.archives import mimic_cxr
from crrg.data.archives.mimic_cxr import MimicCxrSource
from crrg.data.archives.source_kinds import detect_kind, open_sources
from crrg.data.decoding.pool import decode_many
from crrg.data.reports.sections_compatible import HAND_CUT_STUDIES
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split, ViewPosition
from crrg.errors import DataError, StorageError
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.reading import read_object
from crrg.storage import Storage
from tests.support.drawn_archives import PSEUDONYMS, build_pair, items_by_name
from tests.support.mimic_tree import (
    HEIGHT,
    METADATA_COLUMNS,
    P1,
    P2,
    P3,
    S1,
    S2,
    S3,
    WIDTH,
    A,
    B,
    C,
    MimicTree,
    codes,
    film_key,
    folder_of,
    instance,
    item_of,
    small_tree,
    source_of,
)
from tests.support.store_hooks import refusing

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


@pytest.fixture
def tree(tmp_path: Path) -> MimicTree:
    return small_tree(tmp_path)


def test_the_collection_is_recognised_by_its_tables_or_its_tree(tree):
    storage = Storage(str(tree.root))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.MIMIC_CXR
    for table in tree.root.glob("mimic-cxr-*"):
        table.unlink()
    assert detect_kind(storage, storage.list_folder()) is SourceKind.MIMIC_CXR
    inside = storage.child("files")
    assert detect_kind(inside, inside.list_folder()) is SourceKind.MIMIC_CXR


def test_films_come_with_path_ids_report_view_split_and_labels(tree):
    item = item_of(tree, A)
    assert (item.patient_id, item.study_id, item.instance_id) == (P1, S1, A)
    assert item.view_position is ViewPosition.PA
    assert item.split is Split.TRAIN
    assert item.report.findings == "The lungs are clear. The heart is of normal size."
    assert item.report.impression == "No acute finding."
    assert item.labels["No Finding"] == 1
    assert item.labels["Edema"] is None
    assert len(item.labels) == 14
    assert item.label_source == "chexpert"
    assert item.boxes_size == (WIDTH, HEIGHT)
    other = item_of(tree, C)
    assert (other.labels["Edema"], other.labels["Pneumothorax"]) == (-1, 0)
    assert other.split is Split.VALIDATION
    assert codes(tree) == []


def test_a_film_has_the_same_pseudonyms_in_both_trees(tree):
    jpg = build_pair(source_of(tree), item_of(tree, A))
    (tree.root / film_key(P1, S1, A)).unlink()
    tree.film(P1, S1, A, "dcm", PatientID=P1, StudyInstanceUID="2.25.7", SOPInstanceUID="2.25.8")
    dicom = build_pair(source_of(tree), item_of(tree, A))
    assert (jpg.patient_id, jpg.study_id, jpg.instance_id) == (dicom.patient_id, dicom.study_id, dicom.instance_id)
    assert jpg.instance_id == PSEUDONYMS.instance(A, "mimic-cxr")
    assert jpg.film.view_position is dicom.film.view_position is ViewPosition.PA


def test_a_report_alone_belongs_to_the_same_patient_as_its_films(tree):
    tree.report(P1, S3)
    alone = [item for item in source_of(tree).items() if item.film is None]
    assert [item.study_id for item in alone] == [S3]
    pair = build_pair(source_of(tree), alone[0])
    assert pair.patient_id == build_pair(source_of(tree), item_of(tree, A)).patient_id
    assert pair.split is Split.TRAIN
    assert pair.film is None


def test_a_film_in_both_forms_is_one_film_and_a_duplicate(tree):
    tree.film(P1, S1, A, "dcm")
    forms = [item for item in source_of(tree).items() if item.instance_id == A]
    assert [item.name.rsplit(".", 1)[-1] for item in forms] == ["jpg", "dcm"]
    assert forms[0].problem is None
    assert forms[1].problem.code == "DUPLICATE.FORM"


def test_reports_may_lie_in_their_own_folder(tree):
    (tree.root / f"{folder_of(P1, S1)}.txt").unlink()
    assert item_of(tree, A).report.findings is None
    tree.report(P1, S1, under="mimic-cxr-reports")
    assert item_of(tree, A).report.impression == "No acute finding."


def test_reports_may_lie_in_their_published_zip(tree):
    loose = tree.root / f"{folder_of(P1, S1)}.txt"
    with zipfile.ZipFile(tree.root / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("files/", "")
        archive.writestr(f"{folder_of(P1, S1)}.txt", loose.read_text())
        archive.writestr(f"{folder_of(P3, S3)}.txt", " FINDINGS: Clear lungs.")
    loose.unlink()
    assert item_of(tree, A).report.impression == "No acute finding."
    alone = [item for item in source_of(tree).items() if item.film is None]
    assert [(item.patient_id, item.report.findings) for item in alone] == [(P3, "Clear lungs.")]
    assert "mimic-cxr-reports.zip" in {stored.key for stored in source_of(tree).inventory()}


@pytest.mark.parametrize("study", ["50913680", "50525523", "58235663"], ids=["section", "span", "no findings"])
def test_a_report_that_published_work_cuts_by_hand_is_left_out_where_texts_are_compared(tree, study):
    tree.film(P3, study, instance(4))
    tree.report(P3, study)
    source = source_of(tree)
    assert {item.study_id: item.report.findings for item in source.items()}[study] == (
        "The lungs are clear. The heart is of normal size."
    )
    source.section_mode = "compatible"
    reports = {item.study_id: item.report for item in source.items()}
    assert reports[study] == Report()
    assert reports[S1].findings == "The lungs are clear. The heart is of normal size."
    assert len(HAND_CUT_STUDIES) == 54


def test_the_form_says_how_reports_are_cut(tree):
    tree.report(P1, S1, " Preamble.\n FINDINGS: First.\n chest:\n IMPRESSION: Second.\n Findings: Third.\n")
    form = {"source": (str(tree.root), f"chest-imagenome:{tree.root}"), "dataset": "d"}
    for mode, findings in (("general", "Third."), ("compatible", "First. chest:")):
        for source in open_sources(IngestConfig(**form, report_sections=mode)):
            assert source.section_mode == mode
            assert next(source.items()).report.findings == findings


def test_a_damaged_zip_of_reports_stops_the_archive(tree):
    (tree.root / "mimic-cxr-reports.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError) as caught:
        list(source_of(tree).items())
    assert caught.value.code == "PARSE.ZIP"


def test_a_film_without_report_is_kept(tree):
    (tree.root / f"{folder_of(P2, S2)}.txt").unlink()
    pair = build_pair(source_of(tree), item_of(tree, C))
    assert pair.report.text == ""
    assert pair.labels["Edema"] == -1


def test_a_report_too_long_to_be_one_refuses_its_films(tree, monkeypatch):
    tree.report(P1, S1, "a" * 90_000)
    monkeypatch.setattr(mimic_cxr, "parse_sections", lambda *_: pytest.fail("was read"))
    tree.root.joinpath(f"{folder_of(P2, S2)}.txt").unlink()
    assert codes(tree) == ["LIMIT.REPORT", "LIMIT.REPORT"]


def test_a_report_that_is_no_utf8_is_read_with_marks(tree):
    (tree.root / f"{folder_of(P2, S2)}.txt").write_bytes(b"\xef\xbb\xbf FINDINGS: No caf\xe9 sign.")
    assert item_of(tree, C).report.findings == "No caf\ufffd sign."


def test_an_empty_report_alone_is_refused(tree):
    tree.report(P3, S3, "")
    alone = next(item for item in source_of(tree).items() if item.study_id == S3)
    with pytest.raises(DataError) as caught:
        build_pair(source_of(tree), alone)
    assert caught.value.code == "REPORT.EMPTY"


def test_a_row_whose_film_is_not_there_is_named(tree):
    (tree.root / film_key(P1, S1, B)).unlink()
    assert codes(tree) == ["NO_PIXELS.NO_FILE"]
    missing = item_of(tree, B)
    assert missing.film is None
    assert B not in str(missing.problem)


def test_a_film_without_a_row_is_kept_and_its_patient_keeps_the_split(tree):
    extra = instance(9)
    tree.film(P1, S1, extra)
    item = item_of(tree, extra)
    assert item.problem is None
    assert item.view_position is None
    assert item.split is Split.TRAIN
    assert item.labels["No Finding"] == 1


def test_labels_of_a_study_that_nothing_else_knows_are_named(tree):
    tree.labels("negbio", (P1, S1, {"No Finding": "1.0"}), (P3, S3, {"Edema": "1.0"}))
    assert codes(tree) == ["REPORT.NO_FILM"]


def test_a_row_under_another_patient_is_a_conflict(tree):
    tree.metadata((A, P2, S1, "PA"), (B, P1, S1, "LATERAL"), (C, P2, S2, "AP"))
    assert codes(tree) == ["IDENTITY.CONFLICT"]
    assert item_of(tree, A).problem.code == "IDENTITY.CONFLICT"


def test_a_study_under_two_patients_is_a_conflict(tree):
    tree.film(P2, S1, instance(7))
    tree.report(P2, S1)
    found = {item.instance_id: item.problem.code for item in source_of(tree).items() if item.problem}
    assert found == dict.fromkeys((A, B, instance(7)), "IDENTITY.CONFLICT")


def test_reports_of_a_study_under_two_patients_are_both_named(tree):
    for patient in (P2, P1):
        tree.report(patient, "50000099")
    refused = {item.patient_id: item.problem.code for item in source_of(tree).items() if item.problem}
    assert refused == dict.fromkeys((P1, P2), "IDENTITY.CONFLICT")


def test_a_film_outside_a_study_folder_is_named(tree):
    (tree.root / "files/p19" / f"{A}.jpg").write_bytes(b"x")
    stray = items_by_name(source_of(tree))[f"files/p19/{A}.jpg"]
    assert stray.problem.code == "IDENTITY.MISSING"


def test_hidden_files_and_pages_of_the_download_are_no_input(tree):
    folder = tree.root / folder_of(P1, S1)
    for name in (f"._{A}.jpg", ".DS_Store", "index.html"):
        (folder / name).write_bytes(b"x")
    for name in ("LICENSE.txt", "README", "cxr-record-list.csv.gz"):
        (tree.root / name).write_bytes(b"x")
    assert len(list(source_of(tree).items())) == 3
    assert len(source_of(tree).inventory()) == 3 + 2 + 3


def test_a_login_page_saved_as_a_film_is_refused_by_its_bytes(tree):
    (tree.root / film_key(P1, S1, A)).write_bytes(b"<!DOCTYPE html><title>Log in</title>" + b" " * 200)
    with pytest.raises(DataError) as caught:
        build_pair(source_of(tree), item_of(tree, A))
    assert caught.value.code.split(".")[0] == "NOT_DICOM"


def test_suffixes_in_capitals_are_films(tree):
    path = tree.root / film_key(P1, S1, A)
    path.rename(path.with_suffix(".JPG"))
    assert item_of(tree, A).view_position is ViewPosition.PA


@pytest.mark.parametrize(
    ("position", "coded", "procedure", "view"),
    [
        ("PA", "", "", ViewPosition.PA),
        (" ap ", "", "", ViewPosition.AP),
        ("LL", "", "", ViewPosition.LL),
        ("LATERAL", "", "", ViewPosition.LATERAL),
        ("XTABLE LATERAL", "", "", ViewPosition.LATERAL),
        ("AP LLD", "", "", ViewPosition.LATERAL),
        ("AP AXIAL", "", "", ViewPosition.LATERAL),
        ("LAO", "", "", ViewPosition.LATERAL),
        ("", "postero-anterior", "CHEST (PA AND LAT)", ViewPosition.PA),
        ("", "left lateral", "", ViewPosition.LL),
        ("", "", "CHEST (PORTABLE AP)", ViewPosition.AP),
        ("", "", "CHEST (PA AND LAT)", None),
        ("", "", "", None),
    ],
)
def test_a_blank_view_is_taken_from_what_else_tells_it(tree, position, coded, procedure, view):
    row = (A, P1, S1, procedure, position, HEIGHT, WIDTH, "", "", "", coded, "")
    tree.table("mimic-cxr-2.0.0-metadata", METADATA_COLUMNS, row)
    assert item_of(tree, A).view_position is view


def test_a_patient_in_two_splits_is_held_out(tree):
    tree.splits((A, S1, P1, "train"), (B, S1, P1, "test"), (C, S2, P2, "validate"))
    assert item_of(tree, A).split is item_of(tree, B).split is Split.TEST


def test_without_tables_films_and_reports_still_come(tree):
    for table in tree.root.glob("mimic-cxr-*"):
        table.unlink()
    item = item_of(tree, A)
    assert (item.split, item.view_position, item.boxes_size, item.label_source) == (None, None, None, "")
    assert item.report.impression == "No acute finding."


@pytest.mark.parametrize("damage", ["cut", "column", "bytes"])
def test_a_damaged_table_stops_the_archive(tree, damage):
    path = tree.splits((A, S1, P1, "train"))
    if damage == "column":
        tree.table("mimic-cxr-2.0.0-split", ("dicom_id", "study_id", "split"), (A, S1, "train"))
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"no gzip")
    with pytest.raises(DataError) as caught:
        list(source_of(tree).items())
    assert caught.value.code == "PARSE.TABLE"


def test_the_layout_of_the_download_with_its_folders_above_is_read_alike(tree, tmp_path):
    deep = tmp_path / "mirror" / "mimic-cxr-jpg" / "2.1.0"
    deep.mkdir(parents=True)
    for name in ("files", *(path.name for path in tree.root.glob("mimic-cxr-2*"))):
        (tree.root / name).rename(deep / name)
    storage = Storage(str(tmp_path / "mirror"))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.MIMIC_CXR
    items = list(MimicCxrSource(storage).items())
    assert [item.instance_id for item in items] == [A, B, C]
    assert items[0].view_position is ViewPosition.PA
    assert items[0].report.impression == "No acute finding."


def test_the_order_depends_on_names_alone(tree):
    assert [item.instance_id for item in source_of(tree).items()] == [A, B, C]


def test_a_film_that_is_not_the_published_one_is_refused_when_it_is_read(tree):
    good, bad = (tree.root / film_key(P1, S1, name) for name in (A, B))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tree.root)}" for path in (good, bad)]
    (tree.root / "SHA256SUMS.txt").write_text("\n".join([*sums, "no sum", "0" * 64 + "  LICENSE.txt", ""]))
    bad.write_bytes(bad.read_bytes() + b"\0")
    found = {item.instance_id: read_object(source_of(tree).storage, item) for item in source_of(tree).items()}
    assert found[A][0] == good.read_bytes()
    assert found[B][0].code == "INTEGRITY.SHA256"
    assert isinstance(found[C][0], bytes)
    assert "SHA256SUMS.txt" in {stored.key for stored in source_of(tree).inventory()}


def test_digests_of_a_download_with_folders_above_are_found(tree, tmp_path):
    deep = tmp_path / "mirror"
    deep.mkdir()
    (tree.root / "files").rename(deep / "files")
    (deep / "SHA256SUMS.txt").write_text(f"{'AB' * 32} *./{film_key(P1, S1, A)}\n")
    assert item_of(tree, A).sha256 == "ab" * 32


def test_a_report_that_goes_away_refuses_its_films_without_naming_it(tree):
    path = tree.root / f"{folder_of(P2, S2)}.txt"
    source = source_of(tree)
    assert path.name in {stored.key.rsplit("/", 1)[-1] for stored in source.objects}
    path.unlink()
    problems = [item.problem for item in source.items() if item.problem]
    assert [problem.code for problem in problems] == ["CHANGED.GONE"]
    assert S2 not in str(problems[0])


def test_a_report_that_is_not_given_out_refuses_its_films_and_all_of_them_the_archive(tree, monkeypatch):
    source = source_of(tree)
    reports = [stored.key for stored in source.objects if stored.key.endswith(".txt")]
    refuse = refusing(monkeypatch, source.storage)
    refuse(errno.EACCES, [key for key in reports if S2 in key])
    assert [item.problem.code for item in source.items() if item.problem] == ["CHANGED.UNREADABLE"]
    refuse(errno.EACCES, reports)
    with pytest.raises(StorageError, match="denied") as caught:
        list(source.items())
    assert S1 not in str(caught.value)


def test_every_input_of_a_messy_copy_ends_once(tree, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))
    tree.film(P1, S1, A, "dcm")
    tree.report(P3, S3, " FINDINGS: Clear lungs.")
    tree.report(P3, "59000004", "")
    (tree.root / "files/p19/stray.jpg").write_bytes(b"x")
    (tree.root / film_key(P2, S2, C)).write_bytes(b"")
    tree.metadata((A, P1, S1, "PA"), (B, P1, S1, "LATERAL"), (C, P2, S2, "AP"), (instance(8), P3, S3, "PA"))
    root = Storage(str(tmp_path_factory.mktemp("root")))
    config = IngestConfig(source=str(tree.root), dataset="x", image_size=64, max_failure_rate=1)
    summary = ingest(config, root, PSEUDONYMS)
    assert summary.num_inputs == 8
    assert summary.num_accepted == 3
    assert summary.reasons == {
        "DUPLICATE.FORM": 1,
        "EMPTY.FILE": 1,
        "IDENTITY.MISSING": 1,
        "NO_PIXELS.NO_FILE": 1,
        "REPORT.EMPTY": 1,
    }
