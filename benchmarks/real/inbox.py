"""The real films of `make real` as an inbox, with what has to become of each, and the check that it did.

Expectations come from the collections' own tables, never from what the pipeline says.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.real.training_data import DICOM, FILMS
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.domain.study import DraftReport
from crrg.ledger.ledger import read_ledger
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.storage import Storage

IDENTIFIED = "dicom-identified"
NAMELESS_GROUP = "CR-MONO1-10-chest"
"""The one group of the DICOM samples that came without PatientID."""
DRAFT = "draft"
DUPLICATE = "DUPLICATE"
BURNED_IN = "PHI.BURNED_IN"
"""May hold back any film of the collection: its table does not say which ones show text."""
BOX_TOLERANCE_PIXELS = 0.01


@dataclass(frozen=True)
class InboxFile:
    """One object of the inbox.

    Attributes:
        key: Key in the inbox.
        data: Its bytes.
        width: Pixels of the picture as drafted.
        height: Pixels of the picture as drafted.
        expected: ``draft``, or the reason code (or its family) of the refusal.
        equals: Objects with equal values here show one picture: one is drafted, the others are duplicates.
    """

    key: str
    data: bytes
    width: int
    height: int
    expected: str
    equals: str


@dataclass(frozen=True)
class FileEnd:
    """What became of an object.

    Attributes:
        file: The object.
        outcome: ``accept``, ``quarantine``, ``pending`` or, where the night does not know it, empty.
        reason: Reason code of a quarantined object.
        draft: Its draft, if any.
    """

    file: InboxFile
    outcome: str
    reason: str
    draft: DraftReport | None


def real_inbox(open_data: Path, max_films: int = 0) -> list[InboxFile]:
    """Return the DICOM samples, the nameless ones again with a PatientID, and the film collection.

    Args:
        open_data: Folder of the collections.
        max_films: Most films of the collection; 0 takes all.
    """
    with (open_data / DICOM / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    files = [_dicom_file(open_data, row) for row in rows]
    files += [_identified(open_data, row) for row in rows if row["patient_group"] == NAMELESS_GROUP]
    films = sorted((open_data / FILMS / "images").iterdir())
    return files + [_film_file(path) for path in films[: max_films or None]]


def put_files(files: Iterable[InboxFile], inbox: Storage) -> None:
    """Write the objects into an inbox."""
    for file in files:
        inbox.put(file.key, file.data)


def read_ends(
    files: Sequence[InboxFile],
    inbox: Storage,
    root: Storage,
    pseudonyms: Pseudonyms,
    drafts: Mapping[str, DraftReport],
) -> list[FileEnd]:
    """Return what a committed night made of each object.

    Args:
        files: What was put into the inbox.
        inbox: The inbox.
        root: Root of the night.
        pseudonyms: The key the night ran with.
        drafts: The night's drafts by ``instance_id``.
    """
    outcomes = {entry.file: entry for entry in inbox_outcomes(inbox.root, root, pseudonyms)}
    ledger = read_ledger(root)
    ends = []
    for file in files:
        found, row = outcomes.get(file.key), ledger.find_key(pseudonyms.object_key(file.key))
        is_accepted = found is not None and found.outcome == "accept"
        draft = drafts.get(row.instance_id) if row and is_accepted else None
        ends.append(FileEnd(file, found.outcome if found else "", found.reason if found else "", draft))
    return ends


def unmet_expectations(ends: Sequence[FileEnd]) -> list[str]:
    """Return one line per object or group that did not end as its collection's table demands; empty if all did."""
    shows_text = {end.file.equals for end in ends if end.reason == BURNED_IN and end.file.key.startswith(f"{FILMS}/")}
    ends = [end for end in ends if end.file.equals not in shows_text]
    first_of = Counter(end.file.equals for end in ends if end.outcome == "accept")
    wrong = [
        f"{equals}: {first_of[equals]} objects of one picture were drafted, expected 1"
        for equals in dict.fromkeys(end.file.equals for end in ends if end.file.expected == DRAFT)
        if first_of[equals] != 1
    ]
    for end in ends:
        expected, got = end.file.expected, end.reason or end.outcome or "nothing"
        if expected == DRAFT:
            is_right = end.outcome == "accept" or (
                got.startswith(f"{DUPLICATE}.") and sum(end.file.equals == other.file.equals for other in ends) > 1
            )
        else:
            is_right = got == expected or got.startswith(f"{expected}.")
        if not is_right:
            wrong.append(f"{end.file.key}: {got}, expected {expected}")
        if end.outcome == "accept":
            wrong += [f"{end.file.key}: {fault}" for fault in _draft_faults(end)]
    return wrong


def _draft_faults(end: FileEnd) -> list[str]:
    draft = end.draft
    if draft is None:
        return ["accepted without a draft"]
    faults = []
    if set(draft.probabilities) != set(LABELS) or not all(0 <= value <= 1 for value in draft.probabilities.values()):
        faults.append(f"{len(draft.probabilities)} probabilities, expected {len(LABELS)} in 0..1")
    if tuple(region.region for region in draft.regions) != REGIONS:
        faults.append(f"{len(draft.regions)} regions, expected {len(REGIONS)} in their order")
    for region in draft.regions:
        x1, y1, x2, y2 = region.box_xyxy
        right, bottom = end.file.width + BOX_TOLERANCE_PIXELS, end.file.height + BOX_TOLERANCE_PIXELS
        if not (-BOX_TOLERANCE_PIXELS <= x1 < x2 <= right and -BOX_TOLERANCE_PIXELS <= y1 < y2 <= bottom):
            faults.append(f"the box of the {region.region} is empty or not on the film")
    if not draft.findings.strip():
        faults.append("the draft is empty")
    return faults


def _dicom_file(open_data: Path, row: Mapping[str, str]) -> InboxFile:
    is_chest = row["body_part"] == "CHEST"
    refusal = "IDENTITY.MISSING" if row["patient_group"] == NAMELESS_GROUP else DRAFT
    return InboxFile(
        key=f"{DICOM}/{row['file']}",
        data=(open_data / DICOM / row["file"]).read_bytes(),
        width=int(row["columns"]),
        height=int(row["rows"]),
        expected=refusal if is_chest else "BODY_PART",
        equals=f"{row['patient_group']}/{row['decoded_sha256'] or row['file']}",
    )


def _identified(open_data: Path, row: Mapping[str, str]) -> InboxFile:
    """Return a nameless sample with a PatientID: what a site sends after it has mended the record."""
    import pydicom

    sample = pydicom.dcmread(open_data / DICOM / row["file"], force=True)
    sample.PatientID = "SAMPLE"
    out = io.BytesIO()
    has_meta = "TransferSyntaxUID" in getattr(sample, "file_meta", {})
    form = {} if has_meta else {"implicit_vr": True, "little_endian": True}
    sample.save_as(out, enforce_file_format=False, **form)
    return InboxFile(
        key=f"{IDENTIFIED}/{row['file']}",
        data=out.getvalue(),
        width=int(row["columns"]),
        height=int(row["rows"]),
        expected=DRAFT,
        equals=f"{IDENTIFIED}/{row['decoded_sha256']}",
    )


def _film_file(path: Path) -> InboxFile:
    data = path.read_bytes()
    pixels = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    return InboxFile(
        key=f"{FILMS}/{path.name}",
        data=data,
        width=pixels.shape[1],
        height=pixels.shape[0],
        expected=DRAFT,
        equals=f"{FILMS}/{hashlib.sha256(pixels.tobytes()).hexdigest()}",
    )
