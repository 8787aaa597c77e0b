"""The review page of a night: a static folder that opens from a bucket or from a disk, without server or network.

``index.html`` loads its data by script tags, some hundred studies each, and its pictures lazily, study by study. The
page gets study documents (``documents.py``) and refused objects; it shows pseudonyms only. Its behaviour lies in
``review_page/``.
"""

from __future__ import annotations

import importlib.resources
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import jinja2

from crrg.domain.labels import LABELS
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.evaluation.labeler import label_report
from crrg.exports.documents import NO_IMPRESSION, attention_flags, film_model, is_region_abnormal
from crrg.exports.page_pictures import NAMED_AS_USUAL, Pictures
from crrg.exports.script_text import script_text
from crrg.exports.superseded import SUPERSEDED_FILE, Replacement, superseded_script
from crrg.exports.work_list import LIST_FILE, RefusedObject, study_row, work_list
from crrg.inference.sentence_sources import sentence_sources
from crrg.inference.statements import read_statement
from crrg.local_files import full_disk_named

STATIC_FILES = ("review.css", "worklist.js", "review.js")
DATA_FILE = "data.js"
ENTRY_FILE = "index.html"
"""What a reader opens; it lies there last."""
STUDIES_PER_PART = 500
"""Studies per file of the page's data."""
FAMILIES: Mapping[str, str] = {
    "EMPTY": "The object is empty.",
    "NOT_DICOM": "The object is neither a DICOM file nor a PNG or JPEG.",
    "PARSE": "The file is truncated or structurally damaged.",
    "NO_PIXELS": "The file holds no picture.",
    "GEOMETRY": "Rows, columns or frames do not fit the pixel data.",
    "BITS": "The bit depths contradict each other.",
    "PHOTOMETRIC": "The photometric interpretation is not known.",
    "LIMIT": "The file exceeds a limit of size, depth or count.",
    "DECODE": "The picture could not be decompressed.",
    "MULTIFRAME": "The file holds several frames.",
    "FLOAT": "The pixels are floating-point numbers.",
    "SOP_CLASS": "The object is not a projection radiograph.",
    "MODALITY": "The modality is not a projection radiograph's.",
    "VIEW": "The film is not frontal; drafts are written for frontal films only.",
    "BODY_PART": "The film does not show a chest.",
    "IDENTITY": "An identifier is missing, invalid, or known with another picture or patient.",
    "DUPLICATE": "The same picture is drafted elsewhere in this night or was drafted before.",
    "SECURITY": "The file could be run as a program.",
    "PHI": "Identifying text is burned into the picture.",
    "QUALITY": "The picture is blank.",
    "CHANGED": "The object was replaced or removed while the night was running.",
    "INTEGRITY": "The bytes disagree with a recorded digest.",
}


@dataclass(frozen=True)
class NightFacts:
    """What the page says of the night as a whole.

    Attributes:
        date: The night, ``YYYY-MM-DD``.
        bundle_id: Bundle that drafted.
        model_version: Its version in the registry, empty if unregistered.
        num_pending: Objects left for later.
        thresholds: Probability from which a label counts as positive; empty where unknown.
        remarks: What a reader should know of the night as a whole, as sentences.
    """

    date: str
    bundle_id: str
    model_version: str
    num_pending: int
    thresholds: Mapping[str, float]
    remarks: tuple[str, ...] = ()


