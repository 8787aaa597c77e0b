"""The review page of a night: a static folder that opens from a bucket or from a disk, without server or network.

``index.html`` loads its data by a script tag and its pictures lazily, one study at a time. The page gets study
documents (``documents.py``) and refused objects; it shows pseudonyms only. Its behaviour lies in ``review_page/``.
"""

from __future__ import annotations

import importlib.resources
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.domain.regions import REGIONS
from crrg.exports.csv_text import csv_text
from crrg.exports.documents import attention_flags

STATIC_FILES = ("review.css", "worklist.js", "review.js")
LIST_FILE = "worklist.csv"
FAMILIES: Mapping[str, str] = {
    "EMPTY": "The object has no bytes.",
    "NOT_DICOM": "The object is no DICOM file, PNG or JPEG.",
    "PARSE": "The file is cut off or damaged in its structure.",
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
    "IDENTITY": "An identifier is missing, invalid, or known with another picture.",
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


@dataclass(frozen=True)
class RefusedObject:
    """A quarantined object as the page shows it.

    Attributes:
        key_hmac: Pseudonym of its key.
        reason: Reason code.
        detail: What was wrong, without patient text.
        instance_id: Pseudonym of the image, empty where unknown.
    """

    key_hmac: str
    reason: str
    detail: str
    instance_id: str


def review_files(
    facts: NightFacts,
    documents: Iterable[Mapping[str, Any]],
    refused: Sequence[RefusedObject],
    pictures: str = "",
) -> dict[str, bytes]:
    """Return file name to bytes of the page, pictures left out.

    Args:
        facts: The night as a whole.
        documents: One per study, in any order; each is forgotten once it is text.
        refused: Quarantined objects.
        pictures: Where the folder that ``picture_name`` names lies, as seen from the page; beside it if empty.
    """
    studies: list[tuple[str, bytes]] = []
    listed: list[tuple[object, ...]] = []
    num_films = num_flagged = 0
    for document in documents:
        studies.append((document["study_id"], _text(_study_value(document, pictures)).encode()))
        listed.append(_listed(document))
        num_films += len(document["films"])
        num_flagged += bool(attention_flags(document["flags"]))
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
    )
    files = {name: page.joinpath(name).read_bytes() for name in STATIC_FILES}
    files[LIST_FILE] = _list_csv(listed, refused).encode()
    head = f'window.CRRG_NIGHT={_text(_night_value(facts, refused))[:-1]},"studies":['
    return {"index.html": html.encode(), "data.js": _joined(head.encode(), studies, b"]};\n"), **files}


def _joined(head: bytes, studies: list[tuple[str, bytes]], tail: bytes) -> bytes:
    """Return the studies of a list between head and tail, by id; the list is emptied, since both would fill memory."""
    script = io.BytesIO()
    script.write(head)
    studies.sort(reverse=True)
    while studies:
        script.write(studies.pop()[1])
        script.write(b"," if studies else b"")
    script.write(tail)
    return script.getvalue()


def picture_name(instance_id: str) -> str:
    """Return where the page expects a film's picture, relative to itself."""
    return f"films/{instance_id}.png"


def _night_value(facts: NightFacts, refused: Iterable[RefusedObject]) -> dict[str, Any]:
    return {
        "date": facts.date,
        "bundleId": facts.bundle_id,
        "modelVersion": facts.model_version,
        "labels": LABELS,
        "regions": REGIONS,
        "families": dict(FAMILIES),
        "thresholds": [facts.thresholds.get(label) for label in LABELS],
        "quarantined": [
            {"id": each.key_hmac, "reason": each.reason, "detail": each.detail, "instanceId": each.instance_id}
            for each in sorted(refused, key=lambda each: (each.reason, each.key_hmac))
        ],
    }


def _list_csv(studies: list[tuple[object, ...]], refused: Iterable[RefusedObject]) -> str:
    """Return the work list for a spreadsheet: a row per study, then one per refused object; no report text."""
    header = ("id", "status", "views", "positive_labels", "flags", "consistency", "reason", *LABEL_COLUMNS)
    others = [
        (each.key_hmac, "quarantined", "", "", "", "", each.reason, *("" for _ in LABELS))
        for each in sorted(refused, key=lambda each: (each.reason, each.key_hmac))
    ]
    return csv_text(header, [*sorted(studies, key=lambda study: str(study[0])), *others], quote_all=True)


def _listed(document: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        document["study_id"],
        "draft",
        " ".join(film["view_position"] for film in document["films"]),
        "; ".join(label for label in LABELS if document["labels"][label]),
        "; ".join(attention_flags(document["flags"])),
        round(document["consistency"], 3),
        "",
        *(round(document["probabilities"][label], 3) for label in LABELS),
    )


def _study_value(document: Mapping[str, Any], pictures: str) -> dict[str, Any]:
    """Return a study as the page's script wants it: rows instead of objects, a third of the size."""
    return {
        "id": document["study_id"],
        "probabilities": [round(document["probabilities"][label], 3) for label in LABELS],
        "labels": [document["labels"][label] for label in LABELS],
        "flags": attention_flags(document["flags"]),
        "consistency": round(document["consistency"], 3),
        "films": [
            {
                "id": film["instance_id"],
                "picture": f"{pictures}{picture_name(film['instance_id'])}",
                "isPrimary": film["is_primary"],
                "view": film["view_position"],
                "width": film["width"],
                "height": film["height"],
                "findings": film["findings"],
                "impression": film["impression"],
                "consistency": round(film["consistency"], 3),
                "flags": film["flags"],
                "regions": [
                    [
                        *region["box_xyxy"],
                        round(region["score"], 3),
                        round(region["abnormal_probability"], 3),
                        int(region["detected"]),
                        int(region["selected"]),
                        region["phrase"],
                    ]
                    for region in film["regions"]
                ],
            }
            for film in document["films"]
        ],
    }


def _text(value: Any) -> str:
    """Return a value as a script reads it; no character of it can end a script element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
