"""A committed night over DICOM films of made-up patients, ready to be delivered."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.filebase import DicomBytesIO

from crrg.config.base import Settings
from crrg.config.running import DeliverConfig
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, dicom_bytes, run_test_night
from tests.support.keys import KEY

NAME, NUMBER, ACCESSION = "Sample^Person", "MRN-4711", "ACC-0815"
STUDY_UIDS = ("2.25.8.5", "2.25.8.6")


def film_bytes(seed: int, study: str, instance: str, view: str = "PA", **tags: object) -> bytes:
    """Return a film with the tags that a document about it carries."""
    film = pydicom.dcmread(DicomBytesIO(dicom_bytes(seed, study=study, instance=instance, view=view, patient=NUMBER)))
    film.PatientName, film.PatientBirthDate, film.PatientSex = NAME, "19500102", "O"
    film.SeriesInstanceUID = f"2.25.7.{study}"
    film.AccessionNumber, film.StudyID = ACCESSION, "1"
    film.StudyDate, film.StudyTime = "20261119", "101500"
    film.ReferringPhysicianName = ""
    for name, value in tags.items():
        setattr(film, name, value)
    buffer = DicomBytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


class DeliverableNight:
    """Inbox, root and identified zone side by side; the night is committed.

    Attributes:
        inbox: Two studies, one of two films, and a PNG that belongs to no study of an archive.
        root: The pseudonymous root.
        settings: Of this process, with the identified zone.
        zone: The identified zone.
    """

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.zone = Storage(str(folder / "identified"))
        self.settings = Settings(identified_root=self.zone.root, hmac_key=KEY)  # type: ignore[arg-type]
        self.inbox.put("b/ap.dcm", film_bytes(1, "5", "51", "AP"))
        self.inbox.put("b/pa.dcm", film_bytes(2, "5", "52", "PA"))
        self.inbox.put("c/pa.dcm", film_bytes(3, "6", "61", "PA"))
        run_test_night(self.inbox, self.root, StandInDrafter())

    def form(self, **changes: object) -> DeliverConfig:
        """Return a form for this inbox."""
        return DeliverConfig.model_validate({"inbox": self.inbox.root, **changes})

    def delivered(self) -> dict[str, bytes]:
        """Return every document in the identified zone."""
        keys = [stored.key for stored in self.zone.list_objects()]
        return {key: self.zone.get(key) for key in keys if not key.startswith("delivered/")}
