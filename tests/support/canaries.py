"""A cohort whose every field carries a marker, and a search for these markers in everything that was written.

A marker is looked for as it stands and as it would look in UTF-16, base64, hex, percent-encoding or another case, in
files as they lie, in decoded Parquet columns, in every cell of SQLite databases and in inflated PNG texts.
"""

from __future__ import annotations

import base64
import io
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pydicom
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.support.drawn_night import dicom_bytes, png_bytes

MARKERS = {
    "name": "Zwyrtolla",
    "given": "Quibbeth",
    "patient": "PIDqx77431",
    "accession": "ACCqx55219",
    "institution": "Vexhallow",
    "private": "PRVqxDelta",
    "nested": "NSTqxGamma",
    "meta": "MTAqxOmega",
    "preamble": "PREqxSigma",
    "file": "FILqxKappa",
    "folder": "FLDqxTheta",
    "png": "PNGqxLambda",
    "exif": "EXFqxBravo",
    "comment": "CMTqxTango",
    "column": "COLqxVictor",
    "study": "STUqx90817",
    "comments": "TXTqxYankee",
    "date": "19470823",
}
"""What is marked, and the marker; none is a word of any report."""


def marked_dicom(seed: int, *, instance: str, burned_in: str = "NO", rows: int = 64) -> bytes:
    """Return a film with a marker in every kind of place of a DICOM file."""
    film = pydicom.dcmread(
        io.BytesIO(dicom_bytes(seed, study=f"7{instance}", instance=f"7{instance}", patient=MARKERS["patient"]))
    )
    film.PatientName = f"{MARKERS['name']}^{MARKERS['given']}"
    film.ReferringPhysicianName = film.OperatorsName = f"{MARKERS['name']}^{MARKERS['given']}"
    film.OtherPatientIDs = MARKERS["patient"]
    film.AccessionNumber = MARKERS["accession"]
    film.StudyID = MARKERS["study"]
    # what is read of these goes on as a word of a list, or not at all
    film.Manufacturer, film.PatientSex = f"{MARKERS['institution']} Siemens", "F"
    film.ManufacturerModelName = film.DeviceSerialNumber = MARKERS["institution"]
    film.InstitutionName = film.StationName = film.InstitutionalDepartmentName = MARKERS["institution"]
    film.InstitutionAddress = film.PatientAddress = f"{MARKERS['institution']} Road 1"
    film.StudyDescription = film.SeriesDescription = film.ProtocolName = MARKERS["comments"]
    film.PatientComments = film.ImageComments = film.AdditionalPatientHistory = MARKERS["comments"]
    film.PatientBirthDate = film.StudyDate = film.SeriesDate = film.AcquisitionDate = film.ContentDate = MARKERS["date"]
    film.BurnedInAnnotation = burned_in
    film.add_new(0x00090010, "LO", MARKERS["private"])
    film.add_new(0x00091001, "UT", MARKERS["private"])
    inner = Dataset()
    inner.PatientName = MARKERS["nested"]
    inner.add_new(0x00291001, "LO", MARKERS["nested"])
    outer = Dataset()
    outer.RequestedProcedureDescription = MARKERS["nested"]
    outer.ReferencedPatientSequence = Sequence([inner])
    film.RequestAttributesSequence = Sequence([outer])
    film.file_meta.SourceApplicationEntityTitle = MARKERS["meta"]
    film.file_meta.PrivateInformationCreatorUID = "2.25.99"
    film.file_meta.PrivateInformation = MARKERS["meta"].encode().ljust(16, b"\0")
    film.preamble = MARKERS["preamble"].encode().ljust(128, b"\0")
    if rows != film.Rows:
        film.Rows = rows
    buffer = io.BytesIO()
    film.save_as(buffer)
    return buffer.getvalue()


def marked_png(seed: int) -> bytes:
    """Return a picture with markers in its text chunks."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", MARKERS["png"])
    texts.add_text("Comment", MARKERS["png"], zip=True)
    texts.add_itxt("Title", MARKERS["png"])
    buffer = io.BytesIO()
    _picture(seed).save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def marked_jpeg(seed: int) -> bytes:
    """Return a picture with markers in EXIF and in a comment."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = MARKERS["exif"]
    buffer = io.BytesIO()
    _picture(seed).save(buffer, "JPEG", exif=exif, comment=MARKERS["comment"].encode())
    return buffer.getvalue()


