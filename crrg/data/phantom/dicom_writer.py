"""Write a drawn film as a legal DICOM object with an invented patient.

Mostly Digital X-Ray (for presentation), some Computed Radiography; Explicit VR Little Endian, a few Implicit. Nothing
here depends on the clock: the same scene and seed give the same bytes.
"""

from __future__ import annotations

import datetime
import io
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from crrg.data.phantom.exposure import BITS_STORED
from crrg.data.phantom.painter import PaintedFilm
from crrg.data.phantom.scene import Scene

HEADER_STREAM = 21
CR_SHARE = 0.25
IMPLICIT_SHARE = 0.06

_DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
_COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
_IMPLEMENTATION = "1.2.826.0.1.3680043.8.498.1"
_FAMILY_NAMES = (
    "Ashgrove",
    "Birkenfeld",
    "Corvalle",
    "Dunmarrow",
    "Elderwick",
    "Fennimoor",
    "Grauwald",
    "Holloway-Inch",
)
_GIVEN_NAMES = {
    "F": ("Alba", "Brisa", "Carolin", "Delphine", "Edda"),
    "M": ("Alaric", "Bastian", "Cyrill", "Dorian", "Egon"),
}
_FIRST_DAY = datetime.date(2021, 1, 4)


@dataclass(frozen=True)
class DrawnIds:
    """Identifiers of one drawn study, as its DICOM object carries them.

    Attributes:
        patient_id: PatientID.
        study_instance_uid: StudyInstanceUID.
        series_instance_uid: SeriesInstanceUID.
        sop_instance_uid: SOPInstanceUID.
    """

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def drawn_ids(scene: Scene, seed: int, source: str = "drawn") -> DrawnIds:
    """Return the identifiers of a scene; they depend on seed, index and kind of cohort only.

    Args:
        scene: The study.
        seed: Seed of the cohort.
        source: Kind of cohort, so that a sampled and a report-driven cohort of one seed never share an identifier.
    """
    study, series, instance = (
        str(generate_uid(entropy_srcs=[source, str(seed), str(scene.index), level]))
        for level in ("study", "series", "instance")
    )
    return DrawnIds(f"{source.upper()}-{seed}-{scene.patient_number:06d}", study, series, instance)


def write_dicom(film: PaintedFilm, scene: Scene, ids: DrawnIds, seed: int) -> bytes:
    """Return the film as the bytes of a DICOM file.

    Args:
        film: The painted film.
        scene: Its study: projection, age and sex stand in the header.
        ids: Identifiers to carry.
        seed: Seed of the cohort; decides modality, dates and names.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, HEADER_STREAM, scene.index]))
    is_cr, is_implicit = bool(rng.random() < CR_SHARE), bool(rng.random() < IMPLICIT_SHARE)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _COMPUTED_RADIOGRAPHY if is_cr else _DX_FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = ids.sop_instance_uid
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = ids.sop_instance_uid
    _put_study(dataset, scene, ids, seed, rng)
    dataset.Modality = "CR" if is_cr else "DX"
    dataset.SeriesInstanceUID = ids.series_instance_uid
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = scene.view_position.value
    dataset.PatientOrientation = ["L", "F"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    _put_acquisition(dataset, film, is_cr)
    _put_pixels(dataset, film)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _put_study(dataset: Dataset, scene: Scene, ids: DrawnIds, seed: int, rng: np.random.Generator) -> None:
    person = np.random.default_rng(np.random.SeedSequence([seed, HEADER_STREAM, scene.patient_number, 1]))
    family = _FAMILY_NAMES[person.integers(len(_FAMILY_NAMES))]
    given = _GIVEN_NAMES[scene.sex][person.integers(len(_GIVEN_NAMES[scene.sex]))]
    day = _FIRST_DAY + datetime.timedelta(days=int(rng.integers(0, 1200)))
    born = day - datetime.timedelta(days=scene.age_years * 365 + scene.age_years // 4 + int(person.integers(1, 360)))
    time = f"{int(rng.integers(0, 24)):02d}{int(rng.integers(0, 60)):02d}{int(rng.integers(0, 60)):02d}"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = day.strftime("%Y%m%d")
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = time
    dataset.AccessionNumber = f"A{seed % 1000:03d}{scene.index:08d}"
    dataset.Manufacturer = "Drawn Radiography"
    dataset.InstitutionName = "Drawn General Hospital"
    dataset.ReferringPhysicianName = ""
    dataset.PatientName = f"{family}^{given}"
    dataset.PatientID = ids.patient_id
    dataset.PatientBirthDate = born.strftime("%Y%m%d")
    dataset.PatientSex = scene.sex
    dataset.PatientAge = f"{scene.age_years:03d}Y"
    dataset.StudyInstanceUID = ids.study_instance_uid
    dataset.StudyID = f"{scene.index % 10**8}"
    dataset.StudyDescription = f"Chest {scene.view_position.value}"


def _put_acquisition(dataset: Dataset, film: PaintedFilm, is_cr: bool) -> None:
    spacing = f"{film.pixel_spacing_mm:.6f}"
    dataset.PixelSpacing = [spacing, spacing]
    dataset.ImagerPixelSpacing = [spacing, spacing]
    if is_cr:
        return
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = "U"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1 if film.photometric == "MONOCHROME2" else 1
    dataset.PresentationLUTShape = "IDENTITY" if film.photometric == "MONOCHROME2" else "INVERSE"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.DetectorType = "DIRECT"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    dataset.AnatomicRegionSequence = Sequence([region])
    dataset.AcquisitionContextSequence = Sequence([])


def _put_pixels(dataset: Dataset, film: PaintedFilm) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = film.photometric
    dataset.Rows, dataset.Columns = film.pixels.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = BITS_STORED
    dataset.HighBit = BITS_STORED - 1
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    dataset.add_new("PixelData", "OW", film.pixels.astype("<u2").tobytes())
