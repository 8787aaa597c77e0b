"""A draft as a DICOM structured report: TID 1500, one group per observation and one per region that has a sentence.

The report is partial, unverified and preliminary, names the device and the algorithm, and refers to the source films in
their own study. It states probabilities and where sentences point, never a diagnosis. Shaped after IHE AI Results; no
conformance is claimed.

Source: DICOM PS3.16 TID 1500, 1501, 1410, 4019; PS3.3 A.35.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crrg.domain.acquisition import OWN_MANUFACTURER
from crrg.domain.labels import LABELS, NO_FINDING
from crrg.exports.codes import (
    LABEL_CODES,
    LABEL_CONCEPTS,
    OWN_SCHEME,
    REGION_CODES,
    SNOMED,
    Code,
    own_code,
    region_site,
)
from crrg.exports.delivered import BANNER, DEVICE_NAME, Delivery
from crrg.exports.source_text import plain_text

if TYPE_CHECKING:
    from highdicom import sr
    from highdicom.sr.coding import CodedConcept
    from pydicom import Dataset

SERIES_NUMBER = 9001
MAX_LABEL_CHARACTERS = 512
_PROBABILITY = Code("122157", "DCM", "Probability")
_ABNORMAL = own_code("MEASURE", 1, "Probability that the region is abnormal")
_AT_THRESHOLD = own_code("MEASURE", 2, "Probability against the operating threshold")
_ABOVE = own_code("MEASURE", 3, "At or above the threshold")
_BELOW = own_code("MEASURE", 4, "Below the threshold")
_CHEST_XRAY = Code("399208008", SNOMED, "Plain chest X-ray")


def structured_report(delivery: Delivery) -> Dataset:
    """Return a study's draft as a Comprehensive SR in the source's study.

    Args:
        delivery: The draft and its sources.

    Returns:
        A DICOM object, equal for equal drafts.
    """
    from highdicom import sr
    from pydicom import Dataset

    groups: list[Any] = list(_observations(delivery))
    for film in delivery.films:
        groups += _regions(delivery, film)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=delivery.uid("device"),
        name=DEVICE_NAME,
        manufacturer_name=OWN_MANUFACTURER,
        model_name=", ".join(delivery.versions()),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=_concept(Code("121007", "DCM", "Device")), observer_identifying_attributes=device
            )
        ),
        procedure_reported=_concept(_CHEST_XRAY),
        imaging_measurements=groups,
        title=_concept(Code("126000", "DCM", "Imaging Measurement Report")),
    )
    report = sr.ComprehensiveSR(
        evidence=[delivery.originals[film["instance_id"]].reference for film in delivery.films],
        content=content[0],
        series_instance_uid=delivery.series_uid("sr"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=delivery.uid("sr"),
        instance_number=delivery.number,
        manufacturer=OWN_MANUFACTURER,
        is_complete=False,
        is_final=False,
        is_verified=False,
        previous_versions=[_reference(delivery.replaced["sr"])] if "sr" in delivery.replaced else None,
    )
    report.SeriesDescription = f"CRRG-CLIP {BANNER.lower()}"[:64]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = OWN_SCHEME
    scheme.CodingSchemeName = "CRRG-CLIP observations and regions"
    scheme.CodingSchemeResponsibleOrganization = OWN_MANUFACTURER
    report.CodingSchemeIdentificationSequence = [scheme]
    return stamped(report, delivery)


def _reference(delivery: Delivery) -> Dataset:
    """Return what names an older report of the same study."""
    from pydicom import Dataset
    from pydicom.uid import ComprehensiveSRStorage

    older = Dataset()
    older.SOPClassUID, older.SOPInstanceUID = ComprehensiveSRStorage, delivery.uid("sr")
    older.StudyInstanceUID, older.SeriesInstanceUID = delivery.primary.study_uid, delivery.series_uid("sr")
    return older


def stamped(dataset: Dataset, delivery: Delivery, film: Mapping[str, Any] | None = None) -> Dataset:
    """Put a made object into its study, date it by its draft's commit, and name the models.

    The same draft gives the same bytes. The series is not dated: drafts of other nights lie in it, too.

    Args:
        dataset: What was made.
        delivery: The draft.
        film: The one it is about; none where it is about all.
    """
    original = delivery.originals[film["instance_id"]] if film else delivery.primary
    original.place(dataset)
    committed = delivery.moment(original)
    day, time = committed.strftime("%Y%m%d"), committed.strftime("%H%M%S")
    dataset.ContentDate = dataset.InstanceCreationDate = day
    dataset.ContentTime = dataset.InstanceCreationTime = time
    for equipment in dataset.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = f"{day}{time}"
    dataset.ManufacturerModelName = DEVICE_NAME
    dataset.DeviceSerialNumber = delivery.models(film)[0][0][:64]
    dataset.SoftwareVersions = delivery.versions(film)
    return dataset


def _observations(delivery: Delivery) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    """Yield one TID 1501 group per observation: its probability, and on which side of the threshold it lies.

    Of "No Finding" the side is left out where films differ: its probability is the highest of the films, and speaks for
    the study only where every film shows nothing. The source of a probability is every film, since it is their maximum.
    """
    from highdicom import sr

    document = delivery.document
    sources = [delivery.originals[film["instance_id"]].header for film in delivery.films]
    images = [sr.SourceImageForMeasurementGroup(str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in sources]
    for label in LABELS:
        side = _concept(_ABOVE if document["labels"][label] else _BELOW)
        evaluations = [sr.QualitativeEvaluation(_concept(_AT_THRESHOLD), side)]
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=delivery.uid("label", label), identifier=label),
            finding_type=_concept(LABEL_CONCEPTS.get(label, LABEL_CODES[label])),
            algorithm_id=_algorithm("calibrated label head", delivery.versions()),
            measurements=[_measurement(_PROBABILITY, document["probabilities"][label])],
            qualitative_evaluations=None if _films_differ(document, label) else evaluations,
            source_images=images,
        )


def _films_differ(document: Mapping[str, Any], label: str) -> bool:
    threshold = document["thresholds"].get(label, 1.0)
    return bool(label == NO_FINDING and not document["labels"][label] and document["probabilities"][label] >= threshold)


def _regions(
    delivery: Delivery, film: Mapping[str, Any]
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Yield one TID 1410 group per region of a film that has a sentence: its box, and the sentence as its name."""
    from highdicom import sr

    original = delivery.originals[film["instance_id"]]
    for region in film["regions"]:
        if not region["phrase"]:
            continue
        x1, y1, x2, y2 = original.matrix_box(tuple(region["box_xyxy"]), film["width"], film["height"])
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]], dtype=np.float32)
        site, side = region_site(region["region"])
        yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=delivery.uid("region", region["region"], instance_id=film["instance_id"]),
                identifier=plain_text(f"{region['region']}: {region['phrase']}")[:MAX_LABEL_CHARACTERS],
            ),
            referenced_region=sr.ImageRegion(
                sr.GraphicTypeValues.POLYLINE,
                corners,
                sr.SourceImageForRegion(str(original.header.SOPClassUID), str(original.header.SOPInstanceUID)),
            ),
            finding_type=_concept(REGION_CODES[region["region"]]),
            finding_sites=[sr.FindingSite(_concept(site), None if side is None else _concept(side))],
            algorithm_id=_algorithm("region detector and sentence generator", delivery.versions(film)),
            measurements=[_measurement(_ABNORMAL, region["abnormal_probability"])],
        )


def _algorithm(part: str, versions: Sequence[str]) -> sr.AlgorithmIdentification:
    from highdicom import sr

    return sr.AlgorithmIdentification(f"{OWN_MANUFACTURER} {part}", ", ".join(versions), manufacturer=OWN_MANUFACTURER)


def _measurement(name: Code, value: float) -> sr.Measurement:
    from highdicom import sr

    return sr.Measurement(_concept(name), float(value), _concept(Code("1", "UCUM", "no units")))


def _concept(code: Code) -> CodedConcept:
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
