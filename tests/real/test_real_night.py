"""Real films through a night with a stand-in for the models; ``make real`` does the same with trained ones."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from benchmarks.real.inbox import (
    DRAFT,
    IDENTIFIED,
    FileEnd,
    put_files,
    read_ends,
    real_inbox,
    unmet_expectations,
)
from benchmarks.real.lungs import lung_rows
from benchmarks.real.training_data import DICOM, FILMS, LUNGS, count_rows, missing_collections
from crrg.config.data import IngestConfig
from crrg.data.decoding.pool import decode_many
from crrg.data.film import DecodedFilm
from crrg.domain.study import DraftReport
from crrg.ledger.manifest import read_manifests
from crrg.operations.demo import committed_drafts
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.drawn_night import DATE, PSEUDONYMS, StandInDrafter, run_test_night

OPEN_DATA = Path(os.environ["CRRG_OPEN_DATA"]) if os.environ.get("CRRG_OPEN_DATA") else None
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(missing_collections(OPEN_DATA)), reason=missing_collections(OPEN_DATA) or "present"),
]
NUM_FILMS, NUM_WITH_TEXT = 6, 2


@pytest.fixture(scope="module")
def open_data() -> Path:
    assert OPEN_DATA is not None
    return OPEN_DATA


@pytest.fixture(scope="module")
def night(open_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[FileEnd], Storage]:
    folder = tmp_path_factory.mktemp("night")
    inbox, root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
    files = real_inbox(open_data, NUM_FILMS)
    put_files(files, inbox)
    run_test_night(inbox, root, StandInDrafter(), shard_size=64, image_size=128)
    return read_ends(files, inbox, root, PSEUDONYMS, committed_drafts(root, DATE)), root


def test_every_file_ends_as_its_collection_demands(night: tuple[list[FileEnd], Storage]) -> None:
    ends, root = night
    assert unmet_expectations(ends) == []
    reasons = sorted(end.reason for end in ends if end.reason)
    # 3 hips and 7 tibias; the chest without PatientID in 7 transfer syntaxes; with one, it is drafted once
    refused = ["BODY_PART.NOT_CHEST"] * 10 + ["DUPLICATE.RESENT"] * 6 + ["IDENTITY.MISSING"] * 7
    assert reasons == refused + ["PHI.BURNED_IN"] * NUM_WITH_TEXT
    num_drafted = 2 + 1 + NUM_FILMS - NUM_WITH_TEXT
    assert sum(end.draft is not None for end in ends) == num_drafted
    manifest = read_manifests(root, DATE)[-1]
    assert (manifest.num_inputs, manifest.num_accepted) == (26 + NUM_FILMS, num_drafted)
    assert manifest.num_quarantined == len(reasons)


def test_a_wrong_end_is_noticed(night: tuple[list[FileEnd], Storage]) -> None:
    ends, _ = night
    by_key = {end.file.key: end for end in ends}

    def faults_with(key: str, **changes: object) -> list[str]:
        changed = dataclasses.replace(by_key[key], **changes)  # type: ignore[arg-type]
        return unmet_expectations([changed if end.file.key == key else end for end in ends])

    assert faults_with("dicom/RG2_JLSL.dcm", reason="DECODE.FAILED") == [
        "dicom/RG2_JLSL.dcm: DECODE.FAILED, expected BODY_PART"
    ]
    assert len(faults_with("dicom/RG1_JLSN.dcm", outcome="quarantine", reason="DUPLICATE.PIXELS", draft=None)) == 2
    film = next(key for key, end in by_key.items() if key.startswith(f"{FILMS}/") and end.draft is not None)
    assert faults_with(film, draft=None) == [f"{film}: accepted without a draft"]
    draft = by_key[film].draft
    assert draft is not None
    assert "not on the film" in faults_with(film, draft=_with_box(draft, (-9.0, 0.0, 20.0, 20.0)))[0]
    duplicate = next(end.file.key for end in ends if end.reason == "DUPLICATE.RESENT")
    assert any("2 objects of one picture" in line for line in faults_with(duplicate, outcome="accept", reason=""))


def test_lung_boxes_are_scored_against_drawn_ones(open_data: Path, night: tuple[list[FileEnd], Storage]) -> None:
    ends, _ = night
    with (open_data / LUNGS / "boxes.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["source"] == "v7labs-mask")
    drawn = {
        f"{FILMS}/{row['image']}": tuple(float(row[name]) for name in ("x1", "y1", "x2", "y2"))
        for row in rows
        if row["label"] == "right lung"
    }
    named = [end for end in ends if end.draft is not None and end.file.key in drawn]
    assert len(named) >= 3
    perfect = [dataclasses.replace(end, draft=_with_box(end.draft, drawn[end.file.key])) for end in named]
    whole = dict.fromkeys(("right lung", "left lung"), np.array([0.0, 0.0, 1.0, 1.0]))
    right, left = lung_rows(open_data, perfect, whole)
    assert (right.region, right.num_films, right.iou, right.share_half) == ("right lung", len(named), 1.0, 1.0)
    # a constant that covers the film overlaps by the lung's share of the film
    shares = [(x2 - x1) * (y2 - y1) / (end.file.width * end.file.height) for end in named
              for x1, y1, x2, y2 in [drawn[end.file.key]]]  # fmt: skip
    assert right.drawn_mean_box == pytest.approx(np.mean(shares))
    assert left.iou < right.real_mean_box < 1.0


def test_transfer_syntaxes_give_one_picture(open_data: Path) -> None:
    """The refused tibia, called a chest, shows that each codec works, JPEG Extended too, which pydicom refuses."""
    with (open_data / DICOM / "manifest.csv").open(encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file) if row["patient_group"] == "RG3"}
    decoded = dict(zip(rows, decode_many([_as_chest(open_data / DICOM / name) for name in rows], 256, 0), strict=True))
    films = {name: read for name, read in decoded.items() if isinstance(read, DecodedFilm)}
    assert films.keys() == rows.keys(), decoded
    lossless = [name for name, row in rows.items() if row["decoded_sha256"] == rows["RG3_JLSL.dcm"]["decoded_sha256"]]
    assert len(lossless) == 4
    assert len({films[name].film.pixel_digest for name in lossless}) == 1
    truth = films["RG3_JLSL.dcm"].film.pixels.astype(float)
    for name in rows.keys() - set(lossless):
        difference = np.abs(films[name].film.pixels.astype(float) - truth).mean()
        assert difference < 4.0, (name, difference)


def test_case_histories_are_counted(open_data: Path, tmp_path: Path) -> None:
    form = IngestConfig(source=f"folder:{open_data / FILMS}", dataset="real", image_size=64, limit=24, num_workers=1)
    storage = Storage(str(tmp_path))
    rows = count_rows(storage, ingest(form, storage, PSEUDONYMS).dataset)
    assert (rows.num_real_films, rows.num_targets, sum(rows.rows.values())) == (18, 0, 18)
    assert 0 < rows.num_read_notes < 18, "some notes have a sentence that reads the film, some have not"


def test_missing_data_names_the_way_out(tmp_path: Path) -> None:
    assert "CRRG_OPEN_DATA is not set" in missing_collections(None)
    assert "lacks covid-cxr/metadata.csv" in missing_collections(tmp_path)
    assert "docs/real-data.md" in missing_collections(tmp_path)


def test_nameless_samples_come_again_with_an_identity(open_data: Path) -> None:
    files = real_inbox(open_data, 1)
    mended = [file for file in files if file.key.startswith(f"{IDENTIFIED}/")]
    assert len(mended) == 7
    assert len({file.equals for file in mended}) == 1
    assert all(file.expected == DRAFT for file in mended)
    assert pydicom.dcmread(io.BytesIO(mended[0].data), force=True).PatientID == "SAMPLE"


def _with_box(draft: DraftReport, box: tuple[float, float, float, float]) -> DraftReport:
    first, *rest = draft.regions
    return dataclasses.replace(draft, regions=(dataclasses.replace(first, box_xyxy=box), *rest))


def _as_chest(path: Path) -> bytes:
    sample = pydicom.dcmread(path)
    sample.BodyPartExamined = "CHEST"
    out = io.BytesIO()
    sample.save_as(out)
    return out.getvalue()
