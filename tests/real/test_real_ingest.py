from __future__ import annotations

import csv
import hashlib
import io

import pyarrow.parquet as pq
import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import read_pairs
from crrg.data.dicom.header import read_attributes, read_layout
from crrg.data.dicom.pixels import read_stored_values
from crrg.data.dicom.structure import open_dicom
from crrg.data.film import read_film
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Split
from crrg.errors import DataError
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.keys import KEY

pytestmark = pytest.mark.real
PSEUDONYMS = Pseudonyms(KEY.encode())


@pytest.fixture(scope="module")
def open_data():
    folder = Settings().open_data
    if folder is None or not folder.is_dir():
        pytest.skip("CRRG_OPEN_DATA points to no folder of open data")
    return folder


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "root"))


def run(storage, *sources: str):
    return ingest(IngestConfig(source=sources, dataset="real"), storage, PSEUDONYMS)


def pairs_of(storage, summary):
    return [pair for split in Split for pair in read_pairs(storage, summary.dataset, split)]


def test_stored_values_are_the_ones_other_readers_decode(open_data):
    rows = list(csv.DictReader((open_data / "dicom" / "manifest.csv").open()))
    assert len(rows) == 19
    compared = 0
    for row in rows:
        body = open_dicom((open_data / "dicom" / row["file"]).read_bytes())
        attributes = read_attributes(body)
        values, _ = read_stored_values(body, read_layout(attributes, body))
        assert values.shape == (int(row["rows"]), int(row["columns"])), row["file"]
        if row["decoded_sha256"]:
            assert hashlib.sha256(values.tobytes()).hexdigest() == row["decoded_sha256"], row["file"]
            compared += 1
        else:
            assert values.max() > 900, row["file"]
    assert compared == 17


def test_chests_are_read_and_other_body_parts_refused(open_data):
    for row in csv.DictReader((open_data / "dicom" / "manifest.csv").open()):
        data = (open_data / "dicom" / row["file"]).read_bytes()
        if row["body_part"] == "CHEST":
            film = read_film(data, 512).film
            assert max(film.pixels.shape) <= 512
            assert film.view_position.value == "PA"
            assert film.polarity_inverted
            # white is dense: the spine is brighter than the lungs beside it
            height, width = film.pixels.shape
            middle = film.pixels[height * 4 // 10 : height * 5 // 10]
            spine = middle[:, width * 47 // 100 : width * 53 // 100].mean()
            lungs = middle[:, width * 20 // 100 : width * 30 // 100].mean()
            assert spine > lungs + 10, row["file"]
        else:
            with pytest.raises(DataError) as caught:
                read_film(data, 512)
            assert caught.value.code == "BODY_PART.NOT_CHEST"


def test_cut_real_films_are_refused(open_data):
    for row in csv.DictReader((open_data / "dicom" / "manifest.csv").open()):
        data = (open_data / "dicom" / row["file"]).read_bytes()
        with pytest.raises(DataError) as caught:
            read_film(data[: len(data) * 2 // 3], 512)
        assert caught.value.code.split(".")[0] in {"PARSE", "DECODE"}, row["file"]


def test_dicom_folder(open_data, storage):
    summary = run(storage, str(open_data / "dicom"))
    assert summary.num_inputs == 19
    # the Barré film names no patient; hip and tibia are not chests
    assert summary.reasons == {"BODY_PART.NOT_CHEST": 10, "IDENTITY.MISSING": 7}
    assert summary.num_accepted == 2
    record = pq.read_table(io.BytesIO(storage.get(summary.quarantine_key))).to_pylist()
    assert len(record) == 17


def test_covid_films_and_what_their_notes_say(open_data, storage):
    summary = run(storage, str(open_data / "covid-cxr"))
    # of 38 films that were held back once and looked at, three let in since show words of position in those rows
    assert (summary.num_inputs, summary.num_accepted, summary.reasons) == (214, 179, {"PHI.BURNED_IN": 35})
    pairs = pairs_of(storage, summary)
    assert all(pair.report.findings is None for pair in pairs)
    texts = [pair.report.impression for pair in pairs if pair.report.impression]
    assert 80 <= len(texts) <= 139
    assert not any(word in text.lower() for text in texts for word in ("fever", "year-old", "year old", " ct "))
    groups = {row["patientid"]: row["case_group"] for row in _rows(open_data / "covid-cxr" / "metadata.csv")}
    split_of_group = {}
    for patient, group in groups.items():
        pseudonym = PSEUDONYMS.patient(patient, "folder/covid-cxr")
        split_of_group.setdefault(group, set()).update(p.split for p in pairs if p.patient_id == pseudonym)
    assert all(len(splits) <= 1 for splits in split_of_group.values())
    views = [pair.film.view_position.value for pair in pairs if pair.film]
    assert (views.count("PA"), views.count("AP")) == (123, 56)


def test_openi_reports(open_data, storage):
    summary = run(storage, str(open_data / "openi"))
    assert (summary.num_inputs, summary.reasons) == (3164, {"REPORT.EMPTY": 25})
    pairs = pairs_of(storage, summary)
    assert all(pair.film is None for pair in pairs)
    assert not any("XXXX" in pair.report.text for pair in pairs)
    rows = {PSEUDONYMS.study(row["uid"], "openi"): row for row in _rows(open_data / "openi" / "reports.csv")}
    for pair in pairs:
        published = rows[pair.study_id]["r2gen_split"]
        if published:
            assert pair.split.value == {"val": "validation"}.get(published, published)


def test_all_real_sources_together(open_data, storage):
    summary = run(storage, f"openi:{open_data}/openi", f"folder:{open_data}/covid-cxr", str(open_data / "dicom"))
    assert summary.num_inputs == 3164 + 214 + 19
    assert summary.num_accepted + summary.num_quarantined == summary.num_inputs


def _rows(path):
    return list(csv.DictReader(path.open()))
