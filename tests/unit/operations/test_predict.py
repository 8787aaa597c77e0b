from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from crrg.config.base import Settings
from crrg.config.evidence import EvidenceSettings
from crrg.errors import ConfigError
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.operations.predict import predict_files, predict_with
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes


def predicted(tmp_path: Path, evidence: EvidenceSettings | None = None, **files: bytes):
    paths = []
    for name, data in files.items():
        paths.append(tmp_path / name.replace("_", "."))
        paths[-1].write_bytes(data)
    out = Storage(str(tmp_path / "out"))
    return predict_files(paths, out, PSEUDONYMS, StandInDrafter(), num_workers=0, evidence=evidence), out


def test_every_file_gets_its_answer(tmp_path):
    summary, out = predicted(
        tmp_path,
        a_png=png_bytes(1),
        b_dcm=dicom_bytes(2),
        c_dcm=dicom_bytes(3, view="LATERAL"),
        d_dcm=b"",
        e_png=png_bytes(1),
    )
    assert summary.num_drafted == 3
    assert summary.reasons == {"c.dcm": "VIEW.LATERAL", "d.dcm": "EMPTY.FILE"}
    answer = out.get_json("b.dcm.json")
    assert answer["file"] == "b.dcm"
    assert answer["status"] == "draft"
    assert len(answer["probabilities"]) == len(answer["labels"]) == 14
    assert len(answer["regions"]) == 29
    assert answer["instance_id"] == PSEUDONYMS.instance("2.25.9.1")
    assert out.get_json("c.dcm.json")["reason"] == "VIEW.LATERAL"
    reports, regions = (pq.read_table(out.url(f"{kind}.parquet")) for kind in ("reports", "regions"))
    assert (reports.num_rows, regions.num_rows) == (2, 58)
    assert (reports.schema.names, regions.schema.names) == (REPORTS_SCHEMA.names, REGIONS_SCHEMA.names)


def test_evidence_stands_beside_the_draft_where_it_is_asked_for(tmp_path):
    _, out = predicted(tmp_path, EvidenceSettings(max_sentences=1, cells=4), a_png=png_bytes(1), x_dcm=b"no film")
    (found,) = out.get_json("a.png.json")["evidence"]
    assert found["region"] == "cardiac silhouette"
    assert np.array(found["wording_falls"]).shape == (4, 4)
    assert found["wording_falls"][3][3] == 0.25
    sheet = cv2.imdecode(np.frombuffer(out.get("a.png-evidence.png"), np.uint8), cv2.IMREAD_COLOR)
    plain, explained = sheet[:, : sheet.shape[1] // 2].astype(int), sheet[:, sheet.shape[1] // 2 :].astype(int)
    # amber: far more red than blue in the lower right cell, grey in the upper left one
    assert (explained[-5, -5, 2] - explained[-5, -5, 0]) > 80
    assert np.ptp(explained[5, 5]) == np.ptp(plain[5, 5]) == 0
    (tmp_path / "again").mkdir()
    _, without = predicted(tmp_path / "again", a_png=png_bytes(1))
    assert "evidence" not in without.get_json("a.png.json")
    assert not without.exists("a.png-evidence.png")


def test_films_are_as_large_as_those_that_the_models_were_trained_on(tmp_path):
    class Seeing(StandInDrafter):
        image_size = 32

        def draft(self, films):
            assert [film.pixels.shape for film in films] == [(32, 32)]
            return super().draft(films)

    (tmp_path / "a.png").write_bytes(png_bytes(1))
    out, drafter = Storage(str(tmp_path / "out")), Seeing()
    predict_files([tmp_path / "a.png"], out, PSEUDONYMS, drafter, num_workers=0)
    assert drafter.num_drafted == 1


def test_nothing_usable_still_writes_empty_tables(tmp_path):
    summary, out = predicted(tmp_path, x_dcm=b"no film")
    assert summary.num_drafted == 0
    assert pq.read_table(out.url("reports.parquet")).num_rows == 0


def test_missing_or_equally_named_files_are_refused_before_any_work(tmp_path):
    out = Storage(str(tmp_path / "out"))
    (tmp_path / "is.png").write_bytes(png_bytes(1))
    files = [tmp_path / "is.png", tmp_path / "none.dcm"]
    with pytest.raises(ConfigError, match=r"1 of 2 paths are not files \(number 2 of them\)"):
        predict_files(files, out, PSEUDONYMS, StandInDrafter())
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.png").write_bytes(png_bytes(1))
    with pytest.raises(ConfigError, match="the same name"):
        predict_files([tmp_path / "one/same.png", tmp_path / "two/same.png"], out, PSEUDONYMS, StandInDrafter())
    with pytest.raises(ConfigError, match="are not files"):  # not: no such model, which would be loaded first
        predict_with(files, out.root, "no-such-model", "cpu", out, Settings(root=out.root))
    assert out.list_objects() == []
