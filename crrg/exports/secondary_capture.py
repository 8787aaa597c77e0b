"""A draft as a picture for systems that show nothing but pictures: a Secondary Capture beside the source film.

The film with the boxes of the regions that have a sentence, the sentences, and a banner on top and bottom that says
DRAFT. It carries no name and no number: the header places it in the right study. Never an input of a model.

Source: DICOM PS3.3 A.8.1.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.domain.acquisition import OWN_MANUFACTURER
from crrg.domain.labels import LABELS
from crrg.exports.delivered import BANNER, Delivery
from crrg.exports.dicom_sr import stamped
from crrg.exports.documents import NO_IMPRESSION, attention_flags, film_model, is_region_abnormal
from crrg.exports.source_text import plain_text

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER = 9002
PANEL_WIDTH = 560
BANNER_HEIGHT = 40
LINE_HEIGHT = 22
LINE_CHARACTERS = 62
MIN_HEIGHT = 900
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _GREY, _AMBER, _BLUE, _BLACK = (255, 255, 255), (170, 170, 170), (255, 176, 0), (100, 170, 255), (0, 0, 0)


def capture_picture(document: Mapping[str, Any], film: Mapping[str, Any], pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Draw a film with its boxes and, beside it, the draft.

    Args:
        document: The study document.
        film: One of its films.
        pixels: That film, uint8 ``[H, W]``, white = dense, at any size.

    Returns:
        RGB picture, uint8 ``[height, width, 3]``.
    """
    height = max(MIN_HEIGHT, pixels.shape[0])
    scale = height / pixels.shape[0]
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    shown = cv2.resize(pixels, (round(pixels.shape[1] * scale), height), interpolation=how)
    canvas = np.zeros((height + 2 * BANNER_HEIGHT, shown.shape[1] + PANEL_WIDTH, 3), np.uint8)
    canvas[BANNER_HEIGHT : BANNER_HEIGHT + height, : shown.shape[1]] = shown[..., None]
    for top in (0, height + BANNER_HEIGHT):
        cv2.rectangle(canvas, (0, top), (canvas.shape[1], top + BANNER_HEIGHT), _AMBER, -1)
        cv2.putText(canvas, BANNER, (16, top + 28), _FONT, 0.8, _BLACK, 2, cv2.LINE_AA)
    _draw_boxes(canvas, film, shown.shape[1] / film["width"], height / film["height"])
    _write_panel(canvas, _panel_lines(document, film), shown.shape[1] + 16, BANNER_HEIGHT + 28)
    return canvas


def secondary_capture(delivery: Delivery, film: Mapping[str, Any], pixels: NDArray[np.uint8]) -> Dataset:
    """Return the picture of one film's draft as a Secondary Capture in the source's study.

    Args:
        delivery: The draft and its sources.
        film: One film of its document.
        pixels: That film, uint8 ``[H, W]``, white = dense.

    Returns:
        A DICOM object, equal for equal drafts.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    original = delivery.originals[film["instance_id"]]
    image = SCImage.from_ref_dataset(
        ref_dataset=original.reference,
        pixel_array=capture_picture(delivery.document, film, pixels),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        series_instance_uid=delivery.series_uid("sc"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=delivery.uid("sc", instance_id=film["instance_id"]),
        instance_number=delivery.number + delivery.films.index(film),
        manufacturer=OWN_MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    # as the film was drawn, which is as its source lies
    image.PatientOrientation = original.orientation
    image.SeriesDescription = f"CRRG-CLIP {BANNER.lower()}"[:64]
    image.BodyPartExamined = "CHEST"
    image.BurnedInAnnotation = "NO"
    image.ImageComments = f"{BANNER}. Machine-made; not for diagnosis."
    stamped(image, delivery, film)
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = image.ContentDate, image.ContentTime
    return image


def _draw_boxes(canvas: NDArray[np.uint8], film: Mapping[str, Any], across: float, down: float) -> None:
    for number, region in enumerate(_told(film), 1):
        x1, y1, x2, y2 = region["box_xyxy"]
        corner = (round(x1 * across), BANNER_HEIGHT + round(y1 * down))
        colour = _AMBER if is_region_abnormal(region) else _BLUE
        cv2.rectangle(canvas, corner, (round(x2 * across), BANNER_HEIGHT + round(y2 * down)), colour, 2)
        cv2.putText(canvas, str(number), (corner[0] + 4, corner[1] + 20), _FONT, 0.6, colour, 2, cv2.LINE_AA)


def _told(film: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [region for region in film["regions"] if region["phrase"]]


def _panel_lines(document: Mapping[str, Any], film: Mapping[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    lines: list[tuple[str, tuple[int, int, int]]] = [("SENTENCES AND THEIR REGIONS", _GREY)]
    for number, region in enumerate(_told(film), 1):
        colour = _AMBER if is_region_abnormal(region) else _WHITE
        lines += [(line, colour) for line in textwrap.wrap(f"{number}  {region['phrase']}", LINE_CHARACTERS)]
    lines += [("", _GREY), ("IMPRESSION", _GREY)]
    lines += [(line, _WHITE) for line in textwrap.wrap(film["impression"], LINE_CHARACTERS) or [NO_IMPRESSION]]
    lines += [("", _GREY), ("LABELS AT OR ABOVE THEIR THRESHOLD", _GREY)]
    labels = [label for label in LABELS if document["labels"][label]]
    lines += [(f"{document['probabilities'][label]:.2f}  {label}", _WHITE) for label in labels] or [("(none)", _WHITE)]
    flags = attention_flags(document["flags"])
    if flags:
        lines += [("", _GREY), ("FLAGS", _GREY), *((flag, _AMBER) for flag in flags)]
    bundle_id, version = film_model(document, film)
    return [*lines, ("", _GREY), (f"Models: version {version or 'unregistered'}, bundle {bundle_id[:12]}", _GREY)]


def _write_panel(canvas: NDArray[np.uint8], lines: list[tuple[str, tuple[int, int, int]]], left: int, top: int) -> None:
    room = (canvas.shape[0] - 2 * BANNER_HEIGHT) // LINE_HEIGHT - 1
    if len(lines) > room:
        lines = [*lines[: room - 1], ("… the rest stands in the report", _GREY)]
    for index, (text, colour) in enumerate(lines):
        cv2.putText(canvas, plain_text(text), (left, top + index * LINE_HEIGHT), _FONT, 0.46, colour, 1, cv2.LINE_AA)
