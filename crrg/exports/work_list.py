"""The work list of a night as CSV: a row per study, then one per refused object; no report text.

It lies beside the review page (``review.py``). A study that a newer run drafted again is ``superseded``, and its reason
names that night and run; a list written before that was known is rewritten beside the old one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.exports.csv_text import csv_row
from crrg.exports.documents import attention_flags
from crrg.exports.superseded import Replacement, newer_draft

LIST_FILE = "worklist.csv"
HEADER = ("id", "status", "views", "positive_labels", "flags", "consistency", "reason", *LABEL_COLUMNS)
_STATUS, _REASON = HEADER.index("status"), HEADER.index("reason")


@dataclass(frozen=True)
class RefusedObject:
    """A quarantined object as page and list show it.

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


def study_row(document: Mapping[str, Any], replaced: Mapping[str, Replacement]) -> bytes:
    """Return the row of a study.

    Args:
        document: Its document (``documents.py``).
        replaced: What replaced the draft of a film, by ``instance_id``.
    """
    cells: list[object] = [
        document["study_id"],
        "draft",
        " ".join(film["view_position"] for film in document["films"]),
        "; ".join(label for label in LABELS if document["labels"][label]),
        "; ".join(attention_flags(document["flags"])),
        round(document["consistency"], 3),
        "",
        *(round(document["probabilities"][label], 3) for label in LABELS),
    ]
    newer = newer_draft((film["instance_id"] for film in document["films"]), replaced)
    return csv_row(_superseded(cells, newer) if newer else cells, quote_all=True).encode()


def work_list(studies: Iterable[bytes], refused: Iterable[RefusedObject]) -> bytes:
    """Return the list.

    Args:
        studies: Rows of studies (``study_row``), in their order.
        refused: Quarantined objects, in any order.
    """
    text = io.BytesIO()
    text.write(csv_row(HEADER, quote_all=True).encode())
    text.writelines(studies)
    for each in sorted(refused, key=lambda each: (each.reason, each.key_hmac)):
        cells = (each.key_hmac, "quarantined", "", "", "", "", each.reason, *("" for _ in LABELS))
        text.write(csv_row(cells, quote_all=True).encode())
    return text.getvalue()


def marked_list(data: bytes, studies: Mapping[str, Replacement]) -> bytes:
    """Return a list that says of studies which run drafted them again; all else as it was.

    Args:
        data: The list.
        studies: What replaced the draft of a study, by ``study_id``.
    """
    rows = csv.reader(io.StringIO(data.decode(), newline=""), quoting=csv.QUOTE_NONNUMERIC)
    marked = (_superseded(row, studies[row[0]]) if row[0] in studies else row for row in rows)
    return "".join(csv_row(row, quote_all=True) for row in marked).encode()


def _superseded(cells: Sequence[object], newer: Replacement) -> list[object]:
    marked = list(cells)
    marked[_STATUS], marked[_REASON] = "superseded", f"by {newer.date}/{newer.run_id}"
    return marked