def marked_archive() -> dict[str, bytes]:
    """Return an archive by key: films that are accepted, films that are refused for many reasons, and their table."""
    place = f"{MARKERS['folder']}/{MARKERS['name']}"
    files = {
        f"{place}/{MARKERS['file']}-{number}.dcm": marked_dicom(300 + number, instance=str(number))
        for number in range(6)
    }
    whole = marked_dicom(320, instance="20")
    files |= {
        f"{place}/{MARKERS['file']}-cut.dcm": whole[:-3000],
        f"{place}/{MARKERS['file']}-head.dcm": whole[:600],
        f"{place}/{MARKERS['file']}-burned.dcm": marked_dicom(321, instance="21", burned_in="YES"),
        f"{place}/{MARKERS['file']}-rows.dcm": marked_dicom(322, instance="22", rows=63),
        f"{place}/{MARKERS['file']}-text.dcm": b"%PDF-1.4 " + MARKERS["comments"].encode() * 50,
        f"{place}/{MARKERS['file']}-conflict.dcm": marked_dicom(323, instance="0"),
        f"{place}/{MARKERS['file']}.png": marked_png(330),
        f"{place}/{MARKERS['file']}.jpg": marked_jpeg(331),
        f"{place}/{MARKERS['file']}-cut.png": marked_png(332)[:-40],
        f"{place}/{MARKERS['file']}-cut.jpg": marked_jpeg(333)[:-40],
    }
    return files


def marked_table(files: dict[str, bytes]) -> bytes:
    """Return a report table as CSV: markers in identifiers, in names inside texts, in columns nobody asked for."""
    rows = [f"file,patient_id,study_id,findings,impression,indication,physician_{MARKERS['column']},remark"]
    text = (
        f"The lungs are clear. Discussed with Dr. {MARKERS['name']}. "
        f"MRN: {MARKERS['patient']}. Accession number {MARKERS['accession']}. Unchanged since {MARKERS['date']}."
    )
    for number, key in enumerate(sorted(files)):
        # who is meant by a bare name is only known from the tags of the same film
        bare = f"{MARKERS['given'].upper()} {MARKERS['name']} was seen. " if key.endswith(".dcm") else ""
        rows.append(
            f'"{key}",{MARKERS["patient"]}-{number},{MARKERS["study"]}-{number},"{bare}{text}",No acute disease.,'
            f"Cough.,{MARKERS['column']},{MARKERS['column']}"
        )
    rows.append(f"gone-{MARKERS['file']}.png,{MARKERS['patient']}-x,{MARKERS['study']}-x,,,,{MARKERS['column']},")
    return "\n".join(rows).encode()


def find_markers(folder: Path, markers: Mapping[str, str] = MARKERS) -> list[str]:
    """Return where markers stand under a folder, in names and in contents, as ``marker: form: place``."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = str(path.relative_to(folder))
        found += [f"{hit}: name of {relative}" for hit in hits(relative.encode(), markers)]
        if path.is_file():
            for kind, data in _views(path):
                found += [f"{hit}: {kind} of {relative}" for hit in hits(data, markers)]
    return found


def hits(data: bytes, markers: Mapping[str, str] = MARKERS) -> list[str]:
    """Return the markers that stand in some bytes, in any form."""
    lower = data.lower()
    return [
        f"{what} ({form})" for what, marker in markers.items() for form, needle in _forms(marker) if needle in lower
    ]


def _forms(marker: str) -> Iterator[tuple[str, bytes]]:
    """Yield a marker as it may be written; all in lower case, as the text that is searched."""
    yield "plain", marker.encode().lower()
    yield "utf-16", marker.encode("utf-16-le").lower()
    yield "hex", marker.encode().hex().encode()
    yield "percent", "".join(f"%{byte:02x}" for byte in marker.encode()).encode()
    for shift in range(3):
        # the same text has three base64 spellings; letters at either end depend on what stands beside them
        packed = base64.b64encode(b"\0" * shift + marker.encode())
        yield f"base64+{shift}", packed[(0, 2, 3)[shift] : -4].lower()


def _views(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a file's bytes, and what they hold once decoded."""
    data = path.read_bytes()
    yield "bytes", data
    if data[:4] == b"PAR1":
        file = pq.ParquetFile(io.BytesIO(data))
        yield "schema", str(file.schema_arrow).encode() + str(file.metadata.metadata).encode()
        for batch in file.iter_batches():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                yield f"column {name}", b"\0".join(_cell(value) for value in column.to_pylist())
    elif data[:16] == b"SQLite format 3\0":
        yield "cells", _database(path)
    elif data[:2] in (b"\x1f\x8b", b"\x78\x9c"):
        yield "inflated", zlib.decompressobj(47).decompress(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        with Image.open(io.BytesIO(data)) as picture:
            with suppress(OSError):
                picture.load()
            yield "texts", str(picture.info).encode()


def _cell(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _database(path: Path) -> bytes:
    cells = []
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        connection.text_factory = bytes
        tables = [row[0].decode() for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                cells += [_cell(value) for value in row if value is not None]
    return b"\0".join(cells)


def _picture(seed: int) -> Image.Image:
    pixels = cv2.imdecode(np.frombuffer(png_bytes(seed), np.uint8), cv2.IMREAD_GRAYSCALE)
    return Image.fromarray(np.asarray(pixels))
