"""Fills an inbox with drawn studies while nights run, some of them bad; goes on where it was stopped.

Every object is a line of ``sent.jsonl``, written before the object: name, what it is, sha256. Films are JPEG-LS, which
keeps ten thousand of them below ten gigabytes. Run:
``python -m benchmarks.soak.feed INBOX SENT --studies 10000 --size 1024 --seed 0``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, JPEGLSLossless

from crrg.data.phantom.cohort import write_cohort
from crrg.storage import Storage

BATCH = 20
BAD_EVERY = 20
"""One study in so many is bad: 5 %."""


def empty(_: bytes) -> bytes:
    """Return no byte."""
    return b""


def cut(film: bytes) -> bytes:
    """Return half of a film."""
    return film[: len(film) // 2]


def text(_: bytes) -> bytes:
    """Return what is no film."""
    return b"this is a note that somebody left in the inbox\n"


def program(film: bytes) -> bytes:
    """Return a film with the head of a program."""
    return b"MZ" + film[2:]


def lateral(film: bytes) -> bytes:
    """Return a film that says it is lateral."""
    return changed(film, lambda header: setattr(header, "ViewPosition", "LL"))


def tomogram(film: bytes) -> bytes:
    """Return a film that says it is a CT image."""

    def change(header: pydicom.Dataset) -> None:
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        header.Modality = "CT"

    return changed(film, change)


def blank(film: bytes) -> bytes:
    """Return a film without a picture."""

    def change(header: pydicom.Dataset) -> None:
        flat = np.full((header.Rows, header.Columns), 7, np.uint16)
        header.PixelData = encapsulate([imagecodecs.jpegls_encode(flat)])

    return changed(film, change)


def named(film: bytes) -> bytes:
    """Return a film that says a name is burned into it."""
    return changed(film, lambda header: setattr(header, "BurnedInAnnotation", "YES"))


BAD: dict[str, Callable[[bytes], bytes]] = {
    "EMPTY": empty, "PARSE": cut, "NOT_DICOM": text, "SECURITY": program, "VIEW": lateral, "SOP_CLASS": tomogram,
    "QUALITY": blank, "PHI": named,
}  # fmt: skip
"""Family of the reason with which each kind must be refused."""


def changed(film: bytes, change: Callable[[pydicom.Dataset], None]) -> bytes:
    """Return a film with a change to its header."""
    header = pydicom.dcmread(io.BytesIO(film))
    change(header)
    written = io.BytesIO()
    header.save_as(written, enforce_file_format=True)
    return written.getvalue()


def compressed(film: bytes) -> bytes:
    """Return a film as JPEG-LS without loss."""

    def change(header: pydicom.Dataset) -> None:
        header.PixelData = encapsulate([imagecodecs.jpegls_encode(header.pixel_array)])
        header["PixelData"].is_undefined_length = True
        header.file_meta.TransferSyntaxUID = JPEGLSLossless

    return changed(film, change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inbox", type=Path)
    parser.add_argument("sent", type=Path)
    parser.add_argument("--studies", type=int, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause-s", type=float, default=0.0, help="between batches")
    options = parser.parse_args()
    inbox = Storage(str(options.inbox))
    known = options.sent.read_text().splitlines() if options.sent.exists() else []
    first = max(0, len(known) - 1)  # what was written down last may not have been put any more
    while first < options.studies:
        last = min(first + BATCH, options.studies)
        send(inbox, options.sent, range(first, last), len(known), options)
        first = last
        time.sleep(options.pause_s)


def send(inbox: Storage, sent: Path, numbers: range, num_known: int, options: argparse.Namespace) -> None:
    """Draw some studies and put them into the inbox; those before ``num_known`` are written down and may lie there."""
    with tempfile.TemporaryDirectory(prefix="crrg-soak-") as folder:
        write_cohort(Storage(folder), len(numbers), options.seed, options.size, start=numbers.start)
        drawn = sorted(Path(folder).rglob("*.dcm"))
        for index, path in zip(numbers, drawn, strict=True):
            kind = list(BAD)[index // BAD_EVERY % len(BAD)] if index % BAD_EVERY == 0 else ""
            data = compressed(path.read_bytes())
            data = BAD[kind](data) if kind else data
            name = f"day-{index // 1000:03d}/{index:06d}.dcm"
            if index >= num_known:
                line = {"file": name, "kind": kind, "sha256": hashlib.sha256(data).hexdigest()}
                with sent.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            if index >= num_known or not inbox.exists(name):
                inbox.put(name, data)


if __name__ == "__main__":
    main()
