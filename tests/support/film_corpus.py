"""One drawn chest in every legal and every faulty form, made by code: what goes in, what must come out, and why.

``drawn_chest`` is the truth of every legal variant. Legal forms are listed in ``film_corpus_coding`` (how pixels are
stored) and ``film_corpus_display`` (how they are shown, and pictures); faults in ``film_corpus_faults``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = DX + ".1"
SC = "1.2.840.10008.5.1.4.1.1.7"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG_8, JPEG_12, JPEG_14, JPEG_SV1 = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS, JPEG_LS_NEAR = (f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
J2K_LOSSLESS, J2K = (f"1.2.840.10008.1.2.4.{number}" for number in (90, 91))
HTJ2K_LOSSLESS, HTJ2K_RPCL, HTJ2K = (f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))
HEIGHT, WIDTH = 160, 128
TOP = 4095
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Variant:
    """A film of the corpus.

    Attributes:
        name: What is special about it.
        data: The file.
        families: Reason families it may be refused with; empty where it must be accepted.
        truth: What a legal film shows, ``[H, W]``, white = dense, any scale.
        is_bomb: Whether it must be refused without being decoded.
    """

    name: str
    data: bytes
    families: tuple[str, ...] = ()
    truth: Pixels | None = None
    is_bomb: bool = False


@cache
def drawn_chest() -> Pixels:
    """Return the truth: uint16 0 .. 4095 ``[160, 128]``, white = dense, neither symmetric nor flat."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    y, x = y / HEIGHT, x / WIDTH

    def spot(center_x: float, center_y: float, width: float, height: float) -> Pixels:
        return np.exp(-((((x - center_x) / width) ** 2 + ((y - center_y) / height) ** 2) ** 2))

    body = 0.75 * spot(0.5, 0.62, 0.5, 0.62)
    lungs = 0.55 * spot(0.28, 0.45, 0.17, 0.3) + 0.5 * spot(0.72, 0.46, 0.16, 0.28)
    middle = 0.25 * spot(0.5, 0.5, 0.08, 0.6) + 0.3 * spot(0.58, 0.66, 0.15, 0.13)
    ribs = 0.05 * np.sin(40 * y + 6 * (x - 0.5) ** 2) * spot(0.5, 0.45, 0.4, 0.35)
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(HEIGHT, WIDTH)), (0, 0), 1.0)
    values = body - lungs + middle + ribs + 0.02 * noise
    return np.rint((values - values.min()) / np.ptp(values) * TOP).astype(np.uint16)


def chest_8() -> Pixels:
    """Return the chest in 8 bits."""
    return (drawn_chest() >> 4).astype(np.uint8)


def colour(grey: Pixels) -> Pixels:
    """Return grey values as equal red, green and blue."""
    return np.repeat(grey[..., None], 3, axis=2)


def dicom(
    pixels: Pixels | None = None,
    *,
    syntax: str = EXPLICIT,
    frames: list[bytes] | None = None,
    raw: bytes | None = None,
    **tags: Any,
) -> bytes:
    """Return a DICOM file of the chest.

    Args:
        pixels: Stored values; the chest in 12 bits if absent.
        syntax: Transfer syntax UID.
        frames: Codestreams of an encapsulated file.
        raw: Pixel data as they are, in place of ``pixels``.
        tags: Attributes; ``None`` leaves one out.
    """
    pixels = drawn_chest() if pixels is None else pixels
    num_bits = pixels.dtype.itemsize * 8
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(CR), UID("1.2.826.7.1")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": CR,
        "SOPInstanceUID": "1.2.826.7.1",
        "StudyInstanceUID": "1.2.826.7",
        "PatientID": "CORPUS-1",
        "PatientName": "Drawn^Chest",
        "PatientAge": "061Y",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "BurnedInAnnotation": "NO",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "PlanarConfiguration": None if pixels.ndim == 2 else 0,
        "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
        "BitsAllocated": num_bits,
        "BitsStored": 12 if num_bits == 16 else 8,
        "PixelRepresentation": 0,
    }
    values |= tags
    if "HighBit" not in values and isinstance(values["BitsStored"], int):
        values["HighBit"] = values["BitsStored"] - 1
    has_pixels = values.pop("PixelData", b"") is not None
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    if has_pixels:
        _put_pixels(dataset, pixels, syntax, frames, raw)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _put_pixels(dataset: Dataset, pixels: Pixels, syntax: str, frames: list[bytes] | None, raw: bytes | None) -> None:
    stored = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == BIG else pixels
    data = raw if raw is not None else encapsulate(frames) if frames else stored.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if frames or (pixels.dtype.itemsize == 1 and syntax != IMPLICIT) else "OW"
    dataset["PixelData"].is_undefined_length = bool(frames)


def item(**values: Any) -> Dataset:
    """Return a sequence item; bytes become OW."""
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
        if isinstance(value, bytes):
            made[name].VR = "OW"
    return made
