"""A study of two patients: films and reports of one must not become rows of the other."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crrg.config.data import IngestConfig
from crrg.config.references import IngestSummary
from crrg.data.dataset.pairs import read_pairs
from crrg.data.decoding.pool import decode_many
from crrg.domain.study import Pair, Split
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.inputs import read_inputs
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, dicom_bytes


@pytest.fixture(autouse=True)
def _decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    (folder := tmp_path / "films").mkdir()
    return folder


def film(films: Path, name: str, patient: str, number: int, study: str = "5") -> None:
    """Write a film; higher numbers are younger."""
    path = films / f"{name}.dcm"
    path.write_bytes(dicom_bytes(number, study=study, instance=str(number), patient=patient))
    os.utime(path, (1e9 + number, 1e9 + number))


def run(films: Path, root: Storage, **changes: object) -> IngestSummary:
    form = {"source": str(films), "dataset": "x", "image_size": 64, **changes}
    return ingest(IngestConfig.model_validate(form), root, PSEUDONYMS)


def pairs(root: Storage, summary: IngestSummary) -> list[Pair]:
    return [pair for split in Split for pair in read_pairs(root, summary.dataset, split)]


def patients(root: Storage, summary: IngestSummary) -> set[str]:
    names = {PSEUDONYMS.patient(name): name for name in ("P1", "P2", "P3")}
    return {names[pair.patient_id] for pair in pairs(root, summary)}


def sentences(root: Storage, summary: IngestSummary) -> list[str]:
    rows = pq.read_table(io.BytesIO(root.get(summary.quarantine_key))).to_pylist()
    return [f"{row['reason']} {row['stage']}: {row['detail']}" for row in rows]


def test_report_of_a_study_without_patient_is_of_the_oldest_films_patient_alone(films, root):
    film(films, "z", "P1", 1)
    film(films, "a", "P2", 2)
    film(films, "m", "P1", 3)
    table = "study_instance_uid,findings\n2.25.8.5,There is a large left pleural effusion.\n"
    (films / "reports.csv").write_text(table)
    summary = run(films, root)
    assert (summary.num_inputs, summary.num_accepted) == (3, 2)
    assert patients(root, summary) == {"P1"}
    assert len([pair for pair in pairs(root, summary) if pair.report.findings]) == 2
    (sentence,) = sentences(root, summary)
    assert sentence.startswith("IDENTITY.CONFLICT identity: its study came before for another patient; correct")


def test_what_is_added_later_changes_no_result(films, root, tmp_path):
    film(films, "a", "P1", 2)
    film(films, "b", "P2", 3)
    film(films, "c", "P3", 4, study="6")
    assert patients(root, run(films, root)) == {"P1", "P3"}
    film(films, "d", "P2", 1)
    film(films, "e", "P3", 5)
    again, at_once = run(films, root), run(films, Storage(str(tmp_path / "at-once")))
    assert patients(root, again) == {"P2", "P3"}
    assert (again.dataset.version, again.reasons) == (at_once.dataset.version, {"IDENTITY.CONFLICT": 2})


def test_film_whose_study_came_free_is_read(films, root):
    film(films, "a", "P1", 1)
    film(films, "b", "P2", 2)
    assert patients(root, run(films, root)) == {"P1"}
    (films / "a.dcm").unlink()
    assert patients(root, run(films, root)) == {"P2"}


def test_records_say_nothing_of_the_other_patient(films, root):
    film(films, "a", "P1", 1)
    film(films, "b", "P2", 2)
    run(films, root)
    (stored,) = root.list_objects("datasets/x/_inputs")
    assert [each.instance_id for each in read_inputs(root, stored.key)[0]] == [PSEUDONYMS.instance("2.25.9.1")]


def test_equal_film_of_a_refused_one_counts(films, root):
    film(films, "a", "P1", 1)
    film(films, "b", "P2", 2)
    equal = films / "c.dcm"
    equal.write_bytes(dicom_bytes(2, study="7", instance="9", patient="P3"))
    assert patients(root, run(films, root)) == {"P1", "P3"}
