"""Write a drawn cohort to a store: films, reports, scene graphs and the truth.

Layout under the root (keys use forward slashes)::

    dicom/<patient_id>/<sop_instance_uid>.dcm   12 bits in 16, MONOCHROME1 or MONOCHROME2; one film per study
    reports.csv                                 UTF-8, one row per study: patient_id, study_id, instance_id,
                                                indication, findings, impression
    scene_graphs/<sop_instance_uid>_SceneGraph.json   Chest ImaGenome's shape (see ``scene_graph``)
    truth.parquet                               one row per film, columns below

In every file ``patient_id`` is the DICOM PatientID, ``study_id`` the StudyInstanceUID and ``instance_id`` the
SOPInstanceUID of the film; they are invented, and ingest replaces them by pseudonyms as it would real ones.

Columns of ``truth.parquet``: ``index`` int64 · ``patient_id``, ``study_id``, ``instance_id`` string · ``file`` string
(key of the DICOM object) · ``height``, ``width`` int32 · ``view_position``, ``photometric``, ``sex`` string ·
``age_years`` int32 · ``exposure_mean``, ``exposure_spread`` float64 (what the film's values were set to) · the 14
snake-case names of ``LABEL_COLUMNS``, int8, 1 or 0, null where a real report does not say · ``drawn_findings``
list<struct<label, kind, side, regions: list<string>, severity: float64>> · ``regions`` list<struct<region: string,
box_xyxy: list<float64>[4] in pixels of the film, phrase: string or null, is_abnormal: bool>>, 29 entries in the
order of ``REGIONS``.

Every film depends on ``(seed, index)`` alone: neither the number of studies nor of processes changes a byte.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crrg.data.phantom.dicom_writer import DrawnIds, drawn_ids, write_dicom
from crrg.data.phantom.grammar import word_report
from crrg.data.phantom.painter import PaintedFilm, paint
from crrg.data.phantom.sampler import sample_scene
from crrg.data.phantom.scene import Scene, WordedReport
from crrg.data.phantom.scene_graph import scene_graph
from crrg.domain.labels import LABEL_COLUMNS, LABELS, LabelValues
from crrg.domain.regions import REGIONS
from crrg.progress import count_progress
from crrg.storage import Storage

logger = logging.getLogger(__name__)

REPORTS_KEY = "reports.csv"
TRUTH_KEY = "truth.parquet"
REPORT_COLUMNS = ("patient_id", "study_id", "instance_id", "indication", "findings", "impression")
GRAMMAR_STREAM = 31
_CHUNK = 16

TRUTH_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("patient_id", pa.string()),
        ("study_id", pa.string()),
        ("instance_id", pa.string()),
        ("file", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("view_position", pa.string()),
        ("photometric", pa.string()),
        ("sex", pa.string()),
        ("age_years", pa.int32()),
        ("exposure_mean", pa.float64()),
        ("exposure_spread", pa.float64()),
        *((name, pa.int8()) for name in LABEL_COLUMNS),
        (
            "drawn_findings",
            pa.list_(
                pa.struct(
                    [
                        ("label", pa.string()),
                        ("kind", pa.string()),
                        ("side", pa.string()),
                        ("regions", pa.list_(pa.string())),
                        ("severity", pa.float64()),
                    ]
                )
            ),
        ),
        (
            "regions",
            pa.list_(
                pa.struct(
                    [
                        ("region", pa.string()),
                        ("box_xyxy", pa.list_(pa.float64(), 4)),
                        ("phrase", pa.string()),
                        ("is_abnormal", pa.bool_()),
                    ]
                )
            ),
        ),
    ]
)


@dataclass(frozen=True)
class DrawnStudy:
    """Everything said of one study before its film is painted.

    Attributes:
        scene: What is to be drawn.
        report: Its report, by the grammar or a real one.
        labels: Exact labels of the picture; ``None`` where a real report leaves one open.
        source: Kind of cohort, ``drawn`` or ``openi``.
    """

    scene: Scene
    report: WordedReport
    labels: LabelValues
    source: str = "drawn"


def drawn_study(seed: int, index: int) -> DrawnStudy:
    """Return study ``index`` of the cohort with this seed, worded by the grammar."""
    scene = sample_scene(seed, index)
    rng = np.random.default_rng(np.random.SeedSequence([seed, GRAMMAR_STREAM, index]))
    return DrawnStudy(scene, word_report(scene, rng), scene.labels)


def write_cohort(
    storage: Storage | str | Path,
    num_studies: int,
    seed: int,
    size: int,
    start: int = 0,
    workers: int = 1,
) -> int:
    """Write studies ``start`` .. ``start + num_studies - 1`` of a cohort.

    Args:
        storage: Root to write to; what it holds of the same studies is replaced by the same bytes.
        num_studies: How many studies; 0 writes the two empty tables.
        seed: Seed of the cohort.
        size: Longer side of the films in pixels.
        start: First index; use a multiple of 4 or another seed for a cohort that shares no patient with another.
        workers: Processes; the result does not depend on it.

    Returns:
        How many studies were written.
    """
    return write_studies(storage, range(start, start + num_studies), seed, size, workers)


def write_studies(
    storage: Storage | str | Path,
    studies: Sequence[int | DrawnStudy],
    seed: int,
    size: int,
    workers: int = 1,
) -> int:
    """Write given studies: indices are sampled and worded here, ``DrawnStudy`` values are painted as they are.

    Args:
        storage: Root to write to.
        studies: What to write, in the order of the tables.
        seed: Seed of the cohort.
        size: Longer side of the films in pixels.
        workers: Processes; more than one needs an importable main module (spawn).

    Returns:
        How many studies were written.
    """
    store = storage if isinstance(storage, Storage) else Storage(str(storage))
    chunks = [studies[i : i + _CHUNK] for i in range(0, len(studies), _CHUNK)]
    reports: list[dict[str, str]] = []
    truth: list[dict[str, Any]] = []
    say = count_progress("drawing", "studies")
    for rows in _written_chunks(store, chunks, seed, size, workers):
        for report_row, truth_row in rows:
            reports.append(report_row)
            truth.append(truth_row)
        say(len(truth), len(studies))
    store.put(REPORTS_KEY, _csv_bytes(reports))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(truth, schema=TRUTH_SCHEMA), sink)
    store.put(TRUTH_KEY, sink.getvalue())
    logger.info("drawn cohort of %d studies written", len(truth))
    return len(truth)


_Rows = list[tuple[dict[str, str], dict[str, Any]]]


def _written_chunks(
    store: Storage, chunks: list[Sequence[int | DrawnStudy]], seed: int, size: int, workers: int
) -> Iterator[_Rows]:
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield _write_chunk(store, chunk, seed, size)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(_write_chunk, store, chunk, seed, size) for chunk in chunks]
        for future in futures:
            yield future.result()


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _write_chunk(store: Storage, chunk: Sequence[int | DrawnStudy], seed: int, size: int) -> _Rows:
    rows = []
    for item in chunk:
        study = item if isinstance(item, DrawnStudy) else drawn_study(seed, item)
        film = paint(study.scene, seed, size)
        ids = drawn_ids(study.scene, seed, study.source)
        file = f"dicom/{ids.patient_id}/{ids.sop_instance_uid}.dcm"
        store.put(file, write_dicom(film, study.scene, ids, seed))
        graph = scene_graph(
            study.scene, study.report, film.boxes, (film.pixels.shape[1], film.pixels.shape[0]),
            ids.sop_instance_uid, ids.patient_id, ids.study_instance_uid,
        )  # fmt: skip
        key = f"scene_graphs/{ids.sop_instance_uid}_SceneGraph.json"
        store.put(key, json.dumps(graph, sort_keys=True, ensure_ascii=False).encode())
        rows.append((_report_row(study, ids), _truth_row(study, film, ids, file)))
    return rows


def _report_row(study: DrawnStudy, ids: DrawnIds) -> dict[str, str]:
    report = study.report
    values = (ids.patient_id, ids.study_instance_uid, ids.sop_instance_uid, report.indication, report.findings)
    return dict(zip(REPORT_COLUMNS, (*values, report.impression), strict=True))


def _truth_row(study: DrawnStudy, film: PaintedFilm, ids: DrawnIds, file: str) -> dict[str, Any]:
    scene, report = study.scene, study.report
    row: dict[str, Any] = {
        "index": scene.index,
        "patient_id": ids.patient_id,
        "study_id": ids.study_instance_uid,
        "instance_id": ids.sop_instance_uid,
        "file": file,
        "height": film.pixels.shape[0],
        "width": film.pixels.shape[1],
        "view_position": scene.view_position.value,
        "photometric": film.photometric,
        "sex": scene.sex,
        "age_years": scene.age_years,
        "exposure_mean": film.exposure_mean,
        "exposure_spread": film.exposure_spread,
    }
    row |= {name: study.labels.get(label) for name, label in zip(LABEL_COLUMNS, LABELS, strict=True)}
    row["drawn_findings"] = [
        {
            "label": finding.label,
            "kind": finding.kind,
            "side": finding.side,
            "regions": list(finding.regions),
            "severity": finding.severity,
        }
        for finding in scene.findings
    ]
    row["regions"] = [
        {
            "region": region,
            "box_xyxy": [float(value) for value in film.boxes[region]],
            "phrase": report.phrases.get(region),
            "is_abnormal": region in report.abnormal_regions,
        }
        for region in REGIONS
    ]
    return row


def _csv_bytes(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, REPORT_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
