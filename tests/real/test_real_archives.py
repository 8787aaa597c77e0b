"""Real reports and real boxes through the readers of archives: what goes in comes out, as the tables count it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.archives.mesh_codes import findings_of, read_codes
from crrg.data.archives.openi import OpeniSource
from crrg.data.archives.openi_xml import read_openi_report
from crrg.data.archives.region_boxes import BOX_COLUMNS
from crrg.data.dataset.pairs import read_pairs
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import RegionSource, Split, ViewPosition
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.keys import KEY

pytestmark = pytest.mark.real
PSEUDONYMS = Pseudonyms(KEY.encode())
SECTIONS = ("findings", "impression", "indication")


@pytest.fixture(scope="module")
def open_data() -> Path:
    folder = Settings().open_data
    if folder is None or not folder.is_dir():
        pytest.skip("CRRG_OPEN_DATA points to no folder of open data")
    return folder


@pytest.fixture(scope="module")
def reports(open_data: Path) -> list[dict[str, str]]:
    return _rows(open_data / "openi" / "reports.csv")


def test_sections_are_counted_as_the_table_counts_them(open_data, reports):
    items = list(OpeniSource(Storage(str(open_data / "openi"))).items())
    assert len(items) == len(reports) == 3164
    for section in SECTIONS:
        have = sum(getattr(item.report, section) is not None for item in items)
        assert have == sum(bool(row[section].strip()) for row in reports), section
    assert sum(item.report.findings is not None for item in items) == 2739
    assert sum(item.report.impression is not None for item in items) == 3134
    assert sum(item.problem is not None for item in items) == 25


def test_every_report_survives_the_way_through_the_official_form(open_data, reports):
    items = {item.study_id: item for item in OpeniSource(Storage(str(open_data / "openi"))).items()}
    counts = Counter()
    for row in reports:
        found = read_openi_report(_as_xml(row).encode())
        assert found.uid == row["uid"]
        assert found.figures == tuple(filter(None, row["images"].split(";")))
        assert found.codes == read_codes(" ".join(row["mesh_major"].split()))
        for section in SECTIONS:
            text = " ".join(row[section].split())
            is_escaped = "&gt;" in text
            assert (getattr(found.report, section) or "") == text.replace("&gt;", ">"), f"{section} of {row['uid']}"
            counts.update({section: bool(text), "escaped": is_escaped})
        assert items[row["uid"]].report == found.report
    assert counts["escaped"] == 1
    assert (counts["findings"], counts["impression"]) == (2739, 3134)


def test_codes_of_real_studies_become_labels(open_data, reports):
    items = {item.study_id: item for item in OpeniSource(Storage(str(open_data / "openi"))).items()}
    for row in reports:
        labels = items[row["uid"]].labels
        stated = {label for label, value in labels.items() if value in (1, -1)} - {"No Finding"}
        assert stated == findings_of(read_codes(row["mesh_major"]))
        assert (labels.get("No Finding") == 1) == (row["mesh_major"] == "normal")
    assert 2200 < sum(bool(item.labels) for item in items.values()) < 3083, "81 studies are not indexed"


def test_projections_of_real_pictures_follow_the_table_and_not_the_header(open_data):
    from crrg.data.archives.openi import _figure, _Projections

    rows = _rows(open_data / "openi" / "images.csv")
    views = _Projections(Storage(str(open_data / "openi")), ["images.csv"])
    contradicted = 0
    for row in rows:
        view = views.view(_figure(row["dicom_png_name"]))
        if row["projection"] == "Lateral":
            assert view in (ViewPosition.LATERAL, ViewPosition.LL)
            contradicted += row["view_position"] in ("PA", "AP")
        elif row["projection"] == "Frontal":
            assert view is not None
            assert view.is_frontal
    # the figures that docs/sources.md names
    assert (contradicted, sum(row["projection"] == "Lateral" for row in rows)) == (1083, 2923)
    named = [row["projection"] for row in rows if row["image_id"].endswith("-2001")]
    assert (named.count("Lateral"), len(named)) == (1857, 1985)


def test_boxes_of_real_lungs_come_back_from_parquet(open_data, tmp_path):
    storage = Storage(str(tmp_path / "root"))
    form = IngestConfig(source=f"folder:{open_data / 'lungs'}", dataset="lungs", image_size=64, num_workers=1)
    summary = ingest(form, storage, PSEUDONYMS)
    # some of these films show a date or a name
    assert {reason.split(".")[0] for reason in summary.reasons} <= {"DUPLICATE", "PHI"}
    assert summary.num_inputs == 168
    assert summary.num_accepted > 100
    pairs = [pair for split in Split for pair in read_pairs(storage, summary.dataset, split)]
    wanted = _boxes(open_data / "lungs" / "boxes.csv")
    images = _rows(open_data / "lungs" / "images.csv")
    names: dict[tuple[str, int, int], list[str]] = {}
    for row in images:
        patient = PSEUDONYMS.patient(row["patientid"], "folder/lungs")
        names.setdefault((patient, int(row["width"]), int(row["height"])), []).append(row["image"])
    differences = []
    for pair in pairs:
        assert pair.film is not None
        drawn = [region for region in pair.regions if region.source is RegionSource.MASK]
        assert [region.region for region in drawn] == ["right lung", "left lung"]
        ours = np.array([region.box_xyxy for region in drawn])
        # a patient may have several films of one size
        candidates = names[pair.patient_id, pair.film.original_width, pair.film.original_height]
        differences.append(min(float(np.abs(ours - wanted[name]).max()) for name in candidates))
    # outlines were drawn on larger pictures: a mask here and the table of their extents agree to a pixel
    assert max(differences) < 1.3
    assert sum(difference < 1e-3 for difference in differences) > 10, "films without a mask have the table's boxes"


def _boxes(path: Path) -> dict[str, np.ndarray]:
    rows = sorted(_rows(path), key=lambda row: row["source"] == "v7labs-mask")
    boxes = {(row["image"], row["label"]): [float(row[name]) for name in BOX_COLUMNS] for row in rows}
    return {image: np.array([boxes[image, f"{side} lung"] for side in ("right", "left")]) for image, _ in boxes}


def _as_xml(row: dict[str, str]) -> str:
    """Write a row in the official form, with text as any XML writer would escape it."""
    texts = "".join(f'<AbstractText Label="{name.upper()}">{escape(row[name])}</AbstractText>' for name in SECTIONS)
    codes = "".join(f"<major>{escape(code)}</major>" for code in row["mesh_major"].split(";") if code)
    images = "".join(f"<parentImage id={quoteattr(name)}/>" for name in row["images"].split(";") if name)
    return f'<eCitation><uId id="CXR{row["uid"]}"/><Abstract>{texts}</Abstract><MeSH>{codes}</MeSH>{images}</eCitation>'


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
