"""A small study document and delivery of one drafted film, without a night around it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset

from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.exports.delivered import Delivery
from crrg.exports.dicom_sr import structured_report
from crrg.exports.originals import OriginalFilm
from crrg.exports.secondary_capture import secondary_capture

COMMITTED = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)


def drawn_document(*instances: str, phrase: str = "The lungs are clear.") -> dict[str, Any]:
    """Return a document of films of 500 x 500 pixels, the first one primary."""
    region = {"region": REGIONS[0], "box_xyxy": [50.0, 100.0, 250.0, 500.0], "abnormal_probability": 0.1,
              "phrase": phrase}  # fmt: skip
    films = [
        {"instance_id": name, "is_primary": name == instances[0], "width": 500, "height": 500, "regions": [region],
         "flags": [], "view_position": "PA", "findings": phrase, "impression": "Normal.", "consistency": 0.9}
        for name in instances
    ]  # fmt: skip
    return {
        "study_id": "s", "films": films, "findings": phrase, "impression": "Normal.", "flags": [],
        "probabilities": dict.fromkeys(LABELS, 0.25), "labels": {**dict.fromkeys(LABELS, 0), "No Finding": 1},
        "thresholds": dict.fromkeys(LABELS, 0.5), "bundle_id": "b" * 32, "model_version": "3",
    }  # fmt: skip


def drawn_delivery(originals: Mapping[str, OriginalFilm], **changes: Any) -> Delivery:
    """Return a delivery of films, the first one primary."""
    values = {"document": drawn_document(*originals), "committed": COMMITTED, **changes}
    return Delivery(originals=originals, **values)


def stored_objects(delivery: Delivery) -> list[Dataset]:
    """Return the report and the captures of a delivery as an archive reads them."""
    pixels = np.full((50, 50), 90, np.uint8)
    made = [structured_report(delivery), *(secondary_capture(delivery, film, pixels) for film in delivery.films)]
    stored = []
    for each in made:
        buffer = io.BytesIO()
        each.save_as(buffer, enforce_file_format=True)
        stored.append(pydicom.dcmread(io.BytesIO(buffer.getvalue())))
    return stored
