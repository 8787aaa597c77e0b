"""Small DICOM files for tests, every attribute changeable."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

CR = "1.2.840.10008.5.1.4.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def gradient(height: int = 40, width: int = 50, top: int = 4095) -> np.ndarray:
    """Values rising from left to right, 0 .. top."""
    return np.tile(np.linspace(0, top, width).round().astype(np.uint16), (height, 1))


def build_dicom(pixels: np.ndarray | None = None, codestream: bytes = b"", syntax: str = "", **tags: Any) -> bytes:
    """Return a CR chest film; a tag given as ``None`` is left out."""
    pixels = gradient() if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax) if syntax else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(CR)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": CR,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "PatientID": "P-7",
        "PatientName": "Quux^Zebedee",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientAge": "061Y",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": 12 if pixels.dtype.itemsize == 2 else 8,
        "HighBit": 11 if pixels.dtype.itemsize == 2 else 7,
        "PixelRepresentation": 0,
    }
    for name, value in {**values, **tags}.items():
        if value is not None:
            setattr(dataset, name, value)
    if tags.get("PixelData", b"") is not None:
        raw = tags.get("PixelData", encapsulate([codestream]) if codestream else pixels.tobytes())
        dataset.PixelData = raw
        dataset["PixelData"].VR = "OB" if codestream or pixels.dtype.itemsize == 1 else "OW"
        dataset["PixelData"].is_undefined_length = bool(codestream)
    return write(dataset)


def write(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