def review_files(
    facts: NightFacts,
    documents: Iterable[Mapping[str, Any]],
    refused: Sequence[RefusedObject],
    pictures: Pictures = NAMED_AS_USUAL,
    replaced: Mapping[str, Replacement] = MappingProxyType({}),
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file of the page, pictures left out, so that no night is held as a whole.

    Args:
        facts: The night as a whole.
        documents: One per study, in any order; each is put aside in a temporary file once it is text.
        refused: Quarantined objects.
        pictures: Where the pictures of the films lie.
        replaced: What replaced the draft of a film, by ``instance_id``; of a new night's drafts nothing has yet.

    Raises:
        StorageError: There is no room for that file, code ``DISK.FULL``.
    """
    with full_disk_named("review page"), tempfile.TemporaryFile(prefix="crrg-page-") as aside:
        shown = ((each, _study_value(each, facts, pictures), study_row(each, replaced)) for each in documents)
        studies, num_films, num_flagged = _put_aside(shown, aside)
        parts = [studies[start : start + STUDIES_PER_PART] for start in range(0, len(studies), STUDIES_PER_PART)]
        names = [f"data-{number:05d}.js" for number in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            texts = b",".join(_from_aside(aside, study.start, study.num_text) for study in part)
            yield name, b"window.CRRG_NIGHT.studies.push(" + texts + b");\n"
        rows = (_from_aside(aside, study.start + study.num_text, study.num_row) for study in studies)
        yield LIST_FILE, work_list(rows, refused)
    page = importlib.resources.files("crrg.exports").joinpath("review_page")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    html = environment.from_string(page.joinpath("index.html.j2").read_text(encoding="utf-8")).render(
        date=facts.date,
        num_studies=len(studies),
        num_films=num_films,
        num_flagged=num_flagged,
        num_quarantined=len(refused),
        num_pending=facts.num_pending,
        model_version=facts.model_version,
        bundle_id=facts.bundle_id,
        remarks=facts.remarks,
        parts=names,
    )
    yield SUPERSEDED_FILE, superseded_script(replaced)
    yield DATA_FILE, f"window.CRRG_NIGHT={script_text(_night_value(facts, refused))};\n".encode()
    for name in STATIC_FILES:
        yield name, page.joinpath(name).read_bytes()
    yield ENTRY_FILE, html.encode()


class _Study(NamedTuple):
    """Where a study was put aside.

    Attributes:
        study_id: Its pseudonym, by which studies are ordered.
        start: Where what the page's script reads of it begins.
        num_text: Bytes of that.
        num_row: Bytes of its row of the work list, which follow.
    """

    study_id: str
    start: int
    num_text: int
    num_row: int


def _put_aside(
    shown: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], bytes]], aside: IO[bytes]
) -> tuple[list[_Study], int, int]:
    """Write studies to a file as they come, each a document, what the page's script reads of it, and its row.

    Returns where each lies, in order of id, and the number of films and flags.

    A night may have more studies than fit into memory, and which shard drafted one must not show in the page.
    """
    studies: list[_Study] = []
    num_films = num_flagged = 0
    for document, value, row in shown:
        text, start = script_text(value).encode(), aside.tell()
        aside.write(text + row)
        studies.append(_Study(document["study_id"], start, len(text), len(row)))
        num_films += len(document["films"])
        num_flagged += bool(attention_flags(document["flags"]))
    return sorted(studies), num_films, num_flagged


def _from_aside(aside: IO[bytes], start: int, num_bytes: int) -> bytes:
    aside.seek(start)
    return aside.read(num_bytes)


def _night_value(facts: NightFacts, refused: Iterable[RefusedObject]) -> dict[str, Any]:
    return {
        "date": facts.date,
        "bundleId": facts.bundle_id,
        "modelVersion": facts.model_version,
        "labels": LABELS,
        "regions": REGIONS,
        "families": dict(FAMILIES),
        "noImpression": NO_IMPRESSION,
        "studies": [],
        "thresholds": _threshold_row(facts.thresholds),
        "quarantined": [
            {"id": each.key_hmac, "reason": each.reason, "detail": each.detail, "instanceId": each.instance_id}
            for each in sorted(refused, key=lambda each: (each.reason, each.key_hmac))
        ],
    }


def _study_value(document: Mapping[str, Any], facts: NightFacts, pictures: Pictures) -> dict[str, Any]:
    """Return a study as the page's script wants it: rows instead of objects, a third of the size.

    Thresholds and models stand there only where they are others than the night's.
    """
    thresholds, model = _threshold_row(document["thresholds"]), (facts.bundle_id, facts.model_version)
    return {
        "id": document["study_id"],
        "probabilities": [round(document["probabilities"][label], 3) for label in LABELS],
        "labels": [document["labels"][label] for label in LABELS],
        "thresholds": None if thresholds == _threshold_row(facts.thresholds) else thresholds,
        "flags": attention_flags(document["flags"]),
        "consistency": round(document["consistency"], 3),
        "films": [
            {
                "id": film["instance_id"],
                "picture": pictures.film(film["instance_id"]),
                "evidence": pictures.evidence(film["instance_id"]),
                "isPrimary": film["is_primary"],
                "view": film["view_position"],
                "width": film["width"],
                "height": film["height"],
                "findings": _pieces(film),
                "impression": film["impression"],
                "consistency": round(film["consistency"], 3),
                "flags": film["flags"],
                "abnormalFrom": film.get("abnormal_threshold"),
                "model": None if (drafted := film_model(document, film)) == model else drafted[::-1],
                "regions": [
                    [
                        *region["box_xyxy"],
                        round(region["score"], 3),
                        round(region["abnormal_probability"], 3),
                        int(region["detected"]),
                        int(region["selected"]),
                        region["phrase"],
                        int(is_region_abnormal(region)),
                    ]
                    for region in film["regions"]
                ],
            }
            for film in document["films"]
        ],
    }


def _pieces(film: Mapping[str, Any]) -> list[str | list[Any]]:
    """Return a film's findings in pieces: text alone, or a sentence with places of regions and what it states."""
    findings: str = film["findings"]
    phrases = {region["region"]: region["phrase"] for region in film["regions"] if region["phrase"]}
    pieces: list[str | list[Any]] = []
    end = num_shown = 0
    for sentence, regions in sentence_sources(findings, phrases):
        start = findings.find(sentence, end)
        if start < 0:  # a sentence of which the white space was tidied stays text
            continue
        end = start + len(sentence)
        if regions:
            pieces += [findings[num_shown:start]] if start > num_shown else []
            pieces.append([sentence, [REGION_INDEX[region] for region in regions], _stated(sentence)])
            num_shown = end
    return [*pieces, findings[num_shown:]] if num_shown < len(findings) else pieces


def _stated(sentence: str) -> int:
    """Return 1 where a sentence states a finding, however unsurely, -1 where it denies what it names, else 0."""
    statement = read_statement(sentence, label_report)
    return 1 if statement.present else -bool(statement.denied)


def _threshold_row(thresholds: Mapping[str, float]) -> list[float | None]:
    return [thresholds.get(label) for label in LABELS]
