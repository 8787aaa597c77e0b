"""A small inbox and a stand-in for the models, shared by tests of the night; also the child process that gets killed.

The stand-in drafts from pixel statistics alone: deterministic, instant, and different for every film.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from crrg.config.evidence import EvidenceSettings
from crrg.config.references import BundleRef, NightSummary
from crrg.config.running import NightlyConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.domain.study import DraftReport, Film, RegionPrediction
from crrg.operations.night.nightly import run_night
from crrg.storage import Storage
from tests.support.keys import KEY

DATE = "2026-11-20"
BUNDLE = BundleRef(bundle_id="b" * 32, prefix="models/bundles/test", model_version="7")
PSEUDONYMS = Pseudonyms(KEY.encode())
SIZE = 64


class StandInDrafter:
    """Drafts from the mean of a film; ``delay_s`` makes it slow enough to be killed over its work."""

    bundle_id = BUNDLE.bundle_id
    label_thresholds = dict.fromkeys(LABELS, 0.5)
    abnormal_threshold = 0.5
    takes_all_cores = False
    image_size = SIZE

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.num_drafted = 0

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        time.sleep(self.delay_s)
        self.num_drafted += len(films)
        return [draft_of(film) for film in films]

    def explain(
        self, films: Sequence[Film], drafts: Sequence[DraftReport], settings: EvidenceSettings
    ) -> list[list[SentenceEvidence]]:
        return [[evidence_of(settings.cells)][: settings.max_sentences] for _ in films]


def draft_of(film: Film) -> DraftReport:
    mean = float(film.pixels.mean()) / 255
    probabilities = {label: round((mean * (place + 3)) % 1.0, 4) for place, label in enumerate(LABELS)}
    width, height = film.original_width, film.original_height
    regions = tuple(
        RegionPrediction(
            region=region,
            box_xyxy=(width * 0.1, height * 0.1, width * (0.5 + place / 100), height * 0.9),
            detected=place % 7 != 0,
            score=0.9,
            selected=place in (0, 24),
            abnormal_probability=0.8 if place == 24 else 0.1,
            phrase={0: "The lungs are clear.", 24: f"The heart measures {mean:.3f}."}.get(place),
            phrase_logprob=-0.25 if place in (0, 24) else None,
        )
        for place, region in enumerate(REGIONS)
    )
    return DraftReport(
        findings=f"The lungs are clear. The heart measures {mean:.3f}.",
        impression=f"Impression {mean:.3f}.",
        regions=regions,
        probabilities=probabilities,
        labels={label: int(value >= 0.5) for label, value in probabilities.items()},
        consistency=0.75,
        flags=("text_without_label:Cardiomegaly",) if mean > 0.5 else (),
    )


def evidence_of(cells: int) -> SentenceEvidence:
    """Return a map of the heart's sentence whose lower right cell is all it rests on."""
    falls = np.zeros((cells, cells))
    falls[-1, -1] = 0.25
    return SentenceEvidence(REGIONS[24], True, falls, 2 * falls)


def png_bytes(seed: int, side: int = SIZE) -> bytes:
    """Return a smooth random film."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
    return bytes(cv2.imencode(".png", cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))[1])


def dicom_bytes(
    seed: int,
    *,
    study: str = "1",
    instance: str = "1",
    view: str = "PA",
    patient: str = "P1",
    rows: int = SIZE,
    **tags: str,
) -> bytes:
    """Return a film as DICOM with given identifiers and whatever other tags are given."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = f"2.25.9.{instance}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = Dataset()
    film.file_meta = meta
    film.SOPClassUID = meta.MediaStorageSOPClassUID
    film.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    film.StudyInstanceUID = f"2.25.8.{study}"
    film.PatientID = patient
    film.Modality = "DX"
    film.BodyPartExamined = "CHEST"
    film.ViewPosition = view
    film.BurnedInAnnotation = "NO"
    for name, value in tags.items():
        setattr(film, name, value)
    film.PhotometricInterpretation = "MONOCHROME2"
    film.SamplesPerPixel = 1
    film.Rows, film.Columns = rows, SIZE
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    coarse = np.random.default_rng(seed).integers(0, 4095, (6, 6)).astype(np.float32)
    pixels = cv2.resize(coarse, (SIZE, rows), interpolation=cv2.INTER_LINEAR)
    film.PixelData = pixels.astype("<u2").tobytes()
    buffer = DicomBytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def fill_inbox(inbox: Storage, num_films: int = 12) -> None:
    """Put films, a study of two films, and objects that must be refused into an inbox."""
    for number in range(num_films):
        inbox.put(f"study-{number:02d}/film.png", png_bytes(number))
    inbox.put("two/ap.dcm", dicom_bytes(100, study="5", instance="51", view="AP"))
    inbox.put("two/pa.dcm", dicom_bytes(101, study="5", instance="52", view="PA"))
    inbox.put("two/lateral.dcm", dicom_bytes(102, study="5", instance="53", view="LATERAL"))
    inbox.put("zz/copy-of-0.png", png_bytes(0))
    inbox.put("zz/empty.dcm", b"")
    inbox.put("zz/cut.dcm", dicom_bytes(103, study="6", instance="61")[:900])
    inbox.put(".hidden/film.png", png_bytes(999))


def night_config(inbox: Storage, **changes: object) -> NightlyConfig:
    """Return a form for small shards and objects that need not settle."""
    settings = {"inbox": inbox.root, "date": DATE, "shard_size": 4, "settle_s": 0, "num_workers": 1, "image_size": 64}
    return NightlyConfig.model_validate({**settings, **changes})


def run_test_night(inbox: Storage, root: Storage, drafter: StandInDrafter, **changes: object) -> NightSummary:
    """Run a night with the stand-in."""
    return run_night(night_config(inbox, **changes), root, BUNDLE, PSEUDONYMS, lambda: drafter)


def main() -> None:
    """Run a night: inbox, root, delay in seconds."""
    inbox, root = Storage(sys.argv[1]), Storage(sys.argv[2])
    Path(sys.argv[4]).touch()
    run_test_night(inbox, root, StandInDrafter(float(sys.argv[3])))


if __name__ == "__main__":
    main()
